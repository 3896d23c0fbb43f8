//! One transfer as its receiver sees it: which symbols of which blocks are there.

use std::collections::BTreeMap;
use std::time::Instant;

use super::block::{BlockLayout, MAX_REPAIR_SYMBOLS};
use super::code::{CauchyCode, DecodeError, ErasureCode};
use crate::prefetch::prefetch;
use crate::wire::{DeficitRun, MAX_RUNS};

/// A status speaks of so many blocks at most: a poll costs its sender nothing.
const MAX_BLOCKS_TOLD: u32 = 1 << 16;
/// Room is made for as many repair symbols as are lacking, but for no more than this at once.
const MOST_RESERVED: usize = 32;

/// The symbols of the blocks that are not whole yet.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) layout: BlockLayout,
    /// Symbols of each block that are there; as many as it has once it was handed over. Zeros
    /// cost nothing until they are changed, however many blocks are announced.
    held: Vec<u16>,
    open: BTreeMap<u32, ReceivedBlock>,
    /// Below this block all are whole.
    first_incomplete: u32,
}

/// What became of a symbol.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is kept, its block needs more.
    Kept,
    /// It was the last one that its block needed.
    Whole(ReceivedBlock),
    /// It was there already, or cannot be used.
    Useless,
    /// It would open a block for which there is no memory.
    NoRoom,
}

impl Incoming {
    pub(super) fn new(layout: BlockLayout) -> Self {
        let held = vec![0; layout.block_count() as usize];
        Self { layout, held, open: BTreeMap::new(), first_incomplete: 0 }
    }

    /// Symbols that a block of the file lacks.
    fn missing(&self, block: u32) -> u16 {
        self.layout.symbols_in(block) - self.held[block as usize]
    }

    pub(super) fn open_blocks(&self) -> usize {
        self.open.len()
    }

    /// Bytes of a block of full length.
    pub(super) fn largest_block(&self) -> usize {
        if self.layout.block_count() == 0 {
            return 0;
        }
        usize::from(self.layout.symbols_in(0)) * self.layout.symbol_size()
    }

    /// Bytes held by unfinished blocks.
    pub(super) fn open_memory(&self) -> usize {
        self.open.values().map(|block| block.bytes.len()).sum()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.first_incomplete == self.layout.block_count()
    }

    /// `buffer` gives memory for a block to be opened, or `None`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        block: u32,
        symbol: u16,
        payload: &[u8],
        buffer: impl FnOnce(usize) -> Option<Vec<u8>>,
    ) -> Taken {
        let symbol_size = self.layout.symbol_size();
        let is_of_file = block < self.layout.block_count();
        if payload.len() != symbol_size || !is_of_file || self.missing(block) == 0 {
            return Taken::Useless;
        }
        let source_symbols = self.layout.symbols_in(block);
        if symbol >= source_symbols + MAX_REPAIR_SYMBOLS {
            return Taken::Useless;
        }
        let largest = self.largest_block();
        let received = match self.open.entry(block) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let Some(mut bytes) = buffer(largest) else { return Taken::NoRoom };
                bytes.resize(largest, 0);
                let range = self.layout.byte_range(block);
                entry.insert(ReceivedBlock {
                    block,
                    offset: range.start,
                    // A block is at most 128 symbols of 65,535 bytes.
                    len: (range.end - range.start) as usize,
                    symbol_size,
                    source_symbols,
                    bytes,
                    present: 0,
                    repairs: Vec::new(),
                    repair_bytes: Vec::new(),
                    touched: now,
                })
            }
        };
        if !received.insert(symbol, source_symbols, payload) {
            return Taken::Useless;
        }
        received.touched = now;
        self.held[block as usize] += 1;
        if self.missing(block) > 0 {
            return Taken::Kept;
        }
        self.move_on();
        self.open.remove(&block).map_or(Taken::Useless, Taken::Whole)
    }

    /// Marks blocks as whole that need not be received.
    pub(super) fn set_whole(&mut self, blocks: &[u32]) {
        for block in blocks {
            if let Some(held) = self.held.get_mut(*block as usize) {
                *held = self.layout.symbols_in(*block);
            }
        }
        self.move_on();
    }

    fn move_on(&mut self) {
        let blocks = self.layout.block_count();
        while self.first_incomplete < blocks && self.missing(self.first_incomplete) == 0 {
            self.first_incomplete += 1;
        }
    }

    /// The unfinished blocks, and when each got its latest symbol.
    pub(super) fn touched(&self) -> impl Iterator<Item = (Instant, u32)> {
        self.open.values().map(|block| (block.touched, block.block))
    }

    /// Forgets the symbols of an unfinished block, for its memory.
    pub(super) fn discard(&mut self, block: u32) -> Option<Vec<u8>> {
        let discarded = self.open.remove(&block)?;
        self.held[block as usize] = 0;
        Some(discarded.bytes)
    }

    /// Runs of incomplete blocks below `horizon`, and the block up to which they speak.
    pub(super) fn deficits(&self, horizon: u32) -> (Vec<DeficitRun>, u32) {
        let told = self.first_incomplete.saturating_add(MAX_BLOCKS_TOLD);
        let horizon = horizon.min(self.layout.block_count()).min(told);
        let mut runs: Vec<DeficitRun> = Vec::new();
        for block in self.first_incomplete..horizon {
            let deficit = self.missing(block);
            if deficit == 0 {
                continue;
            }
            let full = runs.len() == MAX_RUNS;
            match runs.last_mut() {
                Some(run) if run.first + run.count == block && run.deficit == deficit => {
                    run.count += 1;
                }
                _ if full => return (runs, block),
                _ => runs.push(DeficitRun { first: block, count: 1, deficit }),
            }
        }
        (runs, horizon)
    }
}

