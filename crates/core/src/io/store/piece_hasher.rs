//! The BLAKE3 hash of a file whose pieces come in any order.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, max_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root_xof,
};
use blake3::{CHUNK_LEN, Hasher};
use rangemap::RangeSet;
use siar_proto::FileDigest;

const CHUNK: u64 = CHUNK_LEN as u64;
/// The most subtrees, of about 80 bytes each, that are kept for all files together. The bound is
/// small in tests, so that they exceed it.
const MAX_SUBTREES: usize = if cfg!(test) { 64 } else { 1 << 16 };
static SUBTREES: AtomicUsize = AtomicUsize::new(0);

/// The hasher of a file's pieces. It hashes each piece when it arrives, while it is in the cache,
/// as subtrees of BLAKE3's tree that lie completely in the piece (BLAKE3 paper, section 2.1). Only
/// chaining values of hashed pieces stay in memory; fewer gaps between pieces leave fewer values.
#[derive(Debug)]
pub(super) struct PieceHasher {
    size: u64,
    hashed: RangeSet<u64>,
    /// The subtrees by offset. Two siblings are merged into their parent.
    subtrees: BTreeMap<u64, Subtree>,
    /// The digest of a file that was hashed in one piece, which has no subtrees.
    digest: Option<FileDigest>,
}

/// A node of the tree other than the root.
#[derive(Debug, Clone, Copy)]
struct Subtree {
    /// The length in bytes: a power of two of chunks, or the file's last chunk.
    len: u64,
    value: ChainingValue,
}

