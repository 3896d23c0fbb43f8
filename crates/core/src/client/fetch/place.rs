//! The place of a download: its name, or a numbered one if a different file has that name.

use std::fs::File;
use std::io;
use std::iter;
use std::path::Path;
use std::sync::LazyLock;

use siar_proto::FileDigest;
use tempfile::NamedTempFile;

use super::FetchError;
use crate::io::store::{Numbering, Seen, look_at, persist_new, with_number};

/// Gives a whole download of `bytes` bytes the name `wanted` in `dir`, or the first numbered name
/// that no different file has. No file is replaced, whoever made it: a file of the same bytes is
/// kept in place of the download. Returns the download's bytes and its name.
///
/// # Errors
/// The download cannot be renamed, or no name is left.
pub(super) fn put(
    download: NamedTempFile,
    dir: &Path,
    wanted: &str,
    bytes: u64,
    digest: FileDigest,
) -> Result<(File, String), FetchError> {
    /// The downloads of this process. The names are paths.
    static NUMBERING: LazyLock<Numbering> = LazyLock::new(Numbering::default);
    let (mut download, all) = (download, dir.join(wanted).display().to_string());
    let (alike, next) = NUMBERING.of(&all, bytes, &digest.name());
    for number in iter::once(0).chain(alike.iter().copied()).chain(next.max(1)..u32::MAX) {
        let name = if number == 0 { wanted.to_owned() } else { with_number(wanted, number) };
        let path = dir.join(&name);
        match persist_new(download, &path) {
            Ok(file) => {
                NUMBERING.note(&all, number, Seen::Digest(digest.name()));
                return Ok((file, name));
            }
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                // What was compared before is not compared again.
                if number >= next || alike.contains(&number) {
                    let there = look_at(&path, bytes);
                    NUMBERING.note(&all, number, there);
                    if there == Seen::Digest(digest.name()) {
                        // Dropping the path removes the temporary name.
                        let (file, _path) = error.file.into_parts();
                        return Ok((file, name));
                    }
                }
                download = error.file;
            }
            Err(error) => return Err(FetchError::Write { path, error: error.error }),
        }
    }
    Err(FetchError::Write { path: dir.join(wanted), error: io::ErrorKind::AlreadyExists.into() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::io::Write;
    use std::thread;

    use super::*;
    use crate::io::store::temporary_file;

    fn put_bytes(dir: &Path, bytes: &[u8]) -> String {
        let mut file = temporary_file(dir).unwrap();
        file.write_all(bytes).unwrap();
        let digest = FileDigest::of_bytes(bytes);
        put(file, dir, "a.txt", bytes.len() as u64, digest).unwrap().1
    }

    #[test]
    fn a_different_file_keeps_its_name_and_the_same_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a.txt"), "mine").unwrap();
        fs::create_dir(path("a-1.txt")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("a-2.txt")).unwrap();
        assert_eq!(put_bytes(dir.path(), b"new"), "a-3.txt");
        assert_eq!(put_bytes(dir.path(), b"new"), "a-3.txt");
        assert_eq!(put_bytes(dir.path(), b"mine"), "a.txt");
        assert_eq!(put_bytes(dir.path(), b"other"), "a-4.txt");
        assert_eq!(fs::read(path("a.txt")).unwrap(), b"mine");
        assert_eq!(fs::read(path("a-3.txt")).unwrap(), b"new");
        assert!(path("a-2.txt").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn of_many_at_once_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let names: HashSet<String> = thread::scope(|scope| {
            let put_one = |byte: u8| put_bytes(dir.path(), &[byte]);
            let threads: Vec<_> = (0..16).map(|byte| scope.spawn(move || put_one(byte))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(names.len(), 16);
        let bytes: HashSet<Vec<u8>> =
            names.iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect();
        assert_eq!(bytes.len(), 16);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 16);
    }
}
