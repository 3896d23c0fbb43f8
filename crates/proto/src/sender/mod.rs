//! The sending side: one file to any number of receivers.

mod answers;
mod config;
mod congestion;
mod interleaving;
mod judgement;
mod members;
mod path;
mod polls;
mod schedule;
mod transmit;

pub use config::{Outcome, SendProgress, SenderConfig, SenderEvent, SlowReceivers, TransmitBatch};
pub use schedule::BlockSource;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::units::Symbols;
use crate::wire::{Body, EndReason, Frame, ReceiverId};
use congestion::CongestionControl;
use judgement::{Patience, Situation};
use members::{Member, Members, Standing};
use polls::Polls;
use schedule::Schedule;

/// The interval between announcements after the first few; it doubles up to the largest one.
const FIRST_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(20);
const MAX_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(250);
/// The time without a new receiver after which sending starts, if their number is not given.
const JOIN_QUIET: Duration = Duration::from_millis(20);
/// The time of silence after which a receiver does not hold up the others any more.
const STALL: Duration = Duration::from_millis(1000);
/// The time of silence after which a receiver is given up. It may come back until the end.
const SILENCE: Duration = Duration::from_secs(6);
/// The time after which a receiver is given up that answers but makes no progress.
const IDLE: Duration = Duration::from_secs(30);
/// One part in this many of the sending rate that is asked for is enough for a receiver to gain.
const LEAST_GAIN_PART: u64 = 8;
/// The number of symbols for which the sender waits at the rate that is asked for.
const IDLE_SYMBOLS: u32 = 8;
/// The time for which a receiver may hold up most others, and the part of the transfer's time.
const HELD_UP: Duration = Duration::from_secs(10);
const HELD_UP_PART: u32 = 2;
/// The time that a receiver may take to verify the file, and the bytes for each further second: a
/// large file on a slow disk takes longer.
const VERIFYING: Duration = Duration::from_secs(60);
const MIN_VERIFICATION_RATE: u64 = 4_000_000;
/// The time for which the others must have waited for a receiver before it counts as slow.
const SLOW_AFTER: Duration = Duration::from_millis(250);
/// The largest number of receivers that answer a poll at once. Only above this number is it worth
/// delaying the answers at random, as the back-off of RFC 5401 does.
const UNSLOTTED_RECEIVERS: usize = 32;
/// The number of End frames on a network that loses datagrams: an End is not acknowledged.
const END_COPIES: u8 = 2;

/// The phase of a transfer at its sender.
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
    /// The time when sending started.
    started: Instant,
    members: Members,
    congestion: CongestionControl,
    schedule: Schedule,
    polls: Polls,

    /// The number of announcements sent.
    announced: u32,
    next_announce: Instant,
    announce_interval: Duration,

    /// Whether a sign of overflow has come since the congestion window was last adapted.
    overflow_signal: bool,
    /// The receivers that hold up the others by late answers and by little memory.
    late_suspect: Suspicion,
    narrow_suspect: Suspicion,
    /// The time of the next check of the members' time limits.
    next_judgement: Instant,
    events: VecDeque<SenderEvent>,
}

