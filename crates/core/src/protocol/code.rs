//! The erasure code: systematic, Cauchy coefficients over GF(256).
//!
//! Any `k` of a block's `k` + 128 encoding symbols give back its `k` source symbols. A repair
//! symbol is made alone, and a decode solves only for the symbols that were lost, so both
//! sides pay for the loss and not for the block. General Reed-Solomon crates invert the
//! whole k × k matrix for each new loss pattern; with 128 symbols that costs more than
//! everything else together.

use multiversion::multiversion;

/// Makes repair symbols and solves for lost source symbols of one block.
pub trait ErasureCode {
    /// Adds repair symbol number `repair` (counted from 0) of `source` to `out`, which is
    /// one zeroed symbol. `source` holds whole symbols one after the other.
    fn add_repair(&self, source: &[u8], repair: u16, out: &mut [u8]);

    /// Fills the `lost` symbols of `source` from as many `repairs` (their numbers and
    /// bytes). Bytes of lost symbols are overwritten, whatever they were.
    ///
    /// # Errors
    /// There are fewer repairs than lost symbols, or one comes twice.
    fn decode(
        &self,
        source: &mut [u8],
        symbol_size: usize,
        lost: &[u16],
        repairs: &[(u16, &[u8])],
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

fn coefficient(repair: u16, source: u16) -> u8 {
    // Both are below 128, see MAX_BLOCK_SYMBOLS and MAX_REPAIR_SYMBOLS.
    inverse((128 + repair as u8) ^ source as u8)
}

impl ErasureCode for CauchyCode {
    fn add_repair(&self, source: &[u8], repair: u16, out: &mut [u8]) {
        for (index, symbol) in (0u16..).zip(source.chunks_exact(out.len())) {
            multiply_add(out, symbol, coefficient(repair, index));
        }
    }

    fn decode(
        &self,
        source: &mut [u8],
        symbol_size: usize,
        lost: &[u16],
        repairs: &[(u16, &[u8])],
    ) -> Result<(), DecodeError> {
        let repairs = repairs.get(..lost.len()).ok_or(DecodeError)?;
        for &index in lost {
            symbol_mut(source, symbol_size, index).fill(0);
        }
        // What is left of each repair symbol once the known source symbols are taken out.
        let syndromes: Vec<Vec<u8>> = repairs
            .iter()
            .map(|&(repair, bytes)| {
                let mut rest = bytes.to_vec();
                self.add_repair(source, repair, &mut rest);
                rest
            })
            .collect();
        let matrix = repairs
            .iter()
            .map(|&(repair, _)| lost.iter().map(|&index| coefficient(repair, index)).collect())
            .collect();
        let solution = invert(matrix).ok_or(DecodeError)?;
        for (&index, row) in lost.iter().zip(&solution) {
            let out = symbol_mut(source, symbol_size, index);
            for (syndrome, &factor) in syndromes.iter().zip(row) {
                multiply_add(out, syndrome, factor);
            }
        }
        Ok(())
    }
}

fn symbol_mut(source: &mut [u8], symbol_size: usize, index: u16) -> &mut [u8] {
    let start = usize::from(index) * symbol_size;
    &mut source[start..start + symbol_size]
}

/// Gauss-Jordan; `None` if two rows are equal.
fn invert(mut matrix: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let size = matrix.len();
    let mut result: Vec<Vec<u8>> =
        (0..size).map(|row| (0..size).map(|column| u8::from(row == column)).collect()).collect();
    for column in 0..size {
        let pivot = (column..size).find(|&row| matrix[row][column] != 0)?;
        matrix.swap(column, pivot);
        result.swap(column, pivot);
        let factor = inverse(matrix[column][column]);
        scale(&mut matrix[column], factor);
        scale(&mut result[column], factor);
        let (pivot_matrix, pivot_result) = (matrix[column].clone(), result[column].clone());
        for row in (0..size).filter(|&row| row != column) {
            let factor = matrix[row][column];
            if factor != 0 {
                multiply_add(&mut matrix[row], &pivot_matrix, factor);
                multiply_add(&mut result[row], &pivot_result, factor);
            }
        }
    }
    Some(result)
}

fn scale(row: &mut [u8], factor: u8) {
    for value in row {
        *value = multiply(*value, factor);
    }
}

const LANES: usize = 64;

/// `out += factor * input`. Shift and add on whole vectors instead of a table: it needs no
/// shuffle instruction, so that the compiler makes good code of it for every processor.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
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

/// `INVERSES[0]` is 0 and never used: a Cauchy coefficient's divisor is not zero.
const INVERSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = 1;
    while value < 256 {
        // value^254, since value^255 = 1.
        let (mut square, mut product, mut exponent) = (value as u8, 1, 254);
        while exponent > 0 {
            if exponent & 1 != 0 {
                product = multiply(product, square);
            }
            square = multiply(square, square);
            exponent >>= 1;
        }
        table[value] = product;
        value += 1;
    }
    table
};

fn inverse(value: u8) -> u8 {
    INVERSES[usize::from(value)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn field_arithmetic() {
        assert_eq!(multiply(2, 0x80), 0x1d);
        for value in 1..=255 {
            assert_eq!(multiply(value, inverse(value)), 1);
        }
    }

    #[test]
    fn vector_and_scalar_products_agree() {
        let input: Vec<u8> = (0..=255).cycle().take(300).collect();
        for factor in [0, 1, 2, 0x53, 0xff] {
            let mut out = vec![0x5a; 300];
            multiply_add(&mut out, &input, factor);
            for (out, &input) in out.iter().zip(&input) {
                assert_eq!(*out, 0x5a ^ multiply(input, factor));
            }
        }
    }

    #[test]
    fn a_repeated_repair_symbol_is_an_error() {
        let mut source = vec![1; 20];
        let repair = [7; 10];
        let repairs: [(u16, &[u8]); 2] = [(3, &repair), (3, &repair)];
        assert_eq!(CauchyCode.decode(&mut source, 10, &[0, 1], &repairs), Err(DecodeError));
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
            let symbols: Vec<Vec<u8>> = used.iter().map(|&repair| {
                let mut out = vec![0; symbol_size];
                CauchyCode.add_repair(&original, repair, &mut out);
                out
            }).collect();
            let mut received = original.clone();
            for &index in &lost {
                symbol_mut(&mut received, symbol_size, index).fill(0xee);
            }
            let repairs: Vec<(u16, &[u8])> =
                used.iter().zip(&symbols).map(|(&repair, bytes)| (repair, bytes.as_slice())).collect();
            CauchyCode.decode(&mut received, symbol_size, &lost, &repairs).unwrap();
            prop_assert_eq!(received, original);
        }
    }
}
