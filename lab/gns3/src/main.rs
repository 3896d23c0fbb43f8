//! The program of `cargo lab gns3`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use evidence::pictures;
use gns3::Gns3Error;
use gns3::api::{NodeState, Project, Server};
use gns3::deploy::{deploy, differences};
use gns3::error::ServerError;
use gns3::options::ServerOptions;
use gns3::project::export;
use gns3::run::{ConsoleRun, Consoles};
use gns3::topology::{DOCKER_IMAGE, HOME, Kind, PROJECT, QEMU_IMAGE, SETUP, Topology, alpines};
use siar_core::client::urls;
use siar_core::event::Style;
use siar_core::face::values::duration;
use stage::node::CLIENT;
use stage::outcome::{StyleResult, table};
use stage::programs::{Programs, STYLES};
use stage::target::NodeTarget;
use stage::{StageError, tool};

/// Sets up and runs the lab in GNS3.
#[derive(Debug, Parser)]
#[command(name = "cargo lab gns3", bin_name = "cargo lab gns3", version = siar_core::VERSION)]
// `cargo lab` passes an option for the folder, which the user's option must override.
#[command(args_override_self = true)]
struct Options {
    #[command(subcommand)]
    task: Task,
    /// With run: folder for logs, events and received files
    #[arg(long, value_name = "DIR", default_value = "lab-out", global = true)]
    out: PathBuf,
}

