//! The command `cargo lab keygen`.

use std::path::Path;
use std::process::ExitCode;

use siar_core::io::seal::{Key, KeyError};

/// Makes a key file and prints its path.
pub(crate) fn keygen(file: &Path) -> Result<ExitCode, KeyError> {
    Key::create(file)?;
    println!("{}", file.display());
    Ok(ExitCode::SUCCESS)
}
