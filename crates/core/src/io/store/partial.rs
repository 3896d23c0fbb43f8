//! Partial files, which outlast the process that was writing them: if it was killed, another
//! process continues. A journal follows the file's bytes, with one byte for each written block; it
//! is cut off before the file is published.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use siar_proto::{AnnouncedFile, Peer};

use super::folder::is_unsupported;
use super::own_files::{Folder, Found};
use super::usage::PartId;
use super::{PREFIX, SUFFIX};

/// The first bytes of a journal.
const MAGIC: [u8; 4] = *b"siar";
/// The length of a journal's header (magic, symbol size, block count) in bytes; numbers are
/// big-endian.
const HEADER_LEN: usize = 12;
const WRITTEN: u8 = 1;
/// The sender of all sealed files, in what [`part_id`] returns.
pub const KEY_HOLDERS: &str = "key";
/// How long a partial file is kept after its last write: its sender may come again.
pub const PARTIAL_FILE_LIFETIME: Duration = Duration::from_secs(600);
/// How long other temporary files are kept: their creator needs time to lock them.
const UNLOCKED_FILE_LIFETIME: Duration = Duration::from_secs(2);
/// The most partial files of one file: the first name may be taken by another process, by blocks of
/// another layout, or by what is no file of ours.
const MAX_NAMES: u32 = 4;

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

/// Returns whose parts an announced file's partial files are: half of its digest, its size, its
/// sender and its layout, separated by hyphens.
#[must_use]
pub fn part_id(announced: &AnnouncedFile) -> PartId {
    let digest = blake3::Hash::from_bytes(announced.blake3).to_hex();
    let sender = match announced.from {
        Peer::Address(address) => {
            let host = blake3::hash(address.ip().to_canonical().to_string().as_bytes());
            host.to_hex()[..8].to_owned()
        }
        Peer::Session(_) => KEY_HOLDERS.to_owned(),
    };
    let (size, layout) = (announced.size, announced.layout);
    let (symbol, symbols) = (layout.symbol_size(), layout.block_symbols());
    format!("{}-{size:x}-{sender}-{symbol}x{symbols}", &digest[..32])
}

/// Returns the sender in what [`part_id`] has returned.
#[must_use]
pub fn part_sender(part: &str) -> Option<&str> {
    part.split('-').nth(2)
}

impl Partial {
    /// Returns the names that an announced file's partial files can have. What another host has sent
    /// is not continued: without a key, anybody could leave false blocks of a file.
    fn names(announced: &AnnouncedFile) -> impl Iterator<Item = String> {
        let stem = format!("{PREFIX}{}", part_id(announced));
        (0..MAX_NAMES).map(move |number| match number {
            0 => format!("{stem}{SUFFIX}"),
            _ => format!("{stem}-{number}{SUFFIX}"),
        })
    }

    /// Whether a partial file is possible: a file of a single block is on disk completely or not at
    /// all.
    pub(super) fn is_possible(announced: &AnnouncedFile) -> bool {
        announced.layout.block_count() > 1
    }

    /// Opens for reading what any process has written of an announced file in this layout; returns
    /// the numbers of the blocks, in ascending order, with each. Nothing is locked or changed:
    /// blocks that are on disk are not written again.
    pub(super) fn readable(
        dir: &Path,
        announced: &AnnouncedFile,
    ) -> io::Result<Vec<(File, Vec<u32>)>> {
        let mut readable = Vec::new();
        if Self::is_possible(announced) {
            let folder = Folder::open(dir)?;
            for name in Self::names(announced) {
                let Found::Own(file) = folder.find(&name, false) else { continue };
                if let Some(written) = (Journal { size: announced.size }).read(&file, announced)? {
                    readable.push((file, written));
                }
            }
        }
        Ok(readable)
    }