/// The commands of `cargo lab gns3`.
#[derive(Debug, Subcommand)]
enum Task {
    /// Write the lab as a portable project, for the import in the menu of GNS3 (2.2 and 3.0)
    Export {
        #[command(flatten)]
        lab: LabOptions,
        /// Path of the project file
        #[arg(long, value_name = "FILE", default_value = "siar-lab.gns3project")]
        to: PathBuf,
    },
    /// Make the lab on a running GNS3 server, or change what is missing or differs
    Deploy {
        #[command(flatten)]
        server: ServerOptions,
        #[command(flatten)]
        lab: LabOptions,
        /// Leave the nodes stopped
        #[arg(long)]
        no_start: bool,
    },
    /// Show the state of the lab on the GNS3 server
    Status {
        #[command(flatten)]
        server: ServerOptions,
        #[command(flatten)]
        lab: LabOptions,
    },
    /// Stop the lab on the GNS3 server and remove it
    Destroy {
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Run styles on the deployed nodes over their consoles, with the same files as a local run
    Run {
        #[command(flatten)]
        server: ServerOptions,
        /// mp, mt, mp-async or mt-async; without a style: all four
        #[arg(value_parser = style)]
        styles: Vec<Style>,
        /// TOML table of the URLs; default: the built-in list
        #[arg(long, value_name = "FILE")]
        urls: Option<PathBuf>,
        /// Simulated work between download and broadcast
        #[arg(long, value_name = "DUR", default_value = "2s", value_parser = duration)]
        delay: Duration,
        /// Further options of the clients
        #[arg(last = true, value_name = "CLIENT OPTIONS")]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct LabOptions {
    /// Kind of the three Alpine nodes
    #[arg(long, value_enum, default_value = "docker")]
    nodes: Kind,
    /// Image of the nodes: a Docker image, or a disk image in GNS3's images folder
    /// [default: alpine:latest, or alpine-virt-3.18.4.qcow2]
    #[arg(long)]
    image: Option<String>,
    /// Leave out the NAT node; the lab then has no internet access
    #[arg(long)]
    no_nat: bool,
}

fn style(text: &str) -> Result<Style, String> {
    let found = STYLES.into_iter().find(|style| style.to_string() == text);
    found.ok_or_else(|| "expected mp, mt, mp-async or mt-async".to_owned())
}

impl LabOptions {
    fn topology(&self) -> Result<Topology, Gns3Error> {
        let programs = Programs::build_for_nodes(&NodeTarget::native()?)?;
        let image = self.image.as_deref().unwrap_or(match self.nodes {
            Kind::Docker => DOCKER_IMAGE,
            Kind::Qemu => QEMU_IMAGE,
        });
        let mut topology = Topology::new(self.nodes, image, &programs)?;
        if self.no_nat {
            topology.remove_nat();
        }
        Ok(topology)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| play(options.task, options.out))
}

fn play(task: Task, out: PathBuf) -> Result<ExitCode, Gns3Error> {
    match task {
        Task::Export { lab, to } => {
            let bytes = export(PROJECT, &lab.topology()?)?;
            fs::write(&to, &bytes).map_err(Gns3Error::file(&to))?;
            println!(
                "{}, {:.1} MB: in GNS3, File, Import portable project",
                to.display(),
                bytes.len() as f64 / 1e6
            );
        }
        Task::Deploy { server: options, lab, no_start } => {
            let server = options.connect()?;
            let topology = lab.topology()?;
            let tell = &mut |change: &str| println!("{change}");
            let deployed = deploy(&server, &options.project, &topology, !no_start, tell)?;
            match deployed.changes {
                0 => println!("everything is as it should be"),
                1 => println!("1 change"),
                count => println!("{count} changes"),
            }
            what_to_type(&server, lab.nodes, &deployed.nodes);
        }
        Task::Status { server: options, lab } => return status(&options, &lab),
        Task::Destroy { server: options } => {
            let server = options.connect()?;
            match server.find_project(&options.project)? {
                None => println!("there is no project {}", options.project),
                Some(project) => {
                    if project.is_open() {
                        server.stop_nodes(&project)?;
                    }
                    server.delete_project(&project)?;
                    println!("removed project {}", project.name);
                }
            }
        }
        Task::Run { server, styles, urls, delay, arguments } => {
            let tasks = match urls {
                None => urls::built_in(),
                Some(path) => urls::read(&path)?,
            };
            let (consoles, release, kind) = consoles(&server)?;
            let machine = format!("GNS3 {release}, nodes of {kind}");
            let mut run = ConsoleRun::new(consoles, machine, tasks);
            run.has_medium = kind == "qemu";
            run.delay = delay;
            run.arguments = arguments;
            run.out = out;
            let styles = if styles.is_empty() { STYLES.to_vec() } else { styles };
            let (manifest, results) = run.run(&styles)?;
            println!("\n{}", table(&results));
            pictures::write(&run.out, &manifest)?;
            println!("logs, events, timelines and received files: {}", run.out.display());
            if !results.iter().all(StyleResult::is_complete) {
                eprintln!("error: not every file arrived whole at every server");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the state of the lab. The exit code is 1 unless everything exists and runs.
fn status(options: &ServerOptions, lab: &LabOptions) -> Result<ExitCode, Gns3Error> {
    let server = options.connect()?;
    println!("GNS3 {} at {}", server.release, server.address());
    let topology = lab.topology()?;
    let found = server.find_project(&options.project)?;
    let Some(project) = found.filter(Project::is_open) else {
        println!("project {} is not there, or closed", options.project);
        return Ok(ExitCode::FAILURE);
    };
    let nodes = server.nodes(&project)?;
    for node in &nodes {
        let is_ours = alpines().iter().any(|planned| planned.name == node.name);
        let console = node.console.filter(|_| is_ours).map_or_else(String::new, |port| {
            format!(", console: telnet {} {port}", host(&server, node))
        });
        println!("{:<9} {}{console}", node.name, node.status.as_deref().unwrap_or("unknown"));
    }
    let differences = differences(&server, &project, &topology)?;
    for what in &differences {
        println!("deploy would have {what}");
    }
    Ok(tool::verdict(differences.is_empty()))
}

/// The host of a node's console. By GNS3's rule, a console on all addresses is at the host of
/// the server.
fn host(server: &Server, node: &NodeState) -> String {
    match node.console_host.as_deref() {
        None | Some("0.0.0.0" | "::") => server.host(),
        Some(host) => host.to_owned(),
    }
}

fn what_to_type(server: &Server, kind: Kind, nodes: &[NodeState]) {
    for planned in alpines() {
        let Some(node) = nodes.iter().find(|node| node.name == planned.name) else { continue };
        let Some(port) = node.console else { continue };
        println!("\n{} ({}): telnet {} {port}", planned.name, planned.address, host(server, node));
        if kind == Kind::Qemu {
            println!("  {SETUP}");
        }
        match planned == CLIENT {
            true => println!("  {HOME}/mt-async --servers 2"),
            false => println!("  mkdir -p /tmp/files && {HOME}/server --dir /tmp/files"),
        }
    }
    println!("\nor all of it from here: cargo lab gns3 run mt-async");
}

/// The consoles of the deployed lab, the server's release and the kind of the nodes. Nodes that
/// do not run are started.
fn consoles(options: &ServerOptions) -> Result<(Consoles, String, String), Gns3Error> {
    let server = options.connect()?;
    let no_project = || ServerError::NoProject {
        project: options.project.clone(),
        server: server.address().to_owned(),
    };
    let project = server.find_project(&options.project)?.ok_or_else(no_project)?;
    if !project.is_open() {
        server.open_project(&project)?;
    }
    let nodes = server.nodes(&project)?;
    let mut consoles = Vec::new();
    for planned in alpines() {
        let node = nodes.iter().find(|node| node.name == planned.name);
        let missing =
            || ServerError::NoNode { project: project.name.clone(), node: planned.name.to_owned() };
        let node = node.ok_or_else(missing)?;
        if !node.is_started() {
            server.start_node(&project, node)?;
        }
        consoles.push((host(&server, node), node.console.ok_or_else(missing)?));
    }
    let kind = nodes.iter().find(|node| node.name == CLIENT.name);
    let kind = kind.map_or_else(String::new, |node| node.node_type.clone());
    let consoles = <[_; 3]>::try_from(consoles)
        .map_err(|_| StageError::UnknownNode(CLIENT.name.to_owned()))?;
    Ok((consoles, server.release, kind))
}
