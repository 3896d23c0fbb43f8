//! A token bucket that limits how many lines are logged.

use std::time::Instant;

/// The number of lines that may be logged at once.
const BURST: f64 = 2000.0;
const LINES_PER_SECOND: f64 = 100.0;

/// A token bucket of log lines: without it, a flood of announcements would fill the disk with
/// messages.
pub(super) struct TokenBucket {
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// Makes a full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled_at: now }
    }

    /// Takes a token for one line; returns `false` if no token is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.tokens = (self.tokens + elapsed * LINES_PER_SECOND).min(BURST);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_limited_to_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start);
        let take_all =
            |bucket: &mut TokenBucket, now| (0..5000).filter(|_| bucket.take(now)).count();
        assert_eq!(take_all(&mut bucket, start), 2000);
        assert_eq!(take_all(&mut bucket, start + Duration::from_secs(3)), 300);
    }
}
