//! The folder for received files: what its file system can do is tried before anything is received.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use tempfile::NamedTempFile;

use super::name::LONGEST_NAME;
use super::temporary_file;

/// The most bytes that [`with_number`](super::with_number) adds to a name.
const NUMBER_LEN: usize = 11;
/// The longest name where the file system tells no limit, in bytes.
const USUAL_NAME_LEN: usize = 255;
/// The place of a byte that is written before the bytes in front of it.
const FAR: u64 = 1 << 16;

/// What the file system of a folder can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderTraits {
    /// The longest name that leaves room for a number, in bytes.
    longest_name: usize,
    /// Whether a file can get a name only if no other file has it, by `RENAME_NOREPLACE` or a hard
    /// link.
    renames_without_replacing: bool,
}

impl Default for FolderTraits {
    /// The traits of Linux's own file systems.
    fn default() -> Self {
        Self { longest_name: LONGEST_NAME, renames_without_replacing: true }
    }
}

impl FolderTraits {
    /// Tries what the file system of `dir` can do. No file is left.
    ///
    /// # Errors
    /// Files cannot be made, written at any place, read back or renamed there.
    pub fn examine(dir: &Path) -> io::Result<Self> {
        let longest_name = longest_name(dir);
        let file = temporary_file(dir)?;
        if let Err(error) = write_from_behind(file.as_file()) {
            let (file, _path) = file.into_parts();
            // Some file systems write a file again when it is closed: that comes before its removal.
            drop(file);
            return Err(match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => error,
                _ => cannot("write files at any place", &error),
            });
        }
        let new_name = temporary_file(dir)?.into_temp_path().to_path_buf();
        let renames_without_replacing = match file.persist_noclobber(&new_name) {
            Ok(_) => true,
            Err(error) => {
                persist_over_placeholder(error.file, &new_name)
                    .map_err(|error| cannot("rename files", &error.error))?;
                false
            }
        };
        fs::remove_file(&new_name)?;
        Ok(Self { longest_name, renames_without_replacing })
    }

    /// Returns the longest name that leaves room for a number, in bytes.
    #[must_use]
    pub fn longest_name(&self) -> usize {
        self.longest_name
    }

    /// Gives a file the name `path` unless another file has it.
    pub(super) fn persist(
        &self,
        file: NamedTempFile,
        path: &Path,
    ) -> Result<File, tempfile::PersistError> {
        if self.renames_without_replacing {
            file.persist_noclobber(path)
        } else {
            persist_over_placeholder(file, path)
        }
    }
}

/// Returns the longest name of a file in `dir` that leaves room for a number, in bytes.
pub(crate) fn longest_name(dir: &Path) -> usize {
    let longest = statvfs(dir).ok().map(|found| found.name_max() as usize);
    let longest = longest.filter(|longest| *longest > NUMBER_LEN).unwrap_or(USUAL_NAME_LEN);
    (longest - NUMBER_LEN).min(LONGEST_NAME)
}

/// Gives a file the name `path` unless another file has it, in a folder that was not examined.
pub(crate) fn persist_new(
    file: NamedTempFile,
    path: &Path,
) -> Result<File, tempfile::PersistError> {
    match file.persist_noclobber(path) {
        // The file system may know neither `RENAME_NOREPLACE` nor hard links.
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
            persist_over_placeholder(error.file, path)
        }
        persisted => persisted,
    }
}

/// Gives a file the name `path` by replacing an empty file, which only this call can have made.
fn persist_over_placeholder(
    file: NamedTempFile,
    path: &Path,
) -> Result<File, tempfile::PersistError> {
    if let Err(error) = OpenOptions::new().write(true).create_new(true).open(path) {
        return Err(tempfile::PersistError { error, file });
    }
    file.persist(path).inspect_err(|_| {
        // The file does not get this name: nor must the empty one keep it.
        let _ = fs::remove_file(path);
    })
}

/// Writes and reads as blocks that come in any order are written and read.
fn write_from_behind(file: &File) -> io::Result<()> {
    let mut byte = [0];
    for (place, value) in [(FAR, b'z'), (0, b'a')] {
        file.write_all_at(&[value], place)?;
        file.read_exact_at(&mut byte, place)?;
        if byte != [value] {
            return Err(io::Error::other("other bytes are read than were written"));
        }
    }
    file.set_len(1)
}

fn cannot(what: &str, error: &io::Error) -> io::Error {
    let text = format!("its file system cannot {what} ({error}): choose a folder on another one");
    io::Error::new(error.kind(), text)
}

/// Whether a file system has no such operation, so that doing without it is all that is left.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    error.kind() == ErrorKind::Unsupported
        || matches!(errno, Some(Errno::EINVAL | Errno::ENOSYS | Errno::ENOLCK | Errno::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_folder_can_do_all_and_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FolderTraits::examine(dir.path()).unwrap(), FolderTraits::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(FolderTraits::examine(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_placeholder_replaces_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let traits = FolderTraits { renames_without_replacing: false, ..FolderTraits::default() };
        let path = dir.path().join("a");
        let file = || {
            let file = temporary_file(dir.path()).unwrap();
            file.as_file().write_all_at(b"new", 0).unwrap();
            file
        };
        traits.persist(file(), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::write(&path, b"other").unwrap();
        let error = traits.persist(file(), &path).unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::AlreadyExists);
        drop(error);
        assert_eq!(fs::read(&path).unwrap(), b"other");
        let error = traits.persist(file(), &dir.path().join("missing/a")).unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::NotFound);
        drop(error);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
