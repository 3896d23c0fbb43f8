//! Partial files, which outlast the process that was writing them: if it was killed, another
//! process continues. A journal follows the file's bytes, with one byte for each written block; it
//! is cut off before the file is published.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use siar_proto::AnnouncedFile;

use super::folder::is_unsupported;
use super::{PREFIX, SUFFIX};

/// The first bytes of a journal.
const MAGIC: [u8; 4] = *b"siar";
/// The length of a journal's header (magic, symbol size, block count) in bytes; numbers are
/// big-endian.
const HEADER_LEN: usize = 12;
const WRITTEN: u8 = 1;
/// How long a partial file is kept after its last write: its sender may come again.
const PARTIAL_FILE_LIFETIME: Duration = Duration::from_secs(600);
/// How long other temporary files are kept: their creator needs time to lock them.
const UNLOCKED_FILE_LIFETIME: Duration = Duration::from_secs(2);

/// The journal: which blocks of a file are on disk.
#[derive(Debug)]
pub(super) struct Journal {
    /// The size of the file itself, in bytes.
    size: u64,
}

/// A partial file that can be continued.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) journal: Journal,
    /// The numbers of the blocks that are on disk.
    pub(super) written: Vec<u32>,
}

impl Partial {
    /// Returns the path of an announced file's partial file.
    pub(super) fn path(dir: &Path, announced: &AnnouncedFile) -> PathBuf {
        let digest = blake3::Hash::from_bytes(announced.blake3).to_hex();
        dir.join(format!("{PREFIX}{}-{:x}{SUFFIX}", &digest[..32], announced.size))
    }

    /// Whether a partial file is possible: a file of a single block is on disk completely or not at
    /// all.
    pub(super) fn is_possible(announced: &AnnouncedFile) -> bool {
        announced.layout.block_count() > 1
    }

    /// Opens the partial file of an announced file if it exists, contains blocks of that file in
    /// this layout, and nobody else writes it.
    pub(super) fn find(dir: &Path, announced: &AnnouncedFile) -> io::Result<Option<Self>> {
        if !Self::is_possible(announced) {
            return Ok(None);
        }
        let path = Self::path(dir, announced);
        let Some(file) = Self::lock(&path, false)? else { return Ok(None) };
        let journal = Journal { size: announced.size };
        let written = journal.read(&file, announced)?;
        Ok(written.map(|written| Self { path, file, journal, written }))
    }

    /// Opens or creates the partial file of an announced file; blocks of another file in it are
    /// lost. Returns `None` if somebody else writes it, or if the file is too small for a partial
    /// file.
    pub(super) fn open(dir: &Path, announced: &AnnouncedFile) -> io::Result<Option<Self>> {
        if !Self::is_possible(announced) {
            return Ok(None);
        }
        let path = Self::path(dir, announced);
        let Some(file) = Self::lock(&path, true)? else { return Ok(None) };
        let journal = Journal { size: announced.size };
        let written = match journal.read(&file, announced)? {
            Some(written) => written,
            None => {
                journal.begin(&file, announced)?;
                Vec::new()
            }
        };
        Ok(Some(Self { path, file, journal, written }))
    }

    fn lock(path: &Path, create: bool) -> io::Result<Option<File>> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o666)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
            opened => opened?,
        };
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // The process that held the lock before may have published or removed the file.
        let is_there = fs::symlink_metadata(path)
            .is_ok_and(|found| file.metadata().is_ok_and(|own| own.ino() == found.ino()));
        Ok(is_there.then_some(file))
    }
}

