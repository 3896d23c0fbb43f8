//! Programs of the system. Those for administrators lie in folders that an ordinary user's PATH
//! often lacks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const ADMINISTRATORS_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A command that runs `program`, which is looked for in the administrators' folders as well.
#[must_use]
pub fn command(program: &str) -> Command {
    // A program that is not found is reported when the command is started.
    Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)))
}

/// The path of a program in the PATH or in the administrators' folders.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(program, &std::env::var_os("PATH").unwrap_or_default())
}

fn find_in(program: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(std::env::split_paths(ADMINISTRATORS_FOLDERS))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("sh");
        std::fs::copy("/bin/sh", &program).unwrap();
        assert_eq!(find_in("sh", &dir.path().into()), Some(program));
        assert_eq!(find_in("no-such-program", &dir.path().into()), None);
    }
}
