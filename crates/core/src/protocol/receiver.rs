//! The receiving side: any number of transfers from any number of senders.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::block::BlockLayout;
use super::code::CAUCHY_CODE;
use super::digest::FileDigest;
use super::incoming::{Incoming, ReceivedBlock, Taken};
use super::transfers::{Question, State, Transfer, Transfers};
use crate::wire::{
    Announce, Body, Confirm, EndReason, Frame, Join, ParseError, Poll, ReceiverId, ReceiverState,
    Refuse, RefuseReason, Status, Symbol, TransferId,
};

/// A transfer is known by its sender's address and the number that the sender gave it.
pub type TransferKey = (SocketAddr, TransferId);

/// Most blocks of all transfers under way, two bytes each: 2^23 blocks of 128 symbols of 1,408 bytes are 1.5 TB.
const MAX_BLOCKS: u64 = 1 << 23;
/// Blocks of a file are not smaller on average: each costs memory.
const MIN_BLOCK_LEN: u64 = 1024;
/// Jumbo frames hold no more, and memory is given by the block.
const MAX_SYMBOL_SIZE: usize = 8960;
/// Most transfers known at once, ended ones included.
const MAX_TRANSFERS: usize = 4096;
/// A transfer that brings nothing useful for so long makes room for others.
const USELESS_AFTER: Duration = Duration::from_secs(10);
/// A block that got no useful symbol for this long makes room for others: to a receiver that is not
/// waited for, the sender may never send the rest before it has memory for other blocks.
const STALE: Duration = Duration::from_millis(500);
/// All blocks are looked through for stale ones at most this often, and less often the more
/// there are.
const DISCARD_INTERVAL: Duration = Duration::from_millis(1);
const DISCARD_COST: Duration = Duration::from_micros(1);
/// So many blocks a transfer may always have open: its sender must be able to go on.
const MIN_WINDOW: usize = 2;
/// One who answers polls need not answer every announcement as well; but a lost Join would
/// leave the sender without this receiver's buffer size.
const JOIN_EVERY: u32 = 4;
/// A sender with so small a window may have to wait.
const NEARLY_CLOSED_WINDOW: usize = 16;

/// What a [`Receiver`] goes by.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverConfig {
    /// This receiver's name on the wire.
    pub id: ReceiverId,
    /// The socket's real receive buffer in bytes.
    pub recv_buffer: u32,
    /// Most bytes held in unfinished and unwritten blocks, over all transfers.
    pub block_memory: usize,
    /// A sender that says nothing for this long is given up; ended transfers are
    /// remembered for as long.
    pub silence: Duration,
}

/// The file that a sender announces, as it describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedFile {
    /// The sender's name for it: not safe to use as a path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of all of them.
    pub blake3: [u8; 32],
    /// When the announcement was sent, in milliseconds since 1970 by the sender's clock.
    pub announced_ms: u64,
    /// How it is cut into blocks.
    pub layout: BlockLayout,
}

/// What a [`Receiver`]'s owner has to do.
#[derive(Debug)]
pub enum ReceiverEvent {
    /// Answer with [`Receiver::accept`] or [`Receiver::refuse`].
    Announced {
        /// The transfer.
        key: TransferKey,
        /// What is on its way.
        file: AnnouncedFile,
    },
    /// Decode and write it, then call [`Receiver::handle_block_written`].
    Block {
        /// The transfer.
        key: TransferKey,
        /// Enough symbols of one block.
        block: ReceivedBlock,
    },
    /// There are no more blocks: once all are written, verify and publish, then call
    /// [`Receiver::handle_published`] or [`Receiver::refuse`].
    Complete {
        /// The transfer.
        key: TransferKey,
    },
    /// The sender ended the transfer, or fell silent (`None`), before the file was
    /// published; what was written of it is of no more use.
    Abandoned {
        /// The transfer.
        key: TransferKey,
        /// What the sender said.
        reason: Option<EndReason>,
    },
}

/// Whose stale blocks may go.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Any,
    /// Not those of the transfer that needs room.
    Others,
}

/// The receiving state machine; see the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    transfers: Transfers,
    overflowed: u64,
    without_room: u64,
    memory_used: usize,
    /// No block is stale before.
    next_discard: Option<Instant>,
    /// Buffers kept for reuse, since a fresh one costs a page fault every 4 KiB. With those in
    /// use they are no more than `block_memory`.
    spare: Vec<Vec<u8>>,
    spare_memory: usize,
    events: VecDeque<ReceiverEvent>,
    replies: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Those that were accepted and may have to be joined.
    accepted: VecDeque<TransferKey>,
    next_sweep: Option<Instant>,
}

