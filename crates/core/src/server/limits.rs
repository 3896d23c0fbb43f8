//! The limits of a server: file sizes, the quota, and the number of open files.

use std::collections::HashMap;
use std::time::Instant;

use siar_proto::wire::RefuseReason;

use crate::io::store::{
    KEY_HOLDERS, PARTIAL_FILE_LIFETIME, PartId, StoreError, Usage, part_sender,
};

const TOO_MANY_FILES: &str = "too many files at once";
const STOPPING: &str = "the server is stopping";
/// File descriptors that are kept free for sockets, logs and the files of `/proc`.
const SPARE_FILES: usize = 64;
/// The least that a file counts against the quota, in bytes: an empty file takes space too.
const LEAST_CHARGE: u64 = 4096;
/// The most parts of files that are kept for a later transfer, so that nobody fills the folder with
/// them.
const MAX_PARTS: usize = 1024;
/// The most of them that one host without a key may leave.
const MAX_PARTS_OF_ONE: usize = 64;

/// The reason why a file is refused, as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: RefuseReason,
    pub(super) text: String,
}

impl Refusal {
    fn new(reason: RefuseReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// Returns the refusal of a server that is stopping.
    pub(super) fn stopping() -> Self {
        Self::new(RefuseReason::Stopping, STOPPING)
    }

    /// Returns the refusal after a failure to store the file. It names no path: a frame has room
    /// for few words, and paths are private.
    pub(super) fn of(error: &StoreError) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error {
            StoreError::NoSpace { available, size, .. } => {
                let text = format!("{available} bytes free, the file has {size}");
                Self::new(RefuseReason::NoSpace, text)
            }
            StoreError::NoInode { .. } => {
                Self::new(RefuseReason::NoSpace, "no inode is free: no file can be made")
            }
            StoreError::Io { error, .. } if matches!(error.kind(), StorageFull | QuotaExceeded) => {
                Self::new(RefuseReason::NoSpace, error.to_string())
            }
            StoreError::Io { error, .. } => Self::new(RefuseReason::Storage, error.to_string()),
            StoreError::Corrupt { .. } => {
                Self::new(RefuseReason::Corrupt, "the bytes written are not those announced")
            }
        }
    }
}

/// A part of the limits that one file uses, from its first block to its end: it grows with the bytes
/// that arrive, and not by what is announced. It must be given back to the [`Limits`] that it was
/// taken from.
#[derive(Debug)]
#[must_use]
pub(super) struct Claim {
    /// The bytes of the file that have arrived.
    bytes: u64,
}

/// The limits, and how much of them is used.
#[derive(Debug)]
pub(super) struct Limits {
    max_file: u64,
    quota: u64,
    max_open_files: usize,
    /// The size of all published files and of what has arrived of others, in bytes.
    quota_used: u64,
    /// The number of claimed files.
    open_files: usize,
    /// The parts of files that are kept on disk. They count, too.
    parts: HashMap<PartId, Part>,
    is_stopping: bool,
}

/// A part of a file that was left for a later transfer.
#[derive(Debug)]
struct Part {
    charge: u64,
    since: Instant,
}

impl Limits {
    /// Limits files to `max_file` bytes each and to `quota` bytes in all, and their number at once
    /// to what this process may have open.
    pub(super) fn new(max_file: u64, quota: u64) -> Self {
        let allowed = allow_many_files();
        let max_open_files = allowed - SPARE_FILES.min(allowed / 2);
        let (quota_used, open_files, is_stopping) = (0, 0, false);
        let parts = HashMap::new();
        Self { max_file, quota, max_open_files, quota_used, open_files, parts, is_stopping }
    }

    /// Counts what is in the folder already.
    pub(super) fn count(&mut self, usage: &Usage, now: Instant) {
        self.quota_used += usage.files.iter().map(|size| charge(*size)).sum::<u64>();
        for (id, bytes) in &usage.parts {
            let part = self.parts.entry(id.clone()).or_insert(Part { charge: 0, since: now });
            part.charge += charge(*bytes);
            self.quota_used += charge(*bytes);
        }
    }

    /// Returns the largest number of files that may be open at once.
    pub(super) fn max_open_files(&self) -> usize {
        self.max_open_files
    }

    /// Refuses every file from now on.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Checks whether a file of `size` bytes would be accepted now. A part of the file itself that
    /// is kept does not stand in its way.
    pub(super) fn check(&self, size: u64, part: &str) -> Result<(), Refusal> {
        if self.is_stopping {
            return Err(Refusal::stopping());
        }
        self.check_beside(size, self.quota_used - self.kept(part))
    }

