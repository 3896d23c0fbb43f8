//! The sending side: one file to any number of receivers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::block::BlockLayout;
use super::code::CAUCHY_CODE;
use super::digest::FileDigest;
use super::flow::{Flow, RoundTrip};
use super::members::{Answer, MAX_MEMBERS, Member, Members, Patience, Standing};
use super::outgoing::{BlockSource, Conditions, Outgoing};
use super::path::Path;
use super::polls::Polls;
use crate::wire::{
    Announce, Body, Confirm, End, EndReason, Frame, Join, Poll, ReceiverId, Refuse,
    SYMBOL_HEADER_LEN, Status, TransferId,
};

/// The first few come quickly: a receiver that misses them all would not be waited for.
const EARLY_ANNOUNCES: u32 = 4;
const EARLY_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(5);
const FIRST_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(20);
const MAX_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(250);
const JOIN_QUIET: Duration = Duration::from_millis(20);
/// After this long without a word from a receiver the others are not held up for it.
const STALL: Duration = Duration::from_millis(1000);
/// After this long it is given up, unless it comes back in time.
const SILENCE: Duration = Duration::from_secs(6);
/// A receiver that answers but gets nowhere is given up after this long.
const IDLE: Duration = Duration::from_secs(30);
/// A receiver may verify for so long, and longer for a large file on a slow disk.
const VERIFYING: Duration = Duration::from_secs(60);
const SLOWEST_VERIFICATION: u64 = 4_000_000;
/// A receiver is slow once the others have had to wait for it for so long.
const SLOW_AFTER: Duration = Duration::from_millis(250);
/// Up to this many receivers answer a poll at once (RFC 5401's back-off pays only above).
const UNSLOTTED_RECEIVERS: usize = 32;
const SLOT_MICROS_PER_RECEIVER: usize = 20;
/// An end is said this often where datagrams get lost: it is not acknowledged.
const END_COPIES: u8 = 2;

/// What a [`Sender`] goes by.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// The transfer's name on the wire.
    pub transfer: TransferId,
    /// File name as announced.
    pub name: String,
    /// Of the file.
    pub digest: FileDigest,
    /// When it was made, in milliseconds since 1970.
    pub unix_time_ms: u64,
    /// How it is cut.
    pub layout: BlockLayout,
    /// Start as soon as this many have joined; `None`: when joins have gone quiet.
    pub servers: Option<usize>,
    /// The longest wait for joins.
    pub join_wait: Duration,
    /// Ceiling in bytes of symbols per second.
    pub rate: Option<u64>,
    /// Most bytes of the file kept in memory for repair, besides what is being sent.
    pub repair_memory: usize,
    /// What becomes of a receiver that is much slower than the others.
    pub slow: SlowReceivers,
}

/// What becomes of a receiver that is much slower than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SlowReceivers {
    /// It sets the pace of all.
    Wait,
    /// It gets what it lacks when the others have the file.
    Drop,
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
    /// A receiver is so slow that the others no longer wait for it; see [`SlowReceivers`].
    FinishesLater {
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

/// The sending state machine; see the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    phase: Phase,
    created: Instant,
    /// When sending began.
    started: Instant,
    members: Members,
    flow: Flow,
    outgoing: Outgoing,
    polls: Polls,

    announced: u32,
    next_announce: Instant,
    announce_interval: Duration,

    overflow_signal: bool,
    /// Who holds up the others by late answers or by little memory, and since when.
    late_suspect: Suspicion,
    narrow_suspect: Suspicion,
    next_judgement: Instant,
    events: VecDeque<SenderEvent>,
}

impl Sender {
    /// A sender that announces its file from `now` on.
    #[must_use]
    pub fn new(now: Instant, config: SenderConfig) -> Self {
        Self {
            members: Members::default(),
            flow: Flow::new(config.rate),
            outgoing: Outgoing::new(config.transfer, config.layout, config.repair_memory),
            polls: Polls::new(now),
            config,
            phase: Phase::Announcing { since: now, last_join: None },
            created: now,
            started: now,
            announced: 0,
            next_announce: now,
            announce_interval: FIRST_ANNOUNCE_INTERVAL,
            overflow_signal: false,
            late_suspect: None,
            narrow_suspect: None,
            next_judgement: now + STALL,
            events: VecDeque::new(),
        }
    }

