//! Sealed frames: without the key, nobody can read, make or change them.
//!
//! ```text
//!  0      4            16            24                        end - 16     end
//! +------+------------+-------------+------ - - - - ----------+------------+
//! | SIAS | session id |   counter   |  frame, encrypted       |    tag     |
//! +------+------------+-------------+------ - - - - ----------+------------+
//! ```
//!
//! The AEAD is AES-128-GCM (NIST SP 800-38D). Each sealer chooses a session id of 96 random bits.
//! The session's key is derived from the id and the key of the key file, and the nonce is a
//! counter. So no nonce repeats under one key, however many processes seal at once.
//!
//! A sealed datagram that somebody else sends again gains nothing: a session is at the address that
//! its datagram with the highest counter came from (as WireGuard's roaming does). A host that is
//! quicker than the true sender's own datagrams can thus draw a session to it. So a few other
//! addresses are remembered, and each is answered too, with no more bytes than came from there.

mod opener;

pub use opener::{OpenError, Opened, Opener};

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::ZeroizeOnDrop;

use super::key_file;

/// The number of bytes by which a sealed datagram is longer than its frame.
pub const SEAL_LEN: usize = HEADER_LEN + TAG_LEN;
/// The first bytes of a sealed datagram.
pub const SEALED_MAGIC: [u8; 4] = *b"SIAS";
const HEADER_LEN: usize = 24;
const COUNTER_AT: usize = 16;
const TAG_LEN: usize = 16;
const CONTEXT: &str = "siar 2026-11 sealed frames, session key, 64-bit counter";
/// The id of a sealing session.
pub type SessionId = [u8; COUNTER_AT - SEALED_MAGIC.len()];

/// The reason why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or created.
    #[error("key file {path}: {error}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// Other users may read the file.
    #[error("key file {path} can be read by others (mode {mode:04o}): chmod 600 {path}")]
    Mode {
        /// The path of the file.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
    /// The file is a folder, a pipe or a device.
    #[error("key file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// The file belongs to another user, who could know or replace the key.
    #[error("key file {path} belongs to user {owner}: it must be yours or root's")]
    Owner {
        /// The path of the file.
        path: PathBuf,
        /// The user id of the file's owner.
        owner: u32,
    },
    /// Anybody could guess the key.
    #[error("key file {0} holds no random key: `cargo lab keygen` or `siar-lab keygen` makes one")]
    NotRandom(PathBuf),
    /// The file does not contain a key.
    #[error("key file {0} does not hold 64 hexadecimal digits")]
    Format(PathBuf),
}

/// A key: 32 secret bytes that all clients and servers share. They are wiped from memory on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a key file: 64 hexadecimal digits, readable only by the file's owner, who is this user
    /// or root, or a credential that systemd has handed to this service. From then on, this process
    /// leaves no core dumps.
    ///
    /// # Errors
    /// The error names what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        key_file::read(path).map(|key| Self(*key))
    }

    /// Creates a new key and its file.
    ///
    /// # Errors
    /// The file exists already, or cannot be created.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let key = Self(rand::random());
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
            writeln!(file, "{}", blake3::Hash::from_bytes(key.0).to_hex())?;
            file.sync_all()
        };
        write().map_err(|error| KeyError::File { path: path.to_owned(), error })?;
        Ok(key)
    }

    fn of_session(&self, session: SessionId) -> LessSafeKey {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.0).update(&session);
        let derived = hasher.finalize();
        #[allow(clippy::expect_used)] // AES-128 takes 16 bytes.
        let key =
            UnboundKey::new(&AES_128_GCM, &derived.as_bytes()[..16]).expect("a key of 16 bytes");
        LessSafeKey::new(key)
    }
}

/// The sealer of one process's frames.
pub struct Sealer {
    session: SessionId,
    session_key: LessSafeKey,
    counter: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

impl Sealer {
    /// Begins a sealing session.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        let session = rand::random();
        Self { session, session_key: key.of_session(session), counter: 0 }
    }

    /// Appends the sealed frame to `out`.
    pub fn seal(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&SEALED_MAGIC);
        out.extend_from_slice(&self.session);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(frame);
        let (header, sealed) = out[begin..].split_at_mut(HEADER_LEN);
        let tag = self.session_key.seal_in_place_separate_tag(
            nonce(self.counter),
            Aad::from(&*header),
            sealed,
        );
        self.counter += 1;
        #[allow(clippy::expect_used)] // It fails for more than 64 GiB; a datagram is shorter.
        out.extend_from_slice(tag.expect("a datagram").as_ref());
    }
}

/// The sealer and the opener of one process.
#[derive(Debug)]
pub struct Sealing {
    /// The sealer of outgoing frames.
    pub sealer: Sealer,
    /// The opener of incoming datagrams.
    pub opener: Opener,
}

impl Sealing {
    /// Makes a sealer and an opener for `key`.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self { sealer: Sealer::new(key), opener: Opener::new(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    pub(super) const HERE: ([u8; 4], u16) = ([192, 0, 2, 1], 4000);

    pub(super) fn sealed(sealer: &mut Sealer, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(frame, &mut out);
        out
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_only() {
        let (key, other) = (Key([1; 32]), Key([2; 32]));
        let mut sealer = Sealer::new(&key);
        let datagram = sealed(&mut sealer, b"frame");
        assert_eq!(datagram.len(), 5 + SEAL_LEN);
        assert!(!datagram.windows(5).any(|bytes| bytes == b"frame"));
        assert_eq!(
            Opener::new(&key).open(HERE.into(), &datagram).map(|opened| opened.frame),
            Ok(&b"frame"[..])
        );
        assert_eq!(Opener::new(&other).open(HERE.into(), &datagram), Err(OpenError::Key));
        assert_eq!(Opener::new(&key).open(HERE.into(), b"SIAR frame"), Err(OpenError::Plain));
    }

    #[test]
    fn no_two_datagrams_share_session_and_counter() {
        let key = Key([1; 32]);
        let (mut one, mut two) = (Sealer::new(&key), Sealer::new(&key));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            for sealer in [&mut one, &mut two] {
                assert!(seen.insert(sealed(sealer, b"")[4..HEADER_LEN].to_vec()));
            }
        }
    }

    #[test]
    fn a_key_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = Key::create(&path).unwrap();
        assert_eq!(Key::load(&path).unwrap().0, key.0);
        assert!(matches!(Key::create(&path), Err(KeyError::File { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Key::load(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
        fs::write(&path, "short").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Key::load(&path), Err(KeyError::Format(_))));
    }

    proptest! {
        #[test]
        fn no_flipped_bit_gets_through(at in 0usize..(64 + SEAL_LEN), bit in 0u8..8) {
            let key = Key([1; 32]);
            let mut datagram = sealed(&mut Sealer::new(&key), &[7; 64]);
            datagram[at] ^= 1 << bit;
            prop_assert!(Opener::new(&key).open(HERE.into(), &datagram).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut opener = Opener::new(&Key([1; 32]));
            prop_assert!(opener.open(HERE.into(), &bytes).is_err());
            let sealed_like = [&SEALED_MAGIC[..], &bytes].concat();
            prop_assert!(opener.open(HERE.into(), &sealed_like).is_err());
        }
    }
}
