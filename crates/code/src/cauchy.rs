//! The systematic erasure code with Cauchy coefficients over GF(256).
//!
//! Any `k` of a block's `k` + 128 encoding symbols restore its `k` source symbols. A few repair
//! symbols are made directly from their coefficients; many are made by a transform, which yields
//! sixteen at once. Decoding solves only for the lost symbols. Crates for general Reed-Solomon
//! codes either invert the whole k × k matrix for each new loss pattern, or transform the whole
//! block however little was lost; `benches/codes.rs` measures the difference.

use crate::gf256::{COSET, CosetTargets, Product, add_combinations, add_coset_sums, inverse};

/// An erasure code: it makes the repair symbols of a block and solves for lost source symbols.
pub trait ErasureCode {
    /// Appends the repair symbols with the numbers `repairs` (counted from 0, below
    /// [`MAX_REPAIR_SYMBOLS`](crate::MAX_REPAIR_SYMBOLS)) to `out`.
    ///
    /// `source` holds the block: whole symbols of `symbol_size` bytes, one after the other, at
    /// most [`MAX_BLOCK_SYMBOLS`](crate::MAX_BLOCK_SYMBOLS) of them.
    fn encode(&self, source: &[u8], symbol_size: usize, repairs: &[u16], out: &mut Vec<u8>);

    /// Solves for the source symbols with the numbers `lost`, and writes them into `source`, the
    /// block as [`encode`](Self::encode) takes it. What `source` holds at their places before
    /// does not matter.
    ///
    /// `repairs` holds the numbers of at least as many repair symbols, `repair_bytes` their
    /// contents, `symbol_size` bytes each, in the same order. The call overwrites `repair_bytes`.
    ///
    /// # Errors
    /// `repairs` or `repair_bytes` hold fewer symbols than were lost, or a number appears twice in
    /// `lost` or in the repair symbols that are used.
    fn decode(
        &self,
        source: &mut [u8],
        symbol_size: usize,
        lost: &[u16],
        repairs: &[u16],
        repair_bytes: &mut [u8],
    ) -> Result<(), DecodeError>;
}

/// The error for symbols that do not determine their block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too few distinct repair symbols")]
pub struct DecodeError;

/// The number of [`CauchyCode`] in the field *code* of an announcement (docs/PROTOCOL.md, section
/// "Frames").
pub const CAUCHY_CODE: u8 = 1;

/// The Cauchy code over GF(2^8) with the polynomial 0x11d (docs/PROTOCOL.md, section "Erasure
/// code").
///
/// The coefficient of source symbol `i` in repair symbol `j` is `1 / ((128 + j) xor i)`. This is a
/// Cauchy matrix: each of its square submatrices has an inverse.
#[derive(Debug, Clone, Copy, Default)]
pub struct CauchyCode;

/// The field element of the repair symbol with this number. The element of a source symbol is its
/// number itself.
fn point(repair: u16) -> u8 {
    // `repair` is below MAX_REPAIR_SYMBOLS, so that the sum fits a byte.
    128 + repair as u8
}

/// The matrix of coefficients: one row for each of `repairs`, one column for each source symbol.
/// The coefficient is zero where the source symbol's bit is set in `absent`.
fn coefficients(repairs: &[u16], symbols: usize, absent: u128) -> Vec<u8> {
    let mut rows = Vec::with_capacity(repairs.len() * symbols);
    for &repair in repairs {
        // A block has at most 128 source symbols, so that the cast is exact.
        rows.extend((0..symbols as u8).map(|index| {
            if absent >> index & 1 == 1 { 0 } else { inverse(point(repair) ^ index) }
        }));
    }
    rows
}

/// Adds the repair symbols `repairs` of `source` to the symbols of `out`. A source symbol counts as
/// zero if its bit is set in `absent`.
fn add_repairs(out: &mut [u8], source: &[u8], absent: u128, symbol_size: usize, repairs: &[u16]) {
    let symbols = source.len() / symbol_size;
    let targets = coset_targets(repairs);
    let targeted: usize =
        targets.iter().map(|target| target.symbols.iter().flatten().count()).sum();
    // A coset has one place for each repair symbol, so that repeated ones need their coefficients.
    let is_each_once = targeted == repairs.len();
    if is_each_once && costs_less_by_coset(symbols, repairs.len(), targets.len()) {
        add_coset_sums(out, source, absent, symbol_size, &targets);
    } else {
        let factors = coefficients(repairs, symbols, absent);
        add_combinations(out, source, symbol_size, &factors);
    }
}

/// Whether the transform by cosets makes `repairs` repair symbols, which belong to `cosets`
/// different cosets, faster than their coefficients do.
fn costs_less_by_coset(symbols: usize, repairs: usize, cosets: usize) -> bool {
    // The costs are counted in multiplications. Each sixteen source symbols take 32 for their
    // polynomial, once for two cosets, and 16 for each coset to which it is added. Another 16 stand
    // for the transform's remaining work, as measured. The evaluation takes 32 for each coset.
    let for_sixteen = 32 * cosets.div_ceil(2) + 16 * cosets + 16;
    symbols.div_ceil(COSET) * for_sixteen + 32 * cosets < symbols * repairs
}

/// The cosets to which `repairs` belong, with the place in `repairs` of each wanted element.
fn coset_targets(repairs: &[u16]) -> Vec<CosetTargets> {
    let mut targets: Vec<CosetTargets> = Vec::new();
    for (at, &repair) in repairs.iter().enumerate() {
        let (coset, element) =
            (usize::from(point(repair)) / COSET, usize::from(point(repair)) % COSET);
        let known = targets.iter().position(|target| target.coset == coset);
        let known = known.unwrap_or_else(|| {
            targets.push(CosetTargets { coset, symbols: [None; COSET] });
            targets.len() - 1
        });
        targets[known].symbols[element] = Some(at);
    }
    targets
}

