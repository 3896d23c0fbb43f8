//! Files: received files are written under a temporary name, verified, and published completely or
//! not at all; files to broadcast are read.

mod content;
mod folder;
mod incoming_file;
mod name;
mod naming;
mod numbering;
mod own_files;
mod partial;
mod piece_hasher;
mod usage;

pub use content::Content;
pub use folder::FolderTraits;
pub(crate) use folder::{longest_name, persist_new};
pub use incoming_file::{IncomingFile, PublishedFile, StoreError};
pub use name::{safe_file_name, shortened_file_name, shown_file_name, with_number};
pub use naming::Naming;
pub(crate) use numbering::{Numbering, Seen, look_at};
pub use partial::{
    KEY_HOLDERS, PARTIAL_FILE_LIFETIME, part_id, part_sender, remove_abandoned_files,
};
pub use usage::{PartId, Usage};

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

const PREFIX: &str = ".siar-";
const SUFFIX: &str = ".part";

/// Creates a temporary file in `dir`, which is removed unless it is persisted.
///
/// # Errors
/// `dir` does not exist or is not writable.
pub fn temporary_file(dir: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        // The process's umask still applies: the file gets the permissions of any other file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    // The lock shows that somebody writes the file. File systems without locks do without it.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Makes the folder `dir` with its parents. Returns `false` if it is there already.
///
/// # Errors
/// The folder cannot be made, or something else has its name.
pub fn make_dir(dir: &Path) -> io::Result<bool> {
    if dir.is_dir() {
        return Ok(false);
    }
    fs::create_dir_all(dir)?;
    Ok(true)
}

/// Makes every rename in `dir` so far survive a loss of power.
///
/// # Errors
/// The file system returns an error, other than that it knows no sync of a folder.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    if_supported(File::open(dir)?.sync_all())
}

/// Takes it for done that a file system has no such operation.
fn if_supported(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if folder::is_unsupported(&error) { Ok(()) } else { Err(error) })
}
