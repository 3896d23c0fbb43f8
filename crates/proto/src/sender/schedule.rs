//! The schedule of one transfer: the symbols that the sender still has to send.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use siar_code::MAX_REPAIR_SYMBOLS;
use siar_code::prefetch::prefetch;
use siar_code::{CauchyCode, ErasureCode};

use super::interleaving::{Conditions, MAX_INTERLEAVED_BLOCKS, interleaved_blocks, is_loss_heavy};
use crate::layout::BlockLayout;
use crate::units::{Blocks, Symbols};
use crate::wire::{Status, Symbol, TransferId};

/// The largest share of repair symbols whose loss is made up for in advance.
const MAX_EXPECTED_LOSS: f64 = 0.25;
/// The largest number of repair symbols that are made at once for one block, and roughly the
/// largest number that is held for all blocks.
const MAX_READY: u16 = 32;
const MAX_READY_TOTAL: usize = 2048;

/// The source of the file's bytes for a sender.
pub trait BlockSource {
    /// Fills `buffer` with the file's bytes from `offset` on.
    ///
    /// # Errors
    /// The file cannot be read at `offset`, or ends before the buffer is full.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl BlockSource for &[u8] {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self
            .get(start..start + buffer.len())
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// An outstanding block: it was opened, and not all receivers in the pass are known to have it.
#[derive(Debug)]
struct Outstanding {
    /// The number of the first poll whose answers know of all symbols sent of the block.
    fresh_round: u32,
    /// The number of repair symbols granted since then, and the number of these still to be sent.
    granted: u16,
    queued: u16,
    /// The encoding symbol ids of the repair symbols that are made already, and the bytes of these
    /// symbols.
    ready: VecDeque<u16>,
    ready_bytes: Vec<u8>,
    /// The block's source symbols, if there is memory to keep them.
    bytes: Option<Vec<u8>>,
}

/// A block whose source symbols are being sent: the symbols `next..end` are still to be sent.
#[derive(Debug)]
struct Sending {
    block: u32,
    bytes: Vec<u8>,
    next: u16,
    end: u16,
}

impl Sending {
    /// The bytes of the next symbol and of all symbols behind it.
    fn rest(&self, symbol_size: usize) -> &[u8] {
        &self.bytes[usize::from(self.next) * symbol_size..]
    }
}

/// The blocks that the present pass has not opened yet.
#[derive(Debug)]
enum Pass {
    /// The first pass: all blocks of the file from `next` on.
    All { next: u32 },
    /// A later pass: these blocks, each with the largest deficit known when the pass began.
    Selected(VecDeque<(u32, u16)>),
}

/// The schedule of one transfer.
#[derive(Debug)]
pub(super) struct Schedule {
    transfer: TransferId,
    layout: BlockLayout,
    code: CauchyCode,
    pass: Pass,
    /// The blocks whose source symbols take turns, and the index of the next one.
    sending: Vec<Sending>,
    turn: usize,
    /// The number of blocks that have been sent once, from block 0 on.
    horizon: u32,
    outstanding: BTreeMap<u32, Outstanding>,
    /// The blocks with repair symbols to be sent, each listed once.
    repairs: VecDeque<u32>,
    /// For each block that needed repair, the encoding symbol id of its next repair symbol.
    next_symbol: BTreeMap<u32, u16>,
    sent: Symbols,
    source_sent: Symbols,
    /// Buffers of blocks for reuse.
    spare: Vec<Vec<u8>>,
    /// Buffers of repair symbols for reuse.
    spare_ready: Vec<Vec<u8>>,
    /// The largest number of bytes of outstanding blocks that are kept, and the present number.
    max_kept: usize,
    kept: usize,
}

impl Schedule {
    pub(super) fn new(transfer: TransferId, layout: BlockLayout, max_kept: usize) -> Self {
        Self {
            transfer,
            layout,
            code: CauchyCode,
            pass: Pass::All { next: 0 },
            sending: Vec::new(),
            turn: 0,
            horizon: 0,
            outstanding: BTreeMap::new(),
            repairs: VecDeque::new(),
            next_symbol: BTreeMap::new(),
            sent: Symbols::ZERO,
            source_sent: Symbols::ZERO,
            spare: Vec::new(),
            spare_ready: Vec::new(),
            max_kept,
            kept: 0,
        }
    }

