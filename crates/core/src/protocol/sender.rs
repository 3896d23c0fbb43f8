//! The sending side: one file to any number of receivers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::block::{BlockLayout, MAX_REPAIR_SYMBOLS};
use super::code::{CAUCHY_CODE, CauchyCode, ErasureCode};
use super::flow::{Flow, RoundTrip};
use super::members::{MAX_MEMBERS, Member, Members, Standing};
use crate::wire::{
    Announce, Body, Confirm, End, EndReason, Frame, Join, Poll, ReceiverId, ReceiverState, Refuse,
    SYMBOL_HEADER_LEN, Status, Symbol, TransferId,
};

/// Neighbouring datagrams are spread over this many blocks, so that a burst of losses does
/// not fall on one.
const INTERLEAVED_BLOCKS: usize = 8;
/// The first few come quickly: a receiver that misses them all would not be waited for.
const EARLY_ANNOUNCES: u32 = 4;
const EARLY_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(5);
const FIRST_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(20);
const MAX_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(250);
const JOIN_QUIET: Duration = Duration::from_millis(20);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
const MAX_POLL_RETRY: Duration = Duration::from_millis(250);
/// After this long without a word from a receiver the others are not held up for it.
const STALL: Duration = Duration::from_millis(1000);
/// After this long it is given up, unless it comes back in time.
const SILENCE: Duration = Duration::from_secs(6);
/// A receiver that answers but gets nowhere is given up after this long.
const IDLE: Duration = Duration::from_secs(30);
/// Up to this many receivers answer a poll at once (RFC 5401's back-off pays only above).
const UNSLOTTED_RECEIVERS: usize = 32;
const SLOT_MICROS_PER_RECEIVER: usize = 20;
/// An end is said this often: it is not acknowledged.
const END_COPIES: u8 = 2;

/// What a [`Sender`] goes by.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// The transfer's name on the wire.
    pub transfer: TransferId,
    /// File name as announced.
    pub name: String,
    /// BLAKE3 of the file.
    pub blake3: [u8; 32],
    /// How it is cut.
    pub layout: BlockLayout,
    /// Start as soon as this many have joined; `None`: when joins have gone quiet.
    pub servers: Option<usize>,
    /// The longest wait for joins.
    pub join_wait: Duration,
    /// Ceiling in bytes of symbols per second.
    pub rate: Option<u64>,
}

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

/// Datagrams of equal length, one after the other, as UDP segmentation offload wants them.
#[derive(Debug, Default)]
pub struct TransmitBatch {
    /// The datagrams' bytes.
    pub bytes: Vec<u8>,
    /// Length of each.
    pub segment_len: usize,
}

impl TransmitBatch {
    fn single(&mut self, frame: &Frame<'_>) {
        self.bytes.clear();
        frame.emit(&mut self.bytes);
        self.segment_len = self.bytes.len();
    }
}

/// What a [`Sender`]'s owner may want to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEvent {
    /// A receiver takes part.
    Joined {
        /// Who.
        receiver: ReceiverId,
        /// Where it answers from.
        server: SocketAddr,
    },
    /// A receiver has the file, verified.
    Confirmed {
        /// Who.
        receiver: ReceiverId,
        /// Where it answers from.
        server: SocketAddr,
    },
}

/// How a receiver ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Who.
    pub receiver: ReceiverId,
    /// Where it answered from.
    pub server: SocketAddr,
    /// Why it does not have the file, if so.
    pub result: Result<(), String>,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendProgress {
    /// Source datagrams sent.
    pub source_sent: u64,
    /// Source datagrams there are.
    pub source_total: u64,
    /// Repair datagrams sent, source symbols sent again included.
    pub repair_sent: u64,
    /// Receivers that joined.
    pub joined: usize,
    /// Receivers that confirmed.
    pub confirmed: usize,
}

#[derive(Debug)]
enum Phase {
    Announcing { since: Instant, last_join: Option<Instant> },
    Transferring,
    Ended { copies_left: u8, reason: EndReason },
}

/// A block that was sent and that not all have yet.
#[derive(Debug)]
struct Outstanding {
    /// Only answers to this poll and later ones know of all that was sent of it.
    fresh_round: u32,
    /// Repair symbols asked for since then, and how many of them are still to be sent.
    granted: u16,
    queued: u16,
}