impl ErasureCode for CauchyCode {
    fn encode(&self, source: &[u8], symbol_size: usize, repairs: &[u16], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + repairs.len() * symbol_size, 0);
        add_repairs(&mut out[start..], source, 0, symbol_size, repairs);
    }

    fn decode(
        &self,
        source: &mut [u8],
        symbol_size: usize,
        lost: &[u16],
        repairs: &[u16],
        repair_bytes: &mut [u8],
    ) -> Result<(), DecodeError> {
        let repairs = repairs.get(..lost.len()).ok_or(DecodeError)?;
        let syndromes = repair_bytes.get_mut(..lost.len() * symbol_size).ok_or(DecodeError)?;
        let solution = inverse_matrix(repairs, lost).ok_or(DecodeError)?;
        let absent = lost.iter().fold(0, |absent, index| absent | 1 << index);
        // The received source symbols are subtracted from each repair symbol; the rest depends on
        // the lost ones only.
        add_repairs(syndromes, source, absent, symbol_size, repairs);
        let mut solved = vec![0; lost.len() * symbol_size];
        add_combinations(&mut solved, syndromes, symbol_size, &solution);
        for (&index, bytes) in lost.iter().zip(solved.chunks_exact(symbol_size)) {
            let start = usize::from(index) * symbol_size;
            source[start..start + symbol_size].copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// The inverse of the square Cauchy matrix with the rows `repairs` and the columns `lost`, stored
/// row by row. It is computed by the closed form. `None` if a row or a column is repeated.
fn inverse_matrix(repairs: &[u16], lost: &[u16]) -> Option<Vec<u8>> {
    let rows: Vec<u8> = repairs.iter().map(|&repair| point(repair)).collect();
    // The numbers of source symbols are below 128, so that the cast is exact.
    let columns: Vec<u8> = lost.iter().map(|&index| index as u8).collect();
    // For each point: the product of its differences from all points of the other kind, divided
    // by the product of its differences from the other points of its own kind.
    let factors = |own: &[u8], other: &[u8]| -> Option<Vec<Product>> {
        let factor = |(at, &point): (usize, &u8)| {
            let others = own[..at].iter().chain(&own[at + 1..]);
            let divisor = Product::of(others.map(|own| point ^ own))?;
            Some(Product::of(other.iter().map(|other| point ^ other))?.over(divisor))
        };
        own.iter().enumerate().map(factor).collect()
    };
    let row_factors = factors(&rows, &columns)?;
    let column_factors = factors(&columns, &rows)?;
    let mut result = Vec::with_capacity(rows.len() * columns.len());
    for (column, column_factor) in columns.iter().zip(&column_factors) {
        for (row, row_factor) in rows.iter().zip(&row_factors) {
            let factors = column_factor.times(*row_factor);
            result.push(factors.over(Product::of([row ^ column])?).value());
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_repeated_repair_symbol_is_an_error() {
        let mut source = vec![1; 20];
        let decoded = CauchyCode.decode(&mut source, 10, &[0, 1], &[3, 3], &mut [7; 20]);
        assert_eq!(decoded, Err(DecodeError));
    }

    /// Coefficients and cosets give equal symbols, those that docs/PROTOCOL.md lists.
    #[test]
    fn encoded_symbols_match_the_protocol() {
        let source: Vec<u8> = (0..128).map(|symbol| u8::from(symbol == 0)).collect();
        for repairs in [vec![0, 1, 127], (0..128).collect()] {
            let mut symbols = Vec::new();
            CauchyCode.encode(&source, 1, &repairs, &mut symbols);
            assert_eq!(costs_less_by_coset(128, repairs.len(), 8), repairs.len() == 128);
            let (first, last) = (symbols[..2].to_vec(), symbols[symbols.len() - 1]);
            assert_eq!((first, last), (vec![0x1b, 0x54], 0xfd), "docs/PROTOCOL.md");
        }
    }

    #[test]
    fn a_repair_symbol_asked_for_twice_is_made_twice() {
        let source: Vec<u8> = (0..64 * 3).collect();
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        CauchyCode.encode(&source, 3, &[0, 1, 2, 3, 4, 5, 6], &mut once);
        CauchyCode.encode(&source, 3, &[0, 1, 2, 3, 4, 5, 6, 2], &mut twice);
        assert_eq!(twice[..21], once);
        assert_eq!(twice[21..], once[6..9]);
    }

    proptest! {
        #[test]
        fn any_k_symbols_are_enough(
            count in 1u16..=128,
            symbol_size in 1usize..200,
            seed in any::<u64>(),
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 128),
        ) {
            let original: Vec<u8> = (0..usize::from(count) * symbol_size)
                .map(|index| (seed.wrapping_mul(index as u64 + 1) >> 23) as u8)
                .collect();
            let mut numbers: Vec<u16> = (0..count).collect();
            let mut repairs: Vec<u16> = (0..128).collect();
            let (mut lost, mut used) = (Vec::new(), Vec::new());
            for pick in picks.iter().take(usize::from(count) / 2 + 1) {
                lost.push(numbers.swap_remove(pick.index(numbers.len())));
                used.push(repairs.swap_remove(pick.index(repairs.len())));
                if numbers.is_empty() { break; }
            }
            let mut symbols = Vec::new();
            CauchyCode.encode(&original, symbol_size, &used, &mut symbols);
            let mut received = original.clone();
            for &index in &lost {
                received[usize::from(index) * symbol_size..][..symbol_size].fill(0xee);
            }
            CauchyCode.decode(&mut received, symbol_size, &lost, &used, &mut symbols).unwrap();
            prop_assert_eq!(received, original);
        }
    }
}
