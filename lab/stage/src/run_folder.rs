//! The folder of a run: what a new run may remove from it, and what it keeps.

use std::fs;
use std::io;
use std::path::Path;

use crate::StageError;
use crate::manifest::{FILE_NAME, Manifest};
use crate::programs::STYLES;

/// The names of the reports, each with the name under which a new run keeps it.
pub const REPORTS: [(&str, &str); 2] =
    [("report.pdf", "report.old.pdf"), ("report.html", "report.old.html")];
/// The folder below a run's folder in which the nodes' root file systems are mounted.
pub const VIEWS: &str = "nodes";

/// Prepares the folder `dir` for a new run. An earlier run's results are removed, but for its
/// reports: they get the names in [`REPORTS`], and a message on standard error says so.
///
/// # Errors
/// The folder has files or folders with the names of a run's, but holds no run of the lab:
/// nothing is removed then. Or a file or folder cannot be made, renamed or removed.
pub fn prepare(dir: &Path) -> Result<(), StageError> {
    check(dir)?;
    fs::create_dir_all(dir).map_err(StageError::file(dir))?;
    for (name, kept) in REPORTS {
        let (path, kept) = (dir.join(name), dir.join(kept));
        if path.exists() {
            fs::rename(&path, &kept).map_err(StageError::file(&path))?;
            eprintln!("the report of the earlier run is kept as {}", kept.display());
        }
    }
    for style in STYLES {
        let path = dir.join(style.name());
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StageError::file(&path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that a run may use the folder `dir`.
///
/// # Errors
/// See [`prepare`].
pub fn check(dir: &Path) -> Result<(), StageError> {
    let has_manifest = dir.join(FILE_NAME).exists();
    if has_manifest && Manifest::read(dir).is_ok() {
        return Ok(());
    }
    let names = STYLES.iter().map(|style| style.name());
    let names = names.chain(REPORTS.map(|(name, _)| name)).chain([VIEWS, "urls.toml", FILE_NAME]);
    let lost: Vec<&str> = names.filter(|name| dir.join(name).symlink_metadata().is_ok()).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let reason =
        if has_manifest { "its run.json is not one of the lab's" } else { "it has no run.json" };
    Err(StageError::NotARun { dir: dir.to_owned(), reason, lost: lost.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_no_run_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("mp/src");
        fs::create_dir_all(&source).unwrap();
        let error = prepare(dir.path()).unwrap_err().to_string();
        assert!(error.contains("mp") && error.contains("run.json"), "{error}");
        assert!(source.exists());
        fs::write(dir.path().join(FILE_NAME), "{}").unwrap();
        let error = prepare(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not one of the lab's"), "{error}");
        assert!(source.exists());
    }

    #[test]
    fn a_folder_with_other_names_is_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bench")).unwrap();
        prepare(dir.path()).unwrap();
        prepare(&dir.path().join("new/folder")).unwrap();
        assert!(dir.path().join("bench").exists() && dir.path().join("new/folder").exists());
    }
}
