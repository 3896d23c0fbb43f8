//! The program of `cargo lab dist`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dist::{DistError, distribute};
use stage::programs::Programs;
use stage::target::NodeTarget;
use stage::tool;

/// Builds the programs as static files for Alpine and other nodes, with an archive and their
/// checksums.
#[derive(Debug, Parser)]
#[command(name = "cargo lab dist", bin_name = "cargo lab dist", version = siar_core::VERSION)]
struct Options {
    /// Folder for the programs
    #[arg(long, default_value = "dist")]
    to: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| make(&options.to))
}

fn make(to: &Path) -> Result<ExitCode, DistError> {
    // A machine that cannot build for its own processor is an error.
    NodeTarget::native()?;
    for target in NodeTarget::all()? {
        println!("{target}");
        let made = distribute(&Programs::build_for_nodes(&target)?, &target, to)?;
        print!("{made}");
    }
    println!("{}: see SHA256SUMS for all of them", to.display());
    Ok(ExitCode::SUCCESS)
}
