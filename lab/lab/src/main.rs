//! `cargo lab`: the assignment's network on one machine.
//!
//! | module | job |
//! |---|---|
//! | [`run`] | the main job: each style delivers every file |
//! | [`shell`] | a shell on a node, and commands on the others |
//! | [`serve`], [`sample_files`], [`keygen`] | the sample files over HTTP on loopback, or in a folder; a new key file |
//! | [`verb`] | all other commands, which are separate programs |

mod keygen;
mod run;
mod sample_files;
mod serve;
mod shell;
mod verb;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use siar_core::face::run::print_text;
use siar_core::io::seal::KeyError;
use stage::{StageError, tool};

use run::RunOptions;
use verb::Verb;

/// Brings up the assignment's three nodes and a gateway, runs the four styles one after the other
/// and compares every received file with its source.
#[derive(Debug, Parser)]
#[command(name = "siar-lab", version = siar_core::VERSION)]
struct Options {
    #[command(subcommand)]
    task: Option<Task>,
    /// Print a completion script and exit
    #[arg(long, value_name = "SHELL", value_enum)]
    completions: Option<Shell>,
    /// Print the manual page and exit
    #[arg(long, hide = true)]
    man: bool,
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
    /// Write the sample files into a folder
    Samples {
        /// The folder, which is made if it is missing
        dir: PathBuf,
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
    let options = Options::try_parse().unwrap_or_else(|error| explained(error).exit());
    if let Some(described) = describe(&options) {
        return described;
    }
    let Options { task, run: options, .. } = options;
    tool::run(|| -> Result<ExitCode, LabError> {
        Ok(match task {
            None => run::run(&options)?,
            Some(Task::Verb(verb)) => verb::play(verb, &options)?,
            Some(Task::Keygen { file }) => keygen::keygen(&file)?,
            Some(Task::Shell { node }) => shell::shell(&node, &options.out)?,
            Some(Task::On { node, command }) => shell::on(&node, &command)?,
            Some(Task::Samples { dir }) => sample_files::write(&dir)?,
            Some(Task::Serve { port }) => serve::serve(port)?,
        })
    })
}

/// Prints what describes the command line, if that is asked for.
fn describe(options: &Options) -> Option<ExitCode> {
    let mut command = Options::command();
    let mut text = Vec::<u8>::new();
    if let Some(shell) = options.completions {
        clap_complete::generate(shell, &mut command, "siar-lab", &mut text);
    } else if options.man {
        // Writing to memory cannot fail.
        let _ = clap_mangen::Man::new(command).date("").render(&mut text);
    } else {
        return None;
    }
    Some(print_text(&text))
}

/// Turns the error about an unexpected word into one about a mistyped command, with the most similar
/// command. (The options for clients after `--` keep clap from doing so.)
fn explained(error: clap::Error) -> clap::Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if !word.starts_with('-') => word.clone(),
        _ => return error,
    };
    let lab = Options::command();
    let commands = Command::new("cargo lab")
        .bin_name("cargo lab")
        .subcommand_required(true)
        .subcommands(lab.get_subcommands().cloned());
    commands.try_get_matches_from(["cargo lab".to_owned(), word]).err().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_brings_the_right_one() {
        Options::command().debug_assert();
        let said = |arguments: &[&str]| {
            explained(Options::try_parse_from(arguments).unwrap_err()).to_string()
        };
        let text = said(&["lab", "--out", "x", "reprot", "--lang", "en"]);
        assert!(text.contains("'reprot'") && text.contains("'report'"), "{text}");
        assert!(said(&["lab", "xyz"]).contains("unrecognized subcommand 'xyz'"));
        assert!(said(&["lab", "--xyz"]).contains("unexpected argument '--xyz'"));
    }
}
