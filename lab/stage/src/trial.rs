//! A real run of the lab for tests that read its files, made once for all tests of a program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::StageError;
use crate::namespace::become_lab_root;
use crate::network::Network;
use crate::programs::Programs;
use crate::run::{RunConfig, run_all};

/// The run's folder, set by [`make_run`].
pub static RUN: OnceLock<PathBuf> = OnceLock::new();

/// Makes a run of the lab in `home`, with `runs` runs of each style. Without network namespaces
/// it prints a line and returns `false`. The function must be called once, before any thread is
/// started.
///
/// # Errors
/// The programs cannot be built, or the lab itself fails.
pub fn make_run(home: &Path, runs: u16) -> Result<bool, StageError> {
    let programs = Programs::build()?;
    let network = become_lab_root().map_err(StageError::Namespace);
    let mut network = match network.and_then(|()| Network::namespaces()) {
        Err(StageError::Namespace(error)) => {
            println!("not tested, for want of network namespaces: {error}");
            return Ok(false);
        }
        other => other?,
    };
    let config = RunConfig {
        out: home.to_owned(),
        delay: Duration::from_millis(400),
        loss: 0,
        runs,
        arguments: Vec::new(),
        rootfs: None,
    };
    run_all(&mut network, &programs, &config)?;
    RUN.get_or_init(|| home.to_owned());
    Ok(true)
}
