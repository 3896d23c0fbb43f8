//! The main job: each style in turn delivers every file to every server, and every byte is
//! compared.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use observe::{Capture, ProcessWatch, packet_socket};
use siar_core::client::fetch::CERTIFICATES_VARIABLE;
use siar_core::event::Style;

use crate::StageError;
use crate::events::read_events;
use crate::gateway::Gateway;
use crate::internet;
use crate::machine::machine;
use crate::manifest::{FileEntry, Manifest, NodeDir, NodeEntry, PORT, Role};
use crate::network::Network;
use crate::node::{CLIENT, GATEWAY, Node, SERVERS};
use crate::outcome::{StyleResult, compare, summarize};
use crate::programs::{Programs, STYLES};
use crate::rootfs::{PROGRAMS, Views};
use crate::run_folder;
use crate::samples::{Sample, samples};
use crate::server::RunningServer;

/// The settings of a run of the lab.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The folder for logs, events and files.
    pub out: PathBuf,
    /// The clients' `--delay`: the simulated work between download and broadcast.
    pub delay: Duration,
    /// The part of the UDP packets that each server drops, in per cent.
    pub loss: u8,
    /// The number of runs of each style.
    pub runs: u16,
    /// Further options of the clients.
    pub arguments: Vec<String>,
    /// The root file system of the nodes; `None`: the nodes see this machine's.
    pub rootfs: Option<PathBuf>,
}

/// Runs every style `config.runs` times with the lab's sample files, and shows the clients'
/// output. Afterwards the folder `config.out` holds all data for a report and a grade. Returns
/// the manifest, and the results of all runs.
///
/// # Errors
/// The lab itself fails; a client that fails is a result.
pub fn run_all(
    network: &mut Network,
    programs: &Programs,
    config: &RunConfig,
) -> Result<(Manifest, Vec<StyleResult>), StageError> {
    run_folder::prepare(&config.out)?;
    if config.loss > 0 {
        for server in SERVERS {
            network.drop_datagrams(server, config.loss)?;
        }
    }
    let samples = Arc::new(samples()?);
    let mut gateway = Gateway::start(network, Arc::clone(&samples))?;
    let mut certificates = None;
    let (network, programs) = match &config.rootfs {
        None => (&*network, programs),
        Some(rootfs) => {
            let views = config.out.join(run_folder::VIEWS);
            let nodes = [CLIENT, SERVERS[0], SERVERS[1]];
            network.set_views(Views::new(rootfs, &views, &nodes, &config.out, programs)?);
            certificates = Some(internet::start(network, gateway.port(), &config.out)?);
            gateway.set_origin(internet::origin());
            (&*network, &Programs::on_node(PROGRAMS))
        }
    };
    let url_list = config.out.join("urls.toml");
    fs::write(&url_list, gateway.url_list(&samples)).map_err(StageError::file(&url_list))?;
    let mut manifest = manifest_of(network, &gateway, &samples, config);
    // Without an end, the folder says that the run was broken off.
    manifest.write(&config.out)?;
    let mut results = Vec::new();
    for run in 1..=config.runs {
        for style in STYLES {
            let count = if config.runs > 1 {
                format!("  # {run} of {}", config.runs)
            } else {
                String::new()
            };
            println!("\n{}:~# {style}{count}", CLIENT.name);
            let setting = Setting { network, programs, certificates: certificates.as_deref() };
            let result = run_style(setting, style, &url_list, &samples, config)?;
            for fault in &result.faults {
                eprintln!("error: {fault}");
            }
            manifest.add(&result);
            results.push(result);
        }
    }
    manifest.measured_loss = measured_loss(network, config.loss)?;
    manifest.is_finished = true;
    manifest.write(&config.out)?;
    Ok((manifest, results))
}

/// The part of the UDP packets that the servers dropped, in per cent.
fn measured_loss(network: &Network, loss: u8) -> Result<Option<f64>, StageError> {
    if loss == 0 {
        return Ok(None);
    }
    let (mut arrived, mut dropped) = (0, 0);
    for server in SERVERS {
        let counts = network.packet_counts(server)?;
        arrived += counts.arrived;
        dropped += counts.dropped;
    }
    Ok((arrived > 0).then(|| dropped as f64 * 100.0 / arrived as f64))
}

/// The manifest of a run before its first style.
fn manifest_of(
    network: &Network,
    gateway: &Gateway,
    samples: &[Sample],
    config: &RunConfig,
) -> Manifest {
    let has_switch = matches!(network, Network::Namespaces { .. });
    let node = |node: Node, role| NodeEntry {
        name: node.name.to_owned(),
        address: network.address(node),
        interface: if has_switch { "eth0" } else { "lo" }.to_owned(),
        role,
    };
    let mut nodes = vec![node(CLIENT, Role::Client)];
    nodes.extend(SERVERS.map(|server| node(server, Role::Server)));
    nodes.push(node(GATEWAY, Role::Gateway));
    let origin = gateway.origin();
    let file = |sample: &Sample| FileEntry {
        key: sample.key.to_owned(),
        url: format!("{origin}{}", sample.path),
        name: sample.file_name().to_owned(),
        bytes: sample.bytes.len() as u64,
        blake3: blake3::hash(&sample.bytes).to_string(),
    };
    Manifest {
        time: Timestamp::now(),
        machine: machine(),
        has_switch,
        nodes,
        target: network.broadcast_address(),
        port: PORT,
        delay_ms: u64::try_from(config.delay.as_millis()).unwrap_or(u64::MAX),
        loss: config.loss,
        measured_loss: None,
        arguments: config.arguments.clone(),
        files: samples.iter().map(file).collect(),
        styles: Vec::new(),
        is_finished: false,
    }
}

