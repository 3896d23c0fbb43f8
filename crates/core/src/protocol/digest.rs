//! What is known of a file by its bytes.

use crate::wire::{ReceiverId, TransferId};

/// A file's BLAKE3, twice as long as usual: the first half names the file and is announced;
/// the second half is told to nobody. BLAKE3's output is pseudorandom in its input, so the
/// second half cannot be had from the first, only from the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    name: [u8; 32],
    secret: [u8; 32],
}

impl FileDigest {
    /// Of what `hasher` was given.
    #[must_use]
    pub fn of(hasher: &blake3::Hasher) -> Self {
        Self::from_output(hasher.finalize_xof())
    }

    /// Of what BLAKE3 puts out at the root of its tree.
    #[must_use]
    pub fn from_output(mut output: blake3::OutputReader) -> Self {
        let (mut name, mut secret) = ([0; 32], [0; 32]);
        output.fill(&mut name);
        output.fill(&mut secret);
        Self { name, secret }
    }

    /// Of a file in memory.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(blake3::Hasher::new().update(bytes))
    }

    /// The usual 32 bytes of BLAKE3.
    #[must_use]
    pub fn name(&self) -> [u8; 32] {
        self.name
    }

    /// What only somebody who has the file can say, and only for this receiver in this
    /// transfer.
    #[must_use]
    pub fn proof(&self, transfer: TransferId, receiver: ReceiverId) -> [u8; 32] {
        let said = [transfer.0.to_be_bytes(), receiver.0.to_be_bytes()].concat();
        *blake3::keyed_hash(&self.secret, &said).as_bytes()
    }
}

impl std::fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileDigest({})", blake3::Hash::from_bytes(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_bound_to_file_transfer_and_receiver() {
        let digest = FileDigest::of_bytes(b"file");
        assert_eq!(digest.name(), *blake3::hash(b"file").as_bytes());
        let proofs = [
            digest.proof(TransferId(1), ReceiverId(2)),
            digest.proof(TransferId(2), ReceiverId(2)),
            digest.proof(TransferId(1), ReceiverId(1)),
            FileDigest::of_bytes(b"File").proof(TransferId(1), ReceiverId(2)),
            digest.name(),
        ];
        for (index, proof) in proofs.iter().enumerate() {
            assert!(!proofs[..index].contains(proof), "{index}");
        }
    }
}
