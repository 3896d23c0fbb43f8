//! Cauchy sums for sixteen field elements at once, by an additive Fourier transform.
//!
//! The elements *b*, …, *b* + 15 are a coset of the subspace {0, …, 15}. Sixteen values at these
//! elements determine one polynomial *f* of degree below 16. By Lagrange's formula the sum of all
//! value / (*x* + element) is *f*(*x*) *p* / *s*(*x* + *b*), where *s* vanishes on the subspace and
//! *p* is the product of its elements other than zero. Since *s* is linear, the divisor is equal
//! for all *x* of another coset. The values of each coset are therefore transformed to the
//! coefficients of *f* in a suitable basis and multiplied by one factor; the products of all cosets
//! are added, and the sum is evaluated at the sixteen *x*. This takes 48 multiplications instead of
//! 256. Basis and butterflies are those of Lin, Chung and Han, "Novel polynomial basis and its
//! application to Reed-Solomon erasure codes" (2014).

use multiversion::multiversion;

use super::vectors::{LANES, WIDE, load, multiply_lanes, store};
use super::{inverse, multiply};
use crate::prefetch::{LINE, prefetch_line};

/// The number of elements of a coset.
pub(in super::super) const COSET: usize = 1 << LAYERS;
const LAYERS: usize = 4;
const COSETS: usize = 256 / COSET;
const BUTTERFLIES: usize = COSET - 1;

/// The value at `point` of the polynomial that vanishes on all elements below 2^`dimension`.
const fn vanishing(dimension: usize, point: u8) -> u8 {
    let (mut product, mut element) = (1, 0);
    while element < 1 << dimension {
        product = multiply(product, point ^ element);
        element += 1;
    }
    product
}

/// The factors of the butterflies of each coset, layer by layer. The first layer joins neighbouring
/// elements.
const TWIDDLES: [[u8; BUTTERFLIES]; COSETS] = {
    let mut table = [[0; BUTTERFLIES]; COSETS];
    let mut coset = 0;
    while coset < COSETS {
        let (mut layer, mut at) = (0, 0);
        while layer < LAYERS {
            let scale = inverse(vanishing(layer, 1 << layer));
            let mut low = 0;
            while low < COSET {
                let point = (coset * COSET + low) as u8;
                table[coset][at] = multiply(vanishing(layer, point), scale);
                low += 2 << layer;
                at += 1;
            }
            layer += 1;
        }
        coset += 1;
    }
    table
};

/// The factors for the polynomials of cosets. The index is the sum (xor) of the number of the
/// polynomial's coset and the number of the coset where it is evaluated. Index 0, a coset and
/// itself, has no factor.
const WEIGHTS: [u8; COSETS] = {
    let mut product = 1;
    let mut element = 1;
    while element < COSET {
        product = multiply(product, element as u8);
        element += 1;
    }
    let mut table = [0; COSETS];
    let mut distance = 1;
    while distance < COSETS {
        let divisor = vanishing(LAYERS, (distance * COSET) as u8);
        table[distance] = multiply(product, inverse(divisor));
        distance += 1;
    }
    table
};

/// The output symbols to which the sums for the elements of one coset are added.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct CosetTargets {
    /// The number of the coset; its first element is this number times [`COSET`].
    pub(in super::super) coset: usize,
    /// For each element of the coset, the index of its output symbol, if its sum is wanted.
    pub(in super::super) symbols: [Option<usize>; COSET],
}

/// Adds a sum to a symbol of `out` for each wanted element *x* of the cosets in `targets`: the sum
/// over all source symbols *i* of symbol *i* divided by *i* + *x*.
///
/// `source` and `out` hold whole symbols of `symbol_size` bytes, one after the other. A source
/// symbol counts as zero if its bit is set in `absent`. No coset in `targets` may contain the
/// number of a source symbol.
#[multiversion(targets("x86_64+avx512f+avx512bw+gfni", "x86_64+avx2"))]
pub(in super::super) fn add_coset_sums(
    out: &mut [u8],
    source: &[u8],
    absent: u128,
    symbol_size: usize,
    targets: &[CosetTargets],
) {
    multiversion::target::match_target! {
        "x86_64+avx512f+avx512bw+gfni" => {
            affine_transform::by_affine_transform(out, source, absent, symbol_size, targets);
        },
        "x86_64+avx2" => shuffle::by_shuffle(out, source, absent, symbol_size, targets),
        _ => portable::by_shift_and_add(out, source, absent, symbol_size, targets),
    }
}