    /// Returns what a part of this file counts that is kept.
    fn kept(&self, part: &str) -> u64 {
        self.parts.get(part).map_or(0, |part| part.charge)
    }

    fn check_beside(&self, size: u64, used: u64) -> Result<(), Refusal> {
        let (max_file, quota) = (self.max_file, self.quota);
        if size > max_file {
            let text = format!("{size} bytes, the limit for one file is {max_file}");
            return Err(Refusal::new(RefuseReason::TooLarge, text));
        }
        if charge(size) > quota.saturating_sub(used) {
            return Err(self.quota_refusal(size));
        }
        Ok(())
    }

    fn quota_refusal(&self, size: u64) -> Refusal {
        let (quota, used) = (self.quota, self.quota_used);
        let text = format!("{size} bytes, of the quota of {quota} are {used} used");
        Refusal::new(RefuseReason::NoSpace, text)
    }

    /// Claims a part of the limits for a file of which `bytes` have arrived: the part of it that is
    /// kept, if any.
    pub(super) fn claim(&mut self, bytes: u64, part: &str) -> Result<Claim, Refusal> {
        // A file that was accepted may begin when the server accepts no more.
        self.check_beside(bytes, self.quota_used - self.kept(part))?;
        if self.open_files >= self.max_open_files {
            return Err(Refusal::new(RefuseReason::Storage, TOO_MANY_FILES));
        }
        self.forget_part(part);
        let claim = Claim { bytes };
        self.quota_used += charge(claim.bytes);
        self.open_files += 1;
        Ok(claim)
    }

    /// Adds `bytes` that have arrived to a claim.
    pub(super) fn grow(&mut self, claim: &mut Claim, bytes: u64) -> Result<(), Refusal> {
        let others = self.quota_used - charge(claim.bytes);
        let grown = claim.bytes + bytes;
        if charge(grown) > self.quota.saturating_sub(others) {
            return Err(self.quota_refusal(grown));
        }
        claim.bytes = grown;
        self.quota_used = others + charge(grown);
        Ok(())
    }

    /// Ends the claim of a published file. Its bytes stay counted if they take space: a file that
    /// was there already takes none.
    pub(super) fn keep(&mut self, claim: Claim, takes_space: bool) {
        if takes_space {
            self.open_files -= 1;
        } else {
            self.give_back(claim);
        }
    }

    /// Ends the claim of a file that was not published.
    pub(super) fn give_back(&mut self, claim: Claim) {
        let Claim { bytes } = claim;
        self.quota_used -= charge(bytes);
        self.open_files -= 1;
    }

    /// Whether another part may be kept: there are not too many, in all and of its sender, and none
    /// of the same name counts already.
    pub(super) fn can_keep_part(&self, part: &str) -> bool {
        let sender = part_sender(part);
        let is_of_one = |id: &&PartId| part_sender(id) == sender;
        let most = if sender == Some(KEY_HOLDERS) { MAX_PARTS } else { MAX_PARTS_OF_ONE };
        self.parts.len() < MAX_PARTS
            && !self.parts.contains_key(part)
            && self.parts.keys().filter(is_of_one).count() < most
    }

    /// Ends the claim of a file of which `bytes` are kept for a later transfer: they stay counted
    /// until the file is claimed again or removed.
    pub(super) fn keep_part(&mut self, claim: Claim, part: &str, bytes: u64, now: Instant) {
        self.give_back(claim);
        self.forget_part(part);
        let charge = charge(bytes);
        self.quota_used += charge;
        self.parts.insert(part.to_owned(), Part { charge, since: now });
    }

    /// Counts the parts no longer that are so old that they have been removed.
    pub(super) fn forget_old_parts(&mut self, now: Instant) {
        let age = |part: &mut Part| now.saturating_duration_since(part.since);
        for (_, part) in self.parts.extract_if(|_, part| age(part) >= PARTIAL_FILE_LIFETIME) {
            self.quota_used -= part.charge;
        }
    }

    fn forget_part(&mut self, part: &str) {
        let forgotten = self.parts.remove(part);
        self.quota_used -= forgotten.map_or(0, |part| part.charge);
    }

