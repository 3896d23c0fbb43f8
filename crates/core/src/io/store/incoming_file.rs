//! The incoming file, whose pieces arrive in any order.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rangemap::RangeSet;
use siar_proto::{AnnouncedFile, FileDigest};
use tempfile::{NamedTempFile, TempPath};

use super::partial::{Journal, Partial};
use super::piece_hasher::PieceHasher;
use super::{
    FolderTraits, if_supported, safe_file_name, shortened_file_name, shown_file_name,
    temporary_file, with_number,
};

/// How received files are named.
#[derive(Debug)]
pub struct Naming {
    numbered: bool,
    keeps_dots: bool,
    folder: FolderTraits,
    next: AtomicU32,
}

impl Naming {
    /// Uses the senders' names, made safe; files without a name are numbered.
    #[must_use]
    pub fn original() -> Self {
        let folder = FolderTraits::default();
        Self { numbered: false, keeps_dots: true, folder, next: AtomicU32::new(1) }
    }

    /// Uses `img1.png`, `img2.gif`, … with the extension that fits the bytes, as the Python scripts
    /// number them (`udpserver_broadcast.py`, line 23).
    #[must_use]
    pub fn numbered() -> Self {
        Self { numbered: true, ..Self::original() }
    }

    /// The same for a folder of these traits.
    #[must_use]
    pub fn in_folder(self, folder: FolderTraits) -> Self {
        Self { folder, ..self }
    }

    /// The same without hidden files: names lose their leading dot.
    #[must_use]
    pub fn without_dotfiles(self) -> Self {
        Self { keeps_dots: false, ..self }
    }

    fn name(&self, sent: &str) -> String {
        let name = if self.keeps_dots { safe_file_name(sent) } else { shown_file_name(sent) };
        shortened_file_name(&name, self.folder.longest_name())
    }
}

/// The reason why a file could not be received.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk has no room for the file.
    #[error("{dir} has {available} bytes free, the file has {size}")]
    NoSpace {
        /// The folder for the file.
        dir: PathBuf,
        /// The free space on the disk, in bytes.
        available: u64,
        /// The size of the file, in bytes.
        size: u64,
    },
    /// The disk has no room for another file, however small.
    #[error("{dir}: no inode is free, so that no file can be made")]
    NoInode {
        /// The folder for the file.
        dir: PathBuf,
    },
    /// The file cannot be created, written, read back or renamed.
    #[error("{path}: {error}")]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The bytes are not the announced ones.
    #[error("BLAKE3 of the received bytes is {actual}, announced was {announced}")]
    Corrupt {
        /// The digest that was announced.
        announced: blake3::Hash,
        /// The digest of the received bytes.
        actual: blake3::Hash,
    },
}

/// The most pieces that are read back and hashed with each written block: pieces that a killed
/// process has left, or that came when there were too many gaps.
const PIECES_HASHED_PER_WRITE: usize = 4;
/// The largest file, in bytes, for which free space is not checked before it is written.
const MAX_SMALL_FILE: u64 = 1 << 16;
/// The most bytes that are read back at once.
const MAX_READ: u64 = 1 << 18;

/// A file that was received and verified and has its final name.
#[derive(Debug)]
pub struct PublishedFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The digest of the file.
    pub digest: FileDigest,
}

/// A file that is being received. It has a temporary name, in its final folder.
#[derive(Debug)]
pub struct IncomingFile {
    dir: PathBuf,
    file: NamedTempFile,
    size: u64,
    written: RangeSet<u64>,
    hasher: Box<PieceHasher>,
    /// The journal of a file that another process could continue.
    journal: Option<Journal>,
}

