//! Congestion control: a window for the symbols on the way, which follows the slowest receiver.
//!
//! The congestion window grows as TCP's does: slow start, then nearly linear growth per round trip.
//! It shrinks on signs of overflow: datagrams that a receiver's kernel dropped at a full socket
//! buffer, a long queue, or a path that [overflows](super::path). Other loss is damage on the way,
//! for which repair symbols are enough.

use std::time::{Duration, Instant};

use crate::units::Symbols;

/// The congestion window at the beginning and the smallest one, in symbols.
const INITIAL_CONGESTION_WINDOW: f64 = 32.0;
const MIN_CONGESTION_WINDOW: f64 = 8.0;
/// The number of batches in a congestion window. A batch may always have [`MIN_BATCH`] symbols.
const BATCHES_PER_WINDOW: usize = 8;
const MIN_BATCH: usize = 16;
/// The bytes of a socket buffer that one queued datagram takes, as the kernel counts (`truesize`).
const QUEUED_DATAGRAM_COST: u32 = 2560;
/// The longest delay by a queue on the way that a congestion window above `BUSY_WINDOW` symbols may
/// cause. Busy receivers also answer late, and a smaller window would make that worse.
const QUEUE_DELAY: Duration = Duration::from_millis(25);
const BUSY_WINDOW: f64 = 256.0;

/// The growth of the congestion window per round trip after its first cut: a number of symbols, and
/// a share of the window. The share is small enough for transfers to find a fair division.
const GROWTH: f64 = 2.0;
const PROPORTIONAL_GROWTH: f64 = 1.0 / 64.0;
/// The bounds of the time after which an unanswered poll is repeated.
const MIN_RETRY: Duration = Duration::from_millis(1);
const MAX_RETRY: Duration = Duration::from_millis(250);

/// The congestion window and its rules.
#[derive(Debug)]
pub(super) struct CongestionControl {
    /// The congestion window, and the largest one that the receivers' socket buffers allow.
    window: f64,
    cap: f64,
    slow_start: bool,
    min_round_trip: Option<Duration>,
    smoothed_round_trip: Option<Duration>,
    /// The symbols sent before the latest cut. Signs of overflow among these cause no second cut.
    cut_at: Symbols,
    pacing: Option<Pacing>,
}

/// The limit of the sending rate: a token bucket that holds one batch.
#[derive(Debug)]
struct Pacing {
    seconds_per_byte: f64,
    /// The time at which the next batch may go.
    next: Option<Instant>,
}

/// A poll that every receiver in the pass has answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundTrip {
    /// The symbols that this poll acknowledges first, and those that all polls have acknowledged.
    pub(super) acknowledged: Symbols,
    pub(super) acknowledged_total: Symbols,
    pub(super) sent_total: Symbols,
    /// The time from the poll to the last answer.
    pub(super) took: Duration,
    /// Whether the answers were spread over a slot, so that their times do not show queues.
    pub(super) is_spread: bool,
    /// Whether a socket buffer or a path has overflowed.
    pub(super) overflowed: bool,
}

impl CongestionControl {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            window: INITIAL_CONGESTION_WINDOW,
            cap: f64::from(u16::MAX),
            slow_start: true,
            min_round_trip: None,
            smoothed_round_trip: None,
            cut_at: Symbols::ZERO,
            pacing: bytes_per_second
                .map(|rate| Pacing { seconds_per_byte: 1.0 / rate.max(1) as f64, next: None }),
        }
    }

    /// Limits the congestion window to three quarters of the smallest socket buffer of the
    /// receivers that count now, which has `recv_buffer` bytes.
    pub(super) fn limit_to_buffer(&mut self, recv_buffer: u32) {
        let room = f64::from(recv_buffer / QUEUED_DATAGRAM_COST) * 0.75;
        self.cap = room.clamp(MIN_CONGESTION_WINDOW, f64::from(u16::MAX));
        self.window = self.window.min(self.cap);
    }

    /// The number of symbols that may be sent while `in_flight` symbols are on the way.
    pub(super) fn room(&self, in_flight: Symbols) -> Symbols {
        self.window().saturating_sub(in_flight)
    }

    /// The congestion window: the number of symbols that may be on the way.
    pub(super) fn window(&self) -> Symbols {
        Symbols(self.window as u64)
    }

    /// The time after which an unanswered poll is repeated.
    pub(super) fn retry_after(&self) -> Duration {
        let smoothed = self.smoothed_round_trip.unwrap_or(Duration::from_millis(10));
        (smoothed * 2).clamp(MIN_RETRY, MAX_RETRY)
    }

    /// Adapts the congestion window to a round trip; returns whether the window was cut.
    pub(super) fn on_round_trip(&mut self, trip: RoundTrip) -> bool {
        let min = self.min_round_trip.map_or(trip.took, |min| min.min(trip.took));
        self.min_round_trip = Some(min);
        let smoothed = self.smoothed_round_trip.map_or(trip.took, |old| (old * 7 + trip.took) / 8);
        self.smoothed_round_trip = Some(smoothed);

        let acknowledged = trip.acknowledged.0 as f64;
        let is_queue_long = !trip.is_spread && trip.took.saturating_sub(min) > QUEUE_DELAY;
        if trip.overflowed || (is_queue_long && self.window > BUSY_WINDOW) {
            if trip.acknowledged_total < self.cut_at {
                return false;
            }
            self.cut_at = trip.sent_total;
            self.slow_start = false;
            self.window = if trip.overflowed {
                (self.window * 0.7).max(MIN_CONGESTION_WINDOW)
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

    /// The largest number of datagrams in a batch: a small part of the congestion window, so that a
    /// batch does not overflow a short queue.
    pub(super) fn batch_segments(&self) -> usize {
        (self.window as usize / BATCHES_PER_WINDOW).max(MIN_BATCH)
    }

    /// The largest number of datagrams in a batch that the rate limit allows: 10 ms of sending. A
    /// longer batch would be a burst, followed by a long silence.
    pub(super) fn paced_segments(&self, segment_len: usize) -> usize {
        self.pacing.as_ref().map_or(usize::MAX, |pacing| {
            let seconds = segment_len as f64 * pacing.seconds_per_byte;
            ((0.01 / seconds) as usize).max(1)
        })
    }

    /// The time at which the rate limit allows the next batch; `None` if it does so now.
    pub(super) fn paced_until(&self, now: Instant) -> Option<Instant> {
        self.pacing.as_ref()?.next.filter(|next| *next > now)
    }

    /// Counts `bytes` bytes sent towards the rate limit.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: usize) {
        if let Some(pacing) = &mut self.pacing {
            let from = pacing.next.map_or(now, |next| next.max(now));
            pacing.next =
                Some(from + Duration::from_secs_f64(bytes as f64 * pacing.seconds_per_byte));
        }
    }
}