impl Receiver {
    /// A receiver that knows of no transfer yet.
    #[must_use]
    pub fn new(config: ReceiverConfig) -> Self {
        Self {
            config,
            transfers: Transfers::default(),
            overflowed: 0,
            without_room: 0,
            memory_used: 0,
            next_discard: None,
            spare: Vec::new(),
            spare_memory: 0,
            events: VecDeque::new(),
            replies: VecDeque::new(),
            accepted: VecDeque::new(),
            next_sweep: None,
        }
    }

    /// How many transfers are neither confirmed, refused nor ended.
    #[must_use]
    pub fn active_transfers(&self) -> usize {
        self.transfers.counts().active
    }

    /// How many transfers still lack symbols.
    #[must_use]
    pub fn receiving_transfers(&self) -> usize {
        self.transfers.counts().receiving
    }

    /// How many senders may still ask for a confirmation or refusal that was lost.
    #[must_use]
    pub fn unsettled_transfers(&self) -> usize {
        self.transfers.counts().settled
    }

    /// The transfers that still need their sender.
    #[must_use]
    pub fn unfinished_transfers(&self) -> Vec<TransferKey> {
        let unfinished = |state: &State| matches!(state, State::Offered(_) | State::Receiving(_));
        let transfers = self.transfers.iter();
        transfers.filter(|(_, transfer)| unfinished(transfer.state())).map(|(key, _)| key).collect()
    }

