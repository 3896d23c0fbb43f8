//! The division of a file into blocks of symbols (RFC 5052, section 9.1).

use std::ops::Range;

use siar_code::MAX_BLOCK_SYMBOLS;

/// The division of a file into blocks of symbols, by the algorithm of RFC 5052, section 9.1.
///
/// The first blocks are long, the others have one source symbol fewer. An empty file has no blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLayout {
    size: u64,
    symbol_size: u16,
    block_symbols: u16,
    block_count: u32,
    long_blocks: u32,
    long_symbols: u16,
}

/// The error for a file that cannot be divided as requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes do not fit 2^32 blocks of {block_symbols} symbols of {symbol_size} bytes")]
pub struct LayoutError {
    size: u64,
    symbol_size: u16,
    block_symbols: u16,
}

impl BlockLayout {
    /// The layout of a file of `size` bytes with symbols of `symbol_size` bytes and blocks of at
    /// most `block_symbols` source symbols.
    ///
    /// # Errors
    /// `symbol_size` or `block_symbols` is zero, `block_symbols` is above [`MAX_BLOCK_SYMBOLS`], or
    /// the file needs 2^32 blocks or more.
    pub fn new(size: u64, symbol_size: u16, block_symbols: u16) -> Result<Self, LayoutError> {
        let error = LayoutError { size, symbol_size, block_symbols };
        if symbol_size == 0 || block_symbols == 0 || block_symbols > MAX_BLOCK_SYMBOLS {
            return Err(error);
        }
        let symbols = size.div_ceil(u64::from(symbol_size));
        let blocks = symbols.div_ceil(u64::from(block_symbols));
        let block_count = u32::try_from(blocks).map_err(|_| error)?;
        if blocks == 0 {
            let (block_count, long_blocks, long_symbols) = (0, 0, 0);
            return Ok(Self {
                size,
                symbol_size,
                block_symbols,
                block_count,
                long_blocks,
                long_symbols,
            });
        }
        // Both casts are exact: a block has at most 128 symbols, and there are no more long blocks
        // than blocks.
        let long_symbols = symbols.div_ceil(blocks) as u16;
        let long_blocks = (symbols - u64::from(long_symbols - 1) * blocks) as u32;
        Ok(Self { size, symbol_size, block_symbols, block_count, long_blocks, long_symbols })
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of each symbol in bytes.
    #[must_use]
    pub fn symbol_size(&self) -> usize {
        usize::from(self.symbol_size)
    }

    /// The largest number of source symbols in a block that was requested.
    #[must_use]
    pub fn block_symbols(&self) -> u16 {
        self.block_symbols
    }

    /// The number of blocks; zero for an empty file.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        self.block_count
    }

    /// The number of source symbols of the file.
    #[must_use]
    pub fn source_symbols(&self) -> u64 {
        self.first_symbol(self.block_count)
    }

    /// The number of long blocks, which come first; the others have one source symbol fewer.
    pub(crate) fn long_blocks(&self) -> u32 {
        self.long_blocks
    }

    /// The number of source symbols of `block`, counted from 0.
    #[must_use]
    pub fn symbols_in(&self, block: u32) -> u16 {
        if block < self.long_blocks { self.long_symbols } else { self.long_symbols - 1 }
    }

    /// The range of the file's bytes that `block` holds. The file's last symbol may be shorter.
    #[must_use]
    pub fn byte_range(&self, block: u32) -> Range<u64> {
        let symbol_size = u64::from(self.symbol_size);
        let start = self.first_symbol(block) * symbol_size;
        let end = self.first_symbol(block + 1) * symbol_size;
        start.min(self.size)..end.min(self.size)
    }

    /// The number of source symbols in the blocks before `block`.
    pub(crate) fn first_symbol(&self, block: u32) -> u64 {
        let long = block.min(self.long_blocks);
        let short = block - long;
        u64::from(long) * u64::from(self.long_symbols)
            + u64::from(short) * u64::from(self.long_symbols.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_file_has_no_blocks() {
        assert_eq!(BlockLayout::new(0, 1408, 128).unwrap().block_count(), 0);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        assert!(BlockLayout::new(1, 0, 128).is_err());
        assert!(BlockLayout::new(1, 1, 0).is_err());
        assert!(BlockLayout::new(1, 1, 129).is_err());
        assert!(BlockLayout::new(u64::MAX, 1, 1).is_err());
    }

    proptest! {
        #[test]
        fn blocks_cover_the_file(
            size in 1u64..5_000_000,
            symbol_size in 1u16..1500,
            block_symbols in 1u16..=128,
        ) {
            let layout = BlockLayout::new(size, symbol_size, block_symbols).unwrap();
            let mut at = 0;
            let last = layout.block_count() - 1;
            for block in [0, last / 2, last] {
                prop_assert!((1..=block_symbols).contains(&layout.symbols_in(block)));
            }
            for block in 0..layout.block_count().min(2000) {
                let range = layout.byte_range(block);
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > range.start);
                at = range.end;
            }
            prop_assert_eq!(layout.byte_range(last).end, size);
        }
    }
}
