//! The memory for unfinished and unwritten blocks, from a fixed budget.

/// The pool of buffers for blocks. Buffers in use and buffers kept for reuse together take at most
/// the budget; blocks that were promised room may exceed it by half.
#[derive(Debug)]
pub(super) struct BlockMemory {
    limit: usize,
    used: usize,
    /// Buffers kept for reuse: a fresh one costs a page fault for every 4 KiB.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl BlockMemory {
    /// A pool with a budget of `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0, spare: Vec::new(), spare_bytes: 0 }
    }

    /// The budget in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The limit in bytes for blocks that were promised room. Each transfer is promised a few
    /// blocks; the limit bounds their memory however many transfers there are.
    pub(super) fn limit_if_promised(&self) -> usize {
        self.limit + self.limit / 2
    }

    /// The number of bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The number of bytes of the budget that are free.
    pub(super) fn available(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    pub(super) fn is_half_used(&self) -> bool {
        self.used > self.limit / 2
    }

    /// A buffer of `len` bytes, or `None` if more than `limit` bytes would then be in use.
    pub(super) fn take(&mut self, len: usize, limit: usize) -> Option<Vec<u8>> {
        if self.used + len > limit {
            return None;
        }
        self.used += len;
        let reused = self.spare.pop().inspect(|buffer| self.spare_bytes -= buffer.len());
        // A buffer of another length is dropped: its capacity differs from what is counted.
        Some(reused.filter(|buffer| buffer.len() == len).unwrap_or_else(|| vec![0; len]))
    }

    /// Counts `len` bytes as free, since their buffer was dropped.
    pub(super) fn free(&mut self, len: usize) {
        self.used = self.used.saturating_sub(len);
    }

    /// Takes back a buffer, and keeps it for reuse if the budget allows.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.free(buffer.len());
        if self.used + self.spare_bytes + buffer.len() <= self.limit {
            self.spare_bytes += buffer.len();
            self.spare.push(buffer);
        }
    }

    /// Drops the buffers kept for reuse.
    pub(super) fn drop_spare(&mut self) {
        self.spare.clear();
        self.spare_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_out_than_the_budget() {
        let mut memory = BlockMemory::new(100);
        let limit = memory.limit();
        let first = memory.take(60, limit).unwrap();
        assert!(memory.take(60, limit).is_none());
        let promised = memory.limit_if_promised();
        assert!(memory.take(60, promised).is_some());
        assert!(memory.take(60, promised).is_none());
        memory.free(60);
        memory.give_back(first);
        assert_eq!((memory.used(), memory.available(), memory.spare_bytes), (0, 100, 60));
        assert_eq!(memory.take(50, limit).unwrap().len(), 50);
        assert_eq!(memory.spare_bytes, 0);
    }
}
