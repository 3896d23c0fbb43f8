//! What a sender makes of the answers of its receivers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::config::{SenderEvent, SlowReceivers};
use super::congestion::RoundTrip;
use super::members::{Answer, MAX_MEMBERS, Member, Standing};
use super::path::Path;
use super::{Phase, SLOW_AFTER, STALL, Sender, Suspicion, UNSLOTTED_RECEIVERS, still_suspected};
use crate::units::Symbols;
use crate::wire::{Confirm, Join, ReceiverId, Refuse, Status};

impl Sender {
    /// Whether `receiver` is a member and `from` is the address from which it joined. An unknown
    /// receiver becomes a member by any frame, since its Join may have been lost.
    fn admit(
        &mut self,
        now: Instant,
        receiver: ReceiverId,
        from: SocketAddr,
        receive_window: u16,
    ) -> bool {
        if self.members.get(receiver).is_none() {
            if self.members.len() >= MAX_MEMBERS {
                return false;
            }
            let on_time = matches!(self.phase, Phase::Announcing { .. });
            if !on_time && !self.members.is_first_receiving(self.started) {
                // Without this rule a chain of late receivers could keep the transfer alive for
                // ever.
                return false;
            }
            let member = Member {
                address: from,
                receive_window,
                recv_buffer: None,
                standing: Standing::Receiving,
                in_pass: on_time,
                joined_at: now,
                last_heard: now,
                idle: Duration::ZERO,
                waited: Duration::ZERO,
                held_up: Duration::ZERO,
                judged_round: 0,
                status: None,
                joined_sent: self.schedule.sent(),
                least_lacking: self.file_symbols(),
                verifying_since: None,
                counted: (self.schedule.sent(), 0),
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

    pub(super) fn handle_join(&mut self, now: Instant, from: SocketAddr, join: Join) {
        if self.admit(now, join.receiver, from, join.window) {
            self.members.set_recv_buffer(join.receiver, join.recv_buffer);
            self.limit_to_buffers();
        }
    }

    /// Limits the congestion window to the socket buffers of the present members: one that has left
    /// does not count any more.
    pub(super) fn limit_to_buffers(&mut self) {
        if let Some(recv_buffer) = self.members.least_recv_buffer() {
            self.congestion.limit_to_buffer(recv_buffer);
        }
    }

    pub(super) fn handle_status(&mut self, now: Instant, from: SocketAddr, status: Status) {
        let receiver = status.receiver;
        if !self.is_plausible(&status) || !self.admit(now, receiver, from, status.window) {
            return;
        }
        // A receiver that was given up may go on answering.
        let member = self.members.get(receiver).filter(|member| member.is_receiving());
        let Some(member) = member else { return };
        let (receive_window, answered) = (status.window, member.answered_round());
        if status.round > self.polls.round() || status.round < answered {
            return;
        }
        if status.round == answered {
            // A second status for a poll only updates the receive window, if it is not out of
            // order.
            if member.status.as_ref().is_none_or(|old| old.received <= status.received) {
                self.members.set_receive_window(receiver, receive_window);
            }
            return;
        }
        let before = member.status.as_ref();
        let overflowed = before.is_some_and(|old| old.overflowed < status.overflowed);
        let (in_pass, loss) = (member.in_pass, member.path.loss());
        let poll = self.polls.find(status.round);
        self.members.set_receive_window(receiver, receive_window);
        if in_pass {
            self.schedule.grant(&status, loss);
        }
        let layout = self.config.layout;
        let in_runs =
            status.runs.iter().map(|run| Symbols(u64::from(run.count) * u64::from(run.deficit)));
        let file = self.file_symbols();
        let covered = Symbols(layout.first_symbol(status.covered));
        let lacking = in_runs.sum::<Symbols>() + (file - covered);
        let answer = Answer { status, poll, lacking, file };
        self.members.set_status(now, receiver, answer, self.congestion.window());
        if in_pass || self.admit_late(now) {
            let path = self.members.get(receiver).map(|member| &member.path);
            self.overflow_signal |= overflowed || path.is_some_and(Path::is_overflowing);
            self.advance(now);
        }
    }

    /// Whether a status is possible: it reports on sent blocks only, and no block lacks more
    /// symbols than it has.
    fn is_plausible(&self, status: &Status) -> bool {
        let layout = self.config.layout;
        status.covered <= self.schedule.horizon()
            && status.runs.iter().all(|run| run.deficit <= layout.symbols_in(run.first))
    }

    /// Lets late members into the pass if it has no members left; returns whether there were any.
    pub(super) fn admit_late(&mut self, now: Instant) -> bool {
        let admitted = self.members.admit_late(now, STALL);
        if admitted {
            self.polls.acknowledge_all(self.schedule.sent());
            // Their earlier statuses did not count for repair.
            for member in self.members.in_pass() {
                if let Some(status) = &member.status {
                    self.schedule.grant(status, member.path.loss());
                }
            }
        }
        admitted
    }

    /// Adapts the congestion window and forgets finished blocks, if the slowest receiver in the
    /// pass has answered another poll or has left the pass.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(answered) = self.members.newly_answered() else { return };
        self.limit_to_buffers();
        self.schedule.settle(answered.round, answered.covered);
        let was_full = self.congestion.room(self.in_flight()) == Symbols::ZERO;
        let acknowledgement =
            self.polls.acknowledge(now, answered.round, self.congestion.retry_after());
        if let Some(acknowledgement) = acknowledgement.filter(|known| known.symbols > Symbols::ZERO)
        {
            let is_cut = self.congestion.on_round_trip(RoundTrip {
                acknowledged: acknowledgement.symbols,
                acknowledged_total: self.polls.acknowledged(),
                sent_total: self.schedule.sent(),
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

    /// Removes a receiver from the pass that has held up the others for too long, if the
    /// configuration says so.
    pub(super) fn drop_if_slow(&mut self, now: Instant, suspicion: Suspicion) {
        let Some((receiver, since)) = suspicion else { return };
        if now.saturating_duration_since(since) >= SLOW_AFTER
            && self.config.slow == SlowReceivers::Drop
        {
            self.finish_later(now, receiver);
        }
    }

    /// Removes a receiver from the present pass, if another one still needs symbols.
    pub(super) fn finish_later(&mut self, now: Instant, receiver: ReceiverId) {
        if let Some(server) = self.members.get(receiver).map(|member| member.address)
            && self.members.is_another_waiting(receiver)
        {
            (self.late_suspect, self.narrow_suspect) = (None, None);
            self.members.leave_pass(receiver);
            self.events.push_back(SenderEvent::FinishesLater { receiver, server });
            self.advance(now);
        }
    }

    pub(super) fn handle_confirm(&mut self, now: Instant, from: SocketAddr, confirm: &Confirm) {
        let receiver = confirm.receiver;
        if !self.admit(now, receiver, from, u16::MAX) || !self.is_receiving(receiver) {
            return;
        }
        // Any host can send a confirmation; only one that has the file can make the proof.
        if confirm.proof == self.config.digest.proof(self.config.transfer, receiver) {
            self.members.set_standing(receiver, Standing::Confirmed);
            self.events.push_back(SenderEvent::Confirmed { receiver, server: from });
            self.advance(now);
        }
    }

    pub(super) fn handle_refuse(&mut self, now: Instant, from: SocketAddr, refuse: &Refuse<'_>) {
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
}

/// Text from the network without control characters, which a terminal might obey.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}
