//! The program of `cargo lab faults`: tests of the real programs under faults. Each case has a
//! separate network and checks the promises of `docs/RELIABILITY.md`.
//!
//! | module | job |
//! |---|---|
//! | [`play`] | the list of the cases, and their results |
//! | [`scene`] | the setting of a case: network, servers and clients |
//! | [`network`] | cases of loss, links that go down, MTU and receive buffers |
//! | [`processes`] | cases of killed or stopped servers, clients and workers |
//! | [`disks`] | cases of full and read-only disks, quotas and equal names |
//! | [`hostile`] | the case of a flood of hostile datagrams |
//! | [`neighbours`] | cases of hosts that lie, starve, repeat and squat by a few valid frames |
//! | [`sources`] | cases of HTTP servers that misbehave |

mod disks;
mod hostile;
mod neighbours;
mod network;
mod play;
mod processes;
mod scene;
mod sources;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use stage::namespace::{become_lab_root, own_mounts};
use stage::programs::Programs;
use stage::{StageError, tool};

/// Tests the clients and the server under faults: a bad network, full disks, killed processes,
/// hostile datagrams; takes a few minutes.
#[derive(Debug, Parser)]
#[command(name = "cargo lab faults", bin_name = "cargo lab faults", version = siar_core::VERSION)]
// `cargo lab` passes an option for the folder, which the user's option must override.
#[command(args_override_self = true)]
struct Options {
    /// Folder for the table and the files of the cases, which go into its subfolder faults
    #[arg(long, value_name = "DIR", default_value = "lab-out")]
    out: PathBuf,
    /// Run only the cases that CI runs
    #[arg(long)]
    short: bool,
    /// Run only cases whose name contains PART
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| faults(&options))
}

fn faults(options: &Options) -> Result<ExitCode, StageError> {
    let programs = Programs::build()?;
    let out = options.out.join("faults");
    fs::create_dir_all(&out).map_err(StageError::file(&out))?;
    let out = out.canonicalize().map_err(StageError::file(&out))?;
    become_lab_root().map_err(StageError::Namespace)?;
    own_mounts()?;
    let played = play::play(&programs, &out, options.short, &options.only)?;
    let table = play::table(&played);
    let path = out.join("faults.md");
    fs::write(&path, &table).map_err(StageError::file(&path))?;
    println!("\n{}", table.lines().last().unwrap_or_default());
    println!("table: {}", options.out.join("faults/faults.md").display());
    let is_kept = !played.is_empty() && played.iter().all(|one| one.result.is_ok());
    Ok(tool::verdict(is_kept))
}
