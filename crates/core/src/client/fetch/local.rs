//! Local files, named by a `file:` URL: they are opened and hashed, not copied.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root_xof,
};
use siar_proto::FileDigest;

use super::{Download, FetchConfig, FetchError};
use crate::io::store::{Content, temporary_file};
use crate::lock::lock;

/// The part that a thread hashes at once, in bytes: a subtree of BLAKE3's tree, and so a power of
/// two.
const PIECE_LEN: u64 = 1 << 20;
/// The size of a read buffer, in bytes: it stays in a core's own cache between reading and hashing.
const BUFFER_LEN: u64 = 64 << 10;

/// Opens the file at `path` under the name `name` and hashes it; a large file is hashed on all
/// cores. `progress` is told the hashed bytes and the total in bytes.
///
/// # Errors
/// The path is no regular file, or the file is too large or cannot be read.
pub(super) fn open(
    path: &Path,
    name: String,
    config: &FetchConfig<'_>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Download, FetchError> {
    let unreadable = |error| FetchError::Read { path: path.to_owned(), error };
    // Checked before the file is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FetchError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut bytes = metadata.len();
    let limit = config.limit;
    if hides_its_size(&file, &metadata).map_err(unreadable)? {
        let copy = copy(&mut file, config.dir, limit.saturating_add(1));
        (file, bytes) = copy.map_err(|error| FetchError::Copy { path: path.to_owned(), error })?;
    }
    if bytes > limit {
        return Err(FetchError::TooLarge { url: path.display().to_string(), limit });
    }
    let content = Content::new(file).map_err(unreadable)?;
    let digest =
        digest(content.file(), bytes, thread::Builder::new, progress).map_err(unreadable)?;
    Ok(Download { path: path.to_owned(), content: Arc::new(content), name, bytes, digest })
}

/// Whether the file's bytes are made when they are read, so that its size says nothing of them: in
/// `/proc` it is zero, in `/sys` that of a page.
fn hides_its_size(file: &File, metadata: &Metadata) -> io::Result<bool> {
    if metadata.blocks() > 0 {
        return Ok(false);
    }
    let last = metadata.len().saturating_sub(1);
    let has_byte = file.read_at(&mut [0], last)? > 0;
    Ok(has_byte == (metadata.len() == 0))
}

/// Copies at most `most` bytes into a file in `dir` that has no name; returns it and its size.
fn copy(from: &mut File, dir: &Path, most: u64) -> io::Result<(File, u64)> {
    let mut copy = temporary_file(dir)?;
    let bytes = io::copy(&mut from.take(most), &mut copy)?;
    // Dropping the path removes the name.
    let (copy, _path) = copy.into_parts();
    Ok((copy, bytes))
}

