//! A real run of the lab, made once for all tests of a program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use lab::binaries::Binaries;
use lab::namespace::become_lab_root;
use lab::network::Network;
use lab::run::{RunConfig, run_all};

/// Where it lies.
pub(crate) static RUN: OnceLock<PathBuf> = OnceLock::new();

/// Makes it in `home`, with so many runs of each style; `false`, and a line that says so,
/// where there are no network namespaces. To be called before any thread is started.
pub(crate) fn make_run(home: &Path, runs: u16) -> bool {
    let binaries = Binaries::build().unwrap();
    let network = become_lab_root().map_err(lab::LabError::Namespace);
    let mut network = match network.and_then(|()| Network::namespaces()) {
        Err(lab::LabError::Namespace(error)) => {
            println!("not tested, for want of network namespaces: {error}");
            return false;
        }
        other => other.unwrap(),
    };
    let config = RunConfig {
        out: home.to_owned(),
        delay: Duration::from_millis(400),
        loss: 0,
        runs,
        arguments: Vec::new(),
        rootfs: None,
    };
    run_all(&mut network, &binaries, &config).unwrap();
    RUN.set(home.to_owned()).unwrap();
    true
}
