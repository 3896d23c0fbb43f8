//! A reader of the event files that clients and servers write.

use std::fs;
use std::path::Path;

use siar_core::event::Event;

use crate::StageError;

/// Reads an event file.
///
/// # Errors
/// The file cannot be read, or one of its lines is no event.
pub fn read_events(path: &Path) -> Result<Vec<Event>, StageError> {
    let text = fs::read_to_string(path).map_err(StageError::file(path))?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(std::io::Error::from))
        .collect::<Result<_, _>>()
        .map_err(StageError::file(path))
}