/// Returns the digest of the first `len` bytes of `file`. `helper` makes the threads that share the
/// work.
fn digest(
    file: &File,
    len: u64,
    helper: fn() -> thread::Builder,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> io::Result<FileDigest> {
    let pieces = len.div_ceil(PIECE_LEN);
    if pieces <= 1 {
        let hasher = hash_piece(file, 0..len, &mut buffer(len))?;
        progress(len, len);
        return Ok(FileDigest::of(&hasher));
    }
    // The values fit memory: they take 32 bytes for each MiB of a file.
    let values = Mutex::new(vec![ChainingValue::default(); pieces as usize]);
    let (progress, next, done) = (Mutex::new(progress), AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> io::Result<()> {
        let mut buffer = buffer(len);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= pieces {
                return Ok(());
            }
            let piece = index * PIECE_LEN..len.min((index + 1) * PIECE_LEN);
            let piece_len = piece.end - piece.start;
            let hasher = hash_piece(file, piece, &mut buffer).inspect_err(|_| {
                // After an error, nobody needs the remaining pieces.
                next.store(pieces, Ordering::Relaxed);
            })?;
            lock(&values)[index as usize] = hasher.finalize_non_root();
            let done = done.fetch_add(piece_len, Ordering::Relaxed) + piece_len;
            lock(&progress)(done, len);
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    thread::scope(|scope| {
        // If no more threads can be started, fewer threads do the work.
        let helpers: Vec<_> =
            (1..cores.min(pieces)).map_while(|_| helper().spawn_scoped(scope, work).ok()).collect();
        work()?;
        for helper in helpers {
            helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok::<_, io::Error>(())
    })?;
    let values = lock(&values);
    let (left, right) = values.split_at(left_subtree_pieces(values.len()));
    let root = merge_subtrees_root_xof(&merged(left), &merged(right), Mode::Hash);
    Ok(FileDigest::from_output(root))
}

fn buffer(len: u64) -> Vec<u8> {
    // 64 KiB at most.
    vec![0; len.min(BUFFER_LEN) as usize]
}

fn hash_piece(file: &File, piece: Range<u64>, buffer: &mut [u8]) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(piece.start);
    for offset in piece.clone().step_by(buffer.len().max(1)) {
        // No more than the buffer's length.
        let len = (piece.end - offset).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..len], offset)?;
        hasher.update(&buffer[..len]);
    }
    Ok(hasher)
}

/// Merges the values of one or more neighbouring pieces.
fn merged(pieces: &[ChainingValue]) -> ChainingValue {
    if let [piece] = pieces {
        return *piece;
    }
    let (left, right) = pieces.split_at(left_subtree_pieces(pieces.len()));
    merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
}

/// Returns how many of two or more pieces make up the left subtree: the greatest power of two below
/// their number.
fn left_subtree_pieces(pieces: usize) -> usize {
    pieces.div_ceil(2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{NameSource, Redirections, SpeedFloor};
    use super::*;

    fn config(dir: &Path) -> FetchConfig<'_> {
        FetchConfig {
            dir,
            name: NameSource::Url,
            limit: u64::MAX,
            redirections: Redirections::Safe,
            speed: SpeedFloor { bytes_per_second: 0, time: Duration::ZERO },
            time_limit: None,
            keeps_open: false,
        }
    }

    fn opened(bytes: &[u8], limit: u64) -> Result<Download, FetchError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file");
        fs::write(&path, bytes).unwrap();
        let config = FetchConfig { limit, ..config(dir.path()) };
        open(&path, "a file".to_owned(), &config, &mut |done, total| {
            assert!(done <= total && total == bytes.len() as u64);
        })
    }

    #[test]
    fn files_of_any_number_of_pieces_are_hashed_as_blake3_does() {
        let piece = PIECE_LEN as usize;
        for len in [0, 1, 1024, piece - 1, piece, piece + 1, 2 * piece, 5 * piece + 1025, 7 * piece]
        {
            let bytes: Vec<u8> =
                (0..len as u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
            let opened = opened(&bytes, u64::MAX).unwrap();
            assert_eq!((opened.bytes, opened.digest), (len as u64, FileDigest::of_bytes(&bytes)));
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        assert!(opened(b"hello", 5).is_ok());
        assert!(matches!(opened(b"hello", 4), Err(FetchError::TooLarge { limit: 4, .. })));
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 3 * PIECE_LEN] {
            let file = temporary_file(dir.path()).unwrap();
            file.as_file().set_len(len).unwrap();
            assert!(digest(file.as_file(), len + 1, thread::Builder::new, &mut |_, _| ()).is_err());
        }
    }

    #[test]
    fn a_large_file_is_hashed_without_helpers_where_none_can_be_started() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; 3 * PIECE_LEN as usize];
        let mut file = temporary_file(dir.path()).unwrap();
        file.write_all(&bytes).unwrap();
        // The system cannot provide a stack of half the address space.
        let helper = || thread::Builder::new().stack_size(1 << 46);
        let digest = digest(file.as_file(), bytes.len() as u64, helper, &mut |_, _| ()).unwrap();
        assert_eq!(digest, FileDigest::of_bytes(&bytes));
    }

    #[test]
    fn a_file_that_says_no_true_size_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["/proc/version", "/sys/class/net/lo/mtu"] {
            let expected = fs::read(path).unwrap();
            let open = |limit| {
                let config = FetchConfig { limit, ..config(dir.path()) };
                open(Path::new(path), String::new(), &config, &mut |_, _| ())
            };
            let opened = open(expected.len() as u64).unwrap();
            assert_eq!(opened.bytes, expected.len() as u64);
            assert_eq!(opened.digest, FileDigest::of_bytes(&expected));
            let mut sent = vec![0; expected.len()];
            opened.content.read_exact_at(&mut sent, 0).unwrap();
            assert_eq!(sent, expected);
            assert!(matches!(open(1), Err(FetchError::TooLarge { .. })));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // A file with a hole has its size.
        let sparse = dir.path().join("sparse");
        File::create(&sparse).unwrap().set_len(3 << 20).unwrap();
        let opened = open(&sparse, String::new(), &config(dir.path()), &mut |_, _| ()).unwrap();
        assert_eq!(opened.bytes, 3 << 20);
    }

    #[test]
    fn folders_and_pipes_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let error = open(dir.path(), String::new(), &config, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, FetchError::NotAFile { .. }));
        assert!(error.to_string().contains(&dir.path().display().to_string()));
        let missing = dir.path().join("missing");
        let error = open(&missing, String::new(), &config, &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
