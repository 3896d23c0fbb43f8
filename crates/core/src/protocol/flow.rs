//! How many symbols may be on the way: a window that follows the slowest receiver.
//!
//! Growth is TCP's (slow start, then linear per round trip). It shrinks on signs of overflow:
//! datagrams that a receiver's kernel dropped at a full socket buffer, a long queue, or loss
//! that comes with a full queue and not without one. Loss that comes either way is taken for
//! damage on the way, which repair mends.

use std::time::{Duration, Instant};

const INITIAL_WINDOW: f64 = 32.0;
const MIN_WINDOW: f64 = 8.0;
/// What one queued datagram costs a socket buffer, in the kernel's count (`truesize`).
const QUEUED_DATAGRAM_COST: u32 = 2560;
/// Longest queue on the way that the window builds up by itself.
const QUEUE_DELAY: Duration = Duration::from_millis(15);

const MIN_RETRY: Duration = Duration::from_millis(1);
const MAX_RETRY: Duration = Duration::from_millis(250);
/// More loss than this with a full queue than without one means overflow.
const OVERFLOW_LOSS: f64 = 0.1;
/// Symbols over which loss is smoothed: many trains of them, which may be lost whole.
const LOSS_MEMORY: f64 = 2048.0;
/// A queue this short is no sign of anything.
const NO_QUEUE: Duration = Duration::from_micros(500);

#[derive(Debug)]
pub(super) struct Flow {
    window: f64,
    cap: f64,
    slow_start: bool,
    min_round_trip: Option<Duration>,
    smoothed_round_trip: Option<Duration>,
    /// No second cut for what was on the way at the first.
    cut_at: u64,
    loss: f64,
    /// The longest queue of late, and the loss smoothed over the round trips that met at
    /// least half of it, and over the others.
    longest_queue: Duration,
    loss_with_queue: f64,
    loss_without_queue: f64,
    pacing: Option<Pacing>,
}

/// A ceiling on the sending rate: a token bucket that holds one batch.
#[derive(Debug)]
struct Pacing {
    seconds_per_byte: f64,
    next: Option<Instant>,
}

/// One poll answered by every receiver that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundTrip {
    /// Symbols acknowledged by it, and by all polls so far.
    pub(super) acknowledged: u64,
    pub(super) acknowledged_total: u64,
    pub(super) sent_total: u64,
    pub(super) took: Duration,
    /// Worst share of symbols lost in it, between 0 and 1.
    pub(super) loss: f64,
    /// The same smoothed receiver by receiver.
    pub(super) smoothed_loss: f64,
    pub(super) overflowed: bool,
}

/// Takes the share `loss` of `symbols` into account.
pub(super) fn smooth_loss(old: f64, loss: f64, symbols: f64) -> f64 {
    old + (loss.clamp(0.0, 0.9) - old) * symbols / (symbols + LOSS_MEMORY)
}

impl Flow {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            window: INITIAL_WINDOW,
            cap: f64::from(u16::MAX),
            slow_start: true,
            min_round_trip: None,
            smoothed_round_trip: None,
            cut_at: 0,
            loss: 0.0,
            longest_queue: Duration::ZERO,
            loss_with_queue: 0.0,
            loss_without_queue: 0.0,
            pacing: bytes_per_second
                .map(|rate| Pacing { seconds_per_byte: 1.0 / rate.max(1) as f64, next: None }),
        }
    }

    /// Never fills more than three quarters of a receiver's socket buffer.
    pub(super) fn limit_to_buffer(&mut self, recv_buffer: u32) {
        let room = f64::from(recv_buffer / QUEUED_DATAGRAM_COST) * 0.75;
        self.cap = self.cap.min(room.max(MIN_WINDOW));
        self.window = self.window.min(self.cap);
    }

    pub(super) fn room(&self, in_flight: u64) -> usize {
        (self.window as u64).saturating_sub(in_flight) as usize
    }

    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    /// Recent share of symbols lost at the worst receiver.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }

    /// How long to wait for an answer before asking again.
    pub(super) fn retry_after(&self) -> Duration {
        let smoothed = self.smoothed_round_trip.unwrap_or(Duration::from_millis(10));
        (smoothed * 2).clamp(MIN_RETRY, MAX_RETRY)
    }

    pub(super) fn on_round_trip(&mut self, trip: RoundTrip) {
        let min = self.min_round_trip.map_or(trip.took, |min| min.min(trip.took));
        self.min_round_trip = Some(min);
        let smoothed = self.smoothed_round_trip.map_or(trip.took, |old| (old * 7 + trip.took) / 8);
        self.smoothed_round_trip = Some(smoothed);
        let acknowledged = trip.acknowledged as f64;
        let smoothed = |old: f64| smooth_loss(old, trip.loss, acknowledged);
        self.loss = trip.smoothed_loss;
        let queue = trip.took.saturating_sub(min);
        self.longest_queue = (self.longest_queue * 63 / 64).max(queue);
        if queue > NO_QUEUE.max(self.longest_queue / 2) {
            self.loss_with_queue = smoothed(self.loss_with_queue);
        } else {
            self.loss_without_queue = smoothed(self.loss_without_queue);
        }
        let overflow =
            trip.overflowed || self.loss_with_queue > self.loss_without_queue + OVERFLOW_LOSS;
        if overflow || queue > QUEUE_DELAY {
            if trip.acknowledged_total >= self.cut_at {
                self.cut_at = trip.sent_total;
                self.slow_start = false;
                // A second cut needs further evidence.
                self.loss_with_queue = self.loss_with_queue.min(self.loss_without_queue);
                let factor = if overflow { 0.7 } else { 0.85 };
                self.window = (self.window * factor).max(MIN_WINDOW);
            }
        } else {
            let growth = if self.slow_start {
                acknowledged
            } else {
                (8.0 + self.window / 64.0) * acknowledged / self.window
            };
            self.window = (self.window + growth).min(self.cap);
        }
    }

    /// Under a ceiling, a batch lasts 10 ms at most: a long one would come as a burst and be
    /// followed by a long silence.
    pub(super) fn paced_segments(&self, segment_len: usize) -> usize {
        self.pacing.as_ref().map_or(usize::MAX, |pacing| {
            let seconds = segment_len as f64 * pacing.seconds_per_byte;
            ((0.01 / seconds) as usize).max(1)
        })
    }

    /// When the next batch may go, if not now.
    pub(super) fn paced_until(&self, now: Instant) -> Option<Instant> {
        self.pacing.as_ref()?.next.filter(|next| *next > now)
    }

    pub(super) fn on_sent(&mut self, now: Instant, bytes: usize) {
        if let Some(pacing) = &mut self.pacing {
            let from = pacing.next.map_or(now, |next| next.max(now));
            pacing.next =
                Some(from + Duration::from_secs_f64(bytes as f64 * pacing.seconds_per_byte));
        }
    }
}