impl IncomingFile {
    /// Creates a file in `dir`. Unless the file is small, there must be room for its `size` bytes
    /// now.
    ///
    /// # Errors
    /// There is no room, or `dir` cannot be written to.
    pub fn create(dir: &Path, size: u64) -> Result<Self, StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        let file = temporary_file(dir).map_err(at)?;
        if size > MAX_SMALL_FILE {
            require_space(dir, size)?;
        }
        Ok(Self::new(dir, file, size))
    }

    /// Returns what a killed process has left of an announced file, if anything; see
    /// [`Self::resume`].
    ///
    /// # Errors
    /// `dir` cannot be written to.
    pub fn find(
        dir: &Path,
        announced: &AnnouncedFile,
    ) -> Result<Option<(Self, Vec<u32>)>, StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        match Partial::find(dir, announced).map_err(at)? {
            Some(partial) => Self::go_on(dir, announced, partial).map(Some),
            None if Self::is_resumable(announced) => {
                require_inode(dir)?;
                require_space(dir, announced.size).map(|()| None)
            }
            // Such a file is checked for room by `create`, which follows, or by its first write.
            None => Ok(None),
        }
    }

    /// Whether a part of an announced file could outlast this process. If not, [`Self::create`] is
    /// enough in place of [`Self::resume`].
    #[must_use]
    pub fn is_resumable(announced: &AnnouncedFile) -> bool {
        Partial::is_possible(announced)
    }

    /// Closes the file without removing it: another process may continue it.
    pub fn leave(mut self) {
        self.file.disable_cleanup(true);
    }

    /// Creates an announced file, or continues what a killed process has left of it; returns the
    /// numbers of the blocks that are on disk already.
    ///
    /// # Errors
    /// There is no room, or `dir` cannot be written to.
    pub fn resume(dir: &Path, announced: &AnnouncedFile) -> Result<(Self, Vec<u32>), StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        let Some(partial) = Partial::open(dir, announced).map_err(at)? else {
            return Ok((Self::create(dir, announced.size)?, Vec::new()));
        };
        Self::go_on(dir, announced, partial)
    }

    fn go_on(
        dir: &Path,
        announced: &AnnouncedFile,
        partial: Partial,
    ) -> Result<(Self, Vec<u32>), StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        let place = |block: &u32| announced.layout.byte_range(*block);
        let places: RangeSet<u64> = partial.written.iter().map(place).collect();
        let written: u64 = places.iter().map(|place| place.end - place.start).sum();
        // This check comes first: a `TempPath` would remove the file after an error.
        require_space(dir, announced.size - written)?;
        let path = TempPath::try_from_path(partial.path).map_err(at)?;
        let mut file =
            Self::new(dir, NamedTempFile::from_parts(partial.file, path), announced.size);
        file.journal = Some(partial.journal);
        file.written = places;
        Ok((file, partial.written))
    }

    fn new(dir: &Path, file: NamedTempFile, size: u64) -> Self {
        let hasher = Box::new(PieceHasher::new(size));
        let (dir, written) = (dir.to_owned(), RangeSet::new());
        Self { dir, file, size, written, hasher, journal: None }
    }

    /// Writes a block at its place, and notes in the journal that it is on disk.
    ///
    /// # Errors
    /// The disk is full, or a write fails.
    pub fn write_block(&mut self, block: u32, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_at(offset, bytes)?;
        let noted = self.journal.as_ref().map(|journal| journal.note(self.file.as_file(), block));
        noted.unwrap_or(Ok(())).map_err(|error| self.io_error(error))
    }

    /// Writes a piece of the file at its place and hashes it while it is in the cache. Bytes that
    /// were written before are kept.
    ///
    /// # Errors
    /// The disk is full, or a write fails.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let place = offset..offset + bytes.len() as u64;
        if !place.is_empty() && !self.written.overlaps(&place) {
            let written = self.file.as_file().write_all_at(bytes, offset);
            written.map_err(|error| self.io_error(error))?;
            self.written.insert(place.clone());
            if !self.hasher.is_too_far(&place) {
                self.hash(offset, bytes)?;
            }
        }
        self.hash_written(PIECES_HASHED_PER_WRITE)
    }

    fn hash(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let file = self.file.as_file();
        let hashed = self.hasher.update(offset, bytes, |at, chunk| file.read_exact_at(chunk, at));
        hashed.map_err(|error| self.io_error(error))
    }

    fn read_and_hash(&mut self, place: Range<u64>) -> Result<(), StoreError> {
        // At most MAX_READ.
        let mut bytes = vec![0; (place.end - place.start) as usize];
        let read = self.file.as_file().read_exact_at(&mut bytes, place.start);
        read.map_err(|error| self.io_error(error))?;
        self.hash(place.start, &bytes)
    }

    /// Hashes written pieces that follow the gapless hashed part, at most `most` of them.
    fn hash_written(&mut self, most: usize) -> Result<(), StoreError> {
        for _ in 0..most {
            let Some(gap) = self.hasher.first_gap() else { break };
            let Some(written) = self.written.get(&gap.start) else { break };
            let end = gap.end.min(written.end).min(gap.start + MAX_READ);
            self.read_and_hash(gap.start..end)?;
        }
        Ok(())
    }

    /// Verifies the file and gives it its final name: `name` made safe, or a number if `name` is
    /// `None`. If a different file has this name already, the file gets another one. The bytes
    /// survive a loss of power; the name does so once [`sync_dir`](super::sync_dir) has been
    /// called.
    ///
    /// # Errors
    /// The bytes are not the announced ones, or the disk fails; the file is removed then.
    pub fn publish(
        mut self,
        announced: [u8; 32],
        name: Option<&str>,
        naming: &Naming,
    ) -> Result<PublishedFile, StoreError> {
        self.hash_written(usize::MAX)?;
        let digest = self.verify(announced)?;
        let path = match name {
            Some(name) if !naming.numbered => self.rename_to(&naming.name(name), naming, digest),
            _ => {
                let number = naming.next.fetch_add(1, Ordering::Relaxed);
                let extension = self.extension(name.unwrap_or_default());
                self.rename_to(&format!("img{number}{extension}"), naming, digest)
            }
        };
        Ok(PublishedFile { path: path?, digest })
    }

    fn verify(&self, announced: [u8; 32]) -> Result<FileDigest, StoreError> {
        let missing = || self.io_error(io::Error::other("not all of it was written"));
        let digest = self.hasher.digest().ok_or_else(missing)?;
        if digest.name() != announced {
            let [announced, actual] = [announced, digest.name()].map(blake3::Hash::from_bytes);
            return Err(StoreError::Corrupt { announced, actual });
        }
        let file = self.file.as_file();
        let ended = self.journal.as_ref().map_or(Ok(()), |journal| journal.end(file));
        let synced = ended.and_then(|()| if_supported(file.sync_data()));
        synced.map_err(|error| self.io_error(error))?;
        Ok(digest)
    }

    /// Returns the extension that fits the bytes, or else the extension of the name.
    fn extension(&self, name: &str) -> String {
        let mut head = [0; 512];
        let read = self.file.as_file().read_at(&mut head, 0).unwrap_or(0);
        if let Some(kind) = infer::get(&head[..read]) {
            return format!(".{}", kind.extension());
        }
        let name = safe_file_name(name);
        Path::new(&name)
            .extension()
            .map_or_else(|| ".bin".to_owned(), |extension| format!(".{}", extension.display()))
    }

    fn rename_to(
        self,
        name: &str,
        naming: &Naming,
        digest: FileDigest,
    ) -> Result<PathBuf, StoreError> {
        let mut file = self.file;
        for number in 0..u32::MAX {
            let candidate = if number == 0 { name.to_owned() } else { with_number(name, number) };
            let path = self.dir.join(candidate);
            let persisted = match naming.folder.persist(file, &path) {
                Err(error)
                    if error.error.kind() == io::ErrorKind::AlreadyExists
                        && is_same_file(&path, self.size, digest) =>
                {
                    error.file.persist(&path)
                }
                persisted => persisted,
            };
            match persisted {
                Ok(_) => return Ok(path),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    file = error.file;
                }
                Err(error) => return Err(StoreError::Io { path, error: error.error }),
            }
        }
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(StoreError::Io { path: self.dir.join(name), error })
    }

    fn io_error(&self, error: io::Error) -> StoreError {
        if self.size <= MAX_SMALL_FILE && error.kind() == io::ErrorKind::StorageFull {
            // The file is given up: its bytes should take no room.
            let _ = self.file.as_file().set_len(0);
            if let Err(no_space @ StoreError::NoSpace { .. }) = require_space(&self.dir, self.size)
            {
                return no_space;
            }
        }
        StoreError::Io { path: self.file.path().to_owned(), error }
    }
}