impl Journal {
    fn header(announced: &AnnouncedFile) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&MAGIC);
        // A symbol is at most 65,535 bytes long.
        header[4..8].copy_from_slice(&(announced.layout.symbol_size() as u32).to_be_bytes());
        header[8..].copy_from_slice(&announced.layout.block_count().to_be_bytes());
        header
    }

    /// Returns the written blocks, or `None` without a journal of this file in this layout.
    fn read(&self, file: &File, announced: &AnnouncedFile) -> io::Result<Option<Vec<u32>>> {
        let header = Self::header(announced);
        let blocks = announced.layout.block_count() as usize;
        if file.metadata()?.len() != self.size + (HEADER_LEN + blocks) as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; HEADER_LEN + blocks];
        file.read_exact_at(&mut bytes, self.size)?;
        if bytes[..HEADER_LEN] != header {
            return Ok(None);
        }
        let written = (0u32..).zip(&bytes[HEADER_LEN..]).filter(|(_, byte)| **byte == WRITTEN);
        Ok(Some(written.map(|(block, _)| block).collect()))
    }

    fn begin(&self, file: &File, announced: &AnnouncedFile) -> io::Result<()> {
        let blocks = u64::from(announced.layout.block_count());
        file.set_len(0)?;
        file.set_len(self.size + HEADER_LEN as u64 + blocks)?;
        file.write_all_at(&Self::header(announced), self.size)
    }

    /// Notes that a block is on disk.
    pub(super) fn note(&self, file: &File, block: u32) -> io::Result<()> {
        file.write_all_at(&[WRITTEN], self.size + HEADER_LEN as u64 + u64::from(block))
    }

    /// Cuts the journal off, so that only the file is left.
    pub(super) fn end(&self, file: &File) -> io::Result<()> {
        file.set_len(self.size)
    }
}

/// Removes temporary files in `dir` that killed processes have left: those that can be continued
/// ten minutes after their last write, others after two seconds. Files that cannot be removed are
/// left.
pub fn remove_abandoned_files(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(middle) = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|name| name.strip_suffix(SUFFIX))
        else {
            continue;
        };
        let keep =
            if middle.contains('-') { PARTIAL_FILE_LIFETIME } else { UNLOCKED_FILE_LIFETIME };
        let options =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(entry.path());
        let Ok(file) = options else { continue };
        let age = file.metadata().and_then(|data| data.modified()).ok();
        let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
        // A process that writes the file holds a lock, which ends with the process. Where there are
        // no locks, only the age tells.
        let is_abandoned = |age| match file.try_lock() {
            Ok(()) => age >= keep,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => {
                is_unsupported(&error) && age >= PARTIAL_FILE_LIFETIME
            }
        };
        if age.is_some_and(is_abandoned) {
            let removed = fs::remove_file(entry.path());
            log::debug!("{}: left by a killed process: {removed:?}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siar_proto::BlockLayout;

    fn announced(size: u64) -> AnnouncedFile {
        AnnouncedFile {
            name: "file".to_owned(),
            size,
            blake3: [7; 32],
            announced_ms: 0,
            layout: BlockLayout::new(size, 10, 4).unwrap(),
        }
    }

    #[test]
    fn what_was_noted_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        assert!(partial.written.is_empty());
        partial.journal.note(&partial.file, 1).unwrap();
        // Two processes would overwrite each other's blocks.
        assert!(Partial::open(dir.path(), &announced(100)).unwrap().is_none());
        drop(partial);
        let again = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        assert_eq!(again.written, [1]);
        again.journal.end(&again.file).unwrap();
        assert_eq!(again.file.metadata().unwrap().len(), 100);
    }

    #[test]
    fn another_layout_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        partial.journal.note(&partial.file, 0).unwrap();
        drop(partial);
        let layout = BlockLayout::new(100, 20, 4).unwrap();
        let other = AnnouncedFile { layout, ..announced(100) };
        // A search alone changes nothing.
        assert!(Partial::find(dir.path(), &other).unwrap().is_none());
        assert_eq!(Partial::find(dir.path(), &announced(100)).unwrap().unwrap().written, [0]);
        assert!(Partial::open(dir.path(), &other).unwrap().unwrap().written.is_empty());
    }

    #[test]
    fn only_what_nobody_writes_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let make = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(old).unwrap();
            file
        };
        let held = make(".siar-held00.part");
        held.try_lock().unwrap();
        drop(make(".siar-dead00.part"));
        drop(make(".siar-0123456789abcdef-64.part"));
        drop(make("photo.png"));
        remove_abandoned_files(dir.path());
        let exists = |name: &str| dir.path().join(name).exists();
        assert!(exists(".siar-held00.part") && exists("photo.png"));
        assert!(exists(".siar-0123456789abcdef-64.part") && !exists(".siar-dead00.part"));
    }
}
