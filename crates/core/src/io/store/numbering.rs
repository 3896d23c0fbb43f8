//! The numbers that files of one name have: a file of a name that many others have is not compared
//! with all of them.

use std::collections::HashMap;
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
    /// Returns the number of the file of this name and digest, if it is known, and the first number
    /// that is not known to be taken.
    pub(crate) fn of(&self, name: &str, digest: &[u8; 32]) -> (Option<u32>, u32) {
        let known = lock(&self.0);
        known
            .by_name
            .get(name)
            .map_or((None, 0), |numbers| (numbers.by_digest.get(digest).copied(), numbers.next))
    }

    /// Notes that a file of this name has `number`, and its digest, if that was computed.
    pub(crate) fn note(&self, name: &str, number: u32, digest: Option<[u8; 32]>) {
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
        if let Some(digest) = digest {
            numbers.by_digest.insert(digest, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_seen_counts_as_taken() {
        let numbering = Numbering::default();
        assert_eq!(numbering.of("a", &[0; 32]), (None, 0));
        numbering.note("a", 0, None);
        numbering.note("a", 1, Some([1; 32]));
        assert_eq!(numbering.of("a", &[0; 32]), (None, 2));
        assert_eq!(numbering.of("a", &[1; 32]), (Some(1), 2));
        assert_eq!(numbering.of("b", &[1; 32]), (None, 0));
    }
}
