//! The program of `cargo lab release`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dist::DistError;
use dist::release::{Commit, release};
use stage::target::NodeTarget;
use stage::tool;

/// Makes a release: an archive, a Debian package, a bill of materials and checksums. Two releases of
/// one commit have the same bytes.
#[derive(Debug, Parser)]
#[command(name = "cargo lab release", bin_name = "cargo lab release", version = siar_core::VERSION)]
struct Options {
    /// Folder for the release
    #[arg(long, default_value = "release")]
    to: PathBuf,
    /// Make it although tracked files differ from the commit
    #[arg(long)]
    allow_dirty: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| make(&options.to, options.allow_dirty))
}

fn make(to: &Path, allow_dirty: bool) -> Result<ExitCode, DistError> {
    let commit = Commit::checked_out()?;
    if commit.is_changed && !allow_dirty {
        return Err(DistError::Uncommitted);
    }
    // A machine that cannot build for its own processor is an error.
    NodeTarget::native()?;
    for target in NodeTarget::all()? {
        println!("{target}");
        for path in release(&target, &commit, to)? {
            println!("  {}", path.display());
        }
    }
    println!("{}: see SHA256SUMS for all of them", to.display());
    Ok(ExitCode::SUCCESS)
}
