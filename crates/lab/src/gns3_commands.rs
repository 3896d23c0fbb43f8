//! `cargo lab gns3`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use lab::LabError;
use lab::binaries::{Binaries, STYLES};
use lab::dist::NodeTarget;
use lab::doctor::{Health, examine};
use lab::gns3::api::{NodeState, Server};
use lab::gns3::deploy::{deploy, differences};
use lab::gns3::error::Gns3Error;
use lab::gns3::project::export;
use lab::gns3::run::{ConsoleRun, Consoles};
use lab::gns3::topology::{
    DOCKER_IMAGE, HOME, Kind, PROJECT, QEMU_IMAGE, SETUP, Topology, alpines,
};
use lab::network::CLIENT;
use lab::pictures;
use lab::run::table;
use siar_core::event::Style;
use siar_core::urls;

/// Parts of the lab on GNS3.
#[derive(Debug, Subcommand)]
pub(crate) enum Gns3Task {
    /// Write the lab as a portable project, to be imported in GNS3's menu (2.2 and 3.0)
    Export {
        #[command(flatten)]
        lab: LabOptions,
        /// The file
        #[arg(long, value_name = "FILE", default_value = "siar-lab.gns3project")]
        to: PathBuf,
    },
    /// Make the lab on a running GNS3 server: what is missing or differs, nothing else
    Deploy {
        #[command(flatten)]
        server: ServerOptions,
        #[command(flatten)]
        lab: LabOptions,
        /// Leave the nodes stopped
        #[arg(long)]
        no_start: bool,
    },
    /// Tell what the GNS3 server has of the lab
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
    /// Run styles on the deployed nodes by way of their consoles, into the same folder as a
    /// local run
    Run {
        #[command(flatten)]
        server: ServerOptions,
        /// mp, mt, mp-async, mt-async; none: all four
        #[arg(value_parser = style)]
        styles: Vec<Style>,
        /// TOML table of the URLs; default: the built-in list
        #[arg(long, value_name = "FILE")]
        urls: Option<PathBuf>,
        /// Simulated work between download and broadcast, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 2000)]
        delay: u64,
        /// Where logs, events and received files go
        #[arg(long, default_value = "lab-out")]
        out: PathBuf,
        /// Further options of the clients
        #[arg(last = true, value_name = "CLIENT OPTIONS")]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// The GNS3 server
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:3080",
        env = "SIAR_GNS3_SERVER"
    )]
    server: String,
    /// Its user
    #[arg(long, default_value = "admin", env = "SIAR_GNS3_USER")]
    user: String,
    /// The user's password
    #[arg(long, default_value = "admin", env = "SIAR_GNS3_PASSWORD", hide_env_values = true)]
    password: String,
    /// The project's name
    #[arg(long, default_value = PROJECT)]
    project: String,
}

#[derive(Debug, Args)]
pub(crate) struct LabOptions {
    /// How GNS3 runs the three Alpines
    #[arg(long, value_enum, default_value = "docker")]
    nodes: Kind,
    /// Their image: of Docker, or a disk in GNS3's images folder
    /// [default: alpine:latest, or alpine-virt-3.18.4.qcow2]
    #[arg(long)]
    image: Option<String>,
    /// Leave out the NAT node: the lab then has no internet
    #[arg(long)]
    no_nat: bool,
}

fn style(text: &str) -> Result<Style, String> {
    let found = STYLES.into_iter().find(|style| style.to_string() == text);
    found.ok_or_else(|| "expected mp, mt, mp-async or mt-async".to_owned())
}

impl ServerOptions {
    fn connect(&self) -> Result<Server, LabError> {
        Ok(Server::connect(&self.server, &self.user, &self.password)?)
    }
}

impl LabOptions {
    fn topology(&self) -> Result<Topology, LabError> {
        let programs = Binaries::build_for_nodes(&NodeTarget::native()?)?;
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

pub(crate) fn gns3(task: Gns3Task) -> Result<ExitCode, LabError> {
    match task {
        Gns3Task::Export { lab, to } => {
            let bytes = export(PROJECT, &lab.topology()?)?;
            fs::write(&to, &bytes).map_err(LabError::file(&to))?;
            println!(
                "{}, {:.1} MB: in GNS3, File, Import portable project",
                to.display(),
                bytes.len() as f64 / 1e6
            );
        }
        Gns3Task::Deploy { server: options, lab, no_start } => {
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
        Gns3Task::Status { server: options, lab } => return status(&options, &lab),
        Gns3Task::Destroy { server: options } => {
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
        Gns3Task::Run { server, styles, urls, delay, out, arguments } => {
            let tasks = match urls {
                None => urls::built_in(),
                Some(path) => urls::read(&path)?,
            };
            let (consoles, release, kind) = consoles(&server)?;
            let machine = format!("GNS3 {release}, nodes of {kind}");
            let mut run = ConsoleRun::new(consoles, machine, tasks);
            run.has_medium = kind == "qemu";
            run.delay = Duration::from_millis(delay);
            run.arguments = arguments;
            run.out = out;
            let styles = if styles.is_empty() { STYLES.to_vec() } else { styles };
            let (manifest, results) = run.run(&styles)?;
            println!("\n{}", table(&results));
            pictures::write(&run.out, &manifest)?;
            println!("logs, events, timelines and received files: {}", run.out.display());
            if !results.iter().all(lab::run::StyleResult::is_complete) {
                eprintln!("error: not every file arrived whole at every server");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Exits with 1 if the lab's main job cannot be done here.
pub(crate) fn doctor(options: &ServerOptions) -> ExitCode {
    let findings = examine(&options.server, &options.user, &options.password);
    for found in &findings {
        println!("{found}");
    }
    let is_ill = findings.iter().any(|found| found.health == Health::Ill);
    if is_ill { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Exits with 1 unless everything is there and runs.
fn status(options: &ServerOptions, lab: &LabOptions) -> Result<ExitCode, LabError> {
    let server = options.connect()?;
    println!("GNS3 {} at {}", server.release, server.address());
    let topology = lab.topology()?;
    let found = server.find_project(&options.project)?;
    let Some(project) = found.filter(lab::gns3::api::Project::is_open) else {
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
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// GNS3's rule: a console on all addresses is asked for where its server was.
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

/// Where the consoles of the deployed lab are; the server's release, and the nodes' kind.
fn consoles(options: &ServerOptions) -> Result<(Consoles, String, String), LabError> {
    let server = options.connect()?;
    let no_project = || Gns3Error::NoProject {
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
            || Gns3Error::NoNode { project: project.name.clone(), node: planned.name.to_owned() };
        let node = node.ok_or_else(missing)?;
        if !node.is_started() {
            server.start_node(&project, node)?;
        }
        consoles.push((host(&server, node), node.console.ok_or_else(missing)?));
    }
    let kind = nodes.iter().find(|node| node.name == CLIENT.name);
    let kind = kind.map_or_else(String::new, |node| node.node_type.clone());
    let consoles =
        <[_; 3]>::try_from(consoles).map_err(|_| LabError::UnknownNode(CLIENT.name.to_owned()))?;
    Ok((consoles, server.release, kind))
}
