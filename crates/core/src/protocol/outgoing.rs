//! One transfer as its sender sees it: which symbols of which blocks are still to be sent.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::RangeInclusive;

use super::block::{BlockLayout, MAX_REPAIR_SYMBOLS};
use super::code::{CauchyCode, ErasureCode};
use crate::prefetch::prefetch;
use crate::wire::{Status, Symbol, TransferId};

/// Where anything is lost, neighbouring datagrams are spread over as many blocks as there are
/// receivers, within these bounds, so that the bursts that different receivers lose do not all
/// fall on one block. More blocks than needed would leave the cache before they are sent.
const INTERLEAVED_BLOCKS: RangeInclusive<usize> = 2..=8;
/// Up to this smoothed loss the fewest blocks do.
const LOSSLESS: f64 = 0.001;
/// The same where symbols are being lost, with so many for each receiver. A train of datagrams
/// that is lost whole, as a local switch loses it, then costs each block one or two.
const INTERLEAVED_BLOCKS_UNDER_LOSS: RangeInclusive<usize> = 24..=48;
const BLOCKS_FOR_RECEIVER_UNDER_LOSS: usize = 12;
/// Smoothed loss from which on it is worth while.
const LOSSY: f64 = 0.03;
/// Of the repair symbols themselves, no more than this share is expected to get lost.
const MAX_EXPECTED_LOSS: f64 = 0.25;
/// Repair symbols of a block that are made at once, and of all blocks about.
const MAX_READY: u16 = 32;
const MAX_READY_TOTAL: usize = 2048;

/// Where the sender reads the file.
pub trait BlockSource {
    /// Fills `buffer` with the file's bytes from `offset` on.
    ///
    /// # Errors
    /// The file cannot be read there.
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

/// What the sender knows of its receivers when it decides what to send next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// The latest poll; what is sent now is only known of by later ones.
    pub(super) round: u32,
    /// Blocks that may be outstanding.
    pub(super) window: usize,
    /// How many still receive.
    pub(super) receivers: usize,
    /// Smoothed share of symbols lost at the worst receiver.
    pub(super) loss: f64,
}

/// A block that was sent and that not all have yet.
#[derive(Debug)]
struct Outstanding {
    /// Only answers to this poll and later ones know of all that was sent of it.
    fresh_round: u32,
    /// Repair symbols asked for since then, and how many of them are still to be sent.
    granted: u16,
    queued: u16,
    /// Numbers of the repair symbols that are made already, and their bytes.
    ready: VecDeque<u16>,
    ready_bytes: Vec<u8>,
    /// The block itself, if there is memory to keep it.
    bytes: Option<Vec<u8>>,
}

/// A block that is being sent: symbols `next..end` are still to go.
#[derive(Debug)]
struct Sending {
    block: u32,
    bytes: Vec<u8>,
    next: u16,
    end: u16,
}

impl Sending {
    /// The next symbol and those behind it.
    fn rest(&self, symbol_size: usize) -> &[u8] {
        &self.bytes[usize::from(self.next) * symbol_size..]
    }
}

/// The blocks that the present pass has yet to send.
#[derive(Debug)]
enum Pass {
    All {
        next: u32,
    },
    /// With the worst deficit that was known when the pass began.
    Selected(VecDeque<(u32, u16)>),
}

/// The blocks of one file on their way.
#[derive(Debug)]
pub(super) struct Outgoing {
    transfer: TransferId,
    layout: BlockLayout,
    code: CauchyCode,
    pass: Pass,
    sending: Vec<Sending>,
    turn: usize,
    horizon: u32,
    outstanding: BTreeMap<u32, Outstanding>,
    /// Blocks with repair symbols to be sent, each once.
    repairs: VecDeque<u32>,
    /// Next encoding symbol of the blocks that needed repair.
    next_symbol: BTreeMap<u32, u16>,
    sent: u64,
    source_sent: u64,
    /// Memory of blocks, to be used again.
    spare: Vec<Vec<u8>>,
    /// The same for made repair symbols.
    spare_ready: Vec<Vec<u8>>,
    /// Most bytes of blocks kept until they are settled, and how many those are now.
    max_kept: usize,
    kept: usize,
}

