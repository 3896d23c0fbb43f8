//! Files: written under a temporary name, verified, published whole or not at all; read, to be
//! broadcast.

mod content;
mod incoming_file;
mod name;
mod partial;
mod piece_hasher;

pub use content::Content;
pub use incoming_file::{IncomingFile, Naming, PublishedFile, StoreError};
pub use name::{safe_file_name, with_number};
pub use partial::remove_abandoned_files;

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

const PREFIX: &str = ".siar-";
const SUFFIX: &str = ".part";

/// A file of its own in `dir` that vanishes unless it is persisted.
///
/// # Errors
/// `dir` is not there or not writable.
pub fn temporary_file(dir: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        // The process's umask still applies: the file ends as any other would.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    // Says that somebody is writing it. Where locks are not supported it does without.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Makes every rename in `dir` so far outlast a loss of power.
///
/// # Errors
/// The file system says so.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
