//! What the files in a folder take, for the quota.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{PREFIX, SUFFIX};

/// The first half of a file's BLAKE3 digest, which names its partial files.
pub type PartId = [u8; 16];

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
            match entry.file_name().to_str().and_then(part_id) {
                Some(id) => usage.parts.push((id, found.blocks() * SECTOR)),
                None => usage.files.push(found.len()),
            }
        }
        Ok(usage)
    }
}

/// Returns whose part a file is, by its name.
fn part_id(name: &str) -> Option<PartId> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?.0;
    let number = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(number.to_be_bytes())
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
        write(&format!(".siar-{}-1f4-01234567.part", "0a".repeat(16)), 4096);
        fs::create_dir(dir.path().join("folder")).unwrap();
        let mut usage = Usage::of(dir.path()).unwrap();
        usage.files.sort_unstable();
        assert_eq!(usage.files, [3, 5000]);
        assert_eq!(usage.parts.len(), 1);
        assert_eq!(usage.parts[0].0, [0x0a; 16]);
        assert!(usage.parts[0].1 >= 4096);
    }
}
