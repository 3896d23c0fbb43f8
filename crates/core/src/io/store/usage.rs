//! What the files in a folder take, for the quota.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{PREFIX, SUFFIX};

/// What a file's partial files are named by; see [`part_id`](super::part_id).
pub type PartId = String;

/// The bytes of a sector, as `stat` counts.
const SECTOR: u64 = 512;

/// What the files in a folder take. Folders in it do not count: the server puts nothing there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sizes of all files but partial ones, in bytes.
    pub files: Vec<u64>,
    /// The partial files, with the bytes that each takes on disk.
    pub parts: Vec<(PartId, u64)>,
}

impl Usage {
    /// Looks at the files in `dir`.
    ///
    /// # Errors
    /// `dir` cannot be read.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut usage = Self::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A file that has gone meanwhile takes nothing.
            let Ok(found) = entry.metadata() else { continue };
            if !found.is_file() {
                continue;
            }
            match entry.file_name().to_str().and_then(id_in) {
                Some(id) => usage.parts.push((id, found.blocks() * SECTOR)),
                None => usage.files.push(found.len()),
            }
        }
        Ok(usage)
    }
}

/// Returns whose part a file is, by its name: another number may follow.
fn id_in(name: &str) -> Option<PartId> {
    let parts: Vec<&str> =
        name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split('-').take(4).collect();
    (parts.len() == 4).then(|| parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_parts_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, len: usize| fs::write(dir.path().join(name), vec![1; len]).unwrap();
        write("a.txt", 5000);
        write(".siar-abc.part", 3);
        write(".siar-0a0b-1f4-01234567-10x4-1.part", 4096);
        fs::create_dir(dir.path().join("folder")).unwrap();
        let mut usage = Usage::of(dir.path()).unwrap();
        usage.files.sort_unstable();
        assert_eq!(usage.files, [3, 5000]);
        assert_eq!(usage.parts.len(), 1);
        assert_eq!(usage.parts[0].0, "0a0b-1f4-01234567-10x4");
        assert!(usage.parts[0].1 >= 4096);
    }
}
