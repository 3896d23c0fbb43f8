//! The protection against replays, with a key: the server remembers the sealed transfers of the
//! last minute, and refuses a transfer that was recorded and is sent again. A replay is too old,
//! belongs to another session, or is of a file that was received already.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use siar_proto::wire::TransferId;
use siar_proto::{Peer, TransferKey};

/// The largest difference between the clocks of sender and receiver. It is less than
/// [`REMEMBERED`], so that every replay is either too old or remembered.
const MAX_AGE: Duration = Duration::from_secs(20);
/// How long a transfer is remembered: longer than its announcement can pass as new, with the
/// largest clock difference.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 4096;
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Remembered {
    from: Peer,
    at: Instant,
    is_received: bool,
}

/// The sealed transfers of the last minute or so.
#[derive(Debug, Default)]
pub(super) struct ReplayMemory {
    remembered: HashMap<TransferId, Remembered>,
    /// The latest search for transfers to forget.
    searched_at: Option<Instant>,
}

impl ReplayMemory {
    /// Remembers a transfer, or returns the reason why its announcement, made at `announced_ms`
    /// (milliseconds since 1970), is taken for a replay. Transfers that are under way are not
    /// forgotten.
    pub(super) fn check(
        &mut self,
        now: Instant,
        unix_time_ms: u64,
        (from, transfer): TransferKey,
        announced_ms: u64,
        is_under_way: impl Fn(&TransferKey) -> bool,
    ) -> Result<(), String> {
        let difference = unix_time_ms.abs_diff(announced_ms);
        if u128::from(difference) > MAX_AGE.as_millis() {
            let seconds = difference / 1000;
            return Err(format!(
                "sent at a time {seconds} s from here: a replay, or a wrong clock"
            ));
        }
        let is_search_due =
            self.searched_at.is_none_or(|at| now.saturating_duration_since(at) >= SEARCH_INTERVAL);
        if self.remembered.len() >= MAX_REMEMBERED && is_search_due {
            self.searched_at = Some(now);
            self.remembered.retain(|id, remembered| {
                now.saturating_duration_since(remembered.at) < REMEMBERED
                    || is_under_way(&(remembered.from, *id))
            });
        }
        match self.remembered.get(&transfer) {
            Some(before) if before.from != from || before.is_received => {
                Err(format!("transfer {transfer} was sent before: a replay"))
            }
            _ => {
                let new = Remembered { from, at: now, is_received: false };
                self.remembered.insert(transfer, new);
                Ok(())
            }
        }
    }

    /// Notes that the transfer's file was received: a new announcement of it is a replay.
    pub(super) fn note_received(&mut self, transfer: TransferId, now: Instant) {
        if let Some(remembered) = self.remembered.get_mut(&transfer) {
            (remembered.is_received, remembered.at) = (true, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_from_elsewhere_or_received_is_a_replay() {
        let (here, elsewhere) = (Peer::Session([1; 12]), Peer::Session([2; 12]));
        let (now, transfer) = (Instant::now(), TransferId(1));
        let mut memory = ReplayMemory::default();
        let check = |memory: &mut ReplayMemory, from, announced_ms| {
            memory.check(now, 100_000, (from, transfer), announced_ms, |_| false)
        };
        assert!(check(&mut memory, here, 79_999).unwrap_err().contains("20 s from here"));
        check(&mut memory, here, 100_000).unwrap();
        check(&mut memory, here, 100_000).unwrap();
        assert!(check(&mut memory, elsewhere, 100_000).unwrap_err().contains("before"));
        memory.note_received(transfer, now);
        assert!(check(&mut memory, here, 100_000).is_err());
    }
}
