//! The reassembly of a file: which symbols of which blocks are there at the receiver.

use std::collections::BTreeMap;
use std::time::Instant;

use siar_code::MAX_REPAIR_SYMBOLS;
use siar_code::prefetch::prefetch;
use siar_code::{CauchyCode, DecodeError, ErasureCode};

use crate::layout::BlockLayout;
use crate::wire::DeficitRun;

/// The largest number of blocks behind the first incomplete one on which a status reports. A poll
/// costs its sender nothing, so that the work for an answer needs a bound.
const MAX_REPORTED_BLOCKS: u32 = 1 << 16;
/// The largest number of repair symbols for which a block reserves memory at once.
const MAX_RESERVED_REPAIRS: usize = 32;

/// The state of a file's reassembly: the symbols of its incomplete blocks.
#[derive(Debug)]
pub(super) struct Reassembly {
    pub(super) layout: BlockLayout,
    /// The number of symbols held of each block. A block that was handed over counts as complete.
    /// Zeros take no memory until they are changed, however many blocks a sender announces.
    held: Vec<u16>,
    open: BTreeMap<u32, ReceivedBlock>,
    /// All blocks before this one are complete.
    first_incomplete: u32,
}

/// The fate of a symbol that a receiver has taken.
#[derive(Debug)]
pub(super) enum Taken {
    /// The symbol is kept; its block needs more symbols.
    Kept,
    /// The symbol completes its block.
    Whole(ReceivedBlock),
    /// The symbol is not needed: it or its whole block was there already, or it does not belong to
    /// the file.
    Useless,
    /// The symbol would open a block, for which there is no memory.
    NoRoom,
}

impl Reassembly {
    pub(super) fn new(layout: BlockLayout) -> Self {
        let held = vec![0; layout.block_count() as usize];
        Self { layout, held, open: BTreeMap::new(), first_incomplete: 0 }
    }

    /// The number of symbols that `block` lacks.
    fn missing(&self, block: u32) -> u16 {
        self.layout.symbols_in(block) - self.held[block as usize]
    }

    /// The number of blocks that hold some of their symbols.
    pub(super) fn open_blocks(&self) -> usize {
        self.open.len()
    }

    /// The length in bytes of the file's longest block.
    pub(super) fn largest_block(&self) -> usize {
        if self.layout.block_count() == 0 {
            return 0;
        }
        usize::from(self.layout.symbols_in(0)) * self.layout.symbol_size()
    }

    /// The number of bytes that open blocks hold.
    pub(super) fn open_memory(&self) -> usize {
        self.open.len() * self.largest_block()
    }

    /// Whether all blocks are complete.
    pub(super) fn is_complete(&self) -> bool {
        self.first_incomplete == self.layout.block_count()
    }

    /// Takes the encoding symbol `symbol` of `block`. If this opens the block, `buffer` gives
    /// memory of the length that it is called with, or `None`.
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
        self.advance_first_incomplete();
        self.open.remove(&block).map_or(Taken::Useless, Taken::Whole)
    }

    /// Marks blocks as complete that need not be received.
    pub(super) fn set_whole(&mut self, blocks: &[u32]) {
        for block in blocks {
            if let Some(held) = self.held.get_mut(*block as usize) {
                *held = self.layout.symbols_in(*block);
            }
        }
        self.advance_first_incomplete();
    }

    /// Moves the first incomplete block behind those that are complete by now.
    fn advance_first_incomplete(&mut self) {
        let blocks = self.layout.block_count();
        while self.first_incomplete < blocks && self.missing(self.first_incomplete) == 0 {
            self.first_incomplete += 1;
        }
    }

    /// The open blocks, each with the time of its latest useful symbol.
    pub(super) fn touched(&self) -> impl Iterator<Item = (Instant, u32)> {
        self.open.values().map(|block| (block.touched, block.block))
    }

    /// Discards the symbols of an open block, and returns its buffer.
    pub(super) fn discard(&mut self, block: u32) -> Option<Vec<u8>> {
        let discarded = self.open.remove(&block)?;
        self.held[block as usize] = 0;
        Some(discarded.bytes)
    }

    /// The runs of incomplete blocks below `horizon`, at most `max_runs`, and the number of blocks on
    /// which these runs report, from block 0 on, which is limited too.
    pub(super) fn deficits(&self, horizon: u32, max_runs: usize) -> (Vec<DeficitRun>, u32) {
        let told = self.first_incomplete.saturating_add(MAX_REPORTED_BLOCKS);
        let horizon = horizon.min(self.layout.block_count()).min(told);
        let mut runs: Vec<DeficitRun> = Vec::new();
        let mut block = self.first_incomplete;
        while block < horizon {
            // Within each of the two kinds of blocks, an equal number held is an equal deficit.
            let long_end = self.layout.long_blocks();
            let end = if block < long_end { horizon.min(long_end) } else { horizon };
            // A run has at most MAX_REPORTED_BLOCKS blocks, so that the cast is exact.
            let count = run_length(&self.held[block as usize..end as usize]) as u32;
            let deficit = self.missing(block);
            let full = runs.len() == max_runs;
            match runs.last_mut() {
                _ if deficit == 0 => {}
                Some(run) if run.first + run.count == block && run.deficit == deficit => {
                    run.count += count;
                }
                _ if full => return (runs, block),
                _ => runs.push(DeficitRun { first: block, count, deficit }),
            }
            block += count;
        }
        (runs, horizon)
    }
}