fn require_space(dir: &Path, size: u64) -> Result<(), StoreError> {
    let at =
        |error: nix::errno::Errno| StoreError::Io { path: dir.to_owned(), error: error.into() };
    let space = nix::sys::statvfs::statvfs(dir).map_err(at)?;
    let available = space.blocks_available().saturating_mul(space.fragment_size());
    if size > available {
        return Err(StoreError::NoSpace { dir: dir.to_owned(), available, size });
    }
    Ok(())
}

fn require_inode(dir: &Path) -> Result<(), StoreError> {
    // Some file systems say that no inode is free, and make files all the same.
    let is_free = nix::sys::statvfs::statvfs(dir).is_ok_and(|space| space.files_free() > 0);
    if !is_free
        && let Err(error) = temporary_file(dir)
        && error.kind() == io::ErrorKind::StorageFull
    {
        return Err(StoreError::NoInode { dir: dir.to_owned() });
    }
    Ok(())
}

/// Whether a regular file of this size and digest is at `path`.
pub(crate) fn is_same_file(path: &Path, size: u64, digest: FileDigest) -> bool {
    let is_candidate =
        path.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == size);
    is_candidate && hash_file(path).is_ok_and(|actual| *actual.as_bytes() == digest.name())
}

fn hash_file(path: &Path) -> io::Result<blake3::Hash> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            len => hasher.update(&buffer[..len]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siar_proto::BlockLayout;

    fn receive(dir: &Path, bytes: &[u8], name: &str) -> Result<PathBuf, StoreError> {
        let mut file = IncomingFile::create(dir, bytes.len() as u64)?;
        let half = bytes.len() / 2;
        file.write_at(half as u64, &bytes[half..])?;
        file.write_at(0, &bytes[..half])?;
        let announced = *blake3::hash(bytes).as_bytes();
        Ok(file.publish(announced, Some(name), &Naming::original())?.path)
    }

    #[test]
    fn pieces_in_any_order_make_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = receive(dir.path(), b"hello world", "a.txt").unwrap();
        assert_eq!(path, dir.path().join("a.txt"));
        assert_eq!(std::fs::read(path).unwrap(), b"hello world");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// More gaps than the hasher has room for come first, and then none.
    #[test]
    fn pieces_between_many_gaps_make_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..1_000_001u32).map(|at| (at % 251) as u8).collect();
        let mut file = IncomingFile::create(dir.path(), bytes.len() as u64).unwrap();
        let pieces = || (0..).step_by(1500).zip(bytes.chunks(1500));
        for odd in [1, 0] {
            for (offset, piece) in pieces().skip(odd).step_by(2) {
                file.write_at(offset, piece).unwrap();
                file.write_at(offset, &[0xee; 7]).unwrap();
            }
            assert!(file.hasher.subtree_count() <= 64);
        }
        let announced = *blake3::hash(&bytes).as_bytes();
        let published = file.publish(announced, Some("a"), &Naming::original()).unwrap();
        assert_eq!(std::fs::read(published.path).unwrap(), bytes);
    }

    #[test]
    fn another_process_goes_on_where_one_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..5000u32).map(|at| (at % 251) as u8).collect();
        let announced = AnnouncedFile {
            name: "a".to_owned(),
            size: bytes.len() as u64,
            blake3: *blake3::hash(&bytes).as_bytes(),
            announced_ms: 0,
            layout: BlockLayout::new(bytes.len() as u64, 10, 100).unwrap(),
        };
        let write = |file: &mut IncomingFile, block: u32| {
            let place = announced.layout.byte_range(block);
            let piece = &bytes[place.start as usize..place.end as usize];
            file.write_block(block, place.start, piece).unwrap();
        };
        let (mut killed, found) = IncomingFile::resume(dir.path(), &announced).unwrap();
        assert!(found.is_empty());
        [0, 3, 4].into_iter().for_each(|block| write(&mut killed, block));
        killed.leave();
        let (mut file, found) = IncomingFile::resume(dir.path(), &announced).unwrap();
        assert_eq!(found, [0, 3, 4]);
        [2, 1].into_iter().for_each(|block| write(&mut file, block));
        let published = file.publish(announced.blake3, Some("a"), &Naming::original()).unwrap();
        assert_eq!(std::fs::read(published.path).unwrap(), bytes);
    }

    #[test]
    fn a_file_with_a_gap_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = IncomingFile::create(dir.path(), 3).unwrap();
        file.write_at(0, b"a").unwrap();
        file.write_at(2, b"c").unwrap();
        let announced = *blake3::hash(b"abc").as_bytes();
        file.publish(announced, Some("a"), &Naming::original()).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_file_of_that_name_is_kept_and_the_same_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        receive(dir.path(), b"one", "a.txt").unwrap();
        assert_eq!(receive(dir.path(), b"two", "a.txt").unwrap(), dir.path().join("a-1.txt"));
        assert_eq!(receive(dir.path(), b"one", "a.txt").unwrap(), dir.path().join("a.txt"));
        assert_eq!(std::fs::read(dir.path().join("a.txt")).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_hidden_file_stays_hidden_unless_that_is_unwanted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(receive(dir.path(), b"a", ".env").unwrap(), dir.path().join(".env"));
        assert_eq!(Naming::original().without_dotfiles().name(".env"), "env");
    }

    #[test]
    fn wrong_bytes_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = IncomingFile::create(dir.path(), 3).unwrap();
        file.write_at(0, b"abc").unwrap();
        let result = file.publish([0; 32], Some("a"), &Naming::original());
        assert!(matches!(result, Err(StoreError::Corrupt { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_larger_than_the_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let result = IncomingFile::create(dir.path(), u64::MAX);
        assert!(matches!(result, Err(StoreError::NoSpace { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn numbered_names_carry_the_true_extension() {
        let dir = tempfile::tempdir().unwrap();
        let naming = Naming::numbered();
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n0000"[..], "img1.png"),
            (b"GIF89a000000", "img2.gif"),
            (b"no magic", "img3.txt"),
        ] {
            let mut file = IncomingFile::create(dir.path(), bytes.len() as u64).unwrap();
            file.write_at(0, bytes).unwrap();
            let announced = *blake3::hash(bytes).as_bytes();
            let published = file.publish(announced, Some("x.txt"), &naming).unwrap();
            assert_eq!(published.path, dir.path().join(expected));
        }
    }
}
