//! The erasure code: systematic, Cauchy coefficients over GF(256).
//!
//! Any `k` of a block's `k` + 128 encoding symbols give back its `k` source symbols. Repair
//! symbols are made as they are needed: a few by their coefficients, more of them by a transform
//! that makes sixteen at once. A decode solves only for the symbols that were lost. Crates for
//! any Reed-Solomon code invert the whole k × k matrix for each new loss pattern, or transform to
//! and fro whatever was lost; `benches/codes.rs` shows what that costs.

use super::gf256::{COSET, CosetTargets, Product, add_combinations, add_coset_sums, inverse};

/// Makes repair symbols and solves for lost source symbols of one block.
pub trait ErasureCode {
    /// Appends the repair symbols `repairs` (counted from 0) of `source` to `out`. `source`
    /// holds whole symbols one after the other.
    fn encode(&self, source: &[u8], symbol_size: usize, repairs: &[u16], out: &mut Vec<u8>);

    /// Fills the `lost` symbols of `source` from as many repair symbols: their numbers, and
    /// their bytes one after the other, which are used up. Bytes of lost symbols are
    /// overwritten, whatever they were.
    ///
    /// # Errors
    /// There are fewer repairs than lost symbols, or one comes twice.
    fn decode(
        &self,
        source: &mut [u8],
        symbol_size: usize,
        lost: &[u16],
        repairs: &[u16],
        repair_bytes: &mut [u8],
    ) -> Result<(), DecodeError>;
}

/// The symbols do not determine the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too few distinct repair symbols")]
pub struct DecodeError;

/// Number in the announcement of [`CauchyCode`].
pub const CAUCHY_CODE: u8 = 1;

/// Coefficient of source symbol `i` in repair symbol `j` is `1 / ((128 + j) + i)` in
/// GF(2^8) with the polynomial 0x11d; every square part of that matrix has an inverse.
#[derive(Debug, Clone, Copy, Default)]
pub struct CauchyCode;

/// The field element that stands for a repair symbol; source symbols stand for themselves.
fn point(repair: u16) -> u8 {
    // Both are below 128, see MAX_BLOCK_SYMBOLS and MAX_REPAIR_SYMBOLS.
    128 + repair as u8
}

/// The coefficients of a block's source symbols in the repair symbols, row by row; zero for
/// those with a bit in `absent`.
fn coefficients(repairs: &[u16], symbols: usize, absent: u128) -> Vec<u8> {
    let mut rows = Vec::with_capacity(repairs.len() * symbols);
    for &repair in repairs {
        // A block has at most 128 symbols.
        rows.extend((0..symbols as u8).map(|index| {
            if absent >> index & 1 == 1 { 0 } else { inverse(point(repair) ^ index) }
        }));
    }
    rows
}

/// Adds the repair symbols `repairs` of `source` to the symbols of `out`. Source symbols with a
/// bit in `absent` count as zero.
fn add_repairs(out: &mut [u8], source: &[u8], absent: u128, symbol_size: usize, repairs: &[u16]) {
    let symbols = source.len() / symbol_size;
    let targets = coset_targets(repairs);
    let targeted: usize =
        targets.iter().map(|target| target.symbols.iter().flatten().count()).sum();
    // One that comes twice has only one place in its coset.
    let is_each_once = targeted == repairs.len();
    if is_each_once && costs_less_by_coset(symbols, repairs.len(), targets.len()) {
        add_coset_sums(out, source, absent, symbol_size, &targets);
    } else {
        let factors = coefficients(repairs, symbols, absent);
        add_combinations(out, source, symbol_size, &factors);
    }
}

/// Whether so many repair symbols of so many cosets are made faster by way of whole cosets.
fn costs_less_by_coset(symbols: usize, repairs: usize, cosets: usize) -> bool {
    // In multiplications. For sixteen source symbols: 32 to their polynomial, for each two cosets
    // anew, and 16 to add it to each; as many again for all else that a transform takes, which is
    // measured. Then 32 for each coset to evaluate the sum.
    let for_sixteen = 32 * cosets.div_ceil(2) + 16 * cosets + 16;
    symbols.div_ceil(COSET) * for_sixteen + 32 * cosets < symbols * repairs
}

/// The cosets that `repairs` belong to.
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
        // What is left of each repair symbol once the known source symbols are taken out.
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

/// The inverse of the square Cauchy matrix with the rows `repairs` and the columns `lost`,
/// by its closed form; row by row. `None` if a row or column comes twice.
fn inverse_matrix(repairs: &[u16], lost: &[u16]) -> Option<Vec<u8>> {
    let rows: Vec<u8> = repairs.iter().map(|&repair| point(repair)).collect();
    // Source symbols are below 128.
    let columns: Vec<u8> = lost.iter().map(|&index| index as u8).collect();
    // For each point: its sums with all points of the other kind, over those with the other
    // points of its own kind.
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

    /// The symbols on the wire are the same by coefficients and by cosets.
    #[test]
    fn symbols_are_those_of_the_protocol() {
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