    /// Takes one datagram. [Events](Self::poll_event) are best handled before the next: symbols
    /// of a file that is not accepted yet are dropped, and a small one comes with its announcement.
    ///
    /// # Errors
    /// The datagram is no frame; nothing was changed. A frame that makes no sense in the
    /// transfer's state is dropped without an error.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), ParseError> {
        let frame = Frame::parse(bytes)?;
        let key = (from, frame.transfer);
        if let Body::Announce(announce) = &frame.body {
            self.handle_announce(now, key, announce);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return Ok(()) };
        transfer.last_heard = now;
        transfer.bytes_in += bytes.len() as u64;
        match frame.body {
            Body::Announce(_) => {
                transfer.announces += 1;
                let is_known = std::mem::take(&mut transfer.is_known);
                if !is_known || transfer.announces % JOIN_EVERY == 0 {
                    self.reply(key, None);
                }
            }
            Body::Symbol(symbol) => self.handle_symbol(now, key, &symbol),
            Body::Poll(poll) => {
                let slot = now + slot(self.config.id, &poll);
                // An answer that is due already is not put off.
                let due = transfer.status_due.map_or(slot, |(due, _)| due.min(slot));
                let question = Question { poll, received: transfer.received };
                transfer.status_due = Some((due, question));
                if due <= now {
                    self.answer_due_polls(now, key);
                }
            }
            // Nothing more is needed of the sender then.
            Body::End(_) if matches!(transfer.state(), State::Verifying) => {}
            Body::End(end) => {
                let was_active = transfer.state().is_active();
                self.release(key, State::Ended);
                if was_active {
                    let reason = Some(end.reason);
                    self.events.push_back(ReceiverEvent::Abandoned { key, reason });
                }
            }
            // Frames of other receivers reach this one only by mistake.
            Body::Join(_) | Body::Status(_) | Body::Refuse(_) | Body::Confirm(_) => {}
        }
        Ok(())
    }

    /// Tells how many datagrams the kernel has dropped at the full socket buffer so far.
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
        let has_room = |receiver: &Self| {
            receiver.transfers.len() < MAX_TRANSFERS
                && receiver.transfers.counts().blocks + blocks <= MAX_BLOCKS
        };
        if !has_room(self) {
            self.forget_idle_transfers(now);
        }
        if self.transfers.len() >= MAX_TRANSFERS {
            return;
        }
        let layout = layout.filter(|_| has_room(self));
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

    /// Makes room: of the transfers that have brought nothing useful for a while or are over,
    /// the half that was not heard of longest is forgotten. Whoever floods with
    /// announcements loses his own.
    fn forget_idle_transfers(&mut self, now: Instant) {
        let mut idle: Vec<(Instant, TransferKey)> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| match transfer.state() {
                State::Offered(_) | State::Receiving(_) => {
                    now.saturating_duration_since(transfer.last_useful) >= USELESS_AFTER
                        || transfer.useful == 0 && self.transfers.len() >= MAX_TRANSFERS
                }
                State::Verifying => false,
                State::Confirmed(_) | State::Refused(..) | State::Ended => true,
            })
            .map(|(key, transfer)| (transfer.last_heard, key))
            .collect();
        idle.sort_unstable_by_key(|(heard, _)| *heard);
        idle.truncate(idle.len().div_ceil(2));
        for (_, key) in idle {
            if self.forget(key) {
                self.events.push_back(ReceiverEvent::Abandoned { key, reason: None });
            }
        }
    }

    fn handle_symbol(&mut self, now: Instant, key: TransferKey, symbol: &Symbol<'_>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.received += 1;
        let mut taken = self.take_symbol(now, key, symbol);
        if matches!(taken, Taken::NoRoom) && self.discard_stale_blocks(now, key, Whose::Any) {
            taken = self.take_symbol(now, key, symbol);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        if matches!(taken, Taken::Whole(_) | Taken::Kept) {
            transfer.useful += 1;
            transfer.last_useful = now;
        }
        match taken {
            Taken::Whole(block) => {
                transfer.unwritten += 1;
                self.events.push_back(ReceiverEvent::Block { key, block });
                self.complete_if_whole(key);
            }
            Taken::NoRoom => self.without_room += 1,
            Taken::Kept | Taken::Useless => {}
        }
    }

    fn take_symbol(&mut self, now: Instant, key: TransferKey, symbol: &Symbol<'_>) -> Taken {
        let limit = self.memory_for(key).1;
        let Some(incoming) = self.transfers.get_mut(key).and_then(Transfer::incoming_mut) else {
            return Taken::Useless;
        };
        let (used, spare) = (&mut self.memory_used, &mut self.spare);
        let spare_memory = &mut self.spare_memory;
        incoming.take(now, symbol.block, symbol.symbol, symbol.payload, |len| {
            (*used + len <= limit).then(|| {
                *used += len;
                let reused = spare.pop().inspect(|buffer| *spare_memory -= buffer.len());
                // One of another length has other capacity than is counted.
                reused.filter(|buffer| buffer.len() == len).unwrap_or_else(|| vec![0; len])
            })
        })
    }

    /// Whether a transfer's next block is promised, and how much may be used with it: a few
    /// blocks each are promised, but not to however many transfers there are.
    fn memory_for(&self, key: TransferKey) -> (bool, usize) {
        let limit = self.config.block_memory;
        let is_promised = self.transfers.get(key).is_some_and(|transfer| {
            let State::Receiving(incoming) = transfer.state() else { return false };
            incoming.open_blocks() + transfer.unwritten < MIN_WINDOW
        });
        (is_promised, if is_promised { limit + limit / 2 } else { limit })
    }

    /// Gives up stale blocks, those first that have waited longest, until an eighth of what a
    /// block of `key`'s may be among is free; the latest few of other transfers only for one
    /// that is promised. `false` if none is stale.
    fn discard_stale_blocks(&mut self, now: Instant, key: TransferKey, whose: Whose) -> bool {
        if self.next_discard.is_some_and(|next| now < next) {
            return false;
        }
        let (is_promised, limit) = match whose {
            Whose::Any => self.memory_for(key),
            Whose::Others => (false, self.config.block_memory),
        };
        let mut waiting: Vec<(Instant, u32, TransferKey)> = Vec::new();
        let mut looked_at = 0;
        for (other, transfer) in self.transfers.iter() {
            let State::Receiving(incoming) = transfer.state() else { continue };
            if other == key && matches!(whose, Whose::Others) {
                continue;
            }
            let begin = waiting.len();
            waiting.extend(incoming.touched().map(|(touched, block)| (touched, block, other)));
            looked_at += waiting.len() - begin;
            if other != key && !is_promised {
                waiting[begin..].sort_unstable();
                let kept = MIN_WINDOW.min(waiting.len() - begin);
                waiting.truncate(waiting.len() - kept);
            }
        }
        waiting.sort_unstable();
        let oldest = waiting.first().map_or(now, |(touched, ..)| *touched);
        let pause = DISCARD_INTERVAL + DISCARD_COST * u32::try_from(looked_at).unwrap_or(u32::MAX);
        self.next_discard = Some((oldest + STALE).max(now + pause));
        waiting.retain(|(touched, ..)| now.saturating_duration_since(*touched) >= STALE);
        for (_, block, key) in &waiting {
            if self.memory_used <= limit - limit / 8 {
                break;
            }
            let incoming = self.transfers.get_mut(*key).and_then(Transfer::incoming_mut);
            if let Some(bytes) = incoming.and_then(|incoming| incoming.discard(*block)) {
                self.memory_used = self.memory_used.saturating_sub(bytes.len());
            }
        }
        !waiting.is_empty()
    }

    /// How many symbols were dropped since the last call because there was no memory for
    /// their block.
    pub fn take_without_room(&mut self) -> u64 {
        std::mem::take(&mut self.without_room)
    }

    /// Whether a file is being verified, which no longer needs its sender.
    #[must_use]
    pub fn is_verifying(&self) -> bool {
        self.transfers.counts().verifying > 0
    }

    /// Takes part in an announced transfer, of which some blocks are there already. A file
    /// that lacks none is complete at once. `false` if it is not offered any more.
    pub fn accept(&mut self, key: TransferKey, whole: &[u32]) -> bool {
        let Some(State::Offered(layout)) = self.transfers.get(key).map(Transfer::state) else {
            return false;
        };
        let mut incoming = Incoming::new(*layout);
        incoming.set_whole(whole);
        self.transfers.set_state(key, State::Receiving(incoming));
        self.accepted.push_back(key);
        self.complete_if_whole(key);
        true
    }

    /// Will not have the file, or failed to write or verify it.
    pub fn refuse(&mut self, key: TransferKey, reason: RefuseReason, text: &str) {
        if self.transfers.get(key).is_some_and(|transfer| transfer.state().is_active()) {
            self.release(key, State::Refused(reason, text.to_owned()));
            self.reply(key, None);
        }
    }

    /// Will not even answer: the transfer is unknown again.
    pub fn ignore(&mut self, key: TransferKey) {
        self.forget(key);
    }

    /// A block is in the file; its buffer, as [`ReceivedBlock::decode`] gave it, may be
    /// used again.
    pub fn handle_block_written(&mut self, key: TransferKey, buffer: Vec<u8>) {
        self.memory_used = self.memory_used.saturating_sub(buffer.len());
        if self.memory_used + self.spare_memory + buffer.len() <= self.config.block_memory {
            self.spare_memory += buffer.len();
            self.spare.push(buffer);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.unwritten = transfer.unwritten.saturating_sub(1);
        // Like TCP's window update: a sender that had to stop need not ask when it may go on.
        let room = self.memory_used <= self.config.block_memory / 2;
        if let Some(poll) = transfer.window_closed.take_if(|_| room || transfer.unwritten == 0) {
            let received = transfer.received;
            self.reply(key, Some(Question { poll, received }));
        }
    }

    /// The file is verified and stands under its final name.
    pub fn handle_published(&mut self, key: TransferKey, digest: &FileDigest) {
        if self.transfers.get(key).is_some_and(|transfer| transfer.state().is_active()) {
            self.release(key, State::Confirmed(digest.proof(key.1, self.config.id)));
            self.reply(key, None);
        }
    }

    fn complete_if_whole(&mut self, key: TransferKey) {
        let Some(State::Receiving(incoming)) = self.transfers.get(key).map(Transfer::state) else {
            return;
        };
        if incoming.is_complete() {
            self.transfers.set_state(key, State::Verifying);
            self.events.push_back(ReceiverEvent::Complete { key });
        }
    }

    /// Leaves the present state for `next` and frees the memory of its open blocks.
    fn release(&mut self, key: TransferKey, next: State) {
        if let Some(State::Receiving(incoming)) = self.transfers.set_state(key, next) {
            let freed: usize = incoming.open_memory();
            self.memory_used = self.memory_used.saturating_sub(freed);
        }
    }

    /// Says whether it was still under way.
    fn forget(&mut self, key: TransferKey) -> bool {
        let was_active = self.transfers.get(key).is_some_and(|it| it.state().is_active());
        self.release(key, State::Ended);
        self.transfers.remove(key);
        was_active
    }

    /// Does what is due: spread answers, and giving up on silent senders.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<TransferKey> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| transfer.status_due.is_some_and(|(due, _)| due <= now))
            .map(|(key, _)| key)
            .collect();
        for key in due {
            self.answer_due_polls(now, key);
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
                // What is being verified is not the sender's to delay.
                !matches!(transfer.state(), State::Verifying)
                    && now.saturating_duration_since(transfer.last_heard) >= silence
            })
            .map(|(key, _)| key)
            .collect();
        for key in silent {
            if self.forget(key) {
                self.events.push_back(ReceiverEvent::Abandoned { key, reason: None });
            }
        }
        if self.transfers.counts().receiving == 0 {
            self.spare.clear();
            self.spare_memory = 0;
        }
        self.next_sweep = (self.transfers.len() > 0).then(|| now + silence / 4);
    }

    /// When [`Receiver::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.transfers.iter().filter_map(|(_, transfer)| transfer.status_due);
        due.map(|(due, _)| due).chain(self.next_sweep).min()
    }

    /// The next thing to do, if any.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// The next answer to send, if any.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        while let Some(key) = self.accepted.pop_front() {
            // What has come whole meanwhile is confirmed soon, and joined if asked for again.
            let state = self.transfers.get(key).map(Transfer::state);
            if state.is_some_and(|state| matches!(state, State::Receiving(_))) {
                self.reply(key, None);
            }
        }
        self.replies.pop_front()
    }

    fn answer_due_polls(&mut self, now: Instant, key: TransferKey) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        if let Some((_, question)) = transfer.status_due.take_if(|(due, _)| *due <= now) {
            transfer.is_known = true;
            // A sender that keeps to the window that it is told would never ask for more.
            if self.memory_used > self.config.block_memory / 2 {
                self.discard_stale_blocks(now, key, Whose::Others);
            }
            self.reply(key, Some(question));
        }
    }

    /// Says where this receiver stands with a transfer, within what it was sent: a receiver
    /// never amplifies.
    fn reply(&mut self, key: TransferKey, question: Option<Question>) {
        let receiver = self.config.id;
        let active = self.active_transfers().max(1);
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let unwritten = transfer.unwritten;
        let block_room = |incoming: &Incoming| {
            let block = incoming.largest_block().max(1);
            let free = self.config.block_memory.saturating_sub(self.memory_used) / block / active;
            let promised = MIN_WINDOW.saturating_sub(unwritten);
            (incoming.open_blocks() + free).max(promised).min(usize::from(u16::MAX)) as u16
        };
        let mut window_closed = transfer.window_closed;
        let body = match (transfer.state(), question) {
            (State::Offered(_) | State::Ended, _) => return,
            (State::Receiving(incoming), None) => Body::Join(Join {
                receiver,
                recv_buffer: self.config.recv_buffer,
                window: block_room(incoming),
            }),
            (State::Receiving(incoming), Some(Question { poll, received })) => {
                let (runs, covered) = incoming.deficits(poll.horizon);
                let window = block_room(incoming);
                let nearly_closed = usize::from(window) < NEARLY_CLOSED_WINDOW;
                window_closed = (nearly_closed && unwritten > 0).then_some(poll);
                Body::Status(Status {
                    receiver,
                    round: poll.round,
                    covered,
                    received,
                    overflowed: self.overflowed,
                    window,
                    state: ReceiverState::Receiving,
                    runs,
                })
            }
            (State::Verifying, None) => Body::Join(Join {
                receiver,
                recv_buffer: self.config.recv_buffer,
                window: u16::MAX,
            }),
            (State::Verifying, Some(Question { poll, received })) => Body::Status(Status {
                receiver,
                round: poll.round,
                covered: poll.horizon,
                received,
                overflowed: self.overflowed,
                window: u16::MAX,
                state: ReceiverState::Verifying,
                runs: Vec::new(),
            }),
            (State::Confirmed(proof), _) => Body::Confirm(Confirm { receiver, proof: *proof }),
            (State::Refused(reason, text), _) => {
                Body::Refuse(Refuse { receiver, reason: *reason, text })
            }
        };
        let bytes = Frame { transfer: key.1, body }.to_datagram();
        transfer.window_closed = window_closed;
        if transfer.bytes_out + bytes.len() as u64 <= transfer.bytes_in {
            transfer.bytes_out += bytes.len() as u64;
            self.replies.push_back((key.0, bytes));
        }
    }
}

/// Spreads answers over the poll's slot, evenly over receivers and rounds.
fn slot(id: ReceiverId, poll: &Poll) -> Duration {
    if poll.slot_micros == 0 {
        return Duration::ZERO;
    }
    let mut mixed = id.0 ^ u64::from(poll.round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    Duration::from_micros(mixed % u64::from(poll.slot_micros))
}
