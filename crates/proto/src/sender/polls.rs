//! The polls of one transfer: the time of the next poll, and the symbols that answers acknowledge.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::Symbols;

/// A poll is due when one part of the congestion window has been sent since the last poll. This is
/// the number of parts.
const POLLS_PER_WINDOW: u64 = 8;
/// A small window has fewer, larger parts: the largest number of symbols of such a part, and the
/// number of parts.
const MAX_SMALL_WINDOW_PART: u64 = 64;
const POLLS_PER_SMALL_WINDOW: u64 = 4;
/// The number of parts for more receivers than [`FEW_RECEIVERS`], since each receiver answers each
/// poll.
const POLLS_PER_WINDOW_OF_MANY: u64 = 2;
const FEW_RECEIVERS: usize = 8;
/// From this smoothed loss on, polls are frequent however many receivers answer: repair waits for
/// them.
const FREQUENT_POLLS_LOSS: f64 = 0.01;
/// The bounds of the time before the first poll of a small file.
const MIN_FIRST_DELAY: Duration = Duration::from_millis(1);
const MAX_FIRST_DELAY: Duration = Duration::from_millis(10);
/// The longest time from one poll to the next if symbols have been sent.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// The number of repetitions of a poll before their interval doubles: the poll may just be lost.
const RETRIES_BEFORE_BACKOFF: u32 = 4;
/// The time after which a poll is repeated while no round trip has been measured.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const MAX_RETRY: Duration = Duration::from_millis(250);
/// The largest number of polls that are remembered.
const MAX_REMEMBERED: usize = 1024;

/// A poll that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentPoll {
    round: u32,
    pub(super) at: Instant,
    /// The number of symbols sent before the poll.
    pub(super) sent: Symbols,
    /// Whether the poll repeats an earlier one, with no symbol in between, that was not answered in
    /// time. The earlier one may have been lost at a full queue that this one did not meet.
    pub(super) is_repeat: bool,
}

/// The acknowledgement by the slowest receiver's latest answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledgement {
    /// The time from the poll to the last answer.
    pub(super) took: Duration,
    /// The number of symbols acknowledged for the first time.
    pub(super) symbols: Symbols,
}

/// The frequency of polls. Every receiver answers every poll, so that many receivers get few polls.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Usual,
    Seldom,
}

/// The polls of one transfer.
#[derive(Debug)]
pub(super) struct Polls {
    pace: Pace,
    remembered: VecDeque<SentPoll>,
    /// The number of the latest poll.
    round: u32,
    first_delay: Duration,
    /// The time of the latest poll.
    last: Instant,
    /// The end of the latest poll's slot.
    not_before: Instant,
    /// The time after which the latest poll is repeated, and the number of repetitions so far.
    retry: Duration,
    retries: u32,
    /// The number of symbols sent before the latest poll.
    sent_at_last: Symbols,
    acknowledged: Symbols,
    acknowledged_round: u32,
}