/// A block that is being sent: symbols `next..end` are still to go.
#[derive(Debug)]
struct Sending {
    block: u32,
    bytes: Vec<u8>,
    next: u16,
    end: u16,
}

/// The blocks that the present pass has yet to send.
#[derive(Debug)]
enum Pass {
    All { next: u32 },
    Selected(VecDeque<u32>),
}

#[derive(Debug)]
struct SentPoll {
    round: u32,
    at: Instant,
    sent_total: u64,
}

/// The sending state machine; see the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    phase: Phase,
    members: Members,
    flow: Flow,
    code: CauchyCode,

    announced: u32,
    next_announce: Instant,
    announce_interval: Duration,

    pass: Pass,
    sending: Vec<Sending>,
    turn: usize,
    /// Blocks below this one have been sent once.
    horizon: u32,
    outstanding: BTreeMap<u32, Outstanding>,
    repairs: VecDeque<u32>,
    /// Next encoding symbol of the blocks that needed repair.
    next_symbol: BTreeMap<u32, u16>,
    repaired_block: Option<(u32, Vec<u8>)>,

    sent_total: u64,
    source_sent: u64,
    polls: VecDeque<SentPoll>,
    round: u32,
    last_poll: Instant,
    poll_retry: Duration,
    sent_at_last_poll: u64,
    acknowledged: u64,
    acknowledged_round: u32,
    overflow_signal: bool,
    next_judgement: Instant,

    spare: Vec<Vec<u8>>,
    events: VecDeque<SenderEvent>,
}

impl Sender {
    /// A sender that announces its file from `now` on.
    #[must_use]
    pub fn new(now: Instant, config: SenderConfig) -> Self {
        Self {
            flow: Flow::new(config.rate),
            config,
            phase: Phase::Announcing { since: now, last_join: None },
            members: Members::default(),
            code: CauchyCode,
            announced: 0,
            next_announce: now,
            announce_interval: FIRST_ANNOUNCE_INTERVAL,
            pass: Pass::All { next: 0 },
            sending: Vec::new(),
            turn: 0,
            horizon: 0,
            outstanding: BTreeMap::new(),
            repairs: VecDeque::new(),
            next_symbol: BTreeMap::new(),
            repaired_block: None,
            sent_total: 0,
            source_sent: 0,
            polls: VecDeque::new(),
            round: 0,
            last_poll: now,
            poll_retry: FIRST_ANNOUNCE_INTERVAL,
            sent_at_last_poll: 0,
            acknowledged: 0,
            acknowledged_round: 0,
            overflow_signal: false,
            next_judgement: now + STALL,
            spare: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether the transfer is over and its end was said.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { copies_left: 0, .. })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> SendProgress {
        let members = &self.members.all;
        SendProgress {
            source_sent: self.source_sent,
            source_total: self.config.layout.source_symbols(),
            repair_sent: self.sent_total - self.source_sent,
            joined: members.len(),
            confirmed: members
                .values()
                .filter(|member| member.standing == Standing::Confirmed)
                .count(),
        }
    }

    /// Whether every source symbol has been sent once.
    #[must_use]
    pub fn is_source_sent(&self) -> bool {
        self.source_sent == self.config.layout.source_symbols()
    }

    /// How every receiver ended that ever joined; servers that were started again in
    /// between count once.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        let members = self.members.all.iter();
        members
            .filter(|(id, member)| {
                member.standing == Standing::Confirmed || !self.members.is_replaced(**id)
            })
            .map(|(&receiver, member)| Outcome {
                receiver,
                server: member.address,
                result: match &member.standing {
                    Standing::Confirmed => Ok(()),
                    Standing::Failed(reason) => Err(reason.clone()),
                    Standing::Silent => Err("fell silent".to_owned()),
                    Standing::Receiving => Err("had not finished".to_owned()),
                },
            })
            .collect()
    }

    /// Stops early; receivers are told.
    pub fn cancel(&mut self) {
        self.phase = Phase::Ended { copies_left: END_COPIES, reason: EndReason::Cancelled };
    }

