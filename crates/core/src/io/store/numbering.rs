//! The numbers that files of one name have: a file of a name that many others have is not compared
//! with all of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use crate::lock::lock;

/// The largest number of files that are remembered; with one more, all are compared again.
const MAX_REMEMBERED: usize = 1 << 16;

/// What is known of the files of one name.
#[derive(Debug, Default)]
struct Numbers {
    /// All lower numbers are taken.
    next: u32,
    /// The numbers of files by their BLAKE3 digests.
    by_digest: HashMap<[u8; 32], u32>,
    /// The numbers of files of which only the size is known, by that.
    by_size: HashMap<u64, Vec<u32>>,
}

/// What is known of a file that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its BLAKE3 digest.
    Digest([u8; 32]),
    /// Its size in bytes, since no file of this size was looked for.
    Size(u64),
    /// That it is none to be compared.
    Other,
}

/// The numbers of the files in a folder, by name.
#[derive(Debug, Default)]
pub(crate) struct Numbering(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<String, Numbers>,
    /// The number of notes since all were forgotten.
    noted: usize,
}

impl Numbering {
    /// Returns the numbers of the files of this name that may be the one with this size and digest,
    /// and the first number that is not known to be taken.
    pub(crate) fn of(&self, name: &str, size: u64, digest: &[u8; 32]) -> (Vec<u32>, u32) {
        let known = lock(&self.0);
        let Some(numbers) = known.by_name.get(name) else { return (Vec::new(), 0) };
        let same = numbers.by_digest.get(digest).copied().into_iter();
        let alike = numbers.by_size.get(&size).into_iter().flatten().copied();
        (same.chain(alike).collect(), numbers.next)
    }

    /// Notes that a file of this name has `number`, and what was seen of it.
    pub(crate) fn note(&self, name: &str, number: u32, seen: Seen) {
        let mut known = lock(&self.0);
        if known.noted >= MAX_REMEMBERED {
            *known = Known::default();
        }
        known.noted += 1;
        let numbers = known.by_name.entry(name.to_owned()).or_default();
        // After all were forgotten, lower numbers are compared again.
        if numbers.next == number {
            numbers.next = number + 1;
        }
        match seen {
            Seen::Digest(digest) => {
                numbers.by_digest.insert(digest, number);
                numbers.by_size.values_mut().for_each(|alike| alike.retain(|one| *one != number));
            }
            Seen::Size(size) => {
                let alike = numbers.by_size.entry(size).or_default();
                if !alike.contains(&number) {
                    alike.push(number);
                }
            }
            Seen::Other => {}
        }
    }
}

/// Looks at the file at `path`; it is read if it has `size` bytes.
pub(crate) fn look_at(path: &Path, size: u64) -> Seen {
    match path.symlink_metadata() {
        Ok(data) if data.is_file() && data.len() == size => {
            hash_file(path).map_or(Seen::Other, |hash| Seen::Digest(*hash.as_bytes()))
        }
        Ok(data) if data.is_file() => Seen::Size(data.len()),
        _ => Seen::Other,
    }
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

    #[test]
    fn only_what_was_seen_counts_as_taken() {
        let numbering = Numbering::default();
        assert_eq!(numbering.of("a", 5, &[0; 32]), (vec![], 0));
        numbering.note("a", 0, Seen::Size(5));
        numbering.note("a", 1, Seen::Digest([1; 32]));
        numbering.note("a", 2, Seen::Other);
        assert_eq!(numbering.of("a", 6, &[0; 32]), (vec![], 3));
        assert_eq!(numbering.of("a", 5, &[1; 32]), (vec![1, 0], 3));
        numbering.note("a", 0, Seen::Digest([2; 32]));
        assert_eq!(numbering.of("a", 5, &[1; 32]), (vec![1], 3));
        assert_eq!(numbering.of("b", 5, &[1; 32]), (vec![], 0));
    }
}
