//! A release as a Debian package. `cargo-deb` makes it from the description in this crate's
//! `Cargo.toml`, section `package.metadata.deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use stage::target::NodeTarget;

use super::tree::{InstalledFile, SETTINGS};
use super::{cargo, output_of, workspace};
use crate::DistError;

/// The folder, in the workspace, of the files that the description names.
const STAGED: &str = "target/release-tree";

/// Makes the package in the folder `to`, and returns its path.
///
/// # Errors
/// `cargo-deb` is missing or fails, or a file cannot be written.
pub fn make(
    files: &[InstalledFile],
    target: &NodeTarget,
    time: u64,
    to: &Path,
) -> Result<PathBuf, DistError> {
    let staged = workspace().join(STAGED);
    // Files of an earlier release would be packed as well.
    let _ = fs::remove_dir_all(&staged);
    for file in files {
        let path = staged.join(if file.path == SETTINGS {
            file.path.clone()
        } else {
            format!("usr/{}", file.path)
        });
        let dir = path.parent().unwrap_or(&staged);
        fs::create_dir_all(dir).map_err(DistError::file(dir))?;
        fs::write(&path, &file.bytes).map_err(DistError::file(&path))?;
        let mode = if file.is_program { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(DistError::file(&path))?;
    }
    let has_tool = output_of(cargo().args(["deb", "--version"])).is_ok();
    if !has_tool {
        return Err(DistError::NoPackager);
    }
    let absolute = fs::canonicalize(to).map_err(DistError::file(to))?;
    let mut command = cargo();
    command.args(["deb", "--quiet", "--package", "dist", "--no-build", "--no-strip", "--output"]);
    command.arg(&absolute).args(["--target", target.triple()]);
    command.env("SOURCE_DATE_EPOCH", time.to_string());
    let said = output_of(&mut command)?;
    let path = Path::new(said.lines().last().unwrap_or_default());
    Ok(to.join(path.file_name().unwrap_or_default()))
}
