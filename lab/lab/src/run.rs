//! The main job: `cargo lab` without a command.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use evidence::pictures;
use siar_core::face::values::duration;
use stage::StageError;
use stage::namespace::{become_lab_root, own_mounts};
use stage::network::Network;
use stage::outcome::table;
use stage::programs::Programs;
use stage::run::{RunConfig, run_all};
use stage::run_folder;
use stage::target::NodeTarget;
use stage::tool;

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Folder for logs, events and received files
    #[arg(long, default_value = "lab-out")]
    pub(crate) out: PathBuf,
    /// Simulated work between download and broadcast
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = duration)]
    pub(crate) delay: Duration,
    /// Use the loopback interface instead of namespaces
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Give each node its own copy-on-write view of this root file system, e.g. Alpine's. The
    /// static programs are copied into the view; the clients resolve the gateway's name by DNS
    /// and download over HTTPS
    #[arg(long, value_name = "DIR", conflicts_with = "loopback")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Drop this many per cent of the datagrams at each server (needs nft)
    #[arg(long, value_name = "PERCENT", default_value_t = 0, conflicts_with = "loopback",
          value_parser = clap::value_parser!(u8).range(0..=90))]
    pub(crate) loss: u8,
    /// Number of runs of each style, for the comparison; the logs of the last run are kept
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) runs: u16,
    /// Further options of the clients
    #[arg(last = true, value_name = "CLIENT OPTIONS")]
    pub(crate) arguments: Vec<String>,
}

/// Runs each style. The exit code is 1 unless every file arrived whole at every server.
pub(crate) fn run(options: &RunOptions) -> Result<ExitCode, StageError> {
    // The programs take minutes to build: a folder that cannot be used is refused before.
    run_folder::check(&options.out)?;
    let programs = match options.rootfs {
        None => Programs::build()?,
        Some(_) => Programs::build_for_nodes(&NodeTarget::native()?)?,
    };
    let mut network = match options {
        RunOptions { loopback: true, .. } => Network::Loopback,
        RunOptions { rootfs: None, loss: 0, .. } => Network::namespaces_or_loopback()?,
        // Datagrams cannot be dropped on loopback.
        RunOptions { rootfs: None, .. } => {
            become_lab_root().map_err(StageError::Namespace)?;
            Network::namespaces()?
        }
        RunOptions { rootfs: Some(_), .. } => {
            become_lab_root().map_err(StageError::Namespace)?;
            own_mounts()?;
            Network::namespaces()?
        }
    };
    fs::create_dir_all(&options.out).map_err(StageError::file(&options.out))?;
    let config = RunConfig {
        out: options.out.canonicalize().map_err(StageError::file(&options.out))?,
        delay: options.delay,
        loss: options.loss,
        runs: options.runs,
        arguments: options.arguments.clone(),
        rootfs: options.rootfs.clone(),
    };
    let (manifest, results) = run_all(&mut network, &programs, &config)?;
    println!("\n{}", table(&results));
    if let Some(measured) = manifest.measured_loss {
        println!("packets dropped at the servers: {measured:.1} % (asked for: {} %)", options.loss);
    }
    pictures::write(&config.out, &manifest)?;
    println!("logs, events, timelines and received files: {}", options.out.display());
    let complete = manifest.styles.iter().flat_map(|runs| &runs.runs).all(|run| run.complete);
    if !complete {
        eprintln!("error: not every file arrived whole at every server");
    }
    Ok(tool::verdict(complete))
}
