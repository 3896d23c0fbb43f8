//! A systematic erasure code for blocks of up to 128 symbols: Cauchy coefficients over GF(256).
//!
//! A block has up to [`MAX_BLOCK_SYMBOLS`] source symbols, which are sent unchanged, and up to
//! [`MAX_REPAIR_SYMBOLS`] repair symbols, which are made when they are needed. Any `k` different
//! symbols restore a block of `k` source symbols. For blocks of one size, the time of encoding
//! and of decoding grows with the number of lost symbols: a block without loss costs nothing.
//!
//! The field, the coefficients and the numbers of the symbols are those of docs/PROTOCOL.md,
//! section "Erasure code".
//!
//! ```
//! use siar_code::{CauchyCode, ErasureCode};
//!
//! // Four source symbols of three bytes; symbols 1 and 2 get lost on the way.
//! let source = *b"abcdefghijkl";
//! let mut repair_symbols = Vec::new();
//! CauchyCode.encode(&source, 3, &[0, 1], &mut repair_symbols);
//!
//! let mut received = *b"abc??????jkl";
//! CauchyCode.decode(&mut received, 3, &[1, 2], &[0, 1], &mut repair_symbols)?;
//! assert_eq!(received, source);
//! # Ok::<(), siar_code::DecodeError>(())
//! ```
//!
//! | module | job |
//! |---|---|
//! | `cauchy` | the code: coefficients, encoding, decoding |
//! | `gf256` | arithmetic in GF(256) on whole symbols, with kernels for GFNI, AVX2 and plain Rust |
//! | [`prefetch`] | fetching memory into the processor's cache ahead of its use |

mod cauchy;
mod gf256;
pub mod prefetch;

pub use cauchy::{CAUCHY_CODE, CauchyCode, DecodeError, ErasureCode};

/// The largest number of source symbols in a block. One half of the 256 field elements stands for
/// source symbols, the other half for repair symbols.
pub const MAX_BLOCK_SYMBOLS: u16 = 128;
/// The largest number of different repair symbols of a block.
pub const MAX_REPAIR_SYMBOLS: u16 = 128;