/// The number of values at the beginning that equal the first one.
fn run_length(values: &[u16]) -> usize {
    /// The length in values of the pieces that are compared as a whole, by vector instructions.
    const PIECE: usize = 64;
    let Some(&first) = values.first() else { return 0 };
    let is_equal =
        |piece: &&[u16]| piece.iter().fold(0, |differs, value| differs | (value ^ first)) == 0;
    let whole = PIECE * values.chunks_exact(PIECE).take_while(is_equal).count();
    whole + values[whole..].iter().take_while(|value| **value == first).count()
}

/// A block with enough symbols for decoding.
///
/// The writer of the block decodes it, so that the thread that drains the socket need not.
#[derive(Debug)]
pub struct ReceivedBlock {
    /// The number of the block, counted from 0.
    pub block: u32,
    /// The offset of the block's first byte in the file.
    pub offset: u64,
    len: usize,
    symbol_size: usize,
    source_symbols: u16,
    /// The source symbols. The buffer has the length of the file's longest block, so that any block
    /// can reuse it.
    bytes: Vec<u8>,
    /// A bit for each source symbol that is there.
    present: u128,
    /// The numbers of the repair symbols, counted from 0, and the bytes of these symbols in the
    /// order of the numbers.
    repairs: Vec<u16>,
    repair_bytes: Vec<u8>,
    /// The time of the block's latest useful symbol.
    touched: Instant,
}

impl ReceivedBlock {
    /// Adds a symbol; `false` if it was there already.
    fn insert(&mut self, symbol: u16, source_symbols: u16, payload: &[u8]) -> bool {
        if let Some(repair) = symbol.checked_sub(source_symbols) {
            let known = self.repairs.contains(&repair);
            if !known {
                if self.repair_bytes.capacity() - self.repair_bytes.len() < self.symbol_size {
                    // The block takes no more repair symbols than it lacks symbols.
                    let held = self.present.count_ones() as usize + self.repairs.len();
                    let lacking = usize::from(source_symbols) - held;
                    let more = lacking.min(MAX_RESERVED_REPAIRS) * self.symbol_size;
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
            // The next symbol is most likely this one's neighbour.
            let next = &self.bytes[start + self.symbol_size..];
            prefetch(&next[..next.len().min(self.symbol_size)]);
        }
        !known
    }

    /// The length in bytes of the buffer that [`Self::decode`] returns.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.bytes.len()
    }

    /// The block's buffer without decoding, for a block that is not needed.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Solves for the lost source symbols. Returns a buffer and a length: the buffer begins with
    /// that many bytes of the file, from [`Self::offset`] on, and may be longer.
    ///
    /// # Errors
    /// The symbols do not determine the block. A correct sender never causes this.
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
    use proptest::prelude::*;

    use super::*;
    use crate::wire::MAX_RUNS;

    proptest! {
        #[test]
        fn runs_tell_what_each_block_lacks(
            size in 1u64..40_000,
            whole in proptest::collection::vec(0u32..400, 0..300),
            touched in proptest::collection::vec((0u32..400, 0u16..4), 0..300),
            horizon in 0u32..500,
            max_runs in 0usize..20,
        ) {
            let layout = BlockLayout::new(size, 25, 4).unwrap();
            let mut reassembly = Reassembly::new(layout);
            reassembly.set_whole(&whole);
            for (block, symbol) in touched {
                reassembly.take(Instant::now(), block, symbol, &[0; 25], |len| Some(vec![0; len]));
            }
            let (runs, covered) = reassembly.deficits(horizon, max_runs);
            prop_assert!(runs.len() <= max_runs && covered <= horizon);
            for block in 0..covered {
                let run = runs.iter().find(|run| (run.first..run.first + run.count).contains(&block));
                prop_assert_eq!(run.map_or(0, |run| run.deficit), reassembly.missing(block));
            }
            prop_assert!(runs.len() == max_runs || covered == horizon.min(layout.block_count()));
        }
    }

    #[test]
    fn a_status_reports_on_a_bounded_part_of_a_huge_file() {
        let reassembly = Reassembly::new(BlockLayout::new(1 << 33, 1024, 1).unwrap());
        let (runs, covered) = reassembly.deficits(u32::MAX, MAX_RUNS);
        assert_eq!(covered, MAX_REPORTED_BLOCKS);
        assert_eq!(runs, [DeficitRun { first: 0, count: MAX_REPORTED_BLOCKS, deficit: 1 }]);
    }
}
