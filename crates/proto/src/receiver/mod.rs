//! The receiving side: any number of transfers from any number of senders.

mod admission;
mod answers;
mod config;
mod memory;
mod reassembly;
mod shares;
mod stale;
mod transfers;

pub use config::{Abandonment, AnnouncedFile, Peer, ReceiverConfig, ReceiverEvent, TransferKey};
pub use reassembly::ReceivedBlock;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use siar_code::CAUCHY_CODE;

use crate::digest::FileDigest;
use crate::layout::BlockLayout;
use crate::wire::{Announce, Body, Frame, ParseError, RefuseReason, Symbol};
use memory::BlockMemory;
use reassembly::{Reassembly, Taken};
use stale::DiscardFrom;
use transfers::{Entry, Question, State, Transfer, Transfers};

/// The largest number of blocks of all transfers under way. Each takes two bytes of memory; 2^23
/// blocks of 128 symbols of 1,408 bytes are 1.5 TB.
const MAX_BLOCKS: u64 = 1 << 23;
/// The smallest average length in bytes of a file's blocks, since each block costs memory.
const MIN_BLOCK_LEN: u64 = 1024;
/// The largest symbol size in bytes. Jumbo frames hold no larger symbols, and a block's memory is
/// taken as a whole.
const MAX_SYMBOL_SIZE: usize = 8960;
/// The number of blocks that each transfer is promised, so that its sender can always go on.
const MIN_RECEIVE_WINDOW: usize = 2;
/// A receiver that answers polls answers only every fourth announcement. It does not stop answering
/// them, since after a lost Join the sender does not know this receiver's buffer size.
const JOIN_EVERY: u32 = 4;

/// The receiving state machine; see the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    transfers: Transfers,
    /// The number of datagrams that the kernel has dropped at the full socket buffer.
    overflowed: u64,
    /// The number of symbols that were dropped because there was no memory for their block.
    symbols_without_memory: u64,
    /// The number of announcements that were dropped because there was no room for the transfer.
    announcements_without_room: u64,
    memory: BlockMemory,
    /// The next search for stale blocks comes no earlier than this.
    next_discard: Option<Instant>,
    /// After a vain search for transfers or blocks that make room, the next one comes no earlier.
    next_search: Option<Instant>,
    next_steal: Option<Instant>,
    events: VecDeque<ReceiverEvent>,
    replies: VecDeque<(Peer, Vec<u8>)>,
    /// Accepted transfers that may need a Join.
    accepted: VecDeque<TransferKey>,
    /// The time of the next search for silent senders.
    next_sweep: Option<Instant>,
}

impl Receiver {
    /// A receiver that knows no transfer yet.
    #[must_use]
    pub fn new(config: ReceiverConfig) -> Self {
        Self {
            config,
            transfers: Transfers::default(),
            overflowed: 0,
            symbols_without_memory: 0,
            announcements_without_room: 0,
            memory: BlockMemory::new(config.block_memory),
            next_discard: None,
            next_search: None,
            next_steal: None,
            events: VecDeque::new(),
            replies: VecDeque::new(),
            accepted: VecDeque::new(),
            next_sweep: None,
        }
    }

    /// The number of transfers that are neither confirmed, refused nor ended.
    #[must_use]
    pub fn active_transfers(&self) -> usize {
        self.transfers.counts().active
    }

    /// The number of accepted transfers that still lack symbols.
    #[must_use]
    pub fn receiving_transfers(&self) -> usize {
        self.transfers.counts().receiving
    }

    /// The number of confirmed or refused transfers, whose senders may still ask for an answer that
    /// was lost.
    #[must_use]
    pub fn settled_transfers(&self) -> usize {
        self.transfers.counts().settled
    }

    /// The number of bytes that unfinished and unwritten blocks hold.
    #[must_use]
    pub fn block_memory_used(&self) -> usize {
        self.memory.used()
    }

    /// The transfers that still need their sender: those offered or lacking symbols.
    #[must_use]
    pub fn unfinished_transfers(&self) -> Vec<TransferKey> {
        let transfers = self.transfers.iter();
        transfers
            .filter(|(_, transfer)| transfer.state().needs_sender())
            .map(|(key, _)| key)
            .collect()
    }

    /// Those of the [unfinished](Self::unfinished_transfers) transfers that have brought nothing for
    /// `time`.
    #[must_use]
    pub fn useless_transfers(&self, now: Instant, time: Duration) -> Vec<TransferKey> {
        let is_useless = |(_, transfer): &(TransferKey, &Transfer)| {
            transfer.state().needs_sender()
                && now.saturating_duration_since(transfer.last_useful) >= time
        };
        self.transfers.iter().filter(is_useless).map(|(key, _)| key).collect()
    }

