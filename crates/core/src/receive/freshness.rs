//! With a key, what was recorded and is sent again is refused: it is old, or comes from
//! elsewhere, or is of a file that was received already.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::broadcast::unix_time_ms;
use crate::protocol::TransferKey;
use crate::wire::TransferId;

/// How far sender and receiver may differ in time. Less than a transfer is remembered for, so
/// that a replay meets either this or that.
const MAX_AGE: Duration = Duration::from_secs(20);
/// Longer than an announcement can be taken for fresh, by clocks that differ as far as they may.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_SEEN: usize = 4096;

struct Seen {
    from: SocketAddr,
    at: Instant,
    is_received: bool,
}

/// The sealed transfers of the last minute or so.
#[derive(Default)]
pub(super) struct Freshness {
    seen: HashMap<TransferId, Seen>,
}

impl Freshness {
    /// Says what is wrong with an announcement that is not fresh; remembers one that is.
    pub(super) fn check(
        &mut self,
        now: Instant,
        (from, transfer): TransferKey,
        announced_ms: u64,
        is_under_way: impl Fn(&TransferKey) -> bool,
    ) -> Result<(), String> {
        let difference = unix_time_ms().abs_diff(announced_ms);
        if u128::from(difference) > MAX_AGE.as_millis() {
            let seconds = difference / 1000;
            return Err(format!(
                "sent at a time {seconds} s from here: a replay, or a wrong clock"
            ));
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.retain(|id, seen| {
                now.saturating_duration_since(seen.at) < REMEMBERED
                    || is_under_way(&(seen.from, *id))
            });
        }
        match self.seen.get(&transfer) {
            Some(seen) if seen.from != from || seen.is_received => {
                Err(format!("transfer {transfer} was sent by {} before: a replay", seen.from))
            }
            _ => {
                self.seen.insert(transfer, Seen { from, at: now, is_received: false });
                Ok(())
            }
        }
    }

    /// Its announcement is a replay from now on.
    pub(super) fn note_received(&mut self, transfer: TransferId, now: Instant) {
        if let Some(seen) = self.seen.get_mut(&transfer) {
            (seen.is_received, seen.at) = (true, now);
        }
    }
}
