//! How many symbols may be on the way: a window that follows the slowest receiver.
//!
//! Growth is TCP's (slow start, then nearly linear per round trip). It shrinks on signs of
//! overflow: datagrams that a receiver's kernel dropped at a full socket buffer, a long queue,
//! or a path that [overflows](super::path). Other loss is damage on the way, which repair
//! mends.

use std::time::{Duration, Instant};

const INITIAL_WINDOW: f64 = 32.0;
const MIN_WINDOW: f64 = 8.0;
const BATCHES_PER_WINDOW: usize = 8;
const MIN_BATCH: usize = 16;
/// What one queued datagram costs a socket buffer, in the kernel's count (`truesize`).
const QUEUED_DATAGRAM_COST: u32 = 2560;
/// Longest queue on the way that a window of more than `BUSY_WINDOW` builds up by itself.
/// Answers may also be late because receivers are busy, which a smaller window makes worse.
const QUEUE_DELAY: Duration = Duration::from_millis(25);
const BUSY_WINDOW: f64 = 256.0;

/// Symbols by which the window grows in a round trip after its first cut; the part that is
/// proportional to it is small enough for transfers to find a fair share.
const GROWTH: f64 = 2.0;
const PROPORTIONAL_GROWTH: f64 = 1.0 / 64.0;
const MIN_RETRY: Duration = Duration::from_millis(1);
const MAX_RETRY: Duration = Duration::from_millis(250);
#[derive(Debug)]
pub(super) struct Flow {
    window: f64,
    cap: f64,
    slow_start: bool,
    min_round_trip: Option<Duration>,
    smoothed_round_trip: Option<Duration>,
    /// No second cut for what was on the way at the first.
    cut_at: u64,
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
    /// Whether answers are spread over a slot, so that they say nothing about queues.
    pub(super) is_spread: bool,
    /// Whether a socket buffer or a path has overflowed.
    pub(super) overflowed: bool,
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

    /// How long to wait for an answer before asking again.
    pub(super) fn retry_after(&self) -> Duration {
        let smoothed = self.smoothed_round_trip.unwrap_or(Duration::from_millis(10));
        (smoothed * 2).clamp(MIN_RETRY, MAX_RETRY)
    }

    /// Moves the window; says whether it was cut.
    pub(super) fn on_round_trip(&mut self, trip: RoundTrip) -> bool {
        let min = self.min_round_trip.map_or(trip.took, |min| min.min(trip.took));
        self.min_round_trip = Some(min);
        let smoothed = self.smoothed_round_trip.map_or(trip.took, |old| (old * 7 + trip.took) / 8);
        self.smoothed_round_trip = Some(smoothed);

        let acknowledged = trip.acknowledged as f64;
        let is_queue_long = !trip.is_spread && trip.took.saturating_sub(min) > QUEUE_DELAY;
        if trip.overflowed || (is_queue_long && self.window > BUSY_WINDOW) {
            if trip.acknowledged_total < self.cut_at {
                return false;
            }
            self.cut_at = trip.sent_total;
            self.slow_start = false;
            self.window = if trip.overflowed {
                (self.window * 0.7).max(MIN_WINDOW)
            } else {
                (self.window * 0.85).max(BUSY_WINDOW)
            };
            return true;
        }
        if is_queue_long {
            return false;
        }
        let growth = if self.slow_start {
            acknowledged
        } else {
            (GROWTH + self.window * PROPORTIONAL_GROWTH) * acknowledged / self.window
        };
        self.window = (self.window + growth).min(self.cap);
        false
    }

    /// A batch is a small part of the window, so that it is no burst to a short queue.
    pub(super) fn batch_segments(&self) -> usize {
        (self.window as usize / BATCHES_PER_WINDOW).max(MIN_BATCH)
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
