//! The program of `cargo lab bench`. Its hidden commands are the senders and receivers of the
//! upper and lower bounds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench::blast::{self, BlastError, Seen};
use bench::cells::CROWDS;
use bench::crowd::simulate;
use bench::summary::Summary;
use bench::{BenchConfig, BenchError, bare, measure, mount_memory};
use clap::{Args, Parser, Subcommand};
use stage::machine::machine;
use stage::namespace::become_lab_root;
use stage::programs::Programs;
use stage::target::NodeTarget;
use stage::{StageError, tool};

/// Measures speed beside this machine's limit, and beside UFTP, UDPcast and Python if they
/// are installed; takes about twenty minutes.
#[derive(Debug, Parser)]
#[command(name = "cargo lab bench", bin_name = "cargo lab bench", version = siar_core::VERSION)]
// `cargo lab` passes an option for the folder, which the user's option must override.
#[command(args_override_self = true, disable_help_subcommand = true)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    bench: BenchOptions,
}

#[derive(Debug, Args)]
struct BenchOptions {
    /// Folder for results and temporary files, which go into its subfolder bench
    #[arg(long, value_name = "DIR", default_value = "lab-out")]
    out: PathBuf,
    /// Number of rounds; each cell runs in each round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Measure only cells whose name contains PART; repeatable
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Also send 8 GiB, once: needs 32 GiB of disk below --out, and some minutes more
    #[arg(long)]
    huge: bool,
}

/// The hidden commands that the bench starts as separate processes.
#[derive(Debug, Subcommand)]
enum Part {
    /// Receive datagrams for the upper bound of the speed
    #[command(hide = true)]
    BlastReceive {
        /// File to write
        file: PathBuf,
    },
    /// Send a file for the upper bound of the speed
    #[command(hide = true)]
    BlastSend {
        /// File to send
        file: PathBuf,
        /// Bytes per second
        rate: f64,
        /// Make one system call for each datagram
        #[arg(long)]
        one_by_one: bool,
    },
    /// Receive files for the lower bound for small tasks
    #[command(hide = true)]
    BareReceive {
        /// Number of files to receive
        count: usize,
    },
    /// Send files for the lower bound for small tasks
    #[command(hide = true)]
    BareSend {
        /// Address and port of the HTTP server
        origin: String,
        /// Size of a file in bytes
        len: usize,
        /// Number of files
        count: usize,
        /// Number of receivers
        servers: usize,
    },
}

fn main() -> ExitCode {
    let Options { part, bench } = Options::parse();
    tool::run(|| match part {
        None => measure_all(bench),
        Some(part) => play(part).map_err(BenchError::from),
    })
}

fn play(part: Part) -> Result<ExitCode, BlastError> {
    match part {
        Part::BlastReceive { file } => print_result(blast::receive(&file)?)?,
        Part::BlastSend { file, rate, one_by_one } => {
            print_result(blast::send(&file, rate, one_by_one)?)?;
        }
        Part::BareReceive { count } => bare::receive(count)?,
        Part::BareSend { origin, len, count, servers } => {
            bare::send(&origin, len, count, servers)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_result(seen: Seen) -> Result<(), BlastError> {
    println!("{}", serde_json::to_string(&seen).map_err(|error| BlastError::Output(error.into()))?);
    Ok(())
}

fn measure_all(options: BenchOptions) -> Result<ExitCode, BenchError> {
    let BenchOptions { out: below, runs, only, huge } = options;
    let config = BenchConfig { runs: usize::from(runs), only, huge };
    let programs = Programs::build_for_nodes(&NodeTarget::native()?)?;
    let out = below.join("bench");
    fs::create_dir_all(&out).map_err(BenchError::file(&out))?;
    let out = out.canonicalize().map_err(BenchError::file(&out))?;
    let work = out.join("work");
    become_lab_root().map_err(StageError::Namespace)?;
    mount_memory(&work)?;
    let disk = out.join("huge");
    // An interrupted benchmark leaves the folder.
    remove_folder(&disk)?;
    fs::create_dir(&disk).map_err(BenchError::file(&disk))?;
    let measured = measure(&config, &programs, &work, &disk);
    remove_folder(&disk)?;
    let measured = measured?;
    let mut crowds = Vec::new();
    for receivers in
        CROWDS.into_iter().filter(|receivers| config.is_wanted(&format!("crowd-{receivers}")))
    {
        crowds.push(simulate(receivers).map_err(BenchError::file(Path::new("a simulated crowd")))?);
    }
    let summary = Summary::new(&measured, &crowds);
    println!("\n{}\n{}", summary.verdict_table(), summary.cell_table());
    println!("{}", summary.crowd_table());
    summary.write(&config, &machine(), &out)?;
    println!("results: {}", below.join("bench").display());
    Ok(ExitCode::SUCCESS)
}

fn remove_folder(dir: &Path) -> Result<(), BenchError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(BenchError::file(dir)),
    }
}
