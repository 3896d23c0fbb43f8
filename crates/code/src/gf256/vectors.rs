//! Parts that the kernels share: vectors of bytes and their multiplication by one element.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, __m512i, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_set1_epi8,
    _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_xor_si256, _mm512_gf2p8affine_epi64_epi8,
    _mm512_set1_epi64,
};

use bytemuck::Pod;

#[cfg(target_arch = "x86_64")]
use super::multiply;
#[cfg(target_arch = "x86_64")]
use crate::prefetch::prefetch;

/// The number of vectors of a symbol's columns that a kernel processes together.
pub(super) const WIDE: usize = 4;
/// The number of vectors that are processed together when fewer than [`WIDE`] are left.
#[cfg(target_arch = "x86_64")]
pub(super) const HALF: usize = WIDE / 2;

/// The length in bytes of a vector of the portable kernels.
pub(super) const LANES: usize = 64;

/// Calls `$kernel!(vectors, columns, …)` for groups of a symbol's columns: first groups of [`WIDE`]
/// vectors, then smaller ones for the rest. Wide groups are faster, since the processor reads
/// memory ahead along a symbol and not across symbols.
#[cfg(target_arch = "x86_64")]
macro_rules! by_columns {
    ($vector:ty, $size:expr, $kernel:ident!($($rest:tt)*)) => {{
        use $crate::gf256::vectors::{HALF, WIDE};
        let vector = size_of::<$vector>();
        let mut at = 0;
        while at < $size {
            let left = $size - at;
            if left >= WIDE * vector {
                $kernel!(WIDE, at..at + WIDE * vector, $($rest)*);
                at += WIDE * vector;
            } else if left >= HALF * vector {
                $kernel!(HALF, at..at + HALF * vector, $($rest)*);
                at += HALF * vector;
            } else {
                let end = at + left.min(vector);
                $kernel!(1, at..end, $($rest)*);
                at = end;
            }
        }
    }};
}
#[cfg(target_arch = "x86_64")]
pub(super) use by_columns;

/// For each element, the multiplication by it as a matrix of bits in the layout of the instruction
/// `gf2p8affineqb`: byte 7 - *n* is the row that yields bit *n* of the product.
#[cfg(target_arch = "x86_64")]
pub(super) const MATRICES: [u64; 256] = {
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

/// For each element, its products with the sixteen values of a byte's low half, then with the
/// sixteen values of its high half.
#[cfg(target_arch = "x86_64")]
pub(super) const HALF_PRODUCTS: [[[u8; 16]; 2]; 256] = {
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

/// The product of each byte of `value` and one element, whose entry in [`MATRICES`] is `matrix`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
pub(super) fn multiply_by_affine_transform(value: __m512i, matrix: &u64) -> __m512i {
    let matrix = _mm512_set1_epi64(matrix.cast_signed());
    _mm512_gf2p8affine_epi64_epi8::<0>(value, matrix)
}

/// The product of each byte of `value` and one element, whose entry in [`HALF_PRODUCTS`] is given.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn multiply_by_shuffle(value: __m256i, [lows, highs]: &[[u8; 16]; 2]) -> __m256i {
    let low_half = _mm256_set1_epi8(15);
    let lows = _mm256_broadcastsi128_si256(bytemuck::cast(*lows));
    let highs = _mm256_broadcastsi128_si256(bytemuck::cast(*highs));
    let low = _mm256_and_si256(value, low_half);
    let high = _mm256_and_si256(_mm256_srli_epi64::<4>(value), low_half);
    _mm256_xor_si256(_mm256_shuffle_epi8(lows, low), _mm256_shuffle_epi8(highs, high))
}

/// The product of each byte and `factor`, by shifts and additions on whole vectors. This needs no
/// shuffle instruction, so that the compiler makes good code for every processor.
#[inline(always)]
pub(super) fn multiply_lanes(mut power: [u8; LANES], factor: u8) -> [u8; LANES] {
    let mut product = [0; LANES];
    for bit in 0..8 {
        let mask = 0u8.wrapping_sub(factor >> bit & 1);
        for (sum, power) in product.iter_mut().zip(&mut power) {
            *sum ^= *power & mask;
            *power = (*power << 1) ^ (((*power as i8) >> 7) as u8 & 0x1d);
        }
    }
    product
}

/// Fetches up to `len` bytes of `symbol` from `end` on, which the next group of columns will need.
/// The processor's own prefetcher does not follow so many symbols at once.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch_next(symbol: &[u8], end: usize, len: usize) {
    let next = &symbol[end..];
    prefetch(&next[..next.len().min(len)]);
}

/// `bytes` as vectors, padded with zeros.
#[inline(always)]
pub(super) fn load<V: Pod, const VECTORS: usize>(bytes: &[u8]) -> [V; VECTORS] {
    let mut vectors = [V::zeroed(); VECTORS];
    let whole = bytemuck::cast_slice_mut(&mut vectors);
    if bytes.len() == whole.len() {
        whole.copy_from_slice(bytes);
    } else {
        whole[..bytes.len()].copy_from_slice(bytes);
    }
    vectors
}

/// Writes the first bytes of `vectors` to `out`, as many as it holds.
#[inline(always)]
pub(super) fn store<V: Pod, const VECTORS: usize>(vectors: &[V; VECTORS], out: &mut [u8]) {
    let whole: &[u8] = bytemuck::cast_slice(vectors);
    if out.len() == whole.len() {
        out.copy_from_slice(whole);
    } else {
        out.copy_from_slice(&whole[..out.len()]);
    }
}
