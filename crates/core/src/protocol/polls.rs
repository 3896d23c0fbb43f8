//! The polls of one transfer: when the next one is due, and what its answers acknowledge.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A poll goes out when this part of the window has been sent since the last one.
const POLLS_PER_WINDOW: u64 = 8;
/// But for fewer symbols than these, when a larger part has been sent.
const SMALL: u64 = 64;
const POLLS_PER_SMALL_WINDOW: u64 = 4;
const POLLS_PER_WINDOW_OF_MANY: u64 = 2;
/// Receivers that are more than these are many.
const FEW_RECEIVERS: usize = 8;
/// From this smoothed loss on, polls are what repair waits for.
const LOSSY: f64 = 0.01;
const LEAST_FIRST_DELAY: Duration = Duration::from_millis(1);
const MOST_FIRST_DELAY: Duration = Duration::from_millis(10);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// So often it is repeated at one interval before that doubles: it may just have been lost.
const EVEN_RETRIES: u32 = 4;
const FIRST_RETRY: Duration = Duration::from_millis(20);
const MAX_RETRY: Duration = Duration::from_millis(250);
const MAX_REMEMBERED: usize = 1024;

#[derive(Debug, Clone, Copy)]
pub(super) struct SentPoll {
    round: u32,
    pub(super) at: Instant,
    /// Symbols sent before it.
    pub(super) sent: u64,
    /// An earlier one with nothing sent since got no answer in time: it may have met a full
    /// queue, and this one not.
    pub(super) is_repeat: bool,
}

/// What the slowest receiver's latest answer acknowledges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledgement {
    /// From the poll to the last answer.
    pub(super) took: Duration,
    /// Symbols acknowledged for the first time.
    pub(super) symbols: u64,
}

/// How often polls are wanted: each is answered by every receiver.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Usual,
    Seldom,
}

#[derive(Debug)]
pub(super) struct Polls {
    pace: Pace,
    remembered: VecDeque<SentPoll>,
    round: u32,
    first_delay: Duration,
    last: Instant,
    not_before: Instant,
    retry: Duration,
    retries: u32,
    sent_at_last: u64,
    acknowledged: u64,
    acknowledged_round: u32,
}

impl Polls {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pace: Pace::Usual,
            remembered: VecDeque::new(),
            round: 0,
            first_delay: LEAST_FIRST_DELAY,
            last: now,
            not_before: now,
            retry: FIRST_RETRY,
            retries: 0,
            sent_at_last: 0,
            acknowledged: 0,
            acknowledged_round: 0,
        }
    }

    /// Waits from `now` on. Receivers took `answer_time` to join, and need as long again
    /// to confirm a small file.
    pub(super) fn restart(&mut self, now: Instant, answer_time: Duration) {
        self.last = now;
        self.first_delay = (answer_time * 2).clamp(LEAST_FIRST_DELAY, MOST_FIRST_DELAY);
    }

    /// The latest one's number; zero before the first.
    pub(super) fn round(&self) -> u32 {
        self.round
    }

    /// Symbols that every receiver that counts is known to have had its chance at.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Those who are waited for have changed: what was sent before does not count any more.
    pub(super) fn acknowledge_all(&mut self, sent: u64) {
        self.acknowledged = sent;
    }

    /// Whether something was sent that no poll has asked about.
    pub(super) fn is_behind(&self, sent: u64) -> bool {
        sent > self.sent_at_last
    }

    /// When the next one is due, if `sent` symbols have been sent and `window` more may be on
    /// the way. `all_sent`: nothing is left to send before it is answered.
    pub(super) fn due_at(&self, sent: u64, window: u64, all_sent: bool) -> Instant {
        self.wanted_at(sent, window, all_sent).max(self.not_before)
    }

    fn wanted_at(&self, sent: u64, window: u64, all_sent: bool) -> Instant {
        if !self.is_behind(sent) {
            return self.last + self.retry;
        }
        if all_sent && self.round == 0 {
            // A small file may be confirmed before anybody is asked.
            return self.last + self.first_delay;
        }
        let enough = match self.pace {
            Pace::Seldom => (window / POLLS_PER_WINDOW_OF_MANY).max(1),
            Pace::Usual => {
                let few = (window / POLLS_PER_SMALL_WINDOW).clamp(1, SMALL);
                (window / POLLS_PER_WINDOW).max(few)
            }
        };
        if all_sent || sent - self.sent_at_last >= enough {
            return self.last;
        }
        self.last + POLL_INTERVAL
    }

    /// So many receivers answer, of which the worst loses such a share of the symbols.
    pub(super) fn set_pace(&mut self, receivers: usize, worst_loss: f64) {
        let is_seldom = receivers > FEW_RECEIVERS && worst_loss < LOSSY;
        self.pace = if is_seldom { Pace::Seldom } else { Pace::Usual };
    }

    /// Counts a poll that goes out now and gives its number. Its answers are spread over
    /// `slot`; they all come before the next one.
    pub(super) fn send(
        &mut self,
        now: Instant,
        sent: u64,
        retry_after: Duration,
        slot: Duration,
    ) -> u32 {
        self.not_before = now + slot;
        let is_repeat = !self.is_behind(sent);
        if is_repeat {
            self.retries += 1;
            if self.retries > EVEN_RETRIES {
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

    /// The poll `round`, if it is remembered.
    pub(super) fn find(&self, round: u32) -> Option<SentPoll> {
        let index = self.remembered.binary_search_by_key(&round, |poll| poll.round).ok()?;
        Some(self.remembered[index])
    }

    /// The slowest receiver has answered the poll `round`.
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
