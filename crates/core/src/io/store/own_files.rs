//! Files in a folder into which other users may write too: nothing is opened but regular files of
//! this user, and nothing that stands there can hold up a process.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::temporary_file;

/// The bits that let others write a file, or that make it more than a plain file.
const UNSAFE_BITS: u32 = 0o7022;

/// A folder, held open.
#[derive(Debug)]
pub(super) struct Folder<'a> {
    path: &'a Path,
    handle: File,
    /// The owner and the mode that a new file gets here; `None` if no file can be made.
    of_new_file: OnceCell<Option<(u32, u32)>>,
}

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file of this user, which has no other name and which nobody else may write.
    Own(File),
    /// Anything else, and what is wrong with it.
    Foreign(String),
    /// Nothing.
    Nothing,
}

impl<'a> Folder<'a> {
    /// Opens a folder.
    pub(super) fn open(path: &'a Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY.bits();
        let handle = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Self { path, handle, of_new_file: OnceCell::new() })
    }

    /// Opens what stands under `name`, for reading or for both; it does not wait for anything.
    pub(super) fn find(&self, name: &str, is_written: bool) -> Found {
        let access = if is_written { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        // The open of a pipe would wait for its other end.
        match self.open_at(name, access | OFlag::O_NONBLOCK) {
            Ok(file) => match self.fault(&file) {
                Ok(None) => Found::Own(file),
                Ok(Some(fault)) => Found::Foreign(fault),
                Err(error) => Found::Foreign(error.to_string()),
            },
            Err(Errno::ENOENT) => Found::Nothing,
            Err(Errno::ELOOP) => Found::Foreign("it is a symbolic link".to_owned()),
            Err(error) => Found::Foreign(error.desc().to_owned()),
        }
    }

    /// Makes a new file, with the mode that the umask gives.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        Ok(self.open_at(name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)?)
    }

    /// Whether `file` still stands under `name`: the process that held its lock may have published
    /// or removed it.
    pub(super) fn holds(&self, name: &str, file: &File) -> bool {
        let of = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
        // This opens nothing but the name.
        let found = self.open_at(name, OFlag::O_PATH).ok().and_then(|found| of(&found));
        found.is_some() && found == of(file)
    }

    /// Removes a name.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn open_at(&self, name: &str, flags: OFlag) -> nix::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        loop {
            match openat(&self.handle, name, flags, Mode::from_bits_truncate(0o666)) {
                Err(Errno::EINTR) => {}
                opened => return opened.map(File::from),
            }
        }
    }

    /// Says why a file is not taken, if there is a reason.
    fn fault(&self, file: &File) -> io::Result<Option<String>> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(Some("it is not a regular file".to_owned()));
        }
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        let is_safe = owner == geteuid().as_raw() && mode & UNSAFE_BITS == 0;
        // Some file systems have one owner and one mode for all files; the umask may let others
        // write, too.
        if !is_safe && *self.of_new_file.get_or_init(|| self.new_file()) != Some((owner, mode)) {
            let fault = format!("it belongs to user {owner} and has mode {mode:04o}");
            return Ok(Some(fault));
        }
        // A file's other name may be anybody's.
        Ok((found.nlink() > 1).then(|| "it has another name, too".to_owned()))
    }

    fn new_file(&self) -> Option<(u32, u32)> {
        let file = temporary_file(self.path).ok()?;
        let made = file.as_file().metadata().ok()?;
        Some((made.uid(), made.mode() & 0o7777))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_an_own_regular_file_with_one_name_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let folder = Folder::open(dir.path()).unwrap();
        drop(folder.create("own").unwrap());
        assert!(folder.create("own").is_err(), "a name is made once");
        nix::unistd::mkfifo(&path("pipe"), Mode::from_bits_truncate(0o666)).unwrap();
        symlink(path("own"), path("symlink")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("linked"), "").unwrap();
        fs::hard_link(path("linked"), path("link")).unwrap();
        for (name, mode) in [("open", 0o646), ("set", 0o4644)] {
            fs::write(path(name), "").unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        for is_written in [false, true] {
            assert!(matches!(folder.find("own", is_written), Found::Own(_)));
            assert!(matches!(folder.find("missing", is_written), Found::Nothing));
            for name in ["pipe", "symlink", "folder", "link", "linked", "open", "set"] {
                let found = folder.find(name, is_written);
                assert!(matches!(found, Found::Foreign(_)), "{name}: {found:?}");
            }
        }
    }

    #[test]
    fn a_name_that_another_file_has_got_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let file = folder.create("a").unwrap();
        assert!(folder.holds("a", &file));
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(!folder.holds("a", &file) && folder.holds("b", &file));
        drop(folder.create("a").unwrap());
        assert!(!folder.holds("a", &file));
        folder.remove("a").unwrap();
        assert!(matches!(folder.find("a", false), Found::Nothing));
    }
}