/// The setting in which a style runs.
#[derive(Clone, Copy)]
struct Setting<'a> {
    network: &'a Network,
    programs: &'a Programs,
    /// The certificate that the clients trust, if they download over HTTPS.
    certificates: Option<&'a Path>,
}

/// Runs one style with fresh servers. The client's output is shown and kept in a file.
///
/// # Errors
/// The lab itself fails; a client that fails is a result.
fn run_style(
    Setting { network, programs, certificates }: Setting<'_>,
    style: Style,
    url_list: &Path,
    samples: &[Sample],
    config: &RunConfig,
) -> Result<StyleResult, StageError> {
    let dir = config.out.join(style.to_string());
    // The style's earlier run of several.
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(StageError::file(&dir))?;
    }
    let mut servers = Vec::new();
    for node in SERVERS {
        let dir = dir.join(node.name);
        servers.push(RunningServer::start(network, programs, node, &dir, &[])?);
    }
    let node_dir = |node: Node| NodeDir::new(&config.out, style, node.name);
    let mut captures = Vec::new();
    for node in SERVERS {
        let path = node_dir(node).capture();
        captures.push((capture(network, node, &path)?, path));
    }
    let client_dir = node_dir(CLIENT);
    client_dir.create()?;
    let events = client_dir.client_events();
    let mut command = Command::new(programs.client(style));
    command
        .arg("--urls")
        .arg(url_list)
        .args(["--target", &network.broadcast_address().to_string()])
        .args(["--servers", &SERVERS.len().to_string()])
        .args(["--delay", &format!("{}ms", config.delay.as_millis())])
        .arg("--dir")
        .arg(client_dir.files())
        .arg("--events")
        .arg(&events)
        .args(&config.arguments);
    if let Some(certificates) = certificates {
        command.env(CERTIFICATES_VARIABLE, certificates);
    }
    let begin = Instant::now();
    let status = run_shown(network, &mut command, &client_dir)?;
    let wall = begin.elapsed();
    for (capture, path) in captures {
        capture.map_or(Ok(()), Capture::stop).map_err(StageError::file(&path))?;
    }

    let mut result = summarize(style, status.success(), &read_events(&events)?, config.delay, wall);
    result.files = samples.len();
    for server in servers {
        let (files, node) = (server.files(), server.node);
        // The server's log has its output; the exit code tells nothing more.
        let _ = server.stop().map_err(StageError::file(&programs.server()))?;
        let faults = compare(&files, samples);
        result.delivered.push(samples.len() - faults.len().min(samples.len()));
        result.faults.extend(faults.into_iter().map(|fault| format!("{}: {fault}", node.name)));
    }
    Ok(result)
}

/// Records the packets that reach a node. On loopback the result is `None`, because all nodes
/// share one interface.
fn capture(network: &Network, node: Node, path: &Path) -> Result<Option<Capture>, StageError> {
    if network.namespace(node).is_none() {
        return Ok(None);
    }
    let capture = network.on(node, packet_socket).and_then(|socket| Capture::start(socket, path));
    capture.map(Some).map_err(StageError::file(path))
}

/// Runs a client on its node. The client's output is shown and written to its log, and its
/// processes are recorded.
fn run_shown(
    network: &Network,
    command: &mut Command,
    dir: &NodeDir,
) -> Result<ExitStatus, StageError> {
    let (log, processes) = (&dir.client_log(), &dir.processes());
    let mut file = File::create(log).map_err(StageError::file(log))?;
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = network.spawn(CLIENT, command).map_err(StageError::file(&program))?;
    let watch = ProcessWatch::start(child.id(), processes).map_err(StageError::file(processes))?;
    let mut stderr_log = file.try_clone().map_err(StageError::file(log))?;
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || {
        for line in stderr
            .into_iter()
            .flat_map(|stderr| BufReader::new(stderr).lines())
            .map_while(Result::ok)
        {
            eprintln!("{line}");
            // The line was shown, so that a failure to log it loses nothing.
            let _ = stderr_log.write_all(format!("{line}\n").as_bytes());
        }
    });
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            // A single write keeps the line whole: the other thread writes to the same file.
            file.write_all(format!("{line}\n").as_bytes()).map_err(StageError::file(log))?;
        }
    }
    if errors.join().is_err() {
        log::error!("the thread that shows standard error panicked");
    }
    let status = child.wait().map_err(StageError::file(&program))?;
    watch.stop().map_err(StageError::file(processes))?;
    Ok(status)
}
