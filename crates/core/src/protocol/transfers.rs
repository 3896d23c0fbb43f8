//! What a receiver knows of each transfer, and counts over all of them that cost nothing to
//! ask for: under a flood of announcements there are thousands.

use std::cell::Cell;
use std::time::Instant;

use indexmap::IndexMap;

use super::block::BlockLayout;
use super::incoming::Incoming;
use super::receiver::TransferKey;
use crate::wire::{Poll, RefuseReason};

#[derive(Debug)]
pub(super) enum State {
    Offered(BlockLayout),
    Receiving(Incoming),
    Verifying,
    Confirmed([u8; 32]),
    Refused(RefuseReason, String),
    Ended,
}

impl State {
    pub(super) fn is_active(&self) -> bool {
        matches!(self, Self::Offered(_) | Self::Receiving(_) | Self::Verifying)
    }

    fn counts(&self) -> Counts {
        let blocks = match self {
            Self::Offered(layout) => u64::from(layout.block_count()),
            Self::Receiving(incoming) => u64::from(incoming.layout.block_count()),
            _ => 0,
        };
        Counts {
            active: usize::from(self.is_active()),
            receiving: usize::from(matches!(self, Self::Receiving(_))),
            verifying: usize::from(matches!(self, Self::Verifying)),
            settled: usize::from(matches!(self, Self::Confirmed(_) | Self::Refused(..))),
            blocks,
        }
    }
}

/// A poll, and the symbols received before it: an answer that waits for its slot must not
/// count what came since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) poll: Poll,
    pub(super) received: u64,
}

#[derive(Debug)]
pub(super) struct Transfer {
    state: State,
    pub(super) last_heard: Instant,
    pub(super) unwritten: usize,
    pub(super) received: u64,
    /// Symbols among them that were kept.
    pub(super) useful: u64,
    /// When the latest of these came; at first, when it was announced.
    pub(super) last_useful: Instant,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) status_due: Option<(Instant, Question)>,
    /// Whether a poll was answered since the last announcement: the sender knows of it then.
    pub(super) is_known: bool,
    pub(super) announces: u32,
    /// The last poll, if it was answered with a window that was nearly closed.
    pub(super) window_closed: Option<Poll>,
}

impl Transfer {
    pub(super) fn new(now: Instant, state: State) -> Self {
        Self {
            state,
            last_heard: now,
            unwritten: 0,
            received: 0,
            useful: 0,
            last_useful: now,
            bytes_in: 0,
            bytes_out: 0,
            status_due: None,
            is_known: false,
            announces: 0,
            window_closed: None,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// What has come of it, while it is being received.
    pub(super) fn incoming_mut(&mut self) -> Option<&mut Incoming> {
        match &mut self.state {
            State::Receiving(incoming) => Some(incoming),
            _ => None,
        }
    }
}

/// Over all transfers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Neither confirmed, refused nor ended.
    pub(super) active: usize,
    pub(super) receiving: usize,
    pub(super) verifying: usize,
    /// Confirmed or refused.
    pub(super) settled: usize,
    /// Blocks of those that are offered or being received.
    pub(super) blocks: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.active += other.active;
        self.receiving += other.receiving;
        self.verifying += other.verifying;
        self.settled += other.settled;
        self.blocks += other.blocks;
    }

    /// What was added before.
    fn remove(&mut self, other: Self) {
        self.active -= other.active;
        self.receiving -= other.receiving;
        self.verifying -= other.verifying;
        self.settled -= other.settled;
        self.blocks -= other.blocks;
    }
}

/// All transfers that a receiver knows of. States are changed here only, so that the counts
/// are true.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    known: IndexMap<TransferKey, Transfer>,
    /// Where the one was that was asked for last: most datagrams are of the same.
    latest: Cell<usize>,
    counts: Counts,
}

impl Transfers {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn find(&self, key: TransferKey) -> Option<usize> {
        let latest = self.latest.get();
        if self.known.get_index(latest).is_some_and(|(known, _)| *known == key) {
            return Some(latest);
        }
        let found = self.known.get_index_of(&key)?;
        self.latest.set(found);
        Some(found)
    }

    pub(super) fn get(&self, key: TransferKey) -> Option<&Transfer> {
        self.known.get_index(self.find(key)?).map(|(_, transfer)| transfer)
    }

    pub(super) fn get_mut(&mut self, key: TransferKey) -> Option<&mut Transfer> {
        self.known.get_index_mut(self.find(key)?).map(|(_, transfer)| transfer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TransferKey, &Transfer)> {
        self.known.iter().map(|(key, transfer)| (*key, transfer))
    }

    pub(super) fn insert(&mut self, key: TransferKey, transfer: Transfer) {
        self.remove(key);
        self.counts.add(transfer.state.counts());
        self.known.insert(key, transfer);
    }

    /// Leaves the present state, which is given back, for `next`.
    pub(super) fn set_state(&mut self, key: TransferKey, next: State) -> Option<State> {
        let (_, transfer) = self.known.get_index_mut(self.find(key)?)?;
        self.counts.remove(transfer.state.counts());
        self.counts.add(next.counts());
        Some(std::mem::replace(&mut transfer.state, next))
    }

    pub(super) fn remove(&mut self, key: TransferKey) -> Option<Transfer> {
        let transfer = self.known.swap_remove(&key)?;
        self.counts.remove(transfer.state.counts());
        Some(transfer)
    }
}
