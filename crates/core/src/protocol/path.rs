//! The way to one receiver: how much is lost on it, and whether that is overflow.
//!
//! A queue that overflows loses while it is full and not while it is short; damage on the way
//! does not care. So loss is kept apart for answers that met a long queue and a short one.

use std::time::Duration;

/// More loss than this with a long queue than with a short one means overflow.
const OVERFLOW_LOSS: f64 = 0.08;
/// So much loss is overflow, whenever it comes.
const HEAVY_LOSS: f64 = 0.5;
/// A queue this short is no sign of anything.
const NO_QUEUE: Duration = Duration::from_micros(500);
/// Loss is smoothed over so many windows, within limits: many trains of symbols, each of
/// which may be lost whole, and yet few enough to tell an overflow soon.
const MEMORY_WINDOWS: f64 = 4.0;
const MEMORY_SYMBOLS: std::ops::RangeInclusive<f64> = 256.0..=4096.0;

/// What symbols have met on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Nearly as long as the longest of late.
    Long,
    Middling,
    /// A small part of that.
    Short,
}

/// What the answers of one receiver say of its path.
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
    /// What an answer that came `took` after its poll says of the queue that the symbols
    /// before it met. A poll that had to be repeated was lost there itself, perhaps, and by
    /// then the queue may be gone.
    pub(super) fn queue(&mut self, took: Duration, is_repeat: bool) -> Queue {
        let min = self.min_round_trip.map_or(took, |min| min.min(took));
        self.min_round_trip = Some(min);
        self.smoothed_round_trip = (self.smoothed_round_trip * 7 + took) / 8;
        let queue = took.saturating_sub(min);
        self.longest_queue = (self.longest_queue * 63 / 64).max(queue);
        if is_repeat || queue > NO_QUEUE.max(min).max(self.longest_queue * 3 / 4) {
            Queue::Long
        } else if queue < NO_QUEUE.max(self.longest_queue / 4) {
            Queue::Short
        } else {
            Queue::Middling
        }
    }

    /// Takes into account that `lost` (a share) of `symbols` did not arrive; `window` symbols
    /// may be on the way.
    pub(super) fn on_answer(&mut self, queue: Queue, lost: f64, symbols: f64, window: f64) {
        let memory =
            (window * MEMORY_WINDOWS).clamp(*MEMORY_SYMBOLS.start(), *MEMORY_SYMBOLS.end());
        let smoothed = |old: f64| old + (lost - old) * symbols / (symbols + memory);
        self.loss = smoothed(self.loss);
        match queue {
            Queue::Long => self.loss_with_queue = smoothed(self.loss_with_queue),
            Queue::Short => self.loss_without_queue = smoothed(self.loss_without_queue),
            // It may have been full a moment before.
            Queue::Middling => {}
        }
    }

    /// How long answers take of late.
    pub(super) fn round_trip(&self) -> Duration {
        self.smoothed_round_trip
    }

    /// Share of symbols lost of late, below 1.
    pub(super) fn loss(&self) -> f64 {
        self.loss.clamp(0.0, 0.9)
    }

    pub(super) fn is_overflowing(&self) -> bool {
        self.loss_with_queue > self.loss_without_queue + OVERFLOW_LOSS || self.loss > HEAVY_LOSS
    }

    /// The window was cut: to cut it again needs further evidence.
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
    fn loss_whatever_the_queue_is_not() {
        let mut path = Path::default();
        for _ in 0..100 {
            path.on_answer(Queue::Short, 0.2, 100.0, 100.0);
            path.on_answer(Queue::Long, 0.2, 100.0, 100.0);
        }
        assert!(!path.is_overflowing());
        assert!((path.loss() - 0.2).abs() < 0.01);
    }

    #[test]
    fn a_queue_is_long_beside_others() {
        let mut path = Path::default();
        assert_eq!(path.queue(MS, false), Queue::Short);
        assert_eq!(path.queue(9 * MS, false), Queue::Long);
        assert_eq!(path.queue(5 * MS, false), Queue::Middling);
        assert_eq!(path.queue(2 * MS, false), Queue::Short);
        assert_eq!(path.queue(MS, true), Queue::Long);
    }
}