/// A block with enough symbols to be made whole: decoding is left to whoever writes it, so
/// that it need not happen on the thread that drains the socket.
#[derive(Debug)]
pub struct ReceivedBlock {
    /// Which block of the file.
    pub block: u32,
    /// Where its bytes begin in the file.
    pub offset: u64,
    len: usize,
    symbol_size: usize,
    source_symbols: u16,
    /// Room for a block of full length, so that any block's buffer serves any other.
    bytes: Vec<u8>,
    present: u128,
    /// Numbers of the repair symbols, and their bytes one after the other.
    repairs: Vec<u16>,
    repair_bytes: Vec<u8>,
    /// When its latest useful symbol came.
    touched: Instant,
}

impl ReceivedBlock {
    fn insert(&mut self, symbol: u16, source_symbols: u16, payload: &[u8]) -> bool {
        if let Some(repair) = symbol.checked_sub(source_symbols) {
            let known = self.repairs.contains(&repair);
            if !known {
                if self.repair_bytes.capacity() - self.repair_bytes.len() < self.symbol_size {
                    // No more of them are taken than are lacking.
                    let held = self.present.count_ones() as usize + self.repairs.len();
                    let lacking = usize::from(source_symbols) - held;
                    let more = lacking.min(MOST_RESERVED) * self.symbol_size;
                    self.repair_bytes.reserve_exact(more);
                }
                self.repairs.push(repair);
                self.repair_bytes.extend_from_slice(payload);
            }
            return !known;
        }
        let known = self.present >> symbol & 1 == 1;
        if !known {
            self.present |= 1 << symbol;
            let start = usize::from(symbol) * self.symbol_size;
            self.bytes[start..start + self.symbol_size].copy_from_slice(payload);
            // Where the next one will most likely be copied to.
            let next = &self.bytes[start + self.symbol_size..];
            prefetch(&next[..next.len().min(self.symbol_size)]);
        }
        !known
    }

    /// Solves for the source symbols that were lost and returns the block's bytes of the
    /// file, at the front of a buffer that may be longer, and their count.
    ///
    /// # Errors
    /// The symbols do not determine the block, which a correct sender never causes.
    pub fn decode(mut self) -> Result<(Vec<u8>, usize), DecodeError> {
        let lost: Vec<u16> =
            (0..self.source_symbols).filter(|symbol| self.present >> symbol & 1 == 0).collect();
        if !lost.is_empty() {
            let source = &mut self.bytes[..usize::from(self.source_symbols) * self.symbol_size];
            let (repairs, bytes) = (&self.repairs, &mut self.repair_bytes);
            CauchyCode.decode(source, self.symbol_size, &lost, repairs, bytes)?;
        }
        Ok((self.bytes, self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_speaks_of_a_bounded_part_of_a_huge_file() {
        let incoming = Incoming::new(BlockLayout::new(1 << 33, 1024, 1).unwrap());
        let (runs, covered) = incoming.deficits(u32::MAX);
        assert_eq!(covered, MAX_BLOCKS_TOLD);
        assert_eq!(runs, [DeficitRun { first: 0, count: MAX_BLOCKS_TOLD, deficit: 1 }]);
    }
}
