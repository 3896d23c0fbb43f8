//! The transfers that a receiver knows, and counts over all of them.
//!
//! The counts are kept up to date, so that reading them is cheap: a flood of announcements makes
//! thousands of transfers.

use std::time::Instant;

use indexmap::IndexMap;

use super::config::Source;
use super::memory::BlockMemory;
use super::reassembly::{Reassembly, Taken};
use super::shares::{Share, Shares};
use super::{MIN_RECEIVE_WINDOW, TransferKey};
use crate::layout::BlockLayout;
use crate::wire::{Poll, RefuseReason, Symbol};

/// The state of a transfer at its receiver (docs/PROTOCOL.md, section "States").
#[derive(Debug)]
pub(super) enum State {
    Offered(BlockLayout),
    Receiving(Reassembly),
    Verifying,
    /// The file is published; the proof is what the receiver sends.
    Confirmed([u8; 32]),
    /// The reason, as a number and in words.
    Refused(RefuseReason, String),
    Ended,
}

impl State {
    /// Whether the transfer is under way: neither confirmed, refused nor ended.
    pub(super) fn is_active(&self) -> bool {
        matches!(self, Self::Offered(_) | Self::Receiving(_) | Self::Verifying)
    }

    /// Whether the transfer still needs its sender: it is offered or lacks symbols.
    pub(super) fn needs_sender(&self) -> bool {
        matches!(self, Self::Offered(_) | Self::Receiving(_))
    }

    /// What a transfer in this state adds to the counts.
    fn counts(&self) -> Counts {
        let blocks = match self {
            Self::Offered(layout) => u64::from(layout.block_count()),
            Self::Receiving(reassembly) => u64::from(reassembly.layout.block_count()),
            _ => 0,
        };
        Counts {
            active: usize::from(self.is_active()),
            receiving: usize::from(matches!(self, Self::Receiving(_))),
            verifying: usize::from(matches!(self, Self::Verifying)),
            settled: usize::from(matches!(self, Self::Confirmed(_) | Self::Refused(..))),
            blocks,
        }
    }
}

/// A poll, and the number of symbols received before it. An answer that waits for its slot must not
/// count symbols that came after the poll.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) poll: Poll,
    pub(super) received: u64,
}

/// One transfer at its receiver.
#[derive(Debug)]
pub(super) struct Transfer {
    state: State,
    /// The time of the latest frame from the sender.
    pub(super) last_heard: Instant,
    /// The number of complete blocks that the owner has not written yet.
    pub(super) unwritten: usize,
    /// The number of symbol frames received, useless ones included.
    pub(super) received: u64,
    /// The bytes of all symbols that were kept.
    pub(super) brought: u64,
    /// The time of the latest symbol that was kept; before the first, the time of the announcement.
    pub(super) last_useful: Instant,
    /// The payload bytes received from the sender, and those sent to it.
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// The poll that waits for an answer, and the time when the answer is due.
    pub(super) status_due: Option<(Instant, Question)>,
    /// The highest number of a poll that has come.
    pub(super) latest_round: u32,
    /// Whether this receiver has answered a poll since the last announcement: the sender knows this
    /// receiver then.
    pub(super) is_known: bool,
    /// The number of announcements received.
    pub(super) announces: u32,
    /// The latest answered poll, if the answer told a nearly closed receive window.
    pub(super) window_closed: Option<Poll>,
}

impl Transfer {
    pub(super) fn new(now: Instant, state: State) -> Self {
        Self {
            state,
            last_heard: now,
            unwritten: 0,
            received: 0,
            brought: 0,
            last_useful: now,
            bytes_in: 0,
            bytes_out: 0,
            status_due: None,
            latest_round: 0,
            is_known: false,
            announces: 0,
            window_closed: None,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether the next block of the transfer is promised room, as its sender was told.
    fn is_promised_room(&self) -> bool {
        let State::Receiving(reassembly) = &self.state else { return false };
        reassembly.open_blocks() + self.unwritten < MIN_RECEIVE_WINDOW
    }

    /// The limit in bytes for blocks in memory, the transfer's next block included.
    pub(super) fn memory_limit(&self, memory: &BlockMemory) -> usize {
        if self.is_promised_room() { memory.limit_if_promised() } else { memory.limit() }
    }

    /// What the transfer adds to the share of its source.
    pub(super) fn share(&self) -> Share {
        let transfers = usize::from(self.state.is_active());
        Share { transfers, blocks: self.state.counts().blocks, memory: self.open_memory() }
    }

    /// The number of bytes that open blocks hold.
    fn open_memory(&self) -> usize {
        match &self.state {
            State::Receiving(reassembly) => reassembly.open_memory(),
            _ => 0,
        }
    }

    /// Takes a symbol into its block, which is opened in `memory` if need be.
    fn take_symbol(
        &mut self,
        now: Instant,
        symbol: &Symbol<'_>,
        memory: &mut BlockMemory,
    ) -> Taken {
        let limit = self.memory_limit(memory);
        let State::Receiving(reassembly) = &mut self.state else { return Taken::Useless };
        let taken = reassembly
            .take(now, symbol.block, symbol.symbol, symbol.payload, |len| memory.take(len, limit));
        if matches!(taken, Taken::Whole(_) | Taken::Kept) {
            self.brought += symbol.payload.len() as u64;
            self.last_useful = now;
        }
        self.unwritten += usize::from(matches!(taken, Taken::Whole(_)));
        taken
    }

    /// Discards the symbols of an open block.
    fn discard_block(&mut self, block: u32, memory: &mut BlockMemory) {
        if let State::Receiving(reassembly) = &mut self.state
            && let Some(bytes) = reassembly.discard(block)
        {
            memory.free(bytes.len());
        }
    }
}

/// Counts over all transfers of a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Transfers that are neither confirmed, refused nor ended.
    pub(super) active: usize,
    pub(super) receiving: usize,
    pub(super) verifying: usize,
    /// Transfers that are confirmed or refused.
    pub(super) settled: usize,
    /// Blocks of all transfers that are offered or being received.
    pub(super) blocks: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.active += other.active;
        self.receiving += other.receiving;
        self.verifying += other.verifying;
        self.settled += other.settled;
        self.blocks += other.blocks;
    }

