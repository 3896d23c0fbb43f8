//! The admission of announced transfers when there is no room for all.

use std::time::Instant;

use super::config::{Abandonment, Source};
use super::transfers::{State, Transfer};
use super::{MAX_BLOCKS, Receiver, TransferKey};

/// The largest number of transfers under way that are forgotten at once. One search for them then
/// serves many announcements of a flood.
const FORGOTTEN_AT_ONCE: usize = 64;

impl Receiver {
    /// Makes room for a transfer of `blocks` blocks from `source`. First go transfers that are over,
    /// then transfers of the sources that would still hold at least as much as this one: of these,
    /// those of the largest source first, and of one source those that have brought least. Returns
    /// `false` if that is not enough; then no transfer under way is forgotten for blocks.
    pub(super) fn make_room(&mut self, source: Source, blocks: u64) -> bool {
        if self.transfers.len() >= self.config.max_transfers {
            self.forget_transfers_that_are_over();
        }
        if self.transfers.len() >= self.config.max_transfers {
            self.forget_transfers_of_the_largest(source);
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

    /// Forgets transfers of the sources that have more of them than `source` has with another one.
    fn forget_transfers_of_the_largest(&mut self, source: Source) {
        let wanted = self.transfers.shares().of(source).transfers + 1;
        let largest = self.transfers.shares().largest(|share| share.transfers as u64);
        if largest.is_none_or(|(_, most)| most < wanted as u64) {
            return;
        }
        let mut replaceable = self.replaceable(|receiver, source| {
            let held = receiver.transfers.shares().of(source).transfers as u64;
            (held >= wanted as u64).then_some(held)
        });
        replaceable.truncate(match replaceable.first() {
            // One source's flood is cut back at once, but not below the share that it may have.
            Some((_, held)) if *held > FORGOTTEN_AT_ONCE as u64 => FORGOTTEN_AT_ONCE,
            _ => 1,
        });
        self.forget(replaceable.into_iter().map(|(key, _)| key), Abandonment::Replaced);
    }

    /// Forgets transfers with `lacking` blocks in all, of the sources that have more blocks than
    /// `source` has with `blocks` more; none if these do not have so many.
    fn forget_blocks_of_larger(&mut self, source: Source, blocks: u64, lacking: u64) {
        let wanted = self.transfers.shares().of(source).blocks + blocks;
        let largest = self.transfers.shares().largest(|share| share.blocks);
        if largest.is_none_or(|(_, most)| most < wanted) {
            return;
        }
        let replaceable = self.replaceable(|receiver, source| {
            let held = receiver.transfers.shares().of(source).blocks;
            (held >= wanted).then_some(held)
        });
        let mut found = 0;
        let chosen: Vec<TransferKey> = replaceable
            .into_iter()
            .map(|(key, _)| key)
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

    /// The transfers under way of the sources for which `held` returns what they hold, with that,
    /// in the order in which they make room.
    fn replaceable(&self, held: impl Fn(&Self, Source) -> Option<u64>) -> Vec<(TransferKey, u64)> {
        let mut found: Vec<_> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| {
                matches!(transfer.state(), State::Offered(_) | State::Receiving(_))
            })
            .filter_map(|(key, transfer)| {
                let held = held(self, key.0.source())?;
                let rank = (std::cmp::Reverse(held), transfer.brought, transfer.last_useful);
                Some((rank, key, held))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, key, held)| (key, held)).collect()
    }
}
