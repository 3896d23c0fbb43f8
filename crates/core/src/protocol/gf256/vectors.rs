//! What the kernels over whole symbols share: vectors of bytes, and multiplication by one element.

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

/// Vectors of a symbol's columns that are made together.
pub(super) const WIDE: usize = 4;
#[cfg(target_arch = "x86_64")]
pub(super) const HALF: usize = WIDE / 2;

/// Bytes of a vector where the processor is not known.
pub(super) const LANES: usize = 64;

/// Calls `$kernel!(vectors, columns, …)` for groups of each symbol's columns: wide ones, since
/// memory is read ahead along a symbol and not across symbols, then what is left.
#[cfg(target_arch = "x86_64")]
macro_rules! by_columns {
    ($vector:ty, $size:expr, $kernel:ident!($($rest:tt)*)) => {{
        use $crate::protocol::gf256::vectors::{HALF, WIDE};
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

/// Multiplication by each element as a matrix of bits, as `gf2p8affineqb` takes it: byte
/// 7 - *n* is the row that makes bit *n* of the product.
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

/// Products of each element with the sixteen low and the sixteen high half bytes.
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

/// `matrix` is one of [`MATRICES`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
pub(super) fn multiply_by_affine_transform(value: __m512i, matrix: &u64) -> __m512i {
    let matrix = _mm512_set1_epi64(matrix.cast_signed());
    _mm512_gf2p8affine_epi64_epi8::<0>(value, matrix)
}

/// The products are one of [`HALF_PRODUCTS`].
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

/// Shift and add on whole vectors instead of a table: it needs no shuffle instruction, so
/// that the compiler makes good code of it for every processor.
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

/// What the next pass over the columns will need of a symbol, `end` being where this one ends:
/// the processor does not see by itself that so many symbols are read side by side.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch_next(symbol: &[u8], end: usize, len: usize) {
    let next = &symbol[end..];
    prefetch(&next[..next.len().min(len)]);
}

/// Vectors that begin with `bytes`, zeros behind them.
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

#[inline(always)]
pub(super) fn store<V: Pod, const VECTORS: usize>(vectors: &[V; VECTORS], out: &mut [u8]) {
    let whole: &[u8] = bytemuck::cast_slice(vectors);
    if out.len() == whole.len() {
        out.copy_from_slice(whole);
    } else {
        out.copy_from_slice(&whole[..out.len()]);
    }
}