    /// Takes one datagram. What is no frame of this transfer is dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes) else { return };
        if frame.transfer != self.config.transfer || matches!(self.phase, Phase::Ended { .. }) {
            return;
        }
        match frame.body {
            Body::Join(join) => self.handle_join(now, from, join),
            Body::Status(status) => self.handle_status(now, from, status),
            Body::Confirm(confirm) => self.handle_confirm(now, from, &confirm),
            Body::Refuse(refuse) => self.handle_refuse(now, from, &refuse),
            // The sender's own kinds come back where it hears its own broadcast.
            Body::Announce(_) | Body::Symbol(_) | Body::Poll(_) | Body::End(_) => {}
        }
        self.end_if_done();
    }

    /// The member that speaks, if it does so from the address it joined from.
    fn member(&mut self, now: Instant, id: ReceiverId, from: SocketAddr) -> Option<&mut Member> {
        let member = self.members.all.get_mut(&id).filter(|member| member.address == from)?;
        member.heard(now);
        Some(member)
    }

    /// Like `member`, but one not heard of before joins: its join may have been lost.
    fn ensure_member(
        &mut self,
        now: Instant,
        receiver: ReceiverId,
        from: SocketAddr,
        window: u16,
    ) -> Option<&mut Member> {
        if !self.members.all.contains_key(&receiver) {
            if self.members.all.len() >= MAX_MEMBERS {
                return None;
            }
            let on_time = matches!(self.phase, Phase::Announcing { .. });
            let member = Member {
                address: from,
                window,
                standing: Standing::Receiving,
                in_pass: on_time,
                joined_at: now,
                last_heard: now,
                last_progress: now,
                status: None,
                counted: (self.sent_total, 0),
                loss: 0.0,
            };
            self.members.all.insert(receiver, member);
            if let Phase::Announcing { last_join, .. } = &mut self.phase {
                *last_join = Some(now);
            }
            self.events.push_back(SenderEvent::Joined { receiver, server: from });
            self.start_if_ready(now);
        }
        self.member(now, receiver, from)
    }

    fn handle_join(&mut self, now: Instant, from: SocketAddr, join: Join) {
        if self.ensure_member(now, join.receiver, from, join.window).is_some() {
            self.flow.limit_to_buffer(join.recv_buffer);
        }
    }

    fn handle_status(&mut self, now: Instant, from: SocketAddr, status: Status) {
        if !self.is_plausible(&status) {
            return;
        }
        let sent_total =
            self.polls.iter().find(|poll| poll.round == status.round).map(|poll| poll.sent_total);
        let round = self.round;
        let window = status.window;
        let Some(member) = self.ensure_member(now, status.receiver, from, window) else { return };
        if status.round > round || status.round < member.acknowledged_round() {
            return;
        }
        if status.round == member.acknowledged_round() {
            // Only a window update, unless it comes out of order.
            if member.status.as_ref().is_none_or(|old| old.received <= status.received) {
                member.window = window;
            }
            return;
        }
        member.window = window;
        let progressed = member.status.as_ref().is_none_or(|old| {
            old.covered != status.covered || old.state != status.state || old.runs != status.runs
        });
        // Hashing a large file takes time and shows no progress.
        if progressed || status.state == ReceiverState::Verifying {
            member.last_progress = now;
        }
        let overflowed =
            member.status.as_ref().is_some_and(|old| old.overflowed < status.overflowed);
        let (sent_before, received_before) = member.counted;
        if let Some(sent) = sent_total.filter(|&sent| sent > sent_before) {
            let received = status.received.saturating_sub(received_before) as f64;
            member.loss = 1.0 - (received / (sent - sent_before) as f64).min(1.0);
            member.counted = (sent, status.received);
        }
        member.status = Some(status);
        let in_pass = member.in_pass;
        if in_pass || self.admit_late(now) {
            self.overflow_signal |= overflowed;
            self.acknowledge(now);
            self.settle_outstanding();
        }
    }

    /// A status can only speak of blocks that were sent, and lack no more than they have.
    fn is_plausible(&self, status: &Status) -> bool {
        let layout = self.config.layout;
        status.covered <= self.horizon
            && status.runs.iter().all(|run| run.deficit <= layout.symbols_in(run.first))
    }

    fn admit_late(&mut self, now: Instant) -> bool {
        let admitted = self.members.admit_late(now, STALL);
        if admitted {
            self.acknowledged = self.sent_total;
        }
        admitted
    }

    /// Moves the window when the slowest receiver has answered another poll.
    fn acknowledge(&mut self, now: Instant) {
        let Some(round) = self.members.acknowledged_round() else { return };
        if round <= self.acknowledged_round {
            return;
        }
        self.acknowledged_round = round;
        while self.polls.front().is_some_and(|poll| poll.round < round) {
            self.polls.pop_front();
        }
        let Some(poll) = self.polls.front().filter(|poll| poll.round == round) else { return };
        let took = now.saturating_duration_since(poll.at);
        let acknowledged = poll.sent_total.saturating_sub(self.acknowledged);
        self.acknowledged = self.acknowledged.max(poll.sent_total);
        self.poll_retry = self.flow.retry_after();
        if acknowledged > 0 {
            self.flow.on_round_trip(RoundTrip {
                acknowledged,
                acknowledged_total: self.acknowledged,
                sent_total: self.sent_total,
                took,
                loss: self.members.in_pass().map(|member| member.loss).fold(0.0, f64::max),
                overflowed: std::mem::take(&mut self.overflow_signal),
            });
        }
    }

    /// Grants repair to the blocks that need it and forgets those that all have.
    fn settle_outstanding(&mut self) {
        if self.members.in_pass().next().is_none() {
            return;
        }
        let loss = self.flow.loss();
        let mut settled = Vec::new();
        for (&block, outstanding) in &mut self.outstanding {
            let known = self
                .members
                .in_pass()
                .filter_map(|member| member.status.as_ref())
                .filter(|status| status.round >= outstanding.fresh_round)
                .filter_map(|status| status.deficit(block))
                .max()
                .unwrap_or(0);
            if known > 0 {
                let wanted = with_margin(known, loss);
                if let Some(more) = wanted.checked_sub(outstanding.granted).filter(|&more| more > 0)
                {
                    if outstanding.queued == 0 {
                        self.repairs.push_back(block);
                    }
                    outstanding.granted = wanted;
                    outstanding.queued += more;
                }
            } else if outstanding.queued == 0
                && self.members.worst_deficit(block, outstanding.fresh_round) == Some(0)
            {
                settled.push(block);
            }
        }
        for block in settled {
            self.outstanding.remove(&block);
        }
    }

    fn handle_confirm(&mut self, now: Instant, from: SocketAddr, confirm: &Confirm) {
        let matches = confirm.blake3 == self.config.blake3;
        let receiver = confirm.receiver;
        let Some(member) = self.ensure_member(now, receiver, from, u16::MAX) else { return };
        if !member.is_receiving() {
            return;
        }
        if matches {
            member.standing = Standing::Confirmed;
            self.events.push_back(SenderEvent::Confirmed { receiver, server: from });
        } else {
            member.standing = Standing::Failed("confirmed other bytes than were sent".to_owned());
        }
        self.settle_outstanding();
    }

    fn handle_refuse(&mut self, now: Instant, from: SocketAddr, refuse: &Refuse<'_>) {
        let receiver = refuse.receiver;
        let Some(member) = self.ensure_member(now, receiver, from, u16::MAX) else { return };
        if member.is_receiving() {
            member.standing = Standing::Failed(printable(refuse.text));
            self.settle_outstanding();
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.start_if_ready(now);
        if now >= self.next_judgement && matches!(self.phase, Phase::Transferring) {
            self.next_judgement = now + STALL / 4;
            self.members.judge(now, STALL, SILENCE, IDLE);
            self.admit_late(now);
            self.settle_outstanding();
        }
        self.end_if_done();
    }

    fn start_if_ready(&mut self, now: Instant) {
        let Phase::Announcing { since, last_join } = self.phase else { return };
        let joined = self.members.all.len();
        let waited = now.saturating_duration_since(since) >= self.config.join_wait;
        let ready = match self.config.servers {
            Some(servers) => joined >= servers,
            None => last_join.is_some_and(|join| now.saturating_duration_since(join) >= JOIN_QUIET),
        };
        if ready || (waited && joined > 0) {
            self.phase = Phase::Transferring;
            self.last_poll = now;
            for member in self.members.all.values_mut() {
                member.last_heard = now;
                member.last_progress = now;
            }
        } else if waited {
            self.phase = Phase::Ended { copies_left: END_COPIES, reason: EndReason::Cancelled };
        }
    }

    fn end_if_done(&mut self) {
        if !matches!(self.phase, Phase::Transferring) {
            return;
        }
        if self.members.receiving().next().is_none() {
            self.phase = Phase::Ended { copies_left: END_COPIES, reason: EndReason::Finished };
        } else if self.is_pass_over() {
            self.start_pass_for_the_rest();
        }
    }

    fn is_pass_over(&self) -> bool {
        let all_sent = match &self.pass {
            Pass::All { next } => *next == self.config.layout.block_count(),
            Pass::Selected(blocks) => blocks.is_empty(),
        };
        all_sent && self.sending.is_empty() && self.outstanding.is_empty()
    }

    /// Those that joined late or stood still get what they lack in a pass of their own.
    /// Blocks begun come first: they hold the receivers' memory.
    fn start_pass_for_the_rest(&mut self) {
        let deficits = self.members.all_deficits();
        if deficits.is_empty() {
            return;
        }
        let layout = self.config.layout;
        let (untouched, begun): (Vec<u32>, Vec<u32>) =
            deficits.keys().partition(|block| deficits[block] == layout.symbols_in(**block));
        self.pass = Pass::Selected(begun.into_iter().chain(untouched).collect());
        for member in self.members.all.values_mut() {
            member.in_pass = true;
        }
        self.acknowledged = self.sent_total;
    }

    /// When [`Sender::handle_timeout`] or [`Sender::poll_transmit`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Announcing { since, last_join } => {
                let quiet = last_join
                    .filter(|_| self.config.servers.is_none())
                    .map(|join| join + JOIN_QUIET);
                let times = [Some(self.next_announce), Some(*since + self.config.join_wait), quiet];
                times.into_iter().flatten().min()
            }
            Phase::Transferring => {
                let times = [
                    Some(self.next_announce),
                    Some(self.next_judgement),
                    Some(self.poll_due_at()),
                    self.flow.paced_until(now).filter(|_| self.has_symbols_to_send()),
                ];
                times.into_iter().flatten().min()
            }
            Phase::Ended { copies_left: 0, .. } => None,
            Phase::Ended { .. } => Some(now),
        }
    }

    /// The next thing to tell, if any.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// Fills `batch` with the next datagrams, at most `max_segments` of them, and says
    /// whether there were any.
    ///
    /// # Errors
    /// `source` could not be read.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        source: &mut dyn BlockSource,
        max_segments: usize,
        batch: &mut TransmitBatch,
    ) -> io::Result<bool> {
        let transfer = self.config.transfer;
        if let Phase::Ended { copies_left, reason } = &mut self.phase {
            let Some(left) = copies_left.checked_sub(1) else { return Ok(false) };
            *copies_left = left;
            let reason = *reason;
            batch.single(&Frame { transfer, body: Body::End(End { reason }) });
            return Ok(true);
        }
        if now >= self.next_announce {
            self.announce(now, batch);
            return Ok(true);
        }
        if !matches!(self.phase, Phase::Transferring) {
            return Ok(false);
        }
        // Everything sent or the window full: ask at once, nothing else can go on.
        let waiting = self.sent_total > self.sent_at_last_poll
            && (!self.has_symbols_to_send() || self.window_room() == 0);
        if waiting || now >= self.poll_due_at() {
            self.poll(now, batch);
            return Ok(true);
        }
        if self.flow.paced_until(now).is_some() {
            return Ok(false);
        }
        batch.bytes.clear();
        batch.segment_len = SYMBOL_HEADER_LEN + self.config.layout.symbol_size();
        let paced = self.flow.paced_segments(batch.segment_len);
        let room = self.window_room().min(max_segments).min(paced);
        for _ in 0..room {
            if !self.emit_repair(source, &mut batch.bytes)?
                && !self.emit_source(source, &mut batch.bytes)?
            {
                break;
            }
        }
        self.flow.on_sent(now, batch.bytes.len());
        Ok(!batch.bytes.is_empty())
    }

    fn announce(&mut self, now: Instant, batch: &mut TransmitBatch) {
        let layout = self.config.layout;
        batch.single(&Frame {
            transfer: self.config.transfer,
            body: Body::Announce(Announce {
                size: layout.size(),
                // A layout is made from a 16-bit value.
                symbol_size: layout.symbol_size() as u16,
                block_symbols: layout.block_symbols(),
                code: CAUCHY_CODE,
                blake3: self.config.blake3,
                name: &self.config.name,
            }),
        });
        self.announced += 1;
        if self.announced < EARLY_ANNOUNCES {
            self.next_announce = now + EARLY_ANNOUNCE_INTERVAL;
        } else {
            self.next_announce = now + self.announce_interval;
            self.announce_interval = (self.announce_interval * 2).min(MAX_ANNOUNCE_INTERVAL);
        }
    }

    fn poll_due_at(&self) -> Instant {
        if self.sent_total == self.sent_at_last_poll {
            return self.last_poll + self.poll_retry;
        }
        let quarter = (self.flow.window() / 4).max(1);
        if self.sent_total - self.sent_at_last_poll >= quarter {
            return self.last_poll;
        }
        self.last_poll + POLL_INTERVAL
    }

    fn poll(&mut self, now: Instant, batch: &mut TransmitBatch) {
        if self.sent_total == self.sent_at_last_poll {
            self.poll_retry = (self.poll_retry * 2).min(MAX_POLL_RETRY);
        } else {
            self.poll_retry = self.flow.retry_after();
        }
        self.round += 1;
        let receivers = self.members.receiving().count();
        let slot_micros =
            if receivers <= UNSLOTTED_RECEIVERS { 0 } else { receivers * SLOT_MICROS_PER_RECEIVER };
        batch.single(&Frame {
            transfer: self.config.transfer,
            body: Body::Poll(Poll {
                round: self.round,
                horizon: self.horizon,
                // Members are bounded, and so is this.
                slot_micros: slot_micros as u32,
            }),
        });
        self.last_poll = now;
        self.sent_at_last_poll = self.sent_total;
        self.polls.push_back(SentPoll { round: self.round, at: now, sent_total: self.sent_total });
        if self.polls.len() > 1024 {
            self.polls.pop_front();
        }
    }

    fn window_room(&self) -> usize {
        self.flow.room(self.sent_total - self.acknowledged)
    }

    fn has_symbols_to_send(&self) -> bool {
        !self.repairs.is_empty() || !self.sending.is_empty() || self.may_open_block()
    }

    fn may_open_block(&self) -> bool {
        let more = match &self.pass {
            Pass::All { next } => *next < self.config.layout.block_count(),
            Pass::Selected(blocks) => !blocks.is_empty(),
        };
        more && self.outstanding.len() < self.members.window()
    }

    fn emit_repair(&mut self, source: &mut dyn BlockSource, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some(&block) = self.repairs.front() else { return Ok(false) };
        let source_symbols = self.config.layout.symbols_in(block);
        if self.repaired_block.as_ref().is_none_or(|(cached, _)| *cached != block) {
            let mut bytes = self.take_spare();
            self.read_block(source, block, &mut bytes)?;
            if let Some((_, old)) = self.repaired_block.replace((block, bytes)) {
                self.spare.push(old);
            }
        }
        let symbol_count = source_symbols + MAX_REPAIR_SYMBOLS;
        let next = self.next_symbol.entry(block).or_insert(source_symbols);
        let symbol = *next;
        // Repair symbols used up: begin again with source symbols.
        *next = (symbol + 1) % symbol_count;
        if let Some((_, bytes)) = &self.repaired_block {
            emit_symbol(&self.config, &self.code, bytes, block, symbol, out);
        }
        self.sent_total += 1;
        if let Some(outstanding) = self.outstanding.get_mut(&block) {
            outstanding.queued = outstanding.queued.saturating_sub(1);
            if outstanding.queued == 0 {
                outstanding.granted = 0;
                outstanding.fresh_round = self.round + 1;
                self.repairs.pop_front();
            }
        } else {
            self.repairs.pop_front();
        }
        Ok(true)
    }

    fn emit_source(&mut self, source: &mut dyn BlockSource, out: &mut Vec<u8>) -> io::Result<bool> {
        if self.sending.is_empty() {
            self.open_blocks(source)?;
        }
        if self.sending.is_empty() {
            return Ok(false);
        }
        self.turn %= self.sending.len();
        let sending = &mut self.sending[self.turn];
        let symbol = sending.next;
        sending.next += 1;
        emit_symbol(&self.config, &self.code, &sending.bytes, sending.block, symbol, out);
        self.sent_total += 1;
        self.source_sent += u64::from(matches!(self.pass, Pass::All { .. }));
        if sending.next < sending.end {
            self.turn += 1;
            return Ok(true);
        }
        let sent = self.sending.remove(self.turn);
        self.spare.push(sent.bytes);
        if let Some(outstanding) = self.outstanding.get_mut(&sent.block) {
            outstanding.fresh_round = self.round + 1;
        }
        if self.sending.is_empty()
            && let Pass::All { next } = self.pass
        {
            self.horizon = next;
        }
        Ok(true)
    }

    /// Begins the next few blocks of the pass.
    fn open_blocks(&mut self, source: &mut dyn BlockSource) -> io::Result<()> {
        while self.sending.len() < INTERLEAVED_BLOCKS && self.may_open_block() {
            let block = match &mut self.pass {
                Pass::All { next } => {
                    *next += 1;
                    *next - 1
                }
                Pass::Selected(blocks) => match blocks.pop_front() {
                    Some(block) => block,
                    None => return Ok(()),
                },
            };
            let mut outstanding = Outstanding { fresh_round: u32::MAX, granted: 0, queued: 0 };
            let source_symbols = self.config.layout.symbols_in(block);
            let deficit = match self.pass {
                Pass::All { .. } => source_symbols,
                Pass::Selected(_) => self.worst_known_deficit(block),
            };
            if deficit == source_symbols {
                let mut bytes = self.take_spare();
                self.read_block(source, block, &mut bytes)?;
                self.sending.push(Sending { block, bytes, next: 0, end: source_symbols });
            } else {
                outstanding.granted = with_margin(deficit, self.flow.loss());
                outstanding.queued = outstanding.granted;
                outstanding.fresh_round = self.round + 1;
                if outstanding.queued > 0 {
                    self.repairs.push_back(block);
                }
            }
            self.outstanding.insert(block, outstanding);
        }
        Ok(())
    }

    fn worst_known_deficit(&self, block: u32) -> u16 {
        let statuses = self.members.in_pass().filter_map(|member| member.status.as_ref());
        statuses.filter_map(|status| status.deficit(block)).max().unwrap_or(0)
    }

    fn take_spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Reads whole symbols: what lies behind the file's end is zero.
    fn read_block(
        &self,
        source: &mut dyn BlockSource,
        block: u32,
        bytes: &mut Vec<u8>,
    ) -> io::Result<()> {
        let layout = self.config.layout;
        let range = layout.byte_range(block);
        // A block is at most 128 symbols of 65,535 bytes.
        let len = (range.end - range.start) as usize;
        bytes.resize(usize::from(layout.symbols_in(block)) * layout.symbol_size(), 0);
        bytes[len..].fill(0);
        source.read_at(range.start, &mut bytes[..len])
    }
}

/// Repair symbols to send so that about `deficit` arrive.
fn with_margin(deficit: u16, loss: f64) -> u16 {
    if deficit == 0 {
        return 0;
    }
    let margin = if loss > 0.005 { 1.0 } else { 0.0 };
    ((f64::from(deficit) + margin) / (1.0 - loss)).ceil().min(f64::from(MAX_REPAIR_SYMBOLS) * 2.0)
        as u16
}

fn emit_symbol(
    config: &SenderConfig,
    code: &CauchyCode,
    block_bytes: &[u8],
    block: u32,
    symbol: u16,
    out: &mut Vec<u8>,
) {
    Symbol::emit_header(out, config.transfer, block, symbol);
    let symbol_size = config.layout.symbol_size();
    let source_symbols = config.layout.symbols_in(block);
    match symbol.checked_sub(source_symbols) {
        None => {
            let start = usize::from(symbol) * symbol_size;
            out.extend_from_slice(&block_bytes[start..start + symbol_size]);
        }
        Some(repair) => {
            let start = out.len();
            out.resize(start + symbol_size, 0);
            code.add_repair(block_bytes, repair, &mut out[start..]);
        }
    }
}

/// Text from the network, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}
