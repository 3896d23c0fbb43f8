//! The limit of a task's time (`--max-time`).

use std::time::{Duration, Instant};

/// The limit of a task's time, from the beginning of its download on.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimit {
    /// The time at which the task began.
    pub began: Instant,
    /// The time that it may take.
    pub allowed: Duration,
}

impl TimeLimit {
    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Returns the time that is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.began.elapsed())
    }
}