    /// The number of symbols sent so far.
    pub(super) fn sent(&self) -> Symbols {
        self.sent
    }

    /// The number of source symbols that have been sent once.
    pub(super) fn source_sent(&self) -> Symbols {
        self.source_sent
    }

    /// The number of blocks that have been sent once, from block 0 on.
    pub(super) fn horizon(&self) -> u32 {
        self.horizon
    }

    /// Whether no block can be opened because the outstanding blocks fill the receive window.
    pub(super) fn is_held_up(&self, receive_window: Blocks) -> bool {
        self.has_unopened_blocks() && self.outstanding.len() >= receive_window.0
    }

    /// Whether nothing is left to send and all receivers in the pass have all blocks of the pass.
    pub(super) fn is_pass_over(&self) -> bool {
        !self.has_unopened_blocks() && self.sending.is_empty() && self.outstanding.is_empty()
    }

    fn has_unopened_blocks(&self) -> bool {
        match &self.pass {
            Pass::All { next } => *next < self.layout.block_count(),
            Pass::Selected(blocks) => !blocks.is_empty(),
        }
    }

    /// Whether a symbol can be sent now.
    pub(super) fn has_symbols_to_send(&self, receive_window: Blocks) -> bool {
        !self.repairs.is_empty() || !self.sending.is_empty() || self.may_open_block(receive_window)
    }

    fn may_open_block(&self, receive_window: Blocks) -> bool {
        self.has_unopened_blocks() && self.outstanding.len() < receive_window.0
    }

    /// Starts a pass over the blocks that a receiver lacks, given with their largest deficits.
    /// Blocks of which all receivers hold some symbols come first, since these blocks take
    /// receivers' memory.
    pub(super) fn start_pass(&mut self, deficits: &BTreeMap<u32, u16>) {
        let deficits = deficits.iter().map(|(&block, &deficit)| (block, deficit));
        let (untouched, begun): (Vec<_>, Vec<_>) =
            deficits.partition(|&(block, deficit)| deficit == self.layout.symbols_in(block));
        self.pass = Pass::Selected(begun.into_iter().chain(untouched).collect());
    }

    /// Grants repair symbols to the blocks that lack symbols by `status`. `loss` is the share of
    /// symbols that the receiver loses.
    pub(super) fn grant(&mut self, status: &Status, loss: f64) {
        for run in &status.runs {
            for (&block, outstanding) in
                self.outstanding.range_mut(run.first..run.first.saturating_add(run.count))
            {
                if status.round < outstanding.fresh_round {
                    continue;
                }
                let wanted = repairs_for(run.deficit, loss);
                if let Some(more) = wanted.checked_sub(outstanding.granted).filter(|&more| more > 0)
                {
                    if outstanding.queued == 0 {
                        self.repairs.push_back(block);
                    }
                    outstanding.granted = wanted;
                    outstanding.queued += more;
                }
            }
        }
    }

    /// Settles the blocks that all receivers in the pass have: they are not outstanding any more.
    /// All have answered the poll `round` and reported on the blocks below `covered`; a block is
    /// settled if no repair was granted to it.
    pub(super) fn settle(&mut self, round: u32, covered: u32) {
        let (kept, spare) = (&mut self.kept, &mut self.spare);
        self.outstanding.retain(|&block, outstanding| {
            let is_open =
                block >= covered || outstanding.granted > 0 || round < outstanding.fresh_round;
            if !is_open && let Some(bytes) = outstanding.bytes.take() {
                *kept -= bytes.len();
                spare.push(bytes);
            }
            is_open
        });
    }

    /// Appends the frame of the next symbol to `out`, repair symbols before source symbols. Returns
    /// `false` if there is no symbol to send.
    pub(super) fn emit(
        &mut self,
        source: &mut dyn BlockSource,
        conditions: Conditions,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        Ok(self.emit_repair(source, conditions.round, out)?
            || self.emit_source(source, conditions, out)?)
    }