impl Outgoing {
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
            sent: 0,
            source_sent: 0,
            spare: Vec::new(),
            spare_ready: Vec::new(),
            max_kept,
            kept: 0,
        }
    }

    /// Symbols sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Source symbols sent for the first time.
    pub(super) fn source_sent(&self) -> u64 {
        self.source_sent
    }

    /// Blocks below this one have been sent once.
    pub(super) fn horizon(&self) -> u32 {
        self.horizon
    }

    /// Whether the blocks on their way are all that receivers can hold.
    pub(super) fn is_held_up(&self, window: usize) -> bool {
        self.has_unopened_blocks() && self.outstanding.len() >= window
    }

    /// Whether nothing is left to send and everybody in the pass has all of it.
    pub(super) fn is_pass_over(&self) -> bool {
        !self.has_unopened_blocks() && self.sending.is_empty() && self.outstanding.is_empty()
    }

    fn has_unopened_blocks(&self) -> bool {
        match &self.pass {
            Pass::All { next } => *next < self.layout.block_count(),
            Pass::Selected(blocks) => !blocks.is_empty(),
        }
    }

    pub(super) fn has_symbols_to_send(&self, window: usize) -> bool {
        !self.repairs.is_empty() || !self.sending.is_empty() || self.may_open_block(window)
    }

    fn may_open_block(&self, window: usize) -> bool {
        self.has_unopened_blocks() && self.outstanding.len() < window
    }

    /// Begins a pass over the blocks that somebody lacks, with their worst deficits. Blocks
    /// begun come first: they hold the receivers' memory.
    pub(super) fn start_pass(&mut self, deficits: &BTreeMap<u32, u16>) {
        let deficits = deficits.iter().map(|(&block, &deficit)| (block, deficit));
        let (untouched, begun): (Vec<_>, Vec<_>) =
            deficits.partition(|&(block, deficit)| deficit == self.layout.symbols_in(block));
        self.pass = Pass::Selected(begun.into_iter().chain(untouched).collect());
    }

    /// Grants repair to the blocks that `status` says need it.
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

    /// Forgets the blocks that all have: everybody has answered the poll `round`, about the
    /// blocks below `covered`, and no repair was asked for.
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

    /// Appends the next symbol to `out`, repair before source; `false` if there is none.
    pub(super) fn emit(
        &mut self,
        source: &mut dyn BlockSource,
        conditions: Conditions,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        Ok(self.emit_repair(source, conditions.round, out)?
            || self.emit_source(source, conditions, out)?)
    }

    /// The blocks in need take turns, so that a burst of losses does not fall on one.
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
        // Only settled blocks are forgotten, and one with repair to be sent is not settled.
        let Some(outstanding) = self.outstanding.get_mut(&block) else { return Ok(true) };
        let Some(symbol) = outstanding.ready.pop_front() else { return Ok(true) };
        Symbol::emit_header(out, self.transfer, block, symbol);
        let start = outstanding.ready_bytes.len() - (outstanding.ready.len() + 1) * symbol_size;
        out.extend_from_slice(&outstanding.ready_bytes[start..start + symbol_size]);
        self.sent += 1;
        if outstanding.ready.is_empty() {
            self.spare_ready.push(std::mem::take(&mut outstanding.ready_bytes));
            self.spare_ready.truncate(*INTERLEAVED_BLOCKS_UNDER_LOSS.end());
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

    /// Makes the repair symbols that a block has queued, several at once: that costs little
    /// more than one.
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
            // Below 32 by then.
            let count = outstanding.queued.min(share.min(usize::from(MAX_READY)) as u16);
            if let Some(spare) = self.spare_ready.pop() {
                outstanding.ready_bytes = spare;
            }
            // Repair symbols used up: begin again with source symbols.
            let ready: Vec<u16> = (0..count).map(|index| (*next + index) % symbol_count).collect();
            *next = (*next + count) % symbol_count;
            outstanding.ready_bytes.clear();
            // Runs of repair symbols are made together, source symbols are copied.
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
            // A pass over blocks begun opens them as repair.
            return self.emit_repair(source, conditions.round, out);
        }
        self.turn %= self.sending.len();
        let symbol_size = self.layout.symbol_size();
        self.prefetch_after_next();
        let sending = &mut self.sending[self.turn];
        Symbol::emit_header(out, self.transfer, sending.block, sending.next);
        out.extend_from_slice(&sending.rest(symbol_size)[..symbol_size]);
        sending.next += 1;
        self.sent += 1;
        self.source_sent += u64::from(matches!(self.pass, Pass::All { .. }));
        if sending.next < sending.end {
            self.turn += 1;
            return Ok(true);
        }
        let sent = self.sending.remove(self.turn);
        let mut bytes = Some(sent.bytes);
        if let Some(outstanding) = self.outstanding.get_mut(&sent.block) {
            outstanding.fresh_round = conditions.round + 1;
            let is_needed = conditions.loss > LOSSY;
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

    /// The symbol that comes after the next one has left the cache if its block is large.
    fn prefetch_after_next(&self) {
        let (blocks, symbol_size) = (self.sending.len(), self.layout.symbol_size());
        let rest = self.sending[(self.turn + 2) % blocks].rest(symbol_size);
        let symbol = rest.chunks(symbol_size).nth(2 / blocks).unwrap_or_default();
        prefetch(symbol);
    }

    /// Begins the next few blocks of the pass.
    fn open_blocks(
        &mut self,
        source: &mut dyn BlockSource,
        conditions: Conditions,
    ) -> io::Result<()> {
        let most = interleaved_blocks(conditions);
        let mut opened = 0;
        while opened < most && self.may_open_block(conditions.window) {
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

    /// Reads whole symbols: what lies behind the file's end is zero.
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

fn interleaved_blocks(conditions: Conditions) -> usize {
    let within =
        |bounds: RangeInclusive<usize>, blocks: usize| blocks.clamp(*bounds.start(), *bounds.end());
    if conditions.loss <= LOSSLESS {
        return *INTERLEAVED_BLOCKS.start();
    }
    let blocks = within(INTERLEAVED_BLOCKS, conditions.receivers);
    if conditions.loss <= LOSSY {
        return blocks;
    }
    let many = conditions.receivers * BLOCKS_FOR_RECEIVER_UNDER_LOSS;
    // The next blocks should be on their way while these are repaired.
    within(INTERLEAVED_BLOCKS_UNDER_LOSS, many).min(conditions.window * 3 / 8).max(blocks)
}

/// Repair symbols to send so that about `deficit` arrive.
fn repairs_for(deficit: u16, loss: f64) -> u16 {
    // A further round costs less than a symbol too many for each block, and where loss is
    // overflow, more repair makes more of it.
    (f64::from(deficit) / (1.0 - loss.min(MAX_EXPECTED_LOSS)))
        .round()
        .min(f64::from(MAX_REPAIR_SYMBOLS) * 2.0) as u16
}