    /// Counts a raw file of `size` bytes, which has no session.
    pub(super) fn charge_raw(&mut self, size: u64) -> Result<(), Refusal> {
        if self.is_stopping {
            return Err(Refusal::stopping());
        }
        self.check_beside(size, self.quota_used)?;
        self.quota_used += charge(size);
        Ok(())
    }

    /// Takes back the count of a raw file that was not stored.
    pub(super) fn discharge_raw(&mut self, size: u64) {
        self.quota_used -= charge(size);
    }

    /// Returns the bytes and the number of files in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> (u64, usize) {
        (self.quota_used, self.open_files)
    }
}

/// Returns how many bytes a file counts against the quota.
fn charge(size: u64) -> u64 {
    size.max(LEAST_CHARGE)
}

/// Raises this process's limit of open files as far as possible, and returns the limit.
fn allow_many_files() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_counts_what_is_claimed_and_what_was_published() {
        let mut limits = Limits::new(10_000, 12_096);
        let (one, other) = ("1-0-a-1x1", "2-0-b-1x1");
        assert_eq!(limits.check(10_001, one).unwrap_err().reason, RefuseReason::TooLarge);
        let mut first = limits.claim(0, one).unwrap();
        limits.grow(&mut first, 7_000).unwrap();
        // What is announced holds nothing.
        assert!(limits.check(5_096, other).is_ok());
        assert_eq!(limits.check(8_000, other).unwrap_err().reason, RefuseReason::NoSpace);
        let mut second = limits.claim(0, other).unwrap();
        assert_eq!(limits.grow(&mut second, 8_000).unwrap_err().reason, RefuseReason::NoSpace);
        limits.give_back(first);
        limits.grow(&mut second, 8_000).unwrap();
        limits.keep(second, true);
        assert_eq!(limits.used(), (8_000, 0));
        // A file that was there already takes no space.
        let mut again = limits.claim(0, other).unwrap();
        limits.grow(&mut again, 4_000).unwrap();
        limits.keep(again, false);
        assert_eq!(limits.used(), (8_000, 0));
        // An empty file counts too.
        let empty = limits.claim(0, one).unwrap();
        assert_eq!(limits.claim(0, other).unwrap_err().reason, RefuseReason::NoSpace);
        limits.keep(empty, true);
        limits.stop();
        assert_eq!(limits.check(0, other).unwrap_err(), Refusal::stopping());
        assert_eq!(limits.charge_raw(0).unwrap_err(), Refusal::stopping());
    }

    #[test]
    fn what_was_there_before_counts_and_its_parts_may_be_continued() {
        let mut limits = Limits::new(10_000, 20_000);
        let (one, other, now) = ("1-0-a-1x1", "2-0-b-1x1", Instant::now());
        limits.count(&Usage { files: vec![6_000, 0], parts: vec![(one.to_owned(), 5_000)] }, now);
        assert_eq!(limits.used(), (15_096, 0));
        limits.check(5_000, other).unwrap_err();
        limits.check(9_000, one).unwrap();
        limits.forget_old_parts(now + PARTIAL_FILE_LIFETIME);
        limits.check(5_000, other).unwrap();
    }

    #[test]
    fn a_part_that_is_kept_counts_for_other_files_until_it_is_removed() {
        let mut limits = Limits::new(10_000, 12_000);
        let (one, other, now) = ("1-0-a-1x1", "2-0-b-1x1", Instant::now());
        let first = limits.claim(5_000, one).unwrap();
        limits.keep_part(first, one, 5_000, now);
        assert_eq!(limits.used(), (5_000, 0));
        limits.check(7_001, other).unwrap_err();
        let again = limits.claim(10_000, one).unwrap();
        assert_eq!(limits.used(), (10_000, 1));
        limits.keep_part(again, one, 9_000, now);
        limits.forget_old_parts(now);
        assert_eq!(limits.used(), (9_000, 0));
        limits.forget_old_parts(now + PARTIAL_FILE_LIFETIME);
        assert_eq!(limits.used(), (0, 0));
        assert!(limits.can_keep_part(one));
        let mut limits = Limits::new(10_000, u64::MAX);
        for number in 0..MAX_PARTS_OF_ONE {
            let part = format!("{number:x}-0-a-1x1");
            let claim = limits.claim(0, &part).unwrap();
            limits.keep_part(claim, &part, 0, now);
        }
        // The same host may leave no more, and of one file nobody two.
        assert!(!limits.can_keep_part("ff-0-a-1x1") && limits.can_keep_part("ff-0-b-1x1"));
    }
}