    /// Appends the frame of the next repair symbol, if any. The blocks that need repair take turns,
    /// so that a burst of losses does not fall on one block.
    fn emit_repair(
        &mut self,
        source: &mut dyn BlockSource,
        round: u32,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let Some(block) = self.repairs.pop_front() else { return Ok(false) };
        if self.outstanding.get(&block).is_some_and(|outstanding| outstanding.ready.is_empty()) {
            self.make_repairs(source, block)?;
        }
        let symbol_size = self.layout.symbol_size();
        // A block with repair to be sent is outstanding: only settled blocks are forgotten.
        let Some(outstanding) = self.outstanding.get_mut(&block) else { return Ok(true) };
        let Some(symbol) = outstanding.ready.pop_front() else { return Ok(true) };
        Symbol::emit_header(out, self.transfer, block, symbol);
        let start = outstanding.ready_bytes.len() - (outstanding.ready.len() + 1) * symbol_size;
        out.extend_from_slice(&outstanding.ready_bytes[start..start + symbol_size]);
        self.sent += Symbols(1);
        if outstanding.ready.is_empty() {
            self.spare_ready.push(std::mem::take(&mut outstanding.ready_bytes));
            self.spare_ready.truncate(MAX_INTERLEAVED_BLOCKS);
        }
        outstanding.queued = outstanding.queued.saturating_sub(1);
        if outstanding.queued == 0 {
            outstanding.granted = 0;
            outstanding.fresh_round = round + 1;
        } else {
            self.repairs.push_back(block);
        }
        Ok(true)
    }

