//! Linear combinations of whole symbols with arbitrary coefficients.

use multiversion::multiversion;

use super::multiply;
use super::vectors::{LANES, load, multiply_lanes};

/// Adds to each symbol of `out` a linear combination of the symbols of `input`.
///
/// `out` and `input` hold whole symbols of `symbol_size` bytes, one after the other.
/// `coefficients` holds a row for each symbol of `out`, with a factor for each symbol of `input`.
#[multiversion(targets("x86_64+avx512f+avx512bw+gfni", "x86_64+avx2"))]
pub(in super::super) fn add_combinations(
    out: &mut [u8],
    input: &[u8],
    symbol_size: usize,
    coefficients: &[u8],
) {
    if symbol_size == 0 || input.is_empty() {
        return;
    }
    let inputs = input.len() / symbol_size;
    let rows = coefficients.chunks_exact(inputs).zip(out.chunks_exact_mut(symbol_size));
    multiversion::target::match_target! {
        "x86_64+avx512f+avx512bw+gfni" => {
            drop(rows);
            x86_64::by_affine_transform(out, input, symbol_size, coefficients);
        },
        "x86_64+avx2" => {
            drop(rows);
            x86_64::by_shuffle(out, input, symbol_size, coefficients);
        },
        _ => {
            for (row, out) in rows {
                for (&factor, input) in row.iter().zip(input.chunks_exact(symbol_size)) {
                    multiply_add(out, input, factor);
                }
            }
        }
    }
}

/// Adds `factor` times `input` to `out`.
#[inline(always)]
#[allow(dead_code)] // Targets that surely have a faster kernel do not use it.
fn multiply_add(out: &mut [u8], input: &[u8], factor: u8) {
    let mut outs = out.chunks_exact_mut(LANES);
    let mut inputs = input.chunks_exact(LANES);
    for (out, input) in (&mut outs).zip(&mut inputs) {
        let [input] = load(input);
        for (out, product) in out.iter_mut().zip(multiply_lanes(input, factor)) {
            *out ^= product;
        }
    }
    for (out, &input) in outs.into_remainder().iter_mut().zip(inputs.remainder()) {
        *out ^= multiply(input, factor);
    }
}