impl Sender {
    /// A sender that starts to announce its file at `now`.
    #[must_use]
    pub fn new(now: Instant, config: SenderConfig) -> Self {
        Self {
            members: Members::default(),
            congestion: CongestionControl::new(config.rate),
            schedule: Schedule::new(config.transfer, config.layout, config.repair_memory),
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

    /// Whether the transfer is over and [`poll_transmit`](Self::poll_transmit) has given its last
    /// End frame.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { copies_left: 0, .. })
    }

    /// The progress of the transfer.
    #[must_use]
    pub fn progress(&self) -> SendProgress {
        let confirmed = |member: &Member| member.standing == Standing::Confirmed;
        SendProgress {
            source_sent: self.schedule.source_sent().0,
            source_total: self.config.layout.source_symbols(),
            repair_sent: self.repair_sent(),
            joined: self.members.len(),
            confirmed: self.members.iter().filter(|(_, member)| confirmed(member)).count(),
            is_announcing: matches!(self.phase, Phase::Announcing { .. }),
            gained: self.members.gained(self.file_symbols()).0,
            verifying: self
                .members
                .iter()
                .filter(|(_, member)| member.is_receiving() && member.verifying_since.is_some())
                .count(),
        }
    }

    /// The number of repair symbols sent so far. It includes source symbols that were sent again.
    #[must_use]
    pub fn repair_sent(&self) -> u64 {
        (self.schedule.sent() - self.schedule.source_sent()).0
    }

    /// Whether every source symbol has been sent once.
    #[must_use]
    pub fn is_source_sent(&self) -> bool {
        self.schedule.source_sent() == self.file_symbols()
    }

    /// The number of source symbols of the file.
    fn file_symbols(&self) -> Symbols {
        Symbols(self.config.layout.source_symbols())
    }

    /// The number of symbols on the way: sent and not acknowledged.
    fn in_flight(&self) -> Symbols {
        self.schedule.sent() - self.polls.acknowledged()
    }

    /// The outcomes of all receivers that ever joined. A server that was started again during the
    /// transfer is listed once.
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
                has_answered: member.status.is_some() || member.standing != Standing::Silent,
                result: match &member.standing {
                    Standing::Confirmed => Ok(()),
                    Standing::Failed(reason) => Err(reason.clone()),
                    Standing::Silent => Err("fell silent".to_owned()),
                    Standing::Receiving => Err("had not finished".to_owned()),
                },
            })
            .collect()
    }

    /// Ends the transfer early. The receivers are told by an End frame.
    pub fn cancel(&mut self) {
        self.phase = Phase::Ended { copies_left: END_COPIES, reason: EndReason::Cancelled };
    }

    /// Takes the payload of one datagram that came from `from`. A datagram that is no valid frame
    /// of this transfer is dropped.
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
            // The sender may hear its own broadcast.
            Body::Announce(_) | Body::Symbol(_) | Body::Poll(_) | Body::End(_) => {}
        }
        self.end_if_done();
    }

    /// Does the work that is due at `now`: it starts or ends the transfer and checks time limits.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.start_if_ready(now);
        if now >= self.next_judgement && matches!(self.phase, Phase::Transferring) {
            self.next_judgement = now + STALL / 4;
            let is_held_up = self.schedule.is_held_up(self.members.receive_window());
            self.judge(now, is_held_up);
            self.limit_to_buffers();
            let narrowest = self.members.narrowest_by_far().filter(|_| is_held_up);
            self.narrow_suspect = still_suspected(now, self.narrow_suspect, narrowest);
            self.drop_if_slow(now, self.narrow_suspect);
        }
        self.end_if_done();
    }

    /// Applies the members' time limits. `is_held_up`: no further block can be sent until a member
    /// advances.
    fn judge(&mut self, now: Instant, is_held_up: bool) {
        let layout = self.config.layout;
        let asked_for = self.config.rate.unwrap_or(u64::MAX);
        let gain = self.config.least_gain.min(asked_for / LEAST_GAIN_PART).max(1);
        let per_symbol =
            |rate: u64| Duration::from_secs_f64(layout.symbol_size() as f64 / rate.max(1) as f64);
        let idle = IDLE.max(per_symbol(asked_for).saturating_mul(IDLE_SYMBOLS));
        let patience = Patience {
            stall: STALL,
            silence: SILENCE,
            idle,
            verifying: VERIFYING + Duration::from_secs(layout.size() / MIN_VERIFICATION_RATE),
            waited: idle,
            waited_per_symbol: per_symbol(gain),
            held_up: HELD_UP + now.saturating_duration_since(self.started) / HELD_UP_PART,
        };
        let (horizon, file) = (self.schedule.horizon(), self.file_symbols());
        let is_congested = self.congestion.room(self.in_flight()) == Symbols::ZERO;
        let situation = Situation { horizon, is_held_up, is_congested, file };
        for receiver in self.members.judge(now, patience, situation) {
            self.finish_later(now, receiver);
        }
        self.admit_late(now);
        self.advance(now);
    }

    /// Starts sending if enough receivers have joined, or ends the transfer if none has in time.
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

    /// Ends the transfer if no receiver is left, or starts a pass for late receivers.
    fn end_if_done(&mut self) {
        if !matches!(self.phase, Phase::Transferring) {
            return;
        }
        if self.members.receiving_count() == 0 {
            let is_lossy = self.schedule.sent() > self.file_symbols();
            let copies_left = if is_lossy { END_COPIES } else { 1 };
            self.phase = Phase::Ended { copies_left, reason: EndReason::Finished };
        } else if self.schedule.is_pass_over() {
            self.start_pass_for_the_rest();
        }
    }

    /// Starts another pass, for the receivers that joined late or fell behind.
    fn start_pass_for_the_rest(&mut self) {
        let deficits = self.members.all_deficits();
        if !deficits.is_empty() {
            self.schedule.start_pass(&deficits);
            self.members.start_pass();
            self.polls.acknowledge_all(self.schedule.sent());
        }
    }

    /// The time when [`Sender::handle_timeout`] or [`Sender::poll_transmit`] has to be called;
    /// `None` if the transfer has ended.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let (receive_window, poll_due_at) = (self.members.receive_window(), self.poll_due_at());
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
                    self.congestion
                        .paced_until(now)
                        .filter(|_| self.schedule.has_symbols_to_send(receive_window)),
                ];
                times.into_iter().flatten().min()
            }
            Phase::Ended { copies_left: 0, .. } => None,
            Phase::Ended { .. } => Some(now),
        }
    }

    /// The next event, if any.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }
}

/// The receiver that seems to hold up the others, and the time since which it does so without a
/// break.
type Suspicion = Option<(ReceiverId, Instant)>;

/// The suspicion after another check, which found `receiver` to hold up the others.
fn still_suspected(now: Instant, before: Suspicion, receiver: Option<ReceiverId>) -> Suspicion {
    let receiver = receiver?;
    let since = before.filter(|(before, _)| *before == receiver).map_or(now, |(_, since)| since);
    Some((receiver, since))
}
