//! Linear combinations of whole symbols, with any coefficients.

use multiversion::multiversion;

use super::multiply;
use super::vectors::{LANES, load, multiply_lanes};

/// Adds to each symbol of `out` a linear combination of the symbols of `input`.
///
/// Both hold whole symbols of `symbol_size` bytes one after the other; `coefficients` holds
/// a row for each symbol of `out` with a factor for each symbol of `input`.
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

#[inline(always)]
#[allow(dead_code)] // Unless the target is known to have something faster.
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

/// Several output symbols at once, so that each input is loaded once for all of them.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_set1_epi8,
        _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_xor_si256, _mm512_gf2p8affine_epi64_epi8,
        _mm512_set1_epi64, _mm512_xor_si512,
    };

    use std::ops::Range;

    use super::super::vectors::{HALF_PRODUCTS, MATRICES, by_columns, load, prefetch_next, store};

    /// Groups of as many output symbols as fit the registers, then of the `fewer` that are left.
    /// All groups after the first find the columns in the nearest cache.
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

    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    pub(super) fn by_affine_transform(
        out: &mut [u8],
        input: &[u8],
        symbol_size: usize,
        coefficients: &[u8],
    ) {
        let matrices: Vec<u64> =
            coefficients.iter().map(|factor| MATRICES[usize::from(*factor)]).collect();
        by_columns!(
            __m512i,
            symbol_size,
            by_groups!(affine_transform, 4 or fewer 1 2 3, out, input, symbol_size, matrices)
        );
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn affine_transform<const OUTS: usize, const VECTORS: usize>(
        out: &mut [u8],
        input: &[u8],
        symbol_size: usize,
        matrices: &[u64],
        columns: Range<usize>,
    ) {
        let inputs = input.len() / symbol_size;
        let mut sums: [[__m512i; VECTORS]; OUTS] =
            std::array::from_fn(|row| load(&out[row * symbol_size..][columns.clone()]));
        for (index, symbol) in input.chunks_exact(symbol_size).enumerate() {
            let bytes: [__m512i; VECTORS] = load(&symbol[columns.clone()]);
            prefetch_next(symbol, columns.end, columns.len());
            for (row, sums) in sums.iter_mut().enumerate() {
                let matrix = _mm512_set1_epi64(matrices[row * inputs + index].cast_signed());
                for (sum, bytes) in sums.iter_mut().zip(bytes) {
                    let product = _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix);
                    *sum = _mm512_xor_si512(*sum, product);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            store(sums, &mut out[row * symbol_size..][columns.clone()]);
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn by_shuffle(
        out: &mut [u8],
        input: &[u8],
        symbol_size: usize,
        coefficients: &[u8],
    ) {
        by_columns!(
            __m256i,
            symbol_size,
            by_groups!(shuffle, 4 or fewer 1 2 3, out, input, symbol_size, coefficients)
        );
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn shuffle<const OUTS: usize, const VECTORS: usize>(
        out: &mut [u8],
        input: &[u8],
        symbol_size: usize,
        coefficients: &[u8],
        columns: Range<usize>,
    ) {
        let inputs = input.len() / symbol_size;
        let low_half = _mm256_set1_epi8(15);
        let mut sums: [[__m256i; VECTORS]; OUTS] =
            std::array::from_fn(|row| load(&out[row * symbol_size..][columns.clone()]));
        for (index, symbol) in input.chunks_exact(symbol_size).enumerate() {
            let bytes: [__m256i; VECTORS] = load(&symbol[columns.clone()]);
            prefetch_next(symbol, columns.end, columns.len());
            for (row, sums) in sums.iter_mut().enumerate() {
                let [lows, highs] = HALF_PRODUCTS[usize::from(coefficients[row * inputs + index])];
                let lows = _mm256_broadcastsi128_si256(bytemuck::cast(lows));
                let highs = _mm256_broadcastsi128_si256(bytemuck::cast(highs));
                for (sum, bytes) in sums.iter_mut().zip(bytes) {
                    let low = _mm256_and_si256(bytes, low_half);
                    let high = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), low_half);
                    let product = _mm256_xor_si256(
                        _mm256_shuffle_epi8(lows, low),
                        _mm256_shuffle_epi8(highs, high),
                    );
                    *sum = _mm256_xor_si256(*sum, product);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            store(sums, &mut out[row * symbol_size..][columns.clone()]);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::tests::{assert_combines, expected};

        /// What the dispatcher would choose on lesser processors is tested on better ones too.
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
    use super::*;

    /// `add_combinations`, byte by byte.
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
        let bytes = |len: usize, seed: u32| -> Vec<u8> {
            (0..len as u32)
                .map(|at| (at.wrapping_mul(2_654_435_761) ^ seed).to_be_bytes()[1])
                .collect()
        };
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
