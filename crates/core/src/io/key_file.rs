//! The key file: who may own it, what it holds, and that no core dump gets the key.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::seal::KeyError;

/// The most bytes that are read; 64 digits and some blanks are fewer.
const MAX_LEN: u64 = 1024;
/// A random key has about 30 different bytes; fewer than this come by chance once in 10^30 keys.
const LEAST_DIFFERENT_BYTES: usize = 8;

/// Reads a key file, and keeps this process out of core dumps from then on.
pub(super) fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let at = |error| KeyError::File { path: path.to_owned(), error };
    // The open of a pipe would wait for its other end. All that follows concerns the open file:
    // another file may get the name meanwhile.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(at)?;
    check_owner(path, &file)?;
    forbid_core_dumps().map_err(at)?;
    // The text fits, so that no part of it is left behind in a buffer that was too small.
    let mut text = Zeroizing::new(Vec::<u8>::with_capacity(2 * MAX_LEN as usize));
    file.take(MAX_LEN).read_to_end(&mut text).map_err(at)?;
    let key = decoded(&text).ok_or_else(|| KeyError::Format(path.to_owned()))?;
    if is_random(&key) { Ok(key) } else { Err(KeyError::NotRandom(path.to_owned())) }
}

fn check_owner(path: &Path, file: &File) -> Result<(), KeyError> {
    let found = file.metadata().map_err(|error| KeyError::File { path: path.to_owned(), error })?;
    if !found.is_file() {
        return Err(KeyError::NotAFile(path.to_owned()));
    }
    if !is_trusted(found.uid(), geteuid().as_raw()) {
        return Err(KeyError::Owner { path: path.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o777;
    // Of a credential, the mode says less than its access control list and its folder.
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    let is_credential = credentials.is_some_and(|dir| path.starts_with(dir));
    if mode & 0o077 != 0 && !is_credential {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether a key of `owner` is one for `user`: its owner knows it and can change it.
fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

/// A core dump of this process would hold the key. The limit alone does not stop dumps that the
/// kernel hands to a program. Workers can still be started: the kernel lets a process look at its
/// own `/proc/self/exe`, and a new program can be dumped again until it loads the key.
fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    Ok(())
}

fn decoded(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.trim_ascii();
    let mut key = Zeroizing::new([0u8; 32]);
    if digits.len() != 2 * key.len() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        // Two digits make one byte.
        *byte = (16 * value(pair[0])? + value(pair[1])?) as u8;
    }
    Some(key)
}

fn is_random(key: &[u8; 32]) -> bool {
    let mut sorted = Zeroizing::new(*key);
    sorted.sort_unstable();
    1 + sorted.windows(2).filter(|pair| pair[0] != pair[1]).count() >= LEAST_DIFFERENT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn read_text(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        read(&path)
    }

    #[test]
    fn sixty_four_digits_make_a_key() {
        let digits = "000102030405060708090A0b0c0d0e0f".repeat(2);
        let expected: Vec<u8> = (0..16).chain(0..16).collect();
        assert_eq!(read_text(&format!(" {digits}\n")).unwrap()[..], expected);
        for wrong in [&digits[1..], &format!("{digits}0"), &digits.replace('A', "g"), ""] {
            assert!(matches!(read_text(wrong), Err(KeyError::Format(_))), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_is_not_random_is_refused() {
        for weak in ["00", "5a", "0102030405060707"].map(|text| text.repeat(64 / text.len())) {
            let error = read_text(&weak).unwrap_err();
            assert!(matches!(error, KeyError::NotRandom(_)), "{weak}: {error}");
            assert!(error.to_string().contains("siar-lab keygen"), "{error}");
        }
        read_text(&"0102030405060708".repeat(4)).unwrap();
    }

    #[test]
    fn only_a_file_of_this_user_or_of_root_is_taken() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(KeyError::NotAFile(_))));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(read(&pipe), Err(KeyError::NotAFile(_))));
    }

    #[test]
    fn a_process_with_a_key_leaves_no_core_dump() {
        read_text(&"0102030405060708".repeat(4)).unwrap();
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
        let limit = nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert_eq!(limit, (0, 0));
    }
}
