//! The wall clock, as the protocol counts time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; zero before.
pub(crate) fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
