//! What a server takes: sizes, the quota, files at once.

use siar_proto::wire::RefuseReason;

use crate::io::store::StoreError;

const TOO_MANY_FILES: &str = "too many files at once";
const STOPPING: &str = "the server is stopping";
/// File descriptors for sockets, logs, and what looks at the system.
const SPARE_FILES: usize = 64;
/// An empty file takes room too.
const LEAST_CHARGE: u64 = 4096;

/// Why a file is not taken, as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: RefuseReason,
    pub(super) text: String,
}

impl Refusal {
    fn new(reason: RefuseReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// The server takes nothing new and ends.
    pub(super) fn stopping() -> Self {
        Self::new(RefuseReason::Stopping, STOPPING)
    }

    /// What the sender is told of a failure to store its file: a frame holds few words, and paths
    /// are not its business.
    pub(super) fn of(error: &StoreError) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error {
            StoreError::NoSpace { available, size, .. } => {
                let text = format!("{available} bytes free, the file has {size}");
                Self::new(RefuseReason::NoSpace, text)
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

/// A part of the limits that one file uses, from its first block to its end. It is given back to
/// the [`Limits`] that it is of.
#[derive(Debug)]
#[must_use]
pub(super) struct Claim {
    charge: u64,
}

/// The limits, and what is used of them.
#[derive(Debug)]
pub(super) struct Limits {
    max_file: u64,
    quota: u64,
    max_open_files: usize,
    /// Bytes published or claimed.
    quota_used: u64,
    /// Files claimed.
    open_files: usize,
    is_stopping: bool,
}

impl Limits {
    /// Files of at most `max_file` bytes, `quota` in all, and as many at once as this process may
    /// have open.
    pub(super) fn new(max_file: u64, quota: u64) -> Self {
        let max_open_files = allow_many_files().saturating_sub(SPARE_FILES);
        let (quota_used, open_files, is_stopping) = (0, 0, false);
        Self { max_file, quota, max_open_files, quota_used, open_files, is_stopping }
    }

    /// From now on every file is refused.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether a file of `size` bytes would be taken now.
    pub(super) fn check(&self, size: u64) -> Result<(), Refusal> {
        let (max_file, quota, used) = (self.max_file, self.quota, self.quota_used);
        if self.is_stopping {
            return Err(Refusal::stopping());
        }
        if size > max_file {
            let text = format!("{size} bytes, the limit for one file is {max_file}");
            return Err(Refusal::new(RefuseReason::TooLarge, text));
        }
        if charge(size) > quota.saturating_sub(used) {
            let text = format!("{size} bytes, of the quota of {quota} are {used} used");
            return Err(Refusal::new(RefuseReason::NoSpace, text));
        }
        Ok(())
    }

    /// Takes the part of a file of `size` bytes.
    pub(super) fn claim(&mut self, size: u64) -> Result<Claim, Refusal> {
        self.check(size)?;
        if self.open_files >= self.max_open_files {
            return Err(Refusal::new(RefuseReason::Storage, TOO_MANY_FILES));
        }
        let claim = Claim { charge: charge(size) };
        self.quota_used += claim.charge;
        self.open_files += 1;
        Ok(claim)
    }

    /// The file is published: its bytes stay counted.
    pub(super) fn keep(&mut self, claim: Claim) {
        let Claim { charge: _ } = claim;
        self.open_files -= 1;
    }

    /// Nothing is left of the file.
    pub(super) fn give_back(&mut self, claim: Claim) {
        let Claim { charge } = claim;
        self.quota_used -= charge;
        self.open_files -= 1;
    }

    /// Counts a raw file of `size` bytes, which has no session.
    pub(super) fn charge_raw(&mut self, size: u64) -> Result<(), Refusal> {
        self.check(size)?;
        self.quota_used += charge(size);
        Ok(())
    }

    /// The raw file was not stored.
    pub(super) fn discharge_raw(&mut self, size: u64) {
        self.quota_used -= charge(size);
    }

    /// Bytes and files in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> (u64, usize) {
        (self.quota_used, self.open_files)
    }
}

/// What a file counts against the quota.
fn charge(size: u64) -> u64 {
    size.max(LEAST_CHARGE)
}

/// Raises this process's limit of open files as far as it may; gives what it is then.
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
        let mut limits = Limits::new(10_000, 12_000);
        assert_eq!(limits.check(10_001).unwrap_err().reason, RefuseReason::TooLarge);
        let first = limits.claim(8_000).unwrap();
        assert_eq!(limits.claim(8_000).unwrap_err().reason, RefuseReason::NoSpace);
        limits.give_back(first);
        let second = limits.claim(8_000).unwrap();
        limits.keep(second);
        assert_eq!(limits.used(), (8_000, 0));
        // An empty file takes room too.
        assert_eq!(limits.claim(0).unwrap_err().reason, RefuseReason::NoSpace);
        limits.stop();
        assert_eq!(limits.check(0).unwrap_err(), Refusal::stopping());
    }
}
