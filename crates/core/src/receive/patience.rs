//! How much is told of what brings nothing.

use std::time::Instant;

/// How much is told of announcements that bring nothing: else a flood of them would fill the
/// disk with messages.
pub(super) struct Patience {
    left: f64,
    since: Instant,
}

impl Patience {
    const MOST: f64 = 2000.0;
    const PER_SECOND: f64 = 100.0;

    pub(super) fn new() -> Self {
        Self { left: Self::MOST, since: Instant::now() }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.since).as_secs_f64() * Self::PER_SECOND;
        (self.left, self.since) = ((self.left + gained).min(Self::MOST), now);
        let is_enough = self.left >= 1.0;
        self.left -= f64::from(u8::from(is_enough));
        is_enough
    }
}
