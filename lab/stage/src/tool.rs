//! Log, errors and exit codes of the lab's commands.

use std::fmt::Display;
use std::process::{ExitCode, ExitStatus};

use env_logger::Env;

/// Runs a command. The log goes to standard error, at the level `warn` or as `RUST_LOG` says.
/// An error is printed on one line, and the exit code is 1.
pub fn run<E: Display>(work: impl FnOnce() -> Result<ExitCode, E>) -> ExitCode {
    // Another logger may be installed already; then it is used.
    let _ = env_logger::Builder::from_env(Env::default().default_filter_or("warn")).try_init();
    work().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// The exit code of a process that has ended; 1 if a signal ended it.
#[must_use]
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The exit code 0 if `is_well`, and 1 otherwise. The caller has reported the failure.
#[must_use]
pub fn verdict(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