/// Kernels that make several output symbols at once, so that each input symbol is loaded once.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__m256i, __m512i, _mm256_xor_si256, _mm512_xor_si512};
    use std::ops::Range;

    use super::super::vectors::{
        HALF_PRODUCTS, MATRICES, by_columns, load, multiply_by_affine_transform,
        multiply_by_shuffle, prefetch_next, store,
    };

    /// Calls `$columns` for groups of output symbols: `$together` of them, as many as fit the
    /// registers, and at last the `$fewer` that are left. The first group loads the input's columns
    /// into the first-level cache, where the other groups find them.
    macro_rules! by_groups {
        (
            $vectors:expr, $range:expr,
            $columns:ident, $together:literal or fewer $($fewer:literal)*,
            $out:expr, $input:expr, $size:expr, $coefficients:expr
        ) => {{
            let inputs = $input.len() / $size;
            let outs = $out.chunks_mut($together * $size);
            for (out, rows) in outs.zip($coefficients.chunks($together * inputs)) {
                match out.len() / $size {
                    $($fewer => $columns::<$fewer, { $vectors }>(out, $input, $size, rows, $range),)*
                    _ => $columns::<$together, { $vectors }>(out, $input, $size, rows, $range),
                }
            }
        }};
    }

    /// Defines a kernel for the vector type `$vector`. `$multiply` takes a vector and an entry of
    /// the table `$factors`.
    macro_rules! kernel {
        (
            #[$feature:meta]
            $name:ident, $columns:ident, $vector:ty, $add:path, $multiply:path, $factors:expr
        ) => {
            #[$feature]
            pub(super) fn $name(
                out: &mut [u8],
                input: &[u8],
                symbol_size: usize,
                coefficients: &[u8],
            ) {
                by_columns!(
                    $vector,
                    symbol_size,
                    by_groups!($columns, 4 or fewer 1 2 3, out, input, symbol_size, coefficients)
                );
            }

            #[inline]
            #[$feature]
            fn $columns<const OUTS: usize, const VECTORS: usize>(
                out: &mut [u8],
                input: &[u8],
                symbol_size: usize,
                coefficients: &[u8],
                columns: Range<usize>,
            ) {
                let inputs = input.len() / symbol_size;
                let mut sums: [[$vector; VECTORS]; OUTS] =
                    std::array::from_fn(|row| load(&out[row * symbol_size..][columns.clone()]));
                for (index, symbol) in input.chunks_exact(symbol_size).enumerate() {
                    let bytes: [$vector; VECTORS] = load(&symbol[columns.clone()]);
                    prefetch_next(symbol, columns.end, columns.len());
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let factor = &$factors[usize::from(coefficients[row * inputs + index])];
                        for (sum, bytes) in sums.iter_mut().zip(bytes) {
                            *sum = $add(*sum, $multiply(bytes, factor));
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    store(sums, &mut out[row * symbol_size..][columns.clone()]);
                }
            }
        };
    }

    kernel!(
        #[target_feature(enable = "avx512f,avx512bw,gfni")]
        by_affine_transform,
        affine_transform,
        __m512i,
        _mm512_xor_si512,
        multiply_by_affine_transform,
        MATRICES
    );

    kernel!(
        #[target_feature(enable = "avx2")]
        by_shuffle,
        shuffle,
        __m256i,
        _mm256_xor_si256,
        multiply_by_shuffle,
        HALF_PRODUCTS
    );

    #[cfg(test)]
    mod tests {
        use super::super::tests::{assert_combines, expected};

        /// Every kernel that the processor can run is tested, not only the one that is chosen.
        #[test]
        #[allow(unsafe_code)]
        fn every_kernel_agrees_with_the_field() {
            for (size, inputs, outs) in
                [(1, 1, 1), (31, 3, 4), (64, 5, 9), (1408, 128, 6), (200, 3, 13)]
            {
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the features that the function asks for.
                    let kernel = |out: &mut [u8], input: &[u8], coefficients: &[u8]| unsafe {
                        super::by_shuffle(out, input, size, coefficients);
                    };
                    assert_combines(size, inputs, outs, kernel);
                }
                if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("gfni") {
                    // SAFETY: as above; avx512bw implies avx512f.
                    let kernel = |out: &mut [u8], input: &[u8], coefficients: &[u8]| unsafe {
                        super::by_affine_transform(out, input, size, coefficients);
                    };
                    assert_combines(size, inputs, outs, kernel);
                }
            }
            assert_eq!(expected(&[2], &[0x80], 1, &[3]), [2 ^ 0x9d]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::bytes;
    use super::*;

    /// The result of `add_combinations`, computed byte by byte.
    pub(super) fn expected(
        out: &[u8],
        input: &[u8],
        symbol_size: usize,
        coefficients: &[u8],
    ) -> Vec<u8> {
        let inputs = input.len() / symbol_size;
        let mut out = out.to_vec();
        for (at, byte) in out.iter_mut().enumerate() {
            let (row, offset) = (at / symbol_size, at % symbol_size);
            for index in 0..inputs {
                let factor = coefficients[row * inputs + index];
                *byte ^= multiply(factor, input[index * symbol_size + offset]);
            }
        }
        out
    }

    pub(super) fn assert_combines(
        symbol_size: usize,
        inputs: usize,
        outs: usize,
        kernel: impl Fn(&mut [u8], &[u8], &[u8]),
    ) {
        let input = bytes(inputs * symbol_size, 1);
        let coefficients = bytes(inputs * outs, 2);
        let mut out = bytes(outs * symbol_size, 3);
        let wanted = expected(&out, &input, symbol_size, &coefficients);
        kernel(&mut out, &input, &coefficients);
        assert_eq!(out, wanted, "{symbol_size} bytes, {inputs} to {outs}");
    }

    #[test]
    fn combinations_agree_with_the_field() {
        for (size, inputs, outs) in [(1, 1, 1), (100, 3, 4), (1408, 128, 6)] {
            assert_combines(size, inputs, outs, |out, input, coefficients| {
                add_combinations(out, input, size, coefficients);
            });
            assert_combines(size, inputs, outs, |out, input, coefficients| {
                for (row, out) in coefficients.chunks(inputs).zip(out.chunks_mut(size)) {
                    for (&factor, input) in row.iter().zip(input.chunks(size)) {
                        multiply_add(out, input, factor);
                    }
                }
            });
        }
    }
}
