//! What each source holds of a receiver's resources.
//!
//! A source is charged for what its transfers take, and not for what it says of them. When something
//! is scarce, the source that holds most of it gives way, so that one host cannot keep the others
//! out, however many transfers it begins.

use std::collections::HashMap;

use super::config::Source;

/// A part of a receiver's resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Transfers under way.
    pub(super) transfers: usize,
    /// Blocks of these transfers, each of which takes a counter.
    pub(super) blocks: u64,
    /// Bytes of open blocks.
    pub(super) memory: usize,
}

/// The shares of all sources with transfers under way.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Source, Share>);

impl Shares {
    /// The share of `source`.
    pub(super) fn of(&self, source: Source) -> Share {
        self.0.get(&source).copied().unwrap_or_default()
    }

    /// Takes note that a part of the share of `source` has changed.
    pub(super) fn change(&mut self, source: Source, before: Share, after: Share) {
        if before == after {
            return;
        }
        let share = self.0.entry(source).or_default();
        share.transfers = share.transfers + after.transfers - before.transfers;
        share.blocks = share.blocks + after.blocks - before.blocks;
        share.memory = share.memory + after.memory - before.memory;
        if *share == Share::default() {
            self.0.remove(&source);
        }
    }

    /// The source whose share has the largest `measure`, with that measure.
    pub(super) fn largest(&self, measure: impl Fn(Share) -> u64) -> Option<(Source, u64)> {
        let measured = self.0.iter().map(|(source, share)| (*source, measure(*share)));
        measured.max_by_key(|(_, measure)| *measure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_sums_over_a_sources_transfers() {
        let [one, other] = [1, 2].map(|last| Source::Host([192, 0, 2, last].into()));
        let mut shares = Shares::default();
        let part = |blocks| Share { transfers: 1, blocks, memory: 0 };
        shares.change(one, Share::default(), part(5));
        shares.change(one, Share::default(), part(7));
        shares.change(other, Share::default(), part(20));
        assert_eq!(shares.largest(|share| share.blocks), Some((other, 20)));
        assert_eq!(shares.largest(|share| share.transfers as u64), Some((one, 2)));
        shares.change(other, part(20), Share::default());
        assert_eq!(shares.of(other), Share::default());
        assert_eq!(shares.largest(|share| share.blocks), Some((one, 12)));
    }
}
