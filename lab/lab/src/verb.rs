//! Commands that are separate programs, so that the lab is built without the dependencies that
//! only they need. A command's program is built on the command's first use, and receives the
//! arguments after the command's name unchanged.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use stage::StageError;
use stage::programs::{Profile, build_tool};

use crate::run::RunOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the report of the last run, as a PDF and as a web page
    Report(Arguments),
    /// Test the clients and the server under faults: a bad network, full disks, killed processes,
    /// hostile datagrams; takes a few minutes
    Faults(Arguments),
    /// Build the programs as static files for Alpine and other nodes, with an archive and their
    /// checksums
    Dist(Arguments),
    /// Make a release: an archive, a Debian package, a bill of materials, checksums
    Release(Arguments),
    /// Check that this machine has what the lab and GNS3 need, and say how to get what is missing
    Doctor(Arguments),
    /// Set up and run the lab in GNS3
    Gns3(Arguments),
    /// Judge runs from their evidence, item by item; exits with 1 unless every item passes
    Grade(Arguments),
    /// Time a whole client process with one 19 KB file in each style, beside the Python scripts
    /// if Python has `requests`
    Overhead(Arguments),
    /// Measure speed beside this machine's limit, and beside UFTP, UDPcast and Python if they
    /// are installed; takes about twenty minutes
    Bench(Arguments),
}

// The program of the command prints its own help.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Options of the command: `cargo lab COMMAND --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Replaces this process by the command's program. Options of the lab that the command uses too
/// come before the command's own arguments.
pub(crate) fn play(verb: Verb, options: &RunOptions) -> Result<ExitCode, StageError> {
    // Package, program, the program's option for the run's folder, the program's arguments.
    let (package, program, folder, arguments) = match verb {
        Verb::Report(it) => ("report", "report", Some("--out"), it.arguments),
        Verb::Faults(it) => ("faults", "faults", Some("--out"), it.arguments),
        Verb::Dist(it) => ("dist", "dist", None, it.arguments),
        Verb::Release(it) => ("dist", "release", None, it.arguments),
        Verb::Doctor(it) => ("gns3", "doctor", None, it.arguments),
        Verb::Gns3(it) => ("gns3", "gns3", Some("--out"), it.arguments),
        Verb::Grade(it) => ("grade", "grade", Some("--out"), it.arguments),
        Verb::Overhead(it) => ("bench", "overhead", Some("--out"), it.arguments),
        Verb::Bench(it) => ("bench", "bench", Some("--out"), it.arguments),
    };
    // Compiling the typesetter with optimisation takes longer than one run of the slow one.
    let profile = if program == "report" { Profile::Debug } else { Profile::Same };
    let path = build_tool(package, program, profile)?;
    let mut command = Command::new(&path);
    if let Some(folder) = folder {
        command.arg(folder).arg(&options.out);
    }
    if program == "overhead" && options.loopback {
        command.arg("--loopback");
    }
    // `exec` keeps the process, so that the program's exit code or signal is the lab's.
    Err(StageError::file(&path)(command.args(arguments).exec()))
}
