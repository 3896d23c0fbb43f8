//! `cargo lab`: the seed's network on one machine.

mod gns3_commands;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gns3_commands::{Gns3Task, ServerOptions, doctor, gns3};
use lab::LabError;
use lab::bench::blast::{BlastError, Seen};
use lab::bench::cells::CROWDS;
use lab::bench::crowd::simulate;
use lab::bench::summary::{Summary, machine};
use lab::bench::{BenchConfig, measure, mount_memory};
use lab::binaries::Binaries;
use lab::dist::{NodeTarget, distribute};
use lab::gateway::Gateway;
use lab::grade::{Grade, grade};
use lab::namespace::own_mounts;
use lab::namespace::{Namespace, become_lab_root};
use lab::network::{NODES, Network, Node};
use lab::pictures;
use lab::run::{RunConfig, run_all, table};
use lab::samples::samples;

/// Brings up the seed's three nodes and a gateway, runs the four styles one after the other
/// and compares every received file with its source.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Options {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Debug, Args)]
struct RunOptions {
    /// Where logs, events and received files go
    #[arg(long, default_value = "lab-out")]
    out: PathBuf,
    /// Simulated work between download and broadcast, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    delay: u64,
    /// Use the loopback interface instead of namespaces
    #[arg(long)]
    loopback: bool,
    /// Give each node its own copy-on-write view of this root file system, e.g. an Alpine's;
    /// the static programs are copied into it, the files come by name and over HTTPS
    #[arg(long, value_name = "DIR", conflicts_with = "loopback")]
    rootfs: Option<PathBuf>,
    /// Drop this many per cent of the datagrams at each server (needs nft)
    #[arg(long, value_name = "PERCENT", default_value_t = 0, conflicts_with = "loopback",
          value_parser = clap::value_parser!(u8).range(0..=90))]
    loss: u8,
    /// Runs of each style, for the comparison; the logs are those of the last
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Further options of the clients
    #[arg(last = true, value_name = "CLIENT OPTIONS")]
    arguments: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Make the report of the last run, as a PDF and as a web page
    ///
    /// `cargo lab report --help` tells its options.
    #[command(disable_help_flag = true)]
    Report {
        /// Options of the report
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make a key for --key-file: 32 random bytes, readable by you alone
    Keygen {
        /// Where; it must not be there yet
        file: PathBuf,
    },
    /// Make go wrong what can go wrong, and see that the promises hold; a few minutes
    Faults {
        /// Only the cases that CI plays
        #[arg(long)]
        short: bool,
        /// Only cases whose name contains this
        #[arg(long, value_name = "PART", default_value = "")]
        only: String,
    },
    /// Build the programs as static files for Alpine and other nodes, with their sums and
    /// an archive
    Dist {
        /// Where they go
        #[arg(long, default_value = "dist")]
        to: PathBuf,
    },
    /// Look at what the lab and GNS3 need of this machine, and say how to mend it
    Doctor {
        #[command(flatten)]
        server: ServerOptions,
    },
    /// The same lab in GNS3
    #[command(subcommand)]
    Gns3(Gns3Task),
    /// Judge runs from their evidence, item by item; exits with 1 unless all passes
    Grade {
        /// Folders of runs, as `cargo lab` makes them
        #[arg(default_value = "lab-out")]
        dirs: Vec<PathBuf>,
        /// Print the verdicts as JSON
        #[arg(long)]
        json: bool,
        /// With several folders: where the table goes as CSV
        #[arg(long, value_name = "FILE", default_value = "grades.csv")]
        csv: PathBuf,
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
    /// Time one 19 KB file in each style, whole process, beside Python if it has `requests`
    Overhead {
        /// Runs of each
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
        runs: u16,
    },
    /// Measure speed beside the machine's ceiling, and beside UFTP, UDPcast and Python if they
    /// are installed; takes a quarter of an hour
    Bench {
        /// Runs of each cell
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
        runs: u16,
        /// Only cells whose name contains this; repeatable
        #[arg(long, value_name = "PART")]
        only: Vec<String>,
        /// Also send 8 GiB, once: needs 32 GiB of disk below --out, and some minutes more
        #[arg(long)]
        huge: bool,
    },
    /// One receiver of the bench's ceiling
    #[command(hide = true)]
    BlastReceive {
        /// Where to write
        file: PathBuf,
    },
    /// The sender of the bench's ceiling
    #[command(hide = true)]
    BlastSend {
        /// What to send
        file: PathBuf,
        /// Bytes per second
        rate: f64,
        /// One call for each datagram
        #[arg(long)]
        one_by_one: bool,
    },
    /// One receiver of the bench's limit for small tasks
    #[command(hide = true)]
    BareReceive {
        /// How many files will come
        count: usize,
    },
    /// The sender of the bench's limit for small tasks
    #[command(hide = true)]
    BareSend {
        /// Address and port of the HTTP server
        origin: String,
        /// Bytes of a file
        len: usize,
        /// How many files
        count: usize,
        /// How many receivers
        servers: usize,
    },
    /// Offer the sample files over HTTP on loopback
    Serve {
        /// TCP port
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
}

/// Tells `lab on` where the nodes of the shell's lab are.
const NODES_VARIABLE: &str = "SIAR_LAB_NODES";

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.command {
        None => run(&options.run),
        Some(Task::Report { arguments }) => report(&arguments, &options.run),
        Some(Task::Keygen { file }) => keygen(&file),
        Some(Task::Faults { short, only }) => faults(short, &only, &options.run),
        Some(Task::Doctor { server }) => Ok(doctor(&server)),
        Some(Task::Gns3(task)) => gns3(task),
        Some(Task::Dist { to }) => dist(&to),
        Some(Task::Grade { dirs, json, csv }) => grade_all(&dirs, json, &csv),
        Some(Task::Shell { node }) => shell(&node, &options.run),
        Some(Task::On { node, command }) => on(&node, &command),
        Some(Task::Overhead { runs }) => overhead(runs, &options.run),
        Some(Task::Bench { runs, only, huge }) => {
            let config = BenchConfig { runs: usize::from(runs), only, huge };
            bench(&config, &options.run)
        }
        Some(Task::BlastReceive { file }) => seen(lab::bench::blast::receive(&file)),
        Some(Task::BlastSend { file, rate, one_by_one }) => {
            seen(lab::bench::blast::send(&file, rate, one_by_one))
        }
        Some(Task::BareReceive { count }) => done(lab::bench::bare::receive(count)),
        Some(Task::BareSend { origin, len, count, servers }) => {
            done(lab::bench::bare::send(&origin, len, count, servers))
        }
        Some(Task::Serve { port }) => serve(port),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &RunOptions) -> Result<ExitCode, LabError> {
    let binaries = match options.rootfs {
        None => Binaries::build()?,
        Some(_) => Binaries::build_for_nodes(&NodeTarget::native()?)?,
    };
    let mut network = match options {
        RunOptions { loopback: true, .. } => Network::Loopback,
        RunOptions { rootfs: None, .. } => network_or_loopback()?,
        RunOptions { rootfs: Some(_), .. } => {
            become_lab_root().map_err(LabError::Namespace)?;
            own_mounts()?;
            Network::namespaces()?
        }
    };
    fs::create_dir_all(&options.out).map_err(LabError::file(&options.out))?;
    let config = RunConfig {
        out: options.out.canonicalize().map_err(LabError::file(&options.out))?,
        delay: Duration::from_millis(options.delay),
        loss: options.loss,
        runs: options.runs,
        arguments: options.arguments.clone(),
        rootfs: options.rootfs.clone(),
    };
    let (manifest, results) = run_all(&mut network, &binaries, &config)?;
    println!("\n{}", table(&results));
    pictures::write(&config.out, &manifest)?;
    println!("logs, events, timelines and received files: {}", options.out.display());
    let complete = manifest.styles.iter().flat_map(|runs| &runs.runs).all(|run| run.complete);
    if !complete {
        eprintln!("error: not every file arrived whole at every server");
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report is a program of its own, so that the lab is built without a typesetter.
fn report(arguments: &[OsString], options: &RunOptions) -> Result<ExitCode, LabError> {
    let program = Binaries::build_report()?;
    let mut command = Command::new(&program);
    command.arg("--run").arg(&options.out).args(arguments);
    let status = command.status().map_err(LabError::file(&program))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn keygen(file: &Path) -> Result<ExitCode, LabError> {
    siar_core::seal::Key::create(file)?;
    println!("{}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn faults(short: bool, only: &str, options: &RunOptions) -> Result<ExitCode, LabError> {
    let binaries = Binaries::build()?;
    let out = options.out.join("faults");
    fs::create_dir_all(&out).map_err(LabError::file(&out))?;
    let out = out.canonicalize().map_err(LabError::file(&out))?;
    become_lab_root().map_err(LabError::Namespace)?;
    own_mounts()?;
    let played = lab::faults::play(&binaries, &out, short, only)?;
    let table = lab::faults::table(&played);
    let path = out.join("faults.md");
    fs::write(&path, &table).map_err(LabError::file(&path))?;
    println!("\n{}", table.lines().last().unwrap_or_default());
    println!("table: {}", options.out.join("faults/faults.md").display());
    let is_kept = !played.is_empty() && played.iter().all(|one| one.result.is_ok());
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn dist(to: &Path) -> Result<ExitCode, LabError> {
    // Without one for this processor there is nothing to hand out.
    NodeTarget::native()?;
    for target in NodeTarget::all()? {
        println!("{target}");
        let made = distribute(&Binaries::build_for_nodes(&target)?, &target, to)?;
        print!("{made}");
    }
    println!("{}: see SHA256SUMS for all of them", to.display());
    Ok(ExitCode::SUCCESS)
}

fn grade_all(dirs: &[PathBuf], json: bool, csv: &Path) -> Result<ExitCode, LabError> {
    let grades: Vec<Grade> = dirs.iter().map(|dir| grade(dir)).collect();
    if json {
        let text = serde_json::to_string_pretty(&grades).map_err(io::Error::from);
        println!("{}", text.map_err(LabError::file(Path::new("standard output")))?);
    } else if let [only] = &grades[..] {
        print!("{}", lab::grade::lines(only));
    } else {
        print!("{}", lab::grade::table(&grades));
    }
    if grades.len() > 1 {
        lab::grade::write_csv(&grades, csv)?;
        eprintln!("with reasons: {}", csv.display());
    }
    let complete = grades.iter().all(Grade::is_complete);
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn network_or_loopback() -> Result<Network, LabError> {
    let network =
        become_lab_root().map_err(LabError::Namespace).and_then(|()| Network::namespaces());
    match network {
        Err(LabError::Namespace(error)) => {
            eprintln!(
                "no network namespaces here ({error}): running over loopback, 127.255.255.255, \
                 instead"
            );
            Ok(Network::Loopback)
        }
        other => other,
    }
}

fn find(node: &str) -> Result<Node, LabError> {
    let found = NODES.into_iter().find(|candidate| candidate.name == node);
    found.ok_or_else(|| LabError::UnknownNode(node.to_owned()))
}

fn shell(node: &str, options: &RunOptions) -> Result<ExitCode, LabError> {
    let node = find(node)?;
    let binaries = Binaries::build()?;
    become_lab_root().map_err(LabError::Namespace)?;
    let network = Network::namespaces()?;
    let samples = Arc::new(samples()?);
    let gateway = Gateway::start(&network, Arc::clone(&samples))?;
    let dir = options.out.join("shell").join(node.name);
    fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
    let url_list = dir.join("urls.toml");
    fs::write(&url_list, gateway.url_list(&samples)).map_err(LabError::file(&url_list))?;

    let paths = NODES.iter().filter_map(|node| {
        let path = network.namespace(*node)?.path();
        Some(format!("{}={}", node.name, path.display()))
    });
    let paths = paths.collect::<Vec<_>>().join(":");
    let search = std::env::var("PATH").unwrap_or_default();
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    println!(
        "A shell on {} ({}). mp, mt, mp-async, mt-async, server and lab are in its PATH; \
         urls.toml lists the gateway's files. For example:\n\
         \x20 lab on alpine-2 sh -c 'mkdir -p two && server --dir two' &\n\
         \x20 lab on alpine-3 sh -c 'mkdir -p three && server --dir three' &\n\
         \x20 lab on alpine-1 mt-async --urls urls.toml --servers 2\n\
         The lab ends with this shell.",
        node.name, node.address
    );
    let mut command = Command::new(&shell);
    command
        .current_dir(&dir)
        .env("PATH", format!("{}:{search}", binaries.dir().display()))
        .env("PS1", format!("{}:\\w# ", node.name))
        .env(NODES_VARIABLE, paths);
    let status = network
        .spawn(node, &mut command)
        .and_then(|mut child| child.wait())
        .map_err(LabError::file(Path::new(&shell)))?;
    Ok(exit_code(status))
}

fn on(node: &str, command: &[String]) -> Result<ExitCode, LabError> {
    let node = find(node)?;
    let outside = || LabError::MissingProgram {
        program: format!("the lab of {}", node.name),
        remedy: "`lab on` works inside `cargo lab shell`",
    };
    let nodes = std::env::var(NODES_VARIABLE).map_err(|_| outside())?;
    let path = nodes
        .split(':')
        .find_map(|entry| entry.strip_prefix(node.name)?.strip_prefix('='))
        .ok_or_else(outside)?;
    let namespace = Namespace::open(path).map_err(LabError::Namespace)?;
    let program = Path::new(&command[0]);
    let status = namespace
        .enter(|| Command::new(program).args(&command[1..]).spawn())
        .and_then(|mut child| child.wait())
        .map_err(LabError::file(program))?;
    Ok(exit_code(status))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn overhead(runs: u16, options: &RunOptions) -> Result<ExitCode, LabError> {
    let binaries = Binaries::build()?;
    let network = if options.loopback { Network::Loopback } else { network_or_loopback()? };
    fs::create_dir_all(&options.out).map_err(LabError::file(&options.out))?;
    let samples = Arc::new(samples()?);
    let gateway = Gateway::start(&network, Arc::clone(&samples))?;
    let url = format!("{}{}", gateway.origin(), samples[0].path);
    let rows = lab::overhead::measure(&network, &binaries, &url, &options.out, usize::from(runs))?;
    print!("{}", lab::overhead::table(&rows));
    let complete = rows.iter().all(|row| !row.times.is_empty());
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remove_folder(dir: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(LabError::file(dir)),
    }
}

fn bench(config: &BenchConfig, options: &RunOptions) -> Result<ExitCode, LabError> {
    let binaries = Binaries::build_for_nodes(&NodeTarget::native()?)?;
    let out = options.out.join("bench");
    fs::create_dir_all(&out).map_err(LabError::file(&out))?;
    let out = out.canonicalize().map_err(LabError::file(&out))?;
    let work = out.join("work");
    become_lab_root().map_err(LabError::Namespace)?;
    mount_memory(&work)?;
    let disk = out.join("huge");
    // Whoever was interrupted has left it.
    remove_folder(&disk)?;
    fs::create_dir(&disk).map_err(LabError::file(&disk))?;
    let measured = measure(config, &binaries, &work, &disk);
    remove_folder(&disk)?;
    let measured = measured?;
    let mut crowds = Vec::new();
    for receivers in
        CROWDS.into_iter().filter(|receivers| config.is_wanted(&format!("crowd-{receivers}")))
    {
        crowds.push(simulate(receivers).map_err(LabError::file(Path::new("a simulated crowd")))?);
    }
    let summary = Summary::new(&measured, &crowds);
    println!("\n{}\n{}", summary.verdict_table(), summary.cell_table());
    println!("{}", summary.crowd_table());
    summary.write(config, &machine(), &out)?;
    println!("results: {}", options.out.join("bench").display());
    Ok(ExitCode::SUCCESS)
}

fn seen(result: Result<Seen, BlastError>) -> Result<ExitCode, LabError> {
    let seen = result?;
    println!("{}", serde_json::to_string(&seen).map_err(|error| BlastError::Output(error.into()))?);
    Ok(ExitCode::SUCCESS)
}

fn done(result: Result<(), BlastError>) -> Result<ExitCode, LabError> {
    result?;
    Ok(ExitCode::SUCCESS)
}

fn serve(port: u16) -> Result<ExitCode, LabError> {
    let samples = Arc::new(samples()?);
    let gateway =
        Gateway::start_at(SocketAddr::from(([127, 0, 0, 1], port)), Arc::clone(&samples))?;
    println!("# a URL list: save it and give it to a client with --urls");
    print!("{}", gateway.url_list(&samples));
    eprintln!("serving until Enter or end of input");
    io::stdin()
        .read_line(&mut String::new())
        .map_err(LabError::file(Path::new("standard input")))?;
    Ok(ExitCode::SUCCESS)
}
