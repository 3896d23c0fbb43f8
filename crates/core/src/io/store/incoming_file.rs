//! The incoming file, whose pieces arrive in any order.

use std::io;
use std::iter;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rangemap::RangeSet;
use siar_proto::{AnnouncedFile, FileDigest};
use tempfile::{NamedTempFile, TempPath};

use super::naming::Naming;
use super::numbering::{Seen, look_at};
use super::own_files::{Folder, Found};
use super::partial::{Journal, Partial};
use super::piece_hasher::PieceHasher;
use super::{if_supported, safe_file_name, temporary_file, with_number};

/// How often, and after which time again, promised blocks are looked for.
const COPY_ATTEMPTS: u32 = 10;
const COPY_INTERVAL: Duration = Duration::from_millis(50);

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
    /// Whether the file takes space that was free before: not if it was there already.
    pub is_new: bool,
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

    /// Returns the numbers of the blocks that other processes or transfers have left of a file, in
    /// ascending order; see [`Self::resume`]. Nothing is locked or changed.
    ///
    /// # Errors
    /// There is no room, or `dir` cannot be read.
    pub fn find(dir: &Path, announced: &AnnouncedFile) -> Result<Vec<u32>, StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        // Such a file is checked for room by `create`, which follows, or by its first write.
        if !Self::is_resumable(announced) {
            return Ok(Vec::new());
        }
        let found = Partial::readable(dir, announced).map_err(at)?.into_iter();
        let found = found.map(|(_, written)| written).max_by_key(Vec::len).unwrap_or_default();
        if found.is_empty() {
            require_inode(dir)?;
        }
        let written: u64 = found.iter().map(|block| byte_count(announced, *block)).sum();
        require_space(dir, announced.size - written)?;
        Ok(found)
    }

    /// Whether a part of an announced file could outlast this process. If not, [`Self::create`] is
    /// enough in place of [`Self::resume`].
    #[must_use]
    pub fn is_resumable(announced: &AnnouncedFile) -> bool {
        Partial::is_possible(announced)
    }

    /// Closes the file. If a block of it is on disk, and if it can be continued, it is not removed.
    pub fn leave(mut self) {
        self.file.disable_cleanup(self.journal.is_some() && !self.written.is_empty());
    }

    /// Creates an announced file, or continues what another process or transfer has left of it. It
    /// holds all blocks that [`Self::find`] has `promised`: those that somebody else writes
    /// meanwhile are copied.
    ///
    /// # Errors
    /// There is no room, `dir` cannot be written to, or a promised block is not there any more.
    pub fn resume(
        dir: &Path,
        announced: &AnnouncedFile,
        promised: &[u32],
    ) -> Result<Self, StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        let mut file = match Partial::open(dir, announced).map_err(at)? {
            Some(partial) => Self::go_on(dir, announced, partial)?,
            None => Self::create(dir, announced.size)?,
        };
        match file.copy_missing(announced, promised) {
            Ok(()) => Ok(file),
            Err(error) => {
                file.leave();
                Err(error)
            }
        }
    }

    fn go_on(dir: &Path, announced: &AnnouncedFile, partial: Partial) -> Result<Self, StoreError> {
        let at = |error| StoreError::Io { path: dir.to_owned(), error };
        let place = |block: &u32| announced.layout.byte_range(*block);
        let places: RangeSet<u64> = partial.written.iter().map(place).collect();
        let written: u64 = places.iter().map(|place| place.end - place.start).sum();
        let mut path = TempPath::try_from_path(partial.path).map_err(at)?;
        // A part that is on disk stays there after an error.
        path.disable_cleanup(written > 0);
        require_space(dir, announced.size - written)?;
        path.disable_cleanup(false);
        let mut file =
            Self::new(dir, NamedTempFile::from_parts(partial.file, path), announced.size);
        file.journal = Some(partial.journal);
        file.written = places;
        Ok(file)
    }

    /// Copies promised blocks that this file lacks, from files that others write or have published.
    fn copy_missing(
        &mut self,
        announced: &AnnouncedFile,
        promised: &[u32],
    ) -> Result<(), StoreError> {
        let is_whole = |file: &Self| !promised.iter().any(|block| file.lacks(announced, *block));
        for attempt in 0..COPY_ATTEMPTS {
            if is_whole(self) {
                return Ok(());
            }
            // Another process that publishes the file has it under no name of these for a moment.
            std::thread::sleep(COPY_INTERVAL * attempt.min(1));
            self.copy_from_others(announced, promised)?;
        }
        if is_whole(self) {
            return Ok(());
        }
        let error = io::Error::other("what was on disk was removed by another transfer");
        Err(StoreError::Io { path: self.dir.clone(), error })
    }

    /// Whether no byte of a block is written.
    fn lacks(&self, announced: &AnnouncedFile, block: u32) -> bool {
        !self.written.overlaps(&announced.layout.byte_range(block))
    }

    /// Copies those of the promised blocks that this file lacks and that can be found now.
    fn copy_from_others(
        &mut self,
        announced: &AnnouncedFile,
        promised: &[u32],
    ) -> Result<(), StoreError> {
        let at = |error| StoreError::Io { path: self.dir.clone(), error };
        let mut sources = Partial::readable(&self.dir, announced).map_err(at)?;
        // Who wrote them may have published them since. If it is another file, BLAKE3 will tell.
        let name = safe_file_name(&announced.name);
        if let Found::Own(file) = Folder::open(&self.dir).map_err(at)?.find(&name, false)
            && file.metadata().is_ok_and(|found| found.len() == announced.size)
        {
            sources.push((file, promised.to_vec()));
        }
        for (source, written) in sources {
            for block in written {
                if promised.binary_search(&block).is_ok() && self.lacks(announced, block) {
                    let place = announced.layout.byte_range(block);
                    // A block is at most a few megabytes long.
                    let mut bytes = vec![0; (place.end - place.start) as usize];
                    let read = source.read_exact_at(&mut bytes, place.start);
                    read.map_err(|error| self.io_error(error))?;
                    self.write_block(block, place.start, &bytes)?;
                }
            }
        }
        Ok(())
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
        let (path, is_new) = match name {
            Some(name) if !naming.numbered => self.rename_to(&naming.name(name), naming, digest),
            _ => {
                let number = naming.next.fetch_add(1, Ordering::Relaxed);
                let extension = self.extension(name.unwrap_or_default());
                self.rename_to(&format!("img{number}{extension}"), naming, digest)
            }
        }?;
        Ok(PublishedFile { path, digest, is_new })
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
        ended.map_err(|error| self.io_error(error))?;
        if_supported(file.sync_data()).map_err(|error| {
            // The kernel reports a failed write once: a second sync would succeed.
            let text = format!("the disk does not take what was written: {error}");
            self.io_error(io::Error::new(error.kind(), text))
        })?;
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

    /// Gives the file its name, with a number if other files have the name. Returns the path, and
    /// whether the file is new: one with these bytes is replaced.
    fn rename_to(
        self,
        name: &str,
        naming: &Naming,
        digest: FileDigest,
    ) -> Result<(PathBuf, bool), StoreError> {
        let mut file = self.file;
        let (alike, next) = naming.numbering.of(name, self.size, &digest.name());
        // What had the plain name may have been moved away since.
        for number in iter::once(0).chain(alike.iter().copied()).chain(next.max(1)..u32::MAX) {
            let candidate = if number == 0 { name.to_owned() } else { with_number(name, number) };
            let path = self.dir.join(candidate);
            let at = |error| StoreError::Io { path: path.clone(), error };
            match naming.folder.persist(file, &path) {
                Ok(_) => {
                    naming.numbering.note(name, number, Seen::Digest(digest.name()));
                    return Ok((path, true));
                }
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    file = error.file;
                }
                Err(error) => return Err(at(error.error)),
            }
            if number < next && !alike.contains(&number) {
                // It was compared before.
                continue;
            }
            let there = look_at(&path, self.size);
            if there == Seen::Digest(digest.name()) {
                file.persist(&path).map_err(|error| at(error.error))?;
                naming.numbering.note(name, number, there);
                return Ok((path, false));
            }
            naming.numbering.note(name, number, there);
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

fn byte_count(announced: &AnnouncedFile, block: u32) -> u64 {
    let place = announced.layout.byte_range(block);
    place.end - place.start
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

#[cfg(test)]
mod tests;