    /// Whether the transfer is over, and its end was given out to be sent.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { copies_left: 0, .. })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> SendProgress {
        let confirmed = |member: &Member| member.standing == Standing::Confirmed;
        SendProgress {
            source_sent: self.outgoing.source_sent(),
            source_total: self.config.layout.source_symbols(),
            repair_sent: self.repair_sent(),
            joined: self.members.len(),
            confirmed: self.members.iter().filter(|(_, member)| confirmed(member)).count(),
        }
    }

    /// Repair symbols sent so far.
    #[must_use]
    pub fn repair_sent(&self) -> u64 {
        self.outgoing.sent() - self.outgoing.source_sent()
    }

    /// Whether every source symbol has been sent once.
    #[must_use]
    pub fn is_source_sent(&self) -> bool {
        self.outgoing.source_sent() == self.config.layout.source_symbols()
    }

    /// How every receiver ended that ever joined; servers that were started again in
    /// between count once.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        let members = self.members.iter();
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

    /// Whether `receiver` takes part and speaks from the address it joined from. One not
    /// heard of before joins: its join may have been lost.
    fn admit(&mut self, now: Instant, receiver: ReceiverId, from: SocketAddr, window: u16) -> bool {
        if self.members.get(receiver).is_none() {
            if self.members.len() >= MAX_MEMBERS {
                return false;
            }
            let on_time = matches!(self.phase, Phase::Announcing { .. });
            if !on_time && !self.members.is_first_receiving(self.started) {
                // Else a chain of late ones could go on for ever.
                return false;
            }
            let member = Member {
                address: from,
                window,
                standing: Standing::Receiving,
                in_pass: on_time,
                joined_at: now,
                last_heard: now,
                idle: Duration::ZERO,
                status: None,
                joined_sent: self.outgoing.sent(),
                least_lacking: self.config.layout.source_symbols(),
                verifying_since: None,
                counted: (self.outgoing.sent(), 0),
                path: Path::default(),
            };
            self.members.insert(receiver, member);
            if let Phase::Announcing { last_join, .. } = &mut self.phase {
                *last_join = Some(now);
            }
            self.events.push_back(SenderEvent::Joined { receiver, server: from });
            self.start_if_ready(now);
        }
        self.members.heard(now, receiver, from)
    }

    fn handle_join(&mut self, now: Instant, from: SocketAddr, join: Join) {
        if self.admit(now, join.receiver, from, join.window) {
            self.flow.limit_to_buffer(join.recv_buffer);
        }
    }

    fn handle_status(&mut self, now: Instant, from: SocketAddr, status: Status) {
        let receiver = status.receiver;
        if !self.is_plausible(&status) || !self.admit(now, receiver, from, status.window) {
            return;
        }
        // One that was given up may go on answering.
        let member = self.members.get(receiver).filter(|member| member.is_receiving());
        let Some(member) = member else { return };
        let (window, answered) = (status.window, member.answered_round());
        if status.round > self.polls.round() || status.round < answered {
            return;
        }
        if status.round == answered {
            // Only a window update, unless it comes out of order.
            if member.status.as_ref().is_none_or(|old| old.received <= status.received) {
                self.members.set_window(receiver, window);
            }
            return;
        }
        let before = member.status.as_ref();
        let overflowed = before.is_some_and(|old| old.overflowed < status.overflowed);
        let (in_pass, loss) = (member.in_pass, member.path.loss());
        let poll = self.polls.find(status.round);
        self.members.set_window(receiver, window);
        if in_pass {
            self.outgoing.grant(&status, loss);
        }
        let layout = self.config.layout;
        let in_runs = status.runs.iter().map(|run| u64::from(run.count) * u64::from(run.deficit));
        let file = layout.source_symbols();
        let lacking = in_runs.sum::<u64>() + file - layout.first_symbol(status.covered);
        let answer = Answer { status, poll, lacking, file };
        self.members.set_status(now, receiver, answer, self.flow.window());
        if in_pass || self.admit_late(now) {
            let path = self.members.get(receiver).map(|member| &member.path);
            self.overflow_signal |= overflowed || path.is_some_and(Path::is_overflowing);
            self.advance(now);
        }
    }

    /// A status can only speak of blocks that were sent, and lack no more than they have.
    fn is_plausible(&self, status: &Status) -> bool {
        let layout = self.config.layout;
        status.covered <= self.outgoing.horizon()
            && status.runs.iter().all(|run| run.deficit <= layout.symbols_in(run.first))
    }

    fn admit_late(&mut self, now: Instant) -> bool {
        let admitted = self.members.admit_late(now, STALL);
        if admitted {
            self.polls.acknowledge_all(self.outgoing.sent());
            // What they said before was not acted on.
            for member in self.members.in_pass() {
                if let Some(status) = &member.status {
                    self.outgoing.grant(status, member.path.loss());
                }
            }
        }
        admitted
    }

    /// Moves the window and forgets finished blocks when the slowest receiver has answered
    /// another poll, or is no longer waited for.
    fn advance(&mut self, now: Instant) {
        let Some(answered) = self.members.newly_answered() else { return };
        self.outgoing.settle(answered.round, answered.covered);
        let was_full = self.flow.room(self.outgoing.sent() - self.polls.acknowledged()) == 0;
        let acknowledgement = self.polls.acknowledge(now, answered.round, self.flow.retry_after());
        if let Some(acknowledgement) = acknowledgement.filter(|known| known.symbols > 0) {
            let is_cut = self.flow.on_round_trip(RoundTrip {
                acknowledged: acknowledgement.symbols,
                acknowledged_total: self.polls.acknowledged(),
                sent_total: self.outgoing.sent(),
                took: acknowledgement.took,
                is_spread: self.members.receiving_count() > UNSLOTTED_RECEIVERS,
                overflowed: std::mem::take(&mut self.overflow_signal),
            });
            if is_cut {
                self.members.on_cut();
            }
            let slowest = self.members.slowest_by_far().filter(|_| was_full);
            self.late_suspect = still_suspected(now, self.late_suspect, slowest);
            self.drop_if_slow(now, self.late_suspect);
        }
    }

    /// Waits no longer for one who has held up others long enough, if that is asked for.
    fn drop_if_slow(&mut self, now: Instant, suspicion: Suspicion) {
        let Some((receiver, since)) = suspicion else { return };
        let is_slow = now.saturating_duration_since(since) >= SLOW_AFTER
            && self.config.slow == SlowReceivers::Drop
            && self.members.is_another_waiting(receiver);
        if let Some(server) = self.members.get(receiver).map(|member| member.address)
            && is_slow
        {
            (self.late_suspect, self.narrow_suspect) = (None, None);
            self.members.leave_pass(receiver);
            self.events.push_back(SenderEvent::FinishesLater { receiver, server });
            self.advance(now);
        }
    }

    fn handle_confirm(&mut self, now: Instant, from: SocketAddr, confirm: &Confirm) {
        let receiver = confirm.receiver;
        if !self.admit(now, receiver, from, u16::MAX) || !self.is_receiving(receiver) {
            return;
        }
        // Anybody can send a confirmation; who has the file can send a true one.
        if confirm.proof == self.config.digest.proof(self.config.transfer, receiver) {
            self.members.set_standing(receiver, Standing::Confirmed);
            self.events.push_back(SenderEvent::Confirmed { receiver, server: from });
            self.advance(now);
        }
    }

    fn handle_refuse(&mut self, now: Instant, from: SocketAddr, refuse: &Refuse<'_>) {
        let receiver = refuse.receiver;
        if self.admit(now, receiver, from, u16::MAX) && self.is_receiving(receiver) {
            let reason = printable(refuse.text);
            self.members.set_standing(receiver, Standing::Failed(reason));
            self.advance(now);
        }
    }

    fn is_receiving(&self, receiver: ReceiverId) -> bool {
        self.members.get(receiver).is_some_and(Member::is_receiving)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.start_if_ready(now);
        if now >= self.next_judgement && matches!(self.phase, Phase::Transferring) {
            self.next_judgement = now + STALL / 4;
            let patience = Patience {
                stall: STALL,
                silence: SILENCE,
                idle: IDLE,
                verifying: VERIFYING
                    + Duration::from_secs(self.config.layout.size() / SLOWEST_VERIFICATION),
            };
            self.members.judge(now, patience, self.outgoing.horizon());
            self.admit_late(now);
            self.advance(now);
            let is_held_up = self.outgoing.is_held_up(self.members.window());
            let narrowest = self.members.narrowest_by_far().filter(|_| is_held_up);
            self.narrow_suspect = still_suspected(now, self.narrow_suspect, narrowest);
            self.drop_if_slow(now, self.narrow_suspect);
        }
        self.end_if_done();
    }

    fn start_if_ready(&mut self, now: Instant) {
        let Phase::Announcing { since, last_join } = self.phase else { return };
        let joined = self.members.len();
        let waited = now.saturating_duration_since(since) >= self.config.join_wait;
        let ready = match self.config.servers {
            Some(servers) => joined >= servers,
            None => last_join.is_some_and(|join| now.saturating_duration_since(join) >= JOIN_QUIET),
        };
        if ready || (waited && joined > 0) {
            self.phase = Phase::Transferring;
            self.started = now;
            if self.config.servers.is_some() {
                self.next_announce = self.next_announce.max(now + MAX_ANNOUNCE_INTERVAL);
            }
            let answer_time = last_join.map(|join| join.saturating_duration_since(since));
            self.polls.restart(now, answer_time.unwrap_or_default());
            self.members.start(now);
        } else if waited {
            self.phase = Phase::Ended { copies_left: END_COPIES, reason: EndReason::Cancelled };
        }
    }

    fn end_if_done(&mut self) {
        if !matches!(self.phase, Phase::Transferring) {
            return;
        }
        if self.members.receiving_count() == 0 {
            let is_lossy = self.outgoing.sent() > self.config.layout.source_symbols();
            let copies_left = if is_lossy { END_COPIES } else { 1 };
            self.phase = Phase::Ended { copies_left, reason: EndReason::Finished };
        } else if self.outgoing.is_pass_over() {
            self.start_pass_for_the_rest();
        }
    }

    /// Those that joined late or stood still get what they lack in a pass of their own.
    fn start_pass_for_the_rest(&mut self) {
        let deficits = self.members.all_deficits();
        if !deficits.is_empty() {
            self.outgoing.start_pass(&deficits);
            self.members.start_pass();
            self.polls.acknowledge_all(self.outgoing.sent());
        }
    }

    /// When [`Sender::handle_timeout`] or [`Sender::poll_transmit`] has something to do.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let (window, poll_due_at) = (self.members.window(), self.poll_due_at());
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
                    Some(poll_due_at),
                    self.flow
                        .paced_until(now)
                        .filter(|_| self.outgoing.has_symbols_to_send(window)),
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
            if self.announced == 1 {
                self.append_small_file(now, source, max_segments, batch)?;
            }
            return Ok(true);
        }
        if !matches!(self.phase, Phase::Transferring) {
            return Ok(false);
        }
        let (window, sent) = (self.members.window(), self.outgoing.sent());
        let room = self.flow.room(sent - self.polls.acknowledged());
        if now >= self.poll_due_at() {
            self.poll(now, batch);
            return Ok(true);
        }
        if self.flow.paced_until(now).is_some() {
            return Ok(false);
        }
        batch.bytes.clear();
        batch.segment_len = SYMBOL_HEADER_LEN + self.config.layout.symbol_size();
        let paced = self.flow.paced_segments(batch.segment_len);
        let room = room.min(max_segments).min(paced).min(self.flow.batch_segments());
        let loss = self.members.worst_loss();
        let receivers = self.members.receiving_count();
        let conditions = Conditions { round: self.polls.round(), window, receivers, loss };
        for _ in 0..room {
            if !self.outgoing.emit(source, conditions, &mut batch.bytes)? {
                break;
            }
        }
        self.flow.on_sent(now, batch.bytes.len());
        Ok(!batch.bytes.is_empty())
    }

    fn announce(&mut self, now: Instant, batch: &mut TransmitBatch) {
        let layout = self.config.layout;
        // A transfer does not last for longer than 64 bits of milliseconds.
        let since_begin = now.saturating_duration_since(self.created).as_millis() as u64;
        batch.single(&Frame {
            transfer: self.config.transfer,
            body: Body::Announce(Announce {
                size: layout.size(),
                // A layout is made from a 16-bit value.
                symbol_size: layout.symbol_size() as u16,
                block_symbols: layout.block_symbols(),
                code: CAUCHY_CODE,
                blake3: self.config.digest.name(),
                time_ms: self.config.unix_time_ms.saturating_add(since_begin),
                name: &self.config.name,
            }),
        });
        self.announced += 1;
        let is_complete = self.config.servers.is_some_and(|n| self.members.len() >= n);
        if is_complete {
            // Only for those that come late.
            self.next_announce = now + MAX_ANNOUNCE_INTERVAL;
        } else if self.announced < EARLY_ANNOUNCES {
            self.next_announce = now + EARLY_ANNOUNCE_INTERVAL;
        } else {
            self.next_announce = now + self.announce_interval;
            self.announce_interval = (self.announce_interval * 2).min(MAX_ANNOUNCE_INTERVAL);
        }
    }

    /// A file that fits the first window goes out with its first announcement: whoever takes it
    /// confirms it without having joined, a round trip earlier.
    fn append_small_file(
        &mut self,
        now: Instant,
        source: &mut dyn BlockSource,
        max_segments: usize,
        batch: &mut TransmitBatch,
    ) -> io::Result<()> {
        let symbols = self.config.layout.source_symbols();
        let frame_len = SYMBOL_HEADER_LEN + self.config.layout.symbol_size();
        let segment_len = frame_len.max(batch.segment_len);
        let most = max_segments.min(self.flow.paced_segments(segment_len));
        let fits = (1..=self.flow.window()).contains(&symbols) && symbols < most as u64;
        // Only the last datagram of a batch may be shorter than the others.
        if !fits || (symbols > 1 && frame_len < segment_len) {
            return Ok(());
        }
        batch.bytes.resize(segment_len, 0);
        batch.segment_len = segment_len;
        let (round, window) = (self.polls.round(), usize::MAX);
        let conditions = Conditions { round, window, receivers: 0, loss: 0.0 };
        for _ in 0..symbols {
            self.outgoing.emit(source, conditions, &mut batch.bytes)?;
        }
        self.flow.on_sent(now, batch.bytes.len());
        Ok(())
    }

    fn poll_due_at(&mut self) -> Instant {
        let (window, sent) = (self.members.window(), self.outgoing.sent());
        let room = self.flow.room(sent - self.polls.acknowledged());
        // Everything sent or the window full: nothing else can go on.
        let all_sent = room == 0 || !self.outgoing.has_symbols_to_send(window);
        self.polls.due_at(sent, self.flow.window(), all_sent)
    }

    fn poll(&mut self, now: Instant, batch: &mut TransmitBatch) {
        let receivers = self.members.receiving_count();
        self.polls.set_pace(receivers, self.members.worst_loss());
        let slot_micros =
            if receivers <= UNSLOTTED_RECEIVERS { 0 } else { receivers * SLOT_MICROS_PER_RECEIVER };
        // Members are bounded, and so is this.
        let slot_micros = slot_micros as u32;
        let slot = Duration::from_micros(u64::from(slot_micros));
        let round = self.polls.send(now, self.outgoing.sent(), self.flow.retry_after(), slot);
        batch.single(&Frame {
            transfer: self.config.transfer,
            body: Body::Poll(Poll { round, horizon: self.outgoing.horizon(), slot_micros }),
        });
    }
}

/// Who is suspected of holding up the others, and since when without a break.
type Suspicion = Option<(ReceiverId, Instant)>;

fn still_suspected(now: Instant, before: Suspicion, receiver: Option<ReceiverId>) -> Suspicion {
    let receiver = receiver?;
    let since = before.filter(|(before, _)| *before == receiver).map_or(now, |(_, since)| since);
    Some((receiver, since))
}

/// Text from the network, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}
