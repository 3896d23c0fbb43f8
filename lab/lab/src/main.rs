//! `cargo lab`: the assignment's network on one machine.
//!
//! | module | job |
//! |---|---|
//! | [`run`] | the main job: each style delivers every file |
//! | [`shell`] | a shell on a node, and commands on the others |
//! | [`serve`], [`keygen`] | the sample files over HTTP on loopback; a new key file |
//! | [`verb`] | all other commands, which are separate programs |

mod keygen;
mod run;
mod serve;
mod shell;
mod verb;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use siar_core::io::seal::KeyError;
use stage::{StageError, tool};

use run::RunOptions;
use verb::Verb;

/// Brings up the assignment's three nodes and a gateway, runs the four styles one after the other
/// and compares every received file with its source.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Options {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Debug, Subcommand)]
enum Task {
    #[command(flatten)]
    Verb(Verb),
    /// Make a key for --key-file: 32 random bytes, readable by you alone
    Keygen {
        /// Path of the new key file; the file must not exist yet
        file: PathBuf,
    },
    /// Open a shell on a node of a fresh lab
    Shell {
        /// alpine-1, alpine-2, alpine-3 or gateway
        #[arg(default_value = "alpine-1")]
        node: String,
    },
    /// Inside a lab's shell: run a command on another node
    On {
        /// alpine-1, alpine-2, alpine-3 or gateway
        node: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Offer the sample files over HTTP on loopback
    Serve {
        /// TCP port
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
}

/// A failure of a command.
#[derive(Debug, thiserror::Error)]
enum LabError {
    /// The lab's network, one of its programs or one of its files failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The key file cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn main() -> ExitCode {
    let Options { task, run: options } = Options::parse();
    tool::run(|| -> Result<ExitCode, LabError> {
        Ok(match task {
            None => run::run(&options)?,
            Some(Task::Verb(verb)) => verb::play(verb, &options)?,
            Some(Task::Keygen { file }) => keygen::keygen(&file)?,
            Some(Task::Shell { node }) => shell::shell(&node, &options.out)?,
            Some(Task::On { node, command }) => shell::on(&node, &command)?,
            Some(Task::Serve { port }) => serve::serve(port)?,
        })
    })
}
