//! The command `cargo lab samples`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use stage::StageError;
use stage::samples::samples;

/// Writes the sample files into the folder `dir`, which is made if it is missing.
pub(crate) fn write(dir: &Path) -> Result<ExitCode, StageError> {
    fs::create_dir_all(dir).map_err(StageError::file(dir))?;
    for sample in samples()? {
        let path = dir.join(sample.file_name());
        fs::write(&path, &sample.bytes).map_err(StageError::file(&path))?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