/// Defines a kernel for vectors of `$bytes` bytes. `$multiply` takes a vector and an entry of the
/// table `$factors`. `$inline` is the attribute of the transforms: they are inlined where the
/// registers hold a whole coset.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        $name:ident, $inline:meta, $vector:ty, $bytes:literal, $zero:expr, $add:path, $multiply:path,
        $factor:ty, $factors:expr
    ) => {
        /// The [`TWIDDLES`] in the form that `$multiply` takes.
        const FACTORS: [[$factor; BUTTERFLIES]; COSETS] = {
            let mut factors = [[$factors[0]; BUTTERFLIES]; COSETS];
            let mut coset = 0;
            while coset < COSETS {
                let mut at = 0;
                while at < BUTTERFLIES {
                    factors[coset][at] = $factors[TWIDDLES[coset][at] as usize];
                    at += 1;
                }
                coset += 1;
            }
            factors
        };

        $(#[$attribute])*
        pub(super) fn $name(
            out: &mut [u8],
            source: &[u8],
            absent: u128,
            symbol_size: usize,
            targets: &[CosetTargets],
        ) {
            let (twos, one) = targets.as_chunks::<2>();
            for two in twos {
                cosets(out, source, absent, symbol_size, two);
            }
            for one in one {
                cosets(out, source, absent, symbol_size, std::array::from_ref(one));
            }
        }

        /// Adds the sums for `OUTS` cosets, for which each source polynomial is computed once.
        $(#[$attribute])*
        fn cosets<const OUTS: usize>(
            out: &mut [u8],
            source: &[u8],
            absent: u128,
            symbol_size: usize,
            targets: &[CosetTargets; OUTS],
        ) {
            let whole = symbol_size - symbol_size % $bytes;
            let wide = whole - whole % (WIDE * $bytes);
            for start in (0..wide).step_by(WIDE * $bytes) {
                columns::<WIDE, OUTS>(out, source, absent, symbol_size, targets, start);
            }
            for start in (wide..whole).step_by($bytes) {
                columns::<1, OUTS>(out, source, absent, symbol_size, targets, start);
            }
            if whole < symbol_size {
                let mut last_out = last_columns::<$bytes>(out, symbol_size, whole);
                let last_source = last_columns::<$bytes>(source, symbol_size, whole);
                columns::<1, OUTS>(&mut last_out, &last_source, absent, $bytes, targets, 0);
                let symbols = out.chunks_exact_mut(symbol_size);
                for (symbol, last) in symbols.zip(last_out.as_chunks::<$bytes>().0) {
                    symbol[whole..].copy_from_slice(&last[..symbol_size - whole]);
                }
            }
        }

        /// Adds the sums for `VECTORS` vectors of columns from column `start` on.
        $(#[$attribute])*
        fn columns<const VECTORS: usize, const OUTS: usize>(
            out: &mut [u8],
            source: &[u8],
            absent: u128,
            symbol_size: usize,
            targets: &[CosetTargets; OUTS],
            start: usize,
        ) {
            let mut sums = [[[$zero; COSET]; VECTORS]; OUTS];
            for (number, symbols) in source.chunks(COSET * symbol_size).enumerate() {
                let absent = absent >> (number * COSET);
                let columns: [&[[u8; $bytes]; VECTORS]; COSET] = std::array::from_fn(|index| {
                    let columns = symbols.get(index * symbol_size + start..).unwrap_or(&[]);
                    let lines = VECTORS * $bytes / LINE;
                    if let Some(next) = columns.as_chunks::<LINE>().0.get(lines..2 * lines) {
                        next.iter().for_each(|line| prefetch_line(line));
                    }
                    let zeros = &[[0; $bytes]; VECTORS];
                    let is_absent = absent >> index & 1 == 1;
                    // Symbols behind the end of a short block count as zero.
                    let columns = columns.as_chunks().0.first_chunk().unwrap_or(zeros);
                    if is_absent { zeros } else { columns }
                });
                for vector in 0..VECTORS {
                    let mut values: [$vector; COSET] =
                        std::array::from_fn(|index| bytemuck::cast(columns[index][vector]));
                    to_basis(&mut values, &FACTORS[number]);
                    for (target, sums) in targets.iter().zip(&mut sums) {
                        let weight = &$factors[usize::from(WEIGHTS[number ^ target.coset])];
                        for (sum, value) in sums[vector].iter_mut().zip(values) {
                            *sum = $add(*sum, $multiply(value, weight));
                        }
                    }
                }
            }
            for (target, sums) in targets.iter().zip(&mut sums) {
                for sums in &mut *sums {
                    evaluate(sums, &FACTORS[target.coset]);
                }
                for (index, symbol) in target.symbols.iter().enumerate() {
                    let Some(symbol) = symbol else { continue };
                    let out = &mut out[symbol * symbol_size + start..][..VECTORS * $bytes];
                    let mut row: [$vector; VECTORS] = load(out);
                    for (row, sums) in row.iter_mut().zip(&*sums) {
                        *row = $add(*row, sums[index]);
                    }
                    store(&row, out);
                }
            }
        }

        /// The coefficients of the polynomial with these values.
        #[$inline]
        $(#[$attribute])*
        fn to_basis(values: &mut [$vector; COSET], twiddles: &[$factor; BUTTERFLIES]) {
            let mut twiddles = twiddles.iter();
            for layer in 0..LAYERS {
                let distance = 1 << layer;
                for (pair, twiddle) in values.chunks_exact_mut(2 * distance).zip(&mut twiddles) {
                    for low in 0..distance {
                        pair[low + distance] = $add(pair[low + distance], pair[low]);
                        pair[low] = $add(pair[low], $multiply(pair[low + distance], twiddle));
                    }
                }
            }
        }

        /// The values of the polynomial with these coefficients.
        #[$inline]
        $(#[$attribute])*
        fn evaluate(values: &mut [$vector; COSET], twiddles: &[$factor; BUTTERFLIES]) {
            for layer in (0..LAYERS).rev() {
                let distance = 1 << layer;
                let twiddles = &twiddles[COSET - (COSET >> layer)..];
                for (pair, twiddle) in values.chunks_exact_mut(2 * distance).zip(twiddles) {
                    for low in 0..distance {
                        pair[low] = $add(pair[low], $multiply(pair[low + distance], twiddle));
                        pair[low + distance] = $add(pair[low + distance], pair[low]);
                    }
                }
            }
        }
    };
}

/// The columns of each symbol from column `start` on, padded with zeros to `BYTES` bytes.
fn last_columns<const BYTES: usize>(symbols: &[u8], symbol_size: usize, start: usize) -> Vec<u8> {
    let symbols = symbols.chunks_exact(symbol_size);
    let mut columns = vec![0; symbols.len() * BYTES];
    for (columns, symbol) in columns.chunks_exact_mut(BYTES).zip(symbols) {
        columns[..symbol_size - start].copy_from_slice(&symbol[start..]);
    }
    columns
}

#[allow(dead_code)] // Targets that surely have a faster kernel do not use it.
mod portable {
    use super::*;

    const ELEMENTS: [u8; 256] = {
        let mut elements = [0; 256];
        let mut at = 0;
        while at < 256 {
            elements[at] = at as u8;
            at += 1;
        }
        elements
    };

    #[inline(always)]
    fn add(mut left: [u8; LANES], right: [u8; LANES]) -> [u8; LANES] {
        for (left, right) in left.iter_mut().zip(right) {
            *left ^= right;
        }
        left
    }

    /// It is not inlined, since the kernel has hundreds of calls.
    #[inline(never)]
    fn multiply(value: [u8; LANES], factor: &u8) -> [u8; LANES] {
        multiply_lanes(value, *factor)
    }

    kernel!(
        by_shift_and_add,
        inline(never),
        [u8; LANES],
        64,
        [0; LANES],
        add,
        multiply,
        u8,
        ELEMENTS
    );
}

#[cfg(target_arch = "x86_64")]
mod affine_transform {
    use std::arch::x86_64::{__m512i, _mm512_setzero_si512, _mm512_xor_si512};

    use super::super::vectors::{MATRICES, multiply_by_affine_transform};
    use super::*;

    kernel!(
        #[target_feature(enable = "avx512f,avx512bw,gfni")]
        by_affine_transform,
        inline,
        __m512i,
        64,
        _mm512_setzero_si512(),
        _mm512_xor_si512,
        multiply_by_affine_transform,
        u64,
        MATRICES
    );
}

#[cfg(target_arch = "x86_64")]
mod shuffle {
    use std::arch::x86_64::{__m256i, _mm256_setzero_si256, _mm256_xor_si256};

    use super::super::vectors::{HALF_PRODUCTS, multiply_by_shuffle};
    use super::*;

    kernel!(
        #[target_feature(enable = "avx2")]
        by_shuffle,
        inline(never),
        __m256i,
        32,
        _mm256_setzero_si256(),
        _mm256_xor_si256,
        multiply_by_shuffle,
        [[u8; 16]; 2],
        HALF_PRODUCTS
    );
}

#[cfg(test)]
mod tests {
    use super::super::tests::bytes;
    use super::*;

    type Kernel = fn(&mut [u8], &[u8], u128, usize, &[CosetTargets]);

    /// Compares `kernel` with the definition of the sums, byte by byte.
    fn assert_sums(kernel: Kernel) {
        let all = std::array::from_fn(Some);
        let few = std::array::from_fn(|element| (element % 5 == 3).then_some(element / 5));
        for (symbols, symbol_size, absent, targets) in [
            (1, 1, 0, vec![(8, few)]),
            (15, 31, 1 << 14, vec![(15, all)]),
            (16, 64, 0, vec![(9, few), (14, few)]),
            (17, 200, 1 << 16, vec![(8, all)]),
            (100, 1376, 0b1011 << 90 | 1, vec![(8, all), (9, few), (12, all)]),
            (128, 1408, u128::MAX >> 3, vec![(10, few), (11, all)]),
            (128, 1408, 1 << 127 | 1 << 5, vec![(8, all), (15, few)]),
        ] {
            let targets: Vec<CosetTargets> = targets
                .into_iter()
                .map(|(coset, symbols)| CosetTargets { coset, symbols })
                .collect();
            let source = bytes(symbols * symbol_size, 1);
            let mut out = bytes(COSET * symbol_size, 2);
            let mut expected = out.clone();
            for target in &targets {
                for (element, symbol) in target.symbols.iter().enumerate() {
                    let Some(symbol) = symbol else { continue };
                    for index in (0..symbols).filter(|index| absent >> index & 1 == 0) {
                        let factor = inverse((target.coset * COSET + element) as u8 ^ index as u8);
                        for at in 0..symbol_size {
                            expected[symbol * symbol_size + at] ^=
                                multiply(factor, source[index * symbol_size + at]);
                        }
                    }
                }
            }
            kernel(&mut out, &source, absent, symbol_size, &targets);
            assert!(out == expected, "{symbols} symbols of {symbol_size} bytes, {targets:?}");
        }
    }

    #[test]
    fn sums_agree_with_the_field() {
        assert_sums(add_coset_sums);
        assert_sums(portable::by_shift_and_add);
    }

    /// Every kernel that the processor can run is tested, not only the one that is chosen.
    #[cfg(target_arch = "x86_64")]
    #[test]
    #[allow(unsafe_code)]
    fn every_kernel_agrees_with_the_field() {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the features that the function asks for.
            assert_sums(|out, source, absent, size, targets| unsafe {
                shuffle::by_shuffle(out, source, absent, size, targets);
            });
        }
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("gfni") {
            // SAFETY: as above; avx512bw implies avx512f.
            assert_sums(|out, source, absent, size, targets| unsafe {
                affine_transform::by_affine_transform(out, source, absent, size, targets);
            });
        }
    }
}
