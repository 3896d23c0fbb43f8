//! The admission of announced transfers when there is no room for all.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::config::{Abandonment, Source};
use super::transfers::Transfer;
use super::{MAX_BLOCKS, Receiver, TransferKey};

/// The largest number of transfers under way that are forgotten at once. One search for them then
/// serves many announcements of a flood.
const FORGOTTEN_AT_ONCE: usize = 64;
/// The time after which a transfer that has brought nothing makes room for any other. Its sender
/// announces it again if it is still there.
const EMPTY_FOR: Duration = Duration::from_secs(1);
/// The shortest time between two searches on behalf of a source that holds most already.
const SEARCH_INTERVAL: Duration = Duration::from_millis(20);

impl Receiver {
    /// Makes room for a transfer of `blocks` blocks from `source`. First go transfers that are over,
    /// then transfers that have brought nothing for a while, then those of the sources that would
    /// still hold at least as much as this one: of the largest source first, and of one source
    /// those that have brought least. Returns `false` if that is not enough; then no transfer under way is forgotten for blocks.
    pub(super) fn make_room(&mut self, now: Instant, source: Source, blocks: u64) -> bool {
        if self.transfers.len() >= self.config.max_transfers {
            self.forget_transfers_that_are_over();
        }
        if self.transfers.len() >= self.config.max_transfers {
            self.forget_transfers_of_the_largest(now, source);
        }
        let free = MAX_BLOCKS - self.transfers.counts().blocks.min(MAX_BLOCKS);
        if let Some(lacking) = blocks.checked_sub(free).filter(|lacking| *lacking > 0) {
            self.forget_blocks_of_larger(source, blocks, lacking);
        }
        self.transfers.len() < self.config.max_transfers
            && self.transfers.counts().blocks + blocks <= MAX_BLOCKS
    }

    /// Forgets the half of the transfers that are over whose senders have been silent longest.
    fn forget_transfers_that_are_over(&mut self) {
        if self.transfers.counts().active == self.transfers.len() {
            return;
        }
        let is_over = |(_, transfer): &(TransferKey, &Transfer)| !transfer.state().is_active();
        let mut over: Vec<(Instant, TransferKey)> = self
            .transfers
            .iter()
            .filter(is_over)
            .map(|(key, transfer)| (transfer.last_heard, key))
            .collect();
        over.sort_unstable();
        over.truncate(over.len().div_ceil(2));
        self.forget(over.into_iter().map(|(_, key)| key), Abandonment::Replaced);
    }

    /// Forgets transfers that have brought nothing for a while, or those of the sources that have
    /// more of them than `source` has with another one, but leaves these as many.
    fn forget_transfers_of_the_largest(&mut self, now: Instant, source: Source) {
        let wanted = self.transfers.shares().of(source).transfers as u64 + 1;
        let largest = self.transfers.shares().largest(|share| share.transfers as u64);
        if largest.is_none_or(|(_, most)| most < wanted)
            && self.next_search.is_some_and(|next| now < next)
        {
            return;
        }
        let replaceable = self.replaceable(|transfer, source| {
            let held = self.transfers.shares().of(source).transfers as u64;
            let is_idle = now.saturating_duration_since(transfer.last_useful) >= EMPTY_FOR;
            (held >= wanted || transfer.brought == 0 && is_idle).then_some(held)
        });
        let mut left: HashMap<Source, u64> = HashMap::new();
        let chosen: Vec<TransferKey> = replaceable
            .into_iter()
            .filter(|(key, held, brought)| {
                let left = left.entry(key.0.source()).or_insert(*held);
                let may_go = *brought == 0 || *left >= wanted;
                *left -= u64::from(may_go);
                may_go
            })
            .map(|(key, ..)| key)
            .take(FORGOTTEN_AT_ONCE)
            .collect();
        if chosen.is_empty() {
            self.next_search = Some(now + SEARCH_INTERVAL);
        }
        self.forget(chosen, Abandonment::Replaced);
    }

    /// Forgets transfers with `lacking` blocks in all, of the sources that have more blocks than
    /// `source` has with `blocks` more; none if these do not have so many.
    fn forget_blocks_of_larger(&mut self, source: Source, blocks: u64, lacking: u64) {
        let wanted = self.transfers.shares().of(source).blocks + blocks;
        let largest = self.transfers.shares().largest(|share| share.blocks);
        if largest.is_none_or(|(_, most)| most < wanted) {
            return;
        }
        let replaceable = self.replaceable(|_, source| {
            let held = self.transfers.shares().of(source).blocks;
            (held >= wanted).then_some(held)
        });
        let mut found = 0;
        let chosen: Vec<TransferKey> = replaceable
            .into_iter()
            .map(|(key, ..)| key)
            .take_while(|key| {
                let goes_on = found < lacking;
                found += self.transfers.get(*key).map_or(0, |transfer| transfer.share().blocks);
                goes_on
            })
            .collect();
        if found >= lacking {
            self.forget(chosen, Abandonment::Replaced);
        }
    }

    /// The transfers under way for which `held` returns what their source holds, with that and with
    /// what they have brought, in the order in which they make room: first those that have brought
    /// nothing, then those of the largest source, then those that have brought least.
    fn replaceable(
        &self,
        held: impl Fn(&Transfer, Source) -> Option<u64>,
    ) -> Vec<(TransferKey, u64, u64)> {
        let mut found: Vec<_> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| transfer.state().needs_sender())
            .filter_map(|(key, transfer)| {
                let (held, brought) = (held(transfer, key.0.source())?, transfer.brought);
                let rank = (brought > 0, Reverse(held), brought, transfer.last_useful);
                Some((rank, key, held, brought))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, key, held, brought)| (key, held, brought)).collect()
    }
}
