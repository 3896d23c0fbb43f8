//! Arithmetic in GF(2^8) with the polynomial 0x11d, by the byte and by whole symbols.

use multiversion::multiversion;

const fn multiply(a: u8, b: u8) -> u8 {
    let (mut power, mut rest, mut product) = (a, b, 0);
    while rest != 0 {
        if rest & 1 != 0 {
            product ^= power;
        }
        power = (power << 1) ^ (if power & 0x80 != 0 { 0x1d } else { 0 });
        rest >>= 1;
    }
    product
}

/// Powers of the generator 2, twice over, so that a sum of two logarithms needs no modulus.
const POWERS: [u8; 510] = {
    let mut table = [1; 510];
    let mut exponent = 1;
    while exponent < 510 {
        table[exponent] = multiply(table[exponent - 1], 2);
        exponent += 1;
    }
    table
};

const LOGARITHMS: [u8; 256] = {
    let mut table = [0; 256];
    let mut exponent = 0;
    while exponent < 255 {
        table[POWERS[exponent] as usize] = exponent as u8;
        exponent += 1;
    }
    table
};

/// An element other than zero, as the exponent of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Logarithm(u8);

impl Logarithm {
    pub(super) const ONE: Self = Self(0);

    /// `None` for zero.
    pub(super) fn of(value: u8) -> Option<Self> {
        (value != 0).then(|| Self(LOGARITHMS[usize::from(value)]))
    }

    pub(super) fn times(self, other: Self) -> Self {
        // Below 255 + 255, and the remainder fits a byte.
        Self(((u16::from(self.0) + u16::from(other.0)) % 255) as u8)
    }

    pub(super) fn inverse(self) -> Self {
        Self((255 - self.0) % 255)
    }

    pub(super) fn value(self) -> u8 {
        POWERS[usize::from(self.0)]
    }
}

const INVERSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut exponent = 0;
    while exponent < 255 {
        table[POWERS[exponent] as usize] = POWERS[255 - exponent];
        exponent += 1;
    }
    table
};

/// The inverse of `value`, which is not zero.
pub(super) const fn inverse(value: u8) -> u8 {
    INVERSES[value as usize]
}

