//! The command `cargo lab release`: an archive, a Debian package, a bill of materials and
//! checksums. Two releases of one commit have the same bytes.
//!
//! | module | job |
//! |---|---|
//! | [`tree`] | the installed files: programs, manual pages, completions, documents, settings |
//! | [`archive`] | the tree as a `.tar.gz` |
//! | [`package`] | the tree as a Debian package, by `cargo-deb` |
//! | [`materials`] | the bill of materials in CycloneDX's JSON format |

pub mod archive;
pub mod materials;
pub mod package;
pub mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stage::programs::Programs;
use stage::target::NodeTarget;

use crate::{DistError, write_sums};

/// The version of the release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that a release is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Seconds from 1970 to the commit: the time of all files of the release.
    pub time: u64,
    /// Whether tracked files differ from the commit.
    pub is_changed: bool,
}

impl Commit {
    /// Asks Git for the commit that is checked out.
    ///
    /// # Errors
    /// Git is missing, or this is no repository.
    pub fn checked_out() -> Result<Self, DistError> {
        let time = output_of(Command::new("git").args(["log", "-1", "--format=%ct"]))?;
        let time = time.trim().parse().map_err(|_| DistError::Command {
            command: "git log".to_owned(),
            said: format!("no time: {time:?}"),
        })?;
        let mut status = Command::new("git");
        let changed = output_of(status.args(["status", "--porcelain", "--untracked-files=no"]))?;
        Ok(Self { time, is_changed: !changed.trim().is_empty() })
    }
}

/// Makes the release for `target` in the folder `to`; returns the paths of its files.
///
/// # Errors
/// A program is not static, a file cannot be written, or a tool fails.
pub fn release(target: &NodeTarget, commit: &Commit, to: &Path) -> Result<Vec<PathBuf>, DistError> {
    let programs = Programs::build_for_nodes_with_lab(target)?;
    let files = tree::files(&programs)?;
    let name = format!("siar-{VERSION}-{}", target.arch());
    fs::create_dir_all(to).map_err(DistError::file(to))?;
    let archive = to.join(format!("{name}.tar.gz"));
    archive::write(&archive, &name, &files, commit.time).map_err(DistError::file(&archive))?;
    let package = package::make(&files, target, commit.time, to)?;
    let materials = to.join(format!("{name}.cdx.json"));
    let bill = materials::bill(target)?;
    fs::write(&materials, bill).map_err(DistError::file(&materials))?;
    write_sums(to)?;
    Ok(vec![archive, package, materials])
}

/// The cargo that has started this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command in the workspace, and returns what it prints.
pub(crate) fn output_of(command: &mut Command) -> Result<String, DistError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    let shown = [name.clone()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ");
    let output =
        command.current_dir(workspace()).output().map_err(DistError::file(Path::new(&name)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or_default().to_owned();
        return Err(DistError::Command { command: shown, said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