    /// Makes the next repair symbols of a block, several at once, which costs little more than one.
    fn make_repairs(&mut self, source: &mut dyn BlockSource, block: u32) -> io::Result<()> {
        let kept = self.outstanding.get_mut(&block).and_then(|block| block.bytes.take());
        let is_kept = kept.is_some();
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let mut bytes = self.spare.pop().unwrap_or_default();
                self.read_block(source, block, &mut bytes)?;
                bytes
            }
        };
        let source_symbols = self.layout.symbols_in(block);
        let symbol_size = self.layout.symbol_size();
        let symbol_count = source_symbols + MAX_REPAIR_SYMBOLS;
        let next = self.next_symbol.entry(block).or_insert(source_symbols);
        if let Some(outstanding) = self.outstanding.get_mut(&block) {
            let share = (MAX_READY_TOTAL / (self.repairs.len() + 1)).max(1);
            // MAX_READY bounds the value, so that the cast is exact.
            let count = outstanding.queued.min(share.min(usize::from(MAX_READY)) as u16);
            if let Some(spare) = self.spare_ready.pop() {
                outstanding.ready_bytes = spare;
            }
            // After the last repair symbol, the source symbols are sent again.
            let ready: Vec<u16> = (0..count).map(|index| (*next + index) % symbol_count).collect();
            *next = (*next + count) % symbol_count;
            outstanding.ready_bytes.clear();
            // Source symbols are copied; each run of repair symbols is encoded in one call.
            for run in ready.chunk_by(|a, b| (*a < source_symbols) == (*b < source_symbols)) {
                if run[0] < source_symbols {
                    for &symbol in run {
                        let start = usize::from(symbol) * symbol_size;
                        let symbol = &bytes[start..start + symbol_size];
                        outstanding.ready_bytes.extend_from_slice(symbol);
                    }
                } else {
                    let repairs: Vec<u16> =
                        run.iter().map(|symbol| symbol - source_symbols).collect();
                    self.code.encode(&bytes, symbol_size, &repairs, &mut outstanding.ready_bytes);
                }
            }
            outstanding.ready = ready.into();
            if is_kept {
                outstanding.bytes = Some(bytes);
                return Ok(());
            }
        }
        self.spare.push(bytes);
        Ok(())
    }

    /// Appends the frame of the next source symbol, if any.
    fn emit_source(
        &mut self,
        source: &mut dyn BlockSource,
        conditions: Conditions,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if self.sending.is_empty() {
            self.open_blocks(source, conditions)?;
        }
        if self.sending.is_empty() {
            // In a later pass, the opened blocks may need repair symbols only.
            return self.emit_repair(source, conditions.round, out);
        }
        self.turn %= self.sending.len();
        let symbol_size = self.layout.symbol_size();
        self.prefetch_after_next();
        let sending = &mut self.sending[self.turn];
        Symbol::emit_header(out, self.transfer, sending.block, sending.next);
        out.extend_from_slice(&sending.rest(symbol_size)[..symbol_size]);
        sending.next += 1;
        self.sent += Symbols(1);
        self.source_sent += Symbols(u64::from(matches!(self.pass, Pass::All { .. })));
        if sending.next < sending.end {
            self.turn += 1;
            return Ok(true);
        }
        let sent = self.sending.remove(self.turn);
        let mut bytes = Some(sent.bytes);
        if let Some(outstanding) = self.outstanding.get_mut(&sent.block) {
            outstanding.fresh_round = conditions.round + 1;
            let is_needed = is_loss_heavy(conditions.loss);
            outstanding.bytes =
                bytes.take_if(|bytes| is_needed && self.kept + bytes.len() <= self.max_kept);
            self.kept += outstanding.bytes.as_ref().map_or(0, Vec::len);
        }
        self.spare.extend(bytes);
        if self.sending.is_empty()
            && let Pass::All { next } = self.pass
        {
            self.horizon = next;
        }
        Ok(true)
    }

    /// Prefetches the symbol after the next one: the symbols of a large block have left the cache.
    fn prefetch_after_next(&self) {
        let (blocks, symbol_size) = (self.sending.len(), self.layout.symbol_size());
        let rest = self.sending[(self.turn + 2) % blocks].rest(symbol_size);
        let symbol = rest.chunks(symbol_size).nth(2 / blocks).unwrap_or_default();
        prefetch(symbol);
    }

    /// Opens the next blocks of the pass, which take turns.
    fn open_blocks(
        &mut self,
        source: &mut dyn BlockSource,
        conditions: Conditions,
    ) -> io::Result<()> {
        let most = interleaved_blocks(conditions);
        let mut opened = 0;
        while opened < most && self.may_open_block(conditions.receive_window) {
            opened += 1;
            let (block, deficit) = match &mut self.pass {
                Pass::All { next } => {
                    *next += 1;
                    (*next - 1, self.layout.symbols_in(*next - 1))
                }
                Pass::Selected(blocks) => match blocks.pop_front() {
                    Some(selected) => selected,
                    None => return Ok(()),
                },
            };
            let mut outstanding = Outstanding {
                fresh_round: u32::MAX,
                granted: 0,
                queued: 0,
                ready: VecDeque::new(),
                ready_bytes: Vec::new(),
                bytes: None,
            };
            let source_symbols = self.layout.symbols_in(block);
            if deficit == source_symbols {
                let mut bytes = self.spare.pop().unwrap_or_default();
                self.read_block(source, block, &mut bytes)?;
                self.sending.push(Sending { block, bytes, next: 0, end: source_symbols });
            } else {
                outstanding.granted = repairs_for(deficit, conditions.loss);
                outstanding.queued = outstanding.granted;
                outstanding.fresh_round = conditions.round + 1;
                self.repairs.push_back(block);
            }
            self.outstanding.insert(block, outstanding);
        }
        Ok(())
    }

    /// Reads the source symbols of a block. The file's last symbol is padded with zeros.
    fn read_block(
        &self,
        source: &mut dyn BlockSource,
        block: u32,
        bytes: &mut Vec<u8>,
    ) -> io::Result<()> {
        let range = self.layout.byte_range(block);
        // A block is at most 128 symbols of 65,535 bytes.
        let len = (range.end - range.start) as usize;
        bytes.resize(usize::from(self.layout.symbols_in(block)) * self.layout.symbol_size(), 0);
        bytes[len..].fill(0);
        source.read_at(range.start, &mut bytes[..len])
    }
}

/// The number of repair symbols to send so that about `deficit` of them arrive.
fn repairs_for(deficit: u16, loss: f64) -> u16 {
    // The number is rounded and the loss is bounded: another round costs less than a useless symbol
    // for each block, and if a queue overflows, more repair causes more loss.
    (f64::from(deficit) / (1.0 - loss.min(MAX_EXPECTED_LOSS)))
        .round()
        .min(f64::from(MAX_REPAIR_SYMBOLS) * 2.0) as u16
}
