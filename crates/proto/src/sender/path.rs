//! The path to one receiver: the share of symbols that it loses, and whether a queue overflows.
//!
//! A queue that overflows loses symbols while it is long and none while it is short. Damage on the
//! way does not depend on the queue. The loss is therefore measured for long and for short queues
//! separately.

use std::time::Duration;

/// The difference between the loss with a long queue and with a short one that means overflow.
const OVERFLOW_LOSS: f64 = 0.08;
/// The loss that means overflow, whatever the queue is.
const HEAVY_LOSS: f64 = 0.5;
/// The delay up to which a queue counts as short.
const NEGLIGIBLE_QUEUE: Duration = Duration::from_micros(500);
/// The number of congestion windows over which loss is smoothed, and its bounds in symbols. The
/// range covers many batches, each of which may be lost as a whole, but is short enough to detect
/// an overflow soon.
const SMOOTHING_WINDOWS: f64 = 4.0;
const SMOOTHING_SYMBOLS: std::ops::RangeInclusive<f64> = 256.0..=4096.0;

/// The length of the queue that symbols have met on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// The queue is nearly as long as the longest recent queue.
    Long,
    /// The queue is neither long nor short.
    Intermediate,
    /// The queue is a small part of the longest recent queue.
    Short,
}

/// The state of the path to one receiver, measured by its answers.
#[derive(Debug, Default)]
pub(super) struct Path {
    min_round_trip: Option<Duration>,
    smoothed_round_trip: Duration,
    longest_queue: Duration,
    loss: f64,
    loss_with_queue: f64,
    loss_without_queue: f64,
}

impl Path {
    /// The queue that the symbols before a poll have met, if the answer came `took` after the poll.
    /// `is_repeat`: the poll is a repeated one. The first one was perhaps lost at a full queue,
    /// which was gone before the repeated poll; such a queue counts as long.
    pub(super) fn queue(&mut self, took: Duration, is_repeat: bool) -> Queue {
        let min = self.min_round_trip.map_or(took, |min| min.min(took));
        self.min_round_trip = Some(min);
        self.smoothed_round_trip = (self.smoothed_round_trip * 7 + took) / 8;
        let queue = took.saturating_sub(min);
        self.longest_queue = (self.longest_queue * 63 / 64).max(queue);
        if is_repeat || queue > NEGLIGIBLE_QUEUE.max(min).max(self.longest_queue * 3 / 4) {
            Queue::Long
        } else if queue < NEGLIGIBLE_QUEUE.max(self.longest_queue / 4) {
            Queue::Short
        } else {
            Queue::Intermediate
        }
    }

    /// Takes into account that the share `lost` of `symbols` sent symbols did not arrive. `window`
    /// is the congestion window in symbols.
    pub(super) fn on_answer(&mut self, queue: Queue, lost: f64, symbols: f64, window: f64) {
        let memory = (window * SMOOTHING_WINDOWS)
            .clamp(*SMOOTHING_SYMBOLS.start(), *SMOOTHING_SYMBOLS.end());
        let smoothed = |old: f64| old + (lost - old) * symbols / (symbols + memory);
        self.loss = smoothed(self.loss);
        match queue {
            Queue::Long => self.loss_with_queue = smoothed(self.loss_with_queue),
            Queue::Short => self.loss_without_queue = smoothed(self.loss_without_queue),
            // The queue may have been full a moment before, so that the loss fits neither.
            Queue::Intermediate => {}
        }
    }

    /// The smoothed time from a poll to this receiver's answer.
    pub(super) fn round_trip(&self) -> Duration {
        self.smoothed_round_trip
    }

    /// The smoothed share of symbols lost, at most 0.9.
    pub(super) fn loss(&self) -> f64 {
        self.loss.clamp(0.0, 0.9)
    }

    /// Whether the loss shows that a queue on the path overflows.
    pub(super) fn is_overflowing(&self) -> bool {
        self.loss_with_queue > self.loss_without_queue + OVERFLOW_LOSS || self.loss > HEAVY_LOSS
    }

    /// Takes note that the congestion window was cut: another cut needs new evidence.
    pub(super) fn on_cut(&mut self) {
        self.loss_with_queue = self.loss_with_queue.min(self.loss_without_queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn loss_with_a_full_queue_only_is_overflow() {
        let mut path = Path::default();
        for _ in 0..4 {
            path.on_answer(Queue::Short, 0.0, 100.0, 100.0);
            path.on_answer(Queue::Long, 0.4, 100.0, 100.0);
        }
        assert!(path.is_overflowing());
        path.on_cut();
        assert!(!path.is_overflowing());
    }

    #[test]
    fn loss_with_any_queue_is_no_overflow() {
        let mut path = Path::default();
        for _ in 0..100 {
            path.on_answer(Queue::Short, 0.2, 100.0, 100.0);
            path.on_answer(Queue::Long, 0.2, 100.0, 100.0);
        }
        assert!(!path.is_overflowing());
        assert!((path.loss() - 0.2).abs() < 0.01);
    }

    #[test]
    fn a_queue_is_long_relative_to_earlier_ones() {
        let mut path = Path::default();
        assert_eq!(path.queue(MS, false), Queue::Short);
        assert_eq!(path.queue(9 * MS, false), Queue::Long);
        assert_eq!(path.queue(5 * MS, false), Queue::Intermediate);
        assert_eq!(path.queue(2 * MS, false), Queue::Short);
        assert_eq!(path.queue(MS, true), Queue::Long);
    }
}