    /// Opens or creates a partial file of an announced file, and locks it. What others write, what
    /// holds blocks in another layout, and what is no file of ours is left as it is. Returns `None`
    /// if all names are taken, or if the file is too small for a partial file.
    pub(super) fn open(dir: &Path, announced: &AnnouncedFile) -> io::Result<Option<Self>> {
        if !Self::is_possible(announced) {
            return Ok(None);
        }
        let folder = Folder::open(dir)?;
        let mut most: Option<Self> = None;
        for name in Self::names(announced) {
            let file = match folder.find(&name, true) {
                Found::Own(file) => file,
                Found::Nothing => continue,
                Found::Foreign(fault) => {
                    log::warn!("{}: {fault}: it is left alone", dir.join(&name).display());
                    continue;
                }
            };
            // Two processes would overwrite each other's blocks.
            if file.try_lock().is_err() || !folder.holds(&name, &file) {
                continue;
            }
            let journal = Journal { size: announced.size };
            let Some(written) = journal.read(&file, announced)? else { continue };
            if most.as_ref().is_none_or(|most| most.written.len() < written.len()) {
                most = Some(Self { path: dir.join(name), file, journal, written });
            }
        }
        if most.is_some() {
            return Ok(most);
        }
        for name in Self::names(announced) {
            match folder.create(&name) {
                Ok(file) => return Self::begin(&folder, dir, &name, file, announced),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Begins a new file. Returns `None` where there are no locks.
    fn begin(
        folder: &Folder<'_>,
        dir: &Path,
        name: &str,
        file: File,
        announced: &AnnouncedFile,
    ) -> io::Result<Option<Self>> {
        let journal = Journal { size: announced.size };
        let begun = match file.try_lock() {
            Ok(()) => journal.begin(&file, announced),
            Err(_) => {
                folder.remove(name)?;
                return Ok(None);
            }
        };
        if let Err(error) = begun {
            // The first failure is the one to report.
            let _ = folder.remove(name);
            return Err(error);
        }
        Ok(Some(Self { path: dir.join(name), file, journal, written: Vec::new() }))
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

/// Removes temporary files of this user in `dir` that other processes have left: those that can be
/// continued ten minutes after their last write, others after two seconds. Files that cannot be
/// removed, and whatever is no regular file, are left.
pub fn remove_abandoned_files(dir: &Path) {
    let (Ok(folder), Ok(entries)) = (Folder::open(dir), fs::read_dir(dir)) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let middle = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
        let Some(middle) = middle else { continue };
        let keep =
            if middle.contains('-') { PARTIAL_FILE_LIFETIME } else { UNLOCKED_FILE_LIFETIME };
        let Found::Own(file) = folder.find(name, false) else { continue };
        let age = file.metadata().and_then(|data| data.modified()).ok();
        let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
        // A process that writes the file holds a lock, which ends with the process. Where there are
        // no locks, only the age tells. A young file is not locked even for a moment: its writer
        // may want to lock it.
        let is_abandoned = |age| {
            age >= keep
                && match file.try_lock() {
                    Ok(()) => true,
                    Err(TryLockError::WouldBlock) => false,
                    Err(TryLockError::Error(error)) => {
                        is_unsupported(&error) && age >= PARTIAL_FILE_LIFETIME
                    }
                }
        };
        if age.is_some_and(is_abandoned) && folder.holds(name, &file) {
            let removed = folder.remove(name);
            log::debug!("{}: left by another process: {removed:?}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siar_proto::BlockLayout;

    fn announced(size: u64) -> AnnouncedFile {
        AnnouncedFile {
            from: std::net::SocketAddr::from(([192, 0, 2, 1], 40_000)).into(),
            name: "file".to_owned(),
            size,
            blake3: [7; 32],
            announced_ms: 0,
            layout: BlockLayout::new(size, 10, 4).unwrap(),
        }
    }

    fn blocks(dir: &Path, announced: &AnnouncedFile) -> Vec<Vec<u32>> {
        let readable = Partial::readable(dir, announced).unwrap();
        readable.into_iter().map(|(_, written)| written).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_another_host_has_sent_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        partial.journal.note(&partial.file, 0).unwrap();
        drop(partial);
        assert_eq!(blocks(dir.path(), &announced(100)), [[0]]);
        let from = std::net::SocketAddr::from(([192, 0, 2, 66], 40_000)).into();
        let other = AnnouncedFile { from, ..announced(100) };
        assert!(blocks(dir.path(), &other).is_empty());
        assert!(Partial::open(dir.path(), &other).unwrap().unwrap().written.is_empty());
    }

    #[test]
    fn what_was_noted_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        assert!(partial.written.is_empty());
        partial.journal.note(&partial.file, 1).unwrap();
        // Two processes would overwrite each other's blocks: the second one has a file of its own.
        let second = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        assert!(second.written.is_empty() && second.path != partial.path);
        drop((partial, second));
        let again = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        assert_eq!(again.written, [1]);
        again.journal.end(&again.file).unwrap();
        assert_eq!(again.file.metadata().unwrap().len(), 100);
    }

    #[test]
    fn a_search_locks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        partial.journal.note(&partial.file, 0).unwrap();
        drop(partial);
        let found = Partial::readable(dir.path(), &announced(100)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(Partial::open(dir.path(), &announced(100)).unwrap().unwrap().written, [0]);
    }

    #[test]
    fn another_layout_begins_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        partial.journal.note(&partial.file, 0).unwrap();
        drop(partial);
        let layout = BlockLayout::new(100, 20, 4).unwrap();
        let other = AnnouncedFile { layout, ..announced(100) };
        assert!(blocks(dir.path(), &other).is_empty());
        assert!(Partial::open(dir.path(), &other).unwrap().unwrap().written.is_empty());
        assert_eq!(blocks(dir.path(), &announced(100)), [vec![0]]);
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn what_is_no_partial_file_of_ours_is_left_alone_and_makes_nobody_wait() {
        let dir = tempfile::tempdir().unwrap();
        let taken: Vec<_> =
            Partial::names(&announced(100)).map(|name| dir.path().join(name)).collect();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        nix::unistd::mkfifo(&taken[0], mode).unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "kept").unwrap();
        fs::hard_link(&other, &taken[1]).unwrap();
        std::os::unix::fs::symlink(&other, &taken[2]).unwrap();
        assert!(blocks(dir.path(), &announced(100)).is_empty());
        let partial = Partial::open(dir.path(), &announced(100)).unwrap().unwrap();
        assert_eq!(partial.path, taken[3]);
        assert_eq!(fs::read(&other).unwrap(), b"kept");
        // No name is left for a second one.
        assert!(Partial::open(dir.path(), &announced(100)).unwrap().is_none());
        File::open(&other).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        remove_abandoned_files(dir.path());
        assert_eq!(names(dir.path()).len(), 5);
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