    /// Takes the payload of one datagram that came from `from`.
    ///
    /// The owner should handle the [events](Self::poll_event) before the next datagram: symbols of
    /// a file that is not accepted yet are dropped, and a small file follows its announcement at
    /// once.
    ///
    /// # Errors
    /// The datagram is not a valid frame; the receiver's state is unchanged. A valid frame that
    /// does not fit the transfer's state is dropped without an error.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: impl Into<Peer>,
        bytes: &[u8],
    ) -> Result<(), ParseError> {
        let frame = Frame::parse(bytes)?;
        let key = (from.into(), frame.transfer);
        if let Body::Announce(announce) = &frame.body {
            self.handle_announce(now, key, announce);
        }
        let Some(mut entry) = self.transfers.entry(key) else { return Ok(()) };
        entry.transfer.last_heard = now;
        entry.transfer.bytes_in += bytes.len() as u64;
        match frame.body {
            Body::Announce(_) => {
                entry.transfer.announces += 1;
                let is_known = std::mem::take(&mut entry.transfer.is_known);
                if !is_known || entry.transfer.announces % JOIN_EVERY == 0 {
                    self.reply(key, None);
                }
            }
            Body::Symbol(symbol) => {
                entry.transfer.received += 1;
                let taken = entry.take_symbol(now, &symbol, &mut self.memory);
                self.handle_taken(now, key, &symbol, taken);
            }
            Body::Poll(poll) => self.handle_poll(now, key, poll),
            // A file that is being verified does not need its sender any more.
            Body::End(_) if matches!(entry.transfer.state(), State::Verifying) => {}
            Body::End(end) => {
                let was_active = entry.transfer.state().is_active();
                entry.set_state(State::Ended, &mut self.memory);
                if was_active {
                    let why = Abandonment::Ended(end.reason);
                    self.events.push_back(ReceiverEvent::Abandoned { key, why });
                }
            }
            // Receivers send these to a sender; they come here by mistake only.
            Body::Join(_) | Body::Status(_) | Body::Refuse(_) | Body::Confirm(_) => {}
        }
        Ok(())
    }

    /// Handles the result of taking `symbol`: it tries again after discarding stale blocks if there
    /// was no room, or blocks of the source that holds most, and reports complete blocks.
    fn handle_taken(
        &mut self,
        now: Instant,
        key: TransferKey,
        symbol: &Symbol<'_>,
        mut taken: Taken,
    ) {
        if matches!(taken, Taken::NoRoom)
            && self.discard_stale_blocks(now, key, DiscardFrom::AllTransfers)
            && let Some(mut entry) = self.transfers.entry(key)
        {
            taken = entry.take_symbol(now, symbol, &mut self.memory);
        }
        if matches!(taken, Taken::NoRoom)
            && self.discard_blocks_of_the_largest(now, key)
            && let Some(mut entry) = self.transfers.entry(key)
        {
            taken = entry.take_symbol(now, symbol, &mut self.memory);
        }
        match taken {
            Taken::Whole(block) => {
                self.events.push_back(ReceiverEvent::Block { key, block });
                self.complete_if_whole(key);
            }
            Taken::NoRoom => self.symbols_without_memory += 1,
            Taken::Kept | Taken::Useless => {}
        }
    }

    /// Takes the number of datagrams that the kernel has dropped so far at the full socket buffer.
    /// The receiver's statuses report it.
    pub fn handle_overflow(&mut self, total: u64) {
        self.overflowed = total;
    }

    fn handle_announce(&mut self, now: Instant, key: TransferKey, announce: &Announce<'_>) {
        if self.transfers.get(key).is_some() {
            return;
        }
        let layout = BlockLayout::new(announce.size, announce.symbol_size, announce.block_symbols)
            .ok()
            .filter(|layout| {
                announce.code == CAUCHY_CODE
                    && layout.symbol_size() <= MAX_SYMBOL_SIZE
                    && u64::from(layout.block_count()) <= 1 + layout.size() / MIN_BLOCK_LEN
                    && u64::from(layout.block_count()) <= MAX_BLOCKS
            });
        let blocks = layout.map_or(0, |layout| u64::from(layout.block_count()));
        // Its sender announces again: a lack of room is no refusal.
        if !self.make_room(now, key.0.source(), blocks) {
            self.announcements_without_room += 1;
            return;
        }
        let state = match layout {
            Some(layout) => State::Offered(layout),
            None => State::Refused(
                RefuseReason::Unsupported,
                "block layout or erasure code is not supported here".to_owned(),
            ),
        };
        if let State::Offered(layout) = state {
            self.events.push_back(ReceiverEvent::Announced {
                key,
                file: AnnouncedFile {
                    from: key.0,
                    name: announce.name.to_owned(),
                    size: announce.size,
                    blake3: announce.blake3,
                    announced_ms: announce.time_ms,
                    layout,
                },
            });
        }
        self.transfers.insert(key, Transfer::new(now, state));
        self.next_sweep.get_or_insert(now + self.config.silence);
    }

    /// The number of symbols that were dropped since the last call because there was no memory for
    /// their block.
    pub fn take_symbols_without_memory(&mut self) -> u64 {
        std::mem::take(&mut self.symbols_without_memory)
    }

    /// The number of announcements that were dropped since the last call because there was no room
    /// for another transfer of their source.
    pub fn take_announcements_without_room(&mut self) -> u64 {
        std::mem::take(&mut self.announcements_without_room)
    }

    /// Whether a file is being verified. Such a file does not need its sender any more.
    #[must_use]
    pub fn is_verifying(&self) -> bool {
        self.transfers.counts().verifying > 0
    }

    /// Takes part in an announced transfer. `whole` holds the numbers of the blocks that need not
    /// be received, because they are there already; a file that lacks no block is complete at once.
    /// Returns `false` if the transfer is not offered any more.
    pub fn accept(&mut self, key: TransferKey, whole: &[u32]) -> bool {
        let Some(mut entry) = self.transfers.entry(key) else { return false };
        let State::Offered(layout) = entry.transfer.state() else { return false };
        let mut reassembly = Reassembly::new(*layout);
        reassembly.set_whole(whole);
        entry.set_state(State::Receiving(reassembly), &mut self.memory);
        self.accepted.push_back(key);
        self.complete_if_whole(key);
        true
    }

    /// Refuses the file of a transfer under way, also after a failure to write or verify it. `text`
    /// is the reason in words, of which at most 100 bytes are sent.
    pub fn refuse(&mut self, key: TransferKey, reason: RefuseReason, text: &str) {
        self.settle(key, State::Refused(reason, text.to_owned()));
    }

    /// Forgets the transfer without an answer to its sender. A later announcement is a new one.
    pub fn ignore(&mut self, key: TransferKey) {
        self.transfers.remove(key, &mut self.memory);
    }

    /// Takes note that a block of the transfer is written. `buffer` is the one that
    /// [`ReceivedBlock::decode`] or [`ReceivedBlock::into_buffer`] returned; it is used again.
    pub fn handle_block_written(&mut self, key: TransferKey, buffer: Vec<u8>) {
        self.memory.give_back(buffer);
        let room = !self.memory.is_half_used();
        let Some(Entry { transfer, .. }) = self.transfers.entry(key) else { return };
        transfer.unwritten = transfer.unwritten.saturating_sub(1);
        // As with TCP's window update, a sender that had to stop is told when it may go on.
        if let Some(poll) = transfer.window_closed.take_if(|_| room || transfer.unwritten == 0) {
            let received = transfer.received;
            self.reply(key, Some(Question { poll, received }));
        }
    }

    /// Takes note that the file is verified and has its final name, and confirms it to its sender.
    pub fn handle_published(&mut self, key: TransferKey, digest: &FileDigest) {
        self.settle(key, State::Confirmed(digest.proof(key.1, self.config.id)));
    }

    /// Ends receiving if all blocks of the transfer are complete.
    fn complete_if_whole(&mut self, key: TransferKey) {
        let Some(mut entry) = self.transfers.entry(key) else { return };
        if matches!(entry.transfer.state(), State::Receiving(blocks) if blocks.is_complete()) {
            entry.set_state(State::Verifying, &mut self.memory);
            self.events.push_back(ReceiverEvent::Complete { key });
        }
    }

    /// Ends a transfer that is under way with an answer to its sender.
    fn settle(&mut self, key: TransferKey, state: State) {
        if let Some(mut entry) = self.transfers.entry(key)
            && entry.transfer.state().is_active()
        {
            entry.set_state(state, &mut self.memory);
            self.reply(key, None);
        }
    }

    /// Forgets transfers, and reports to the owner those that were under way.
    fn forget(&mut self, keys: impl IntoIterator<Item = TransferKey>, why: Abandonment) {
        for key in keys {
            if self.transfers.remove(key, &mut self.memory) {
                self.events.push_back(ReceiverEvent::Abandoned { key, why });
            }
        }
    }

    /// Does the work that is due at `now`: it answers polls whose slot has come, and gives up
    /// silent senders.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<TransferKey> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| transfer.status_due.is_some_and(|(due, _)| due <= now))
            .map(|(key, _)| key)
            .collect();
        for key in due {
            self.answer_due_poll(now, key);
        }
        if self.next_sweep.is_some_and(|sweep| sweep <= now) {
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let silence = self.config.silence;
        let silent: Vec<TransferKey> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| {
                // A file that is being verified does not need its sender any more.
                !matches!(transfer.state(), State::Verifying)
                    && now.saturating_duration_since(transfer.last_heard) >= silence
            })
            .map(|(key, _)| key)
            .collect();
        self.forget(silent, Abandonment::Silent);
        if self.transfers.counts().receiving == 0 {
            self.memory.drop_spare();
        }
        self.next_sweep = (self.transfers.len() > 0).then(|| now + silence / 4);
    }

    /// The time when [`Receiver::handle_timeout`] has to be called; `None` if nothing is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.transfers.iter().filter_map(|(_, transfer)| transfer.status_due);
        due.map(|(due, _)| due).chain(self.next_sweep).min()
    }

    /// The next task for the owner, if any.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// The next answer to send, if any: the sender and the datagram's payload.
    pub fn poll_transmit(&mut self) -> Option<(Peer, Vec<u8>)> {
        while let Some(key) = self.accepted.pop_front() {
            // A file that has become complete meanwhile is confirmed soon, and needs no Join.
            let state = self.transfers.get(key).map(Transfer::state);
            if state.is_some_and(|state| matches!(state, State::Receiving(_))) {
                self.reply(key, None);
            }
        }
        self.replies.pop_front()
    }
}