    /// Subtracts counts that were added before.
    fn remove(&mut self, other: Self) {
        self.active -= other.active;
        self.receiving -= other.receiving;
        self.verifying -= other.verifying;
        self.settled -= other.settled;
        self.blocks -= other.blocks;
    }
}

/// All transfers that a receiver knows. Only [`Entry::set_state`] changes a transfer's state, so
/// that the counts stay correct.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    known: IndexMap<TransferKey, Transfer>,
    /// The index of the transfer that was looked up last: most datagrams belong to the same
    /// transfer as the datagram before.
    latest: usize,
    counts: Counts,
    shares: Shares,
}

/// A transfer that was looked up, with access to the counts.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) transfer: &'a mut Transfer,
    source: Source,
    counts: &'a mut Counts,
    shares: &'a mut Shares,
}

impl Entry<'_> {
    /// Changes the state to `next`. If blocks were open, their memory is freed.
    pub(super) fn set_state(&mut self, next: State, memory: &mut BlockMemory) {
        let before = self.transfer.share();
        self.counts.remove(self.transfer.state.counts());
        self.counts.add(next.counts());
        if let State::Receiving(left) = std::mem::replace(&mut self.transfer.state, next) {
            memory.free(left.open_memory());
        }
        self.shares.change(self.source, before, self.transfer.share());
    }

    /// Takes a symbol into its block, which is opened in `memory` if need be.
    pub(super) fn take_symbol(
        &mut self,
        now: Instant,
        symbol: &Symbol<'_>,
        memory: &mut BlockMemory,
    ) -> Taken {
        let before = self.transfer.open_memory();
        let taken = self.transfer.take_symbol(now, symbol, memory);
        self.note_memory(before);
        taken
    }

    /// Discards the symbols of an open block.
    pub(super) fn discard_block(&mut self, block: u32, memory: &mut BlockMemory) {
        let before = self.transfer.open_memory();
        self.transfer.discard_block(block, memory);
        self.note_memory(before);
    }

    /// Takes note of the memory of open blocks, which were `before` bytes.
    fn note_memory(&mut self, before: usize) {
        let of = |memory| Share { memory, ..Share::default() };
        self.shares.change(self.source, of(before), of(self.transfer.open_memory()));
    }
}

impl Transfers {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, key: TransferKey) -> Option<&Transfer> {
        self.known.get(&key)
    }

    pub(super) fn entry(&mut self, key: TransferKey) -> Option<Entry<'_>> {
        if self.known.get_index(self.latest).is_none_or(|(known, _)| *known != key) {
            self.latest = self.known.get_index_of(&key)?;
        }
        let (key, transfer) = self.known.get_index_mut(self.latest)?;
        let (counts, shares) = (&mut self.counts, &mut self.shares);
        Some(Entry { transfer, source: key.0.source(), counts, shares })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TransferKey, &Transfer)> {
        self.known.iter().map(|(key, transfer)| (*key, transfer))
    }

    /// Adds a transfer whose key is not known yet.
    pub(super) fn insert(&mut self, key: TransferKey, transfer: Transfer) {
        self.counts.add(transfer.state.counts());
        self.shares.change(key.0.source(), Share::default(), transfer.share());
        let replaced = self.known.insert(key, transfer);
        debug_assert!(replaced.is_none());
    }

    /// Forgets a transfer; returns whether it was still under way.
    pub(super) fn remove(&mut self, key: TransferKey, memory: &mut BlockMemory) -> bool {
        let Some(mut entry) = self.entry(key) else { return false };
        let was_active = entry.transfer.state.is_active();
        entry.set_state(State::Ended, memory);
        self.known.swap_remove(&key);
        was_active
    }
}
