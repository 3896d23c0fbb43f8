//! A file's digest, and the proof that a receiver has the file.

use crate::wire::{ReceiverId, TransferId};

/// The BLAKE3 digest of a file, with 64 bytes of output instead of the usual 32.
///
/// The first half names the file and is announced. The second half is never sent: it is the key of
/// the receivers' proofs (docs/PROTOCOL.md, section "Proof"). BLAKE3's output is pseudorandom, so
/// that the second half can be computed from the file only, not from the first half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    name: [u8; 32],
    secret: [u8; 32],
}

impl FileDigest {
    /// The digest of the bytes that `hasher` was given.
    #[must_use]
    pub fn of(hasher: &blake3::Hasher) -> Self {
        Self::from_output(hasher.finalize_xof())
    }

    /// The digest from the output at the root of BLAKE3's tree, read from its beginning.
    #[must_use]
    pub fn from_output(mut output: blake3::OutputReader) -> Self {
        let (mut name, mut secret) = ([0; 32], [0; 32]);
        output.fill(&mut name);
        output.fill(&mut secret);
        Self { name, secret }
    }

    /// The digest of a file in memory.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(blake3::Hasher::new().update(bytes))
    }

    /// The first half: the usual BLAKE3 digest of the file.
    #[must_use]
    pub fn name(&self) -> [u8; 32] {
        self.name
    }

    /// The proof that `receiver` has the file in `transfer`. Only a host that has the file can
    /// compute it, and it is valid for this receiver in this transfer only.
    ///
    /// It is BLAKE3, keyed with the digest's second half, over the transfer id and the receiver id,
    /// 8 bytes each in big-endian order (docs/PROTOCOL.md, section "Proof").
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
