//! A reader of the manifest, `run.json`.

use std::fs;
use std::io;
use std::path::Path;

use stage::StageError;
use stage::manifest::{FILE_NAME, Manifest};

/// Reads the manifest of a run's folder.
///
/// # Errors
/// The manifest is missing or damaged.
pub fn read_manifest(dir: &Path) -> Result<Manifest, StageError> {
    let path = dir.join(FILE_NAME);
    let text = fs::read(&path).map_err(StageError::file(&path))?;
    serde_json::from_slice(&text).map_err(io::Error::from).map_err(StageError::file(&path))
}
