//! Stale blocks: unfinished blocks that get no more symbols make room for others.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::transfers::State;
use super::{MIN_RECEIVE_WINDOW, Receiver, TransferKey};

/// The time without a useful symbol after which a block is stale and makes room for others. A
/// sender that does not wait for this receiver may send the rest of the block only in a later pass,
/// and until then the receiver needs the memory for other blocks.
const STALE: Duration = Duration::from_millis(500);
/// The shortest time between two searches for stale blocks, and what each block of a search adds
/// to it.
const DISCARD_INTERVAL: Duration = Duration::from_millis(1);
const DISCARD_COST: Duration = Duration::from_micros(1);

/// One part in this many of a source's open blocks is discarded at once.
const DISCARDED_PART: usize = 16;

/// The transfers whose stale blocks may be discarded.
#[derive(Debug, Clone, Copy)]
pub(super) enum DiscardFrom {
    /// All transfers.
    AllTransfers,
    /// All transfers but the one that needs room.
    OtherTransfers,
}

impl Receiver {
    /// Discards stale blocks, the oldest first, until an eighth of the memory that a block of the
    /// transfer `key` may use is free. Each other transfer keeps its latest few blocks, unless the
    /// room is for a promised block. Returns `false` if no block is stale.
    pub(super) fn discard_stale_blocks(
        &mut self,
        now: Instant,
        key: TransferKey,
        from: DiscardFrom,
    ) -> bool {
        if self.next_discard.is_some_and(|next| now < next) {
            return false;
        }
        let limit = match (from, self.transfers.get(key)) {
            (DiscardFrom::AllTransfers, Some(transfer)) => transfer.memory_limit(&self.memory),
            _ => self.memory.limit(),
        };
        let is_promised = limit > self.memory.limit();
        let mut waiting: Vec<(Instant, u32, TransferKey)> = Vec::new();
        let mut looked_at = 0;
        for (other, transfer) in self.transfers.iter() {
            let State::Receiving(reassembly) = transfer.state() else { continue };
            if other == key && matches!(from, DiscardFrom::OtherTransfers) {
                continue;
            }
            let begin = waiting.len();
            waiting.extend(reassembly.touched().map(|(touched, block)| (touched, block, other)));
            looked_at += waiting.len() - begin;
            if other != key && !is_promised {
                waiting[begin..].sort_unstable();
                let kept = MIN_RECEIVE_WINDOW.min(waiting.len() - begin);
                waiting.truncate(waiting.len() - kept);
            }
        }
        waiting.sort_unstable();
        let oldest = waiting.first().map_or(now, |(touched, ..)| *touched);
        let pause = DISCARD_INTERVAL + DISCARD_COST * u32::try_from(looked_at).unwrap_or(u32::MAX);
        self.next_discard = Some((oldest + STALE).max(now + pause));
        waiting.retain(|(touched, ..)| now.saturating_duration_since(*touched) >= STALE);
        for (_, block, key) in &waiting {
            if self.memory.used() <= limit - limit / 8 {
                break;
            }
            if let Some(mut entry) = self.transfers.entry(*key) {
                entry.discard_block(*block, &mut self.memory);
            }
        }
        !waiting.is_empty()
    }

    /// Discards open blocks of other sources, for a promised block of the transfer `key`: those of the
    /// largest source first, and of one source the oldest. Only sources count that hold at least as
    /// much as the source of `key` would with the block; but who holds nothing is always given
    /// something. Returns whether there is room now.
    pub(super) fn discard_blocks_of_the_largest(&mut self, now: Instant, key: TransferKey) -> bool {
        let Some(transfer) = self.transfers.get(key) else { return false };
        let State::Receiving(reassembly) = transfer.state() else { return false };
        let limit = transfer.memory_limit(&self.memory);
        if limit == self.memory.limit() || self.next_steal.is_some_and(|next| now < next) {
            return false;
        }
        let (block, own) = (reassembly.largest_block(), key.0.source());
        let held = self.transfers.shares().of(own).memory;
        let least = if held == 0 { 1 } else { held + block };
        let largest = self.transfers.shares().largest(|share| share.memory as u64);
        let most = largest.map_or(0, |(_, most)| most as usize);
        // Who holds most itself must not keep the others from searching.
        if most < least {
            return false;
        }
        let mut open: Vec<(Reverse<usize>, Instant, u32, TransferKey)> = Vec::new();
        for (other, transfer) in self.transfers.iter() {
            let held = self.transfers.shares().of(other.0.source()).memory;
            if other.0.source() != own
                && held >= least
                && let State::Receiving(reassembly) = transfer.state()
            {
                let touched = reassembly.touched();
                open.extend(touched.map(|(at, block)| (Reverse(held), at, block, other)));
            }
        }
        open.sort_unstable();
        // More than is needed, so that one search serves several blocks.
        let wanted = (limit - block.min(limit)).saturating_sub(most / DISCARDED_PART);
        for (_, _, block, other) in open {
            if self.memory.used() <= wanted {
                break;
            }
            if let Some(mut entry) = self.transfers.entry(other) {
                entry.discard_block(block, &mut self.memory);
            }
        }
        let has_room = self.memory.used() + block <= limit;
        self.next_steal = (!has_room).then(|| now + DISCARD_INTERVAL);
        has_room
    }
}
