//! The program of `cargo lab overhead`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bench::overhead::{measure, table};
use clap::Parser;
use stage::gateway::Gateway;
use stage::network::Network;
use stage::programs::Programs;
use stage::samples::samples;
use stage::{StageError, tool};

/// Times a whole client process with one 19 KB file in each style, beside the Python scripts
/// if Python has `requests`.
#[derive(Debug, Parser)]
#[command(name = "cargo lab overhead", bin_name = "cargo lab overhead", version = siar_core::VERSION)]
// `cargo lab` passes an option for the folder, which the user's option must override.
#[command(args_override_self = true)]
struct Options {
    /// Folder for received files and logs, which go into its subfolder overhead
    #[arg(long, value_name = "DIR", default_value = "lab-out")]
    out: PathBuf,
    /// Use the loopback interface instead of namespaces
    #[arg(long)]
    loopback: bool,
    /// Number of runs of each program
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| overhead(&options))
}

fn overhead(options: &Options) -> Result<ExitCode, StageError> {
    let programs = Programs::build()?;
    let network = match options.loopback {
        true => Network::Loopback,
        false => Network::namespaces_or_loopback()?,
    };
    fs::create_dir_all(&options.out).map_err(StageError::file(&options.out))?;
    let samples = Arc::new(samples()?);
    let gateway = Gateway::start(&network, Arc::clone(&samples))?;
    let url = format!("{}{}", gateway.origin(), samples[0].path);
    let rows = measure(&network, &programs, &url, &options.out, usize::from(options.runs))?;
    print!("{}", table(&rows));
    Ok(tool::verdict(rows.iter().all(|row| !row.times.is_empty())))
}