impl PieceHasher {
    /// Makes a hasher for a file of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let digest = (size == 0).then(|| FileDigest::of_bytes(b""));
        Self { size, hashed: RangeSet::new(), subtrees: BTreeMap::new(), digest }
    }

    /// Whether a piece should be hashed later: there are many gaps, and the piece would make one
    /// more.
    pub(super) fn is_too_far(&self, piece: &Range<u64>) -> bool {
        let joins = piece.start == 0
            || self.hashed.contains(&(piece.start - 1))
            || self.hashed.contains(&piece.end);
        !joins && SUBTREES.load(Ordering::Relaxed) >= MAX_SUBTREES
    }

    #[cfg(test)]
    pub(super) fn subtree_count(&self) -> usize {
        self.subtrees.len()
    }

    /// Returns the first part of the file that has not been hashed.
    pub(super) fn first_gap(&self) -> Option<Range<u64>> {
        // The range is not empty.
        (self.size > 0).then(|| self.hashed.gaps(&(0..self.size)).next()).flatten()
    }

    /// Hashes a piece of the file, no part of which was hashed before. A BLAKE3 chunk that lies in
    /// several pieces is hashed with the last of them; `read_at` reads it from what was written.
    ///
    /// # Errors
    /// `read_at` failed.
    pub(super) fn update(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let piece = offset..offset + bytes.len() as u64;
        if piece.is_empty() {
            return Ok(());
        }
        self.hashed.insert(piece.clone());
        let whole = self.whole_chunks(&piece);
        if !whole.is_empty() {
            // Both positions lie in the piece.
            let (start, end) = ((whole.start - offset) as usize, (whole.end - offset) as usize);
            self.hash_chunks(whole.start, &bytes[start..end]);
        }
        let (first, last) = (self.chunk_at(piece.start), self.chunk_at(piece.end - 1));
        let shared = [Some(&first), Some(&last).filter(|last| **last != first)];
        for chunk in shared.into_iter().flatten().filter(|chunk| !contains(&piece, chunk)) {
            if self.hashed.gaps(chunk).next().is_none() {
                let mut bytes = [0; CHUNK_LEN];
                // The buffer is as long as the longest chunk.
                let bytes = &mut bytes[..(chunk.end - chunk.start) as usize];
                read_at(chunk.start, bytes)?;
                self.hash_chunks(chunk.start, bytes);
            }
        }
        Ok(())
    }

    /// Returns the digest of the whole file; `None` while there are gaps.
    pub(super) fn digest(&self) -> Option<FileDigest> {
        if self.digest.is_some() || self.first_gap().is_some() {
            return self.digest;
        }
        // The order is from right to left, because the tree is shallower at the right.
        let mut subtrees = self.subtrees.values().rev();
        let mut right = subtrees.next()?.value;
        let mut subtrees = subtrees.peekable();
        while let Some(left) = subtrees.next() {
            if subtrees.peek().is_none() {
                let root = merge_subtrees_root_xof(&left.value, &right, Mode::Hash);
                return Some(FileDigest::from_output(root));
            }
            right = merge_subtrees_non_root(&left.value, &right, Mode::Hash);
        }
        None
    }

    /// Returns the chunk that holds the byte at `offset`.
    fn chunk_at(&self, offset: u64) -> Range<u64> {
        let start = offset - offset % CHUNK;
        start..self.size.min(start + CHUNK)
    }

    /// Returns the range of the chunks that lie completely in `piece`; it is empty if there are
    /// none.
    fn whole_chunks(&self, piece: &Range<u64>) -> Range<u64> {
        let end = if piece.end == self.size { piece.end } else { piece.end - piece.end % CHUNK };
        piece.start.next_multiple_of(CHUNK)..end
    }

    /// Hashes whole chunks: a chunk begins at `offset`, and a chunk ends with `bytes`.
    fn hash_chunks(&mut self, mut offset: u64, mut bytes: &[u8]) {
        if bytes.len() as u64 == self.size {
            self.digest = Some(FileDigest::of_bytes(bytes));
            return;
        }
        while !bytes.is_empty() {
            let most = max_subtree_len(offset).unwrap_or(u64::MAX).min(self.left_of_root());
            let left = bytes.len() as u64;
            let len = if left < CHUNK { left } else { most.min(1 << left.ilog2()) };
            // No longer than what is left.
            let (subtree, rest) = bytes.split_at(len as usize);
            let value = Hasher::new().set_input_offset(offset).update(subtree).finalize_non_root();
            self.insert(offset, Subtree { len, value });
            (offset, bytes) = (offset + len, rest);
        }
    }

    /// Returns the bytes below the root's left child: no other subtree is longer. A file of one
    /// chunk has no such child.
    fn left_of_root(&self) -> u64 {
        left_subtree_len(self.size)
    }

    /// Inserts a subtree, and merges it with the siblings that are there.
    fn insert(&mut self, mut offset: u64, mut subtree: Subtree) {
        // The root is made at the end; the file's last chunk has no sibling of its length.
        while subtree.len >= CHUNK && subtree.len < self.left_of_root() {
            let is_left = offset & subtree.len == 0;
            let sibling_offset = offset ^ subtree.len;
            match self.subtrees.get(&sibling_offset) {
                Some(sibling) if sibling.len == subtree.len => {
                    let (left, right) =
                        if is_left { (&subtree, sibling) } else { (sibling, &subtree) };
                    let value = merge_subtrees_non_root(&left.value, &right.value, Mode::Hash);
                    subtree = Subtree { len: 2 * subtree.len, value };
                    self.subtrees.remove(&sibling_offset);
                    SUBTREES.fetch_sub(1, Ordering::Relaxed);
                    offset = offset.min(sibling_offset);
                }
                _ => break,
            }
        }
        self.subtrees.insert(offset, subtree);
        SUBTREES.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for PieceHasher {
    fn drop(&mut self) {
        SUBTREES.fetch_sub(self.subtrees.len(), Ordering::Relaxed);
    }
}

fn contains(outer: &Range<u64>, inner: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the digest of `file`, cut at `cuts` into pieces that come in the order of `keys`.
    fn hashed(file: &[u8], mut cuts: Vec<usize>, keys: &[u32]) -> Option<FileDigest> {
        cuts.extend([0, file.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<Range<usize>> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        pieces.sort_by_key(|piece| keys[piece.start % keys.len()]);
        let mut hasher = PieceHasher::new(file.len() as u64);
        for piece in pieces {
            assert!(file.is_empty() || hasher.digest().is_none());
            hasher
                .update(piece.start as u64, &file[piece.clone()], |at, bytes| {
                    bytes.copy_from_slice(&file[at as usize..][..bytes.len()]);
                    Ok(())
                })
                .unwrap();
        }
        // There is one subtree of each length, and the last chunk.
        assert!(hasher.subtrees.len() <= 64);
        hasher.digest()
    }

    fn file(len: usize) -> Vec<u8> {
        (0..len as u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
    }

    #[test]
    fn every_length_about_the_tree_s_edges() {
        for chunks in 0..=17 {
            for len in [chunks * CHUNK_LEN, chunks * CHUNK_LEN + 1, (chunks + 1) * CHUNK_LEN - 1] {
                let file = file(len);
                let expected = Some(FileDigest::of_bytes(&file));
                assert_eq!(hashed(&file, vec![], &[0]), expected, "{len}");
                assert_eq!(hashed(&file, vec![len / 2], &[0]), expected, "{len}");
                let cuts = (0..len).step_by(CHUNK_LEN).collect();
                assert_eq!(hashed(&file, cuts, &[1, 0]), expected, "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_hash_as_the_file(
            len in 0usize..200_000,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
            keys in proptest::collection::vec(any::<u32>(), 1..40),
        ) {
            let file = file(len);
            let cuts = cuts.iter().map(|cut| cut.index(len + 1)).collect();
            prop_assert_eq!(hashed(&file, cuts, &keys), Some(FileDigest::of_bytes(&file)));
        }

        #[test]
        fn blocks_of_a_transfer_in_any_order_hash_as_the_file(
            len in 180_224usize..2_000_000,
            keys in proptest::collection::vec(any::<u32>(), 1..40),
        ) {
            let file = file(len);
            let cuts = (0..len).step_by(128 * 1408).collect();
            prop_assert_eq!(hashed(&file, cuts, &keys), Some(FileDigest::of_bytes(&file)));
        }
    }
}