/// Adds to each symbol of `out` a linear combination of the symbols of `input`.
///
/// Both hold whole symbols of `symbol_size` bytes one after the other; `coefficients` holds
/// a row for each symbol of `out` with a factor for each symbol of `input`.
#[multiversion(targets("x86_64+avx512f+avx512bw+gfni", "x86_64+avx2", "x86_64+ssse3"))]
pub(super) fn add_combinations(
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

const LANES: usize = 64;

/// Shift and add on whole vectors instead of a table: it needs no shuffle instruction, so
/// that the compiler makes good code of it for every processor.
#[inline(always)]
#[allow(dead_code)] // Unless the target is known to have something faster.
fn multiply_add(out: &mut [u8], input: &[u8], factor: u8) {
    let mut outs = out.chunks_exact_mut(LANES);
    let mut inputs = input.chunks_exact(LANES);
    for (out, input) in (&mut outs).zip(&mut inputs) {
        let mut power = [0u8; LANES];
        power.copy_from_slice(input);
        let mut sum = [0u8; LANES];
        for bit in 0..8 {
            let mask = 0u8.wrapping_sub(factor >> bit & 1);
            for (sum, power) in sum.iter_mut().zip(&mut power) {
                *sum ^= *power & mask;
                *power = (*power << 1) ^ (((*power as i8) >> 7) as u8 & 0x1d);
            }
        }
        for (out, sum) in out.iter_mut().zip(&sum) {
            *out ^= sum;
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

    use bytemuck::Pod;

    use super::multiply;
    use crate::prefetch::prefetch;

    /// Vectors of a symbol's columns that are made together.
    const WIDE: usize = 4;
    const HALF: usize = WIDE / 2;

    /// Multiplication by each element as a matrix of bits, as `gf2p8affineqb` takes it: byte
    /// 7 - *n* is the row that makes bit *n* of the product.
    const MATRICES: [u64; 256] = {
        let mut table = [0; 256];
        let mut factor = 0;
        while factor < 256 {
            let mut input_bit = 0;
            while input_bit < 8 {
                let product = multiply(factor as u8, 1 << input_bit);
                let mut output_bit = 0;
                while output_bit < 8 {
                    if product >> output_bit & 1 == 1 {
                        table[factor] |= 1 << (8 * (7 - output_bit) + input_bit);
                    }
                    output_bit += 1;
                }
                input_bit += 1;
            }
            factor += 1;
        }
        table
    };

    /// Products of each element with the sixteen low and the sixteen high half bytes.
    const HALF_PRODUCTS: [[[u8; 16]; 2]; 256] = {
        let mut table = [[[0; 16]; 2]; 256];
        let mut factor = 0;
        while factor < 256 {
            let mut half = 0;
            while half < 16 {
                table[factor][0][half] = multiply(factor as u8, half as u8);
                table[factor][1][half] = multiply(factor as u8, (half as u8) << 4);
                half += 1;
            }
            factor += 1;
        }
        table
    };

    /// Groups of each symbol's columns: wide ones, since memory is read ahead along a symbol and
    /// not across symbols, then what is left.
    macro_rules! by_columns {
        (
            $columns:ident, $vector:ty, $together:literal or fewer $($fewer:literal)*,
            $out:expr, $input:expr, $size:expr, $coefficients:expr
        ) => {{
            let vector = size_of::<$vector>();
            let mut at = 0;
            while at < $size {
                let left = $size - at;
                if left >= WIDE * vector {
                    by_groups!($columns, WIDE, $together or fewer $($fewer)*,
                        $out, $input, $size, $coefficients, at..at + WIDE * vector);
                    at += WIDE * vector;
                } else if left >= HALF * vector {
                    by_groups!($columns, HALF, $together or fewer $($fewer)*,
                        $out, $input, $size, $coefficients, at..at + HALF * vector);
                    at += HALF * vector;
                } else {
                    let end = at + left.min(vector);
                    by_groups!($columns, 1, $together or fewer $($fewer)*,
                        $out, $input, $size, $coefficients, at..end);
                    at = end;
                }
            }
        }};
    }

    /// Groups of as many output symbols as fit the registers, then of the `fewer` that are left.
    /// All groups after the first find the columns in the nearest cache.
    macro_rules! by_groups {
        (
            $columns:ident, $vectors:expr, $together:literal or fewer $($fewer:literal)*,
            $out:expr, $input:expr, $size:expr, $coefficients:expr, $range:expr
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
            affine_transform, __m512i, 7 or fewer 1 2 3 4 5 6,
            out, input, symbol_size, matrices
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
            prefetch_next(symbol, &columns);
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
            shuffle, __m256i, 4 or fewer 1 2 3,
            out, input, symbol_size, coefficients
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
            prefetch_next(symbol, &columns);
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

    /// What the next pass over the columns will need of a symbol: the processor does not see
    /// by itself that so many symbols are read side by side.
    #[inline(always)]
    fn prefetch_next(symbol: &[u8], columns: &Range<usize>) {
        let next = &symbol[columns.end..];
        prefetch(&next[..next.len().min(columns.len())]);
    }

    /// Vectors that begin with `bytes`, zeros behind them.
    #[inline(always)]
    fn load<V: Pod, const VECTORS: usize>(bytes: &[u8]) -> [V; VECTORS] {
        let mut vectors = [V::zeroed(); VECTORS];
        let whole = bytemuck::cast_slice_mut(&mut vectors);
        if bytes.len() == whole.len() {
            whole.copy_from_slice(bytes);
        } else {
            whole[..bytes.len()].copy_from_slice(bytes);
        }
        vectors
    }

    #[inline(always)]
    fn store<V: Pod, const VECTORS: usize>(vectors: &[V; VECTORS], out: &mut [u8]) {
        let whole: &[u8] = bytemuck::cast_slice(vectors);
        if out.len() == whole.len() {
            out.copy_from_slice(whole);
        } else {
            out.copy_from_slice(&whole[..out.len()]);
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

    #[test]
    fn field_arithmetic() {
        assert_eq!(multiply(2, 0x80), 0x1d);
        for value in 1..=255 {
            assert_eq!(multiply(value, inverse(value)), 1);
            let logarithm = Logarithm::of(value).unwrap();
            assert_eq!(logarithm.value(), value);
            assert_eq!(logarithm.inverse().value(), inverse(value));
            assert_eq!(logarithm.times(logarithm).value(), multiply(value, value));
        }
        assert_eq!(Logarithm::of(0), None);
    }

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