impl Polls {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pace: Pace::Usual,
            remembered: VecDeque::new(),
            round: 0,
            first_delay: MIN_FIRST_DELAY,
            last: now,
            not_before: now,
            retry: FIRST_RETRY,
            retries: 0,
            sent_at_last: Symbols::ZERO,
            acknowledged: Symbols::ZERO,
            acknowledged_round: 0,
        }
    }

    /// Starts the wait for the first poll at `now`. Receivers took `answer_time` to join; they need
    /// about as long to confirm a small file.
    pub(super) fn restart(&mut self, now: Instant, answer_time: Duration) {
        self.last = now;
        self.first_delay = (answer_time * 2).clamp(MIN_FIRST_DELAY, MAX_FIRST_DELAY);
    }

    /// The number of the latest poll; 0 before the first.
    pub(super) fn round(&self) -> u32 {
        self.round
    }

    /// The number of acknowledged symbols: those sent before a poll that all receivers in the pass
    /// have answered. An acknowledged symbol may still be lost.
    pub(super) fn acknowledged(&self) -> Symbols {
        self.acknowledged
    }

    /// Acknowledges all `sent` symbols, since other receivers are in the pass now.
    pub(super) fn acknowledge_all(&mut self, sent: Symbols) {
        self.acknowledged = sent;
    }

    /// Whether symbols were sent after the latest poll.
    pub(super) fn is_behind(&self, sent: Symbols) -> bool {
        sent > self.sent_at_last
    }

    /// The time when the next poll is due. `sent` symbols have been sent so far, and the congestion
    /// window is `congestion_window`. `all_sent`: nothing is left to send before the next answer.
    pub(super) fn due_at(
        &self,
        sent: Symbols,
        congestion_window: Symbols,
        all_sent: bool,
    ) -> Instant {
        self.wanted_at(sent, congestion_window, all_sent).max(self.not_before)
    }

    /// The time when the next poll is due if the answers to the latest one need no slot.
    fn wanted_at(&self, sent: Symbols, congestion_window: Symbols, all_sent: bool) -> Instant {
        if !self.is_behind(sent) {
            return self.last + self.retry;
        }
        if all_sent && self.round == 0 {
            // Receivers may confirm a small file without a poll.
            return self.last + self.first_delay;
        }
        let enough = match self.pace {
            Pace::Seldom => (congestion_window.0 / POLLS_PER_WINDOW_OF_MANY).max(1),
            Pace::Usual => {
                let few =
                    (congestion_window.0 / POLLS_PER_SMALL_WINDOW).clamp(1, MAX_SMALL_WINDOW_PART);
                (congestion_window.0 / POLLS_PER_WINDOW).max(few)
            }
        };
        if all_sent || sent - self.sent_at_last >= Symbols(enough) {
            return self.last;
        }
        self.last + POLL_INTERVAL
    }

    /// Sets the frequency of polls for a number of receivers and the loss of the worst of them.
    pub(super) fn set_pace(&mut self, receivers: usize, worst_loss: f64) {
        let is_seldom = receivers > FEW_RECEIVERS && worst_loss < FREQUENT_POLLS_LOSS;
        self.pace = if is_seldom { Pace::Seldom } else { Pace::Usual };
    }

    /// Takes note of a poll that is sent at `now` and returns its number. Its answers are spread
    /// over `slot`; the next poll waits until the slot is over.
    pub(super) fn send(
        &mut self,
        now: Instant,
        sent: Symbols,
        retry_after: Duration,
        slot: Duration,
    ) -> u32 {
        self.not_before = now + slot;
        let is_repeat = !self.is_behind(sent);
        if is_repeat {
            self.retries += 1;
            if self.retries > RETRIES_BEFORE_BACKOFF {
                self.retry = (self.retry * 2).min(MAX_RETRY);
            }
        } else {
            (self.retry, self.retries) = (retry_after, 0);
        }
        self.round += 1;
        self.last = now;
        self.sent_at_last = sent;
        self.remembered.push_back(SentPoll { round: self.round, at: now, sent, is_repeat });
        if self.remembered.len() > MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.round
    }

    /// The poll with the number `round`, if it is remembered.
    pub(super) fn find(&self, round: u32) -> Option<SentPoll> {
        let index = self.remembered.binary_search_by_key(&round, |poll| poll.round).ok()?;
        Some(self.remembered[index])
    }

    /// Takes note that the slowest receiver in the pass has answered the poll `round`. `None` if
    /// this acknowledges nothing new, or if the poll is not remembered.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        round: u32,
        retry_after: Duration,
    ) -> Option<Acknowledgement> {
        if round <= self.acknowledged_round {
            return None;
        }
        self.acknowledged_round = round;
        while self.remembered.front().is_some_and(|poll| poll.round < round) {
            self.remembered.pop_front();
        }
        let poll = self.remembered.front().filter(|poll| poll.round == round)?;
        let symbols = poll.sent.saturating_sub(self.acknowledged);
        self.acknowledged = self.acknowledged.max(poll.sent);
        (self.retry, self.retries) = (retry_after, 0);
        Some(Acknowledgement { took: now.saturating_duration_since(poll.at), symbols })
    }
}
