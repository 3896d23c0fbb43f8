//! The main job: each style in turn delivers every file to every server, and every byte is
//! compared.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use observe::{Capture, ProcessWatch, packet_socket};
use siar_core::event::{Event, EventKind, Style};
use siar_core::fetch::CERTIFICATES_VARIABLE;

use crate::LabError;
use crate::binaries::{Binaries, STYLES};
use crate::gateway::Gateway;
use crate::internet;
use crate::manifest::{self, Manifest, NodeDir};
use crate::network::{CLIENT, Network, Node, SERVERS};
use crate::rootfs::{PROGRAMS, Views};
use crate::samples::{Sample, samples};

/// A server is up well before this.
const START_LIMIT: Duration = Duration::from_secs(10);
/// And has ended well before this.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A server on a node; it is killed when dropped.
#[derive(Debug)]
pub struct RunningServer {
    /// Where it runs.
    pub node: Node,
    /// Its process.
    pub child: Child,
    /// Its folder: received files, `server.log`, `server.events`.
    pub dir: PathBuf,
}

impl RunningServer {
    /// Starts a server on `node` that writes below `dir`, and waits until it listens.
    ///
    /// # Errors
    /// It cannot be started, or says why it does not listen.
    pub fn start(
        network: &Network,
        binaries: &Binaries,
        node: Node,
        dir: &Path,
        arguments: &[&str],
    ) -> Result<Self, LabError> {
        let files = dir.join("files");
        fs::create_dir_all(&files).map_err(LabError::file(&files))?;
        let (log, events) = (dir.join("server.log"), dir.join("server.events"));
        let output = File::create(&log).map_err(LabError::file(&log))?;
        let program = binaries.server();
        let mut command = Command::new(&program);
        command
            .args(["--bind", &format!("{}:5005", network.listen_address())])
            .arg("--dir")
            .arg(&files)
            .arg("--events")
            .arg(&events)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(LabError::file(&log))?)
            .stdout(output);
        let child = network.spawn(node, &mut command).map_err(LabError::file(&program))?;
        let mut server = Self { node, child, dir: dir.to_owned() };
        let limit = Instant::now() + START_LIMIT;
        while !fs::read_to_string(&events).is_ok_and(|text| text.contains("\"listening\"")) {
            let ended = server.child.try_wait().map_err(LabError::file(&program))?.is_some();
            if ended || Instant::now() > limit {
                let output = fs::read_to_string(&log).unwrap_or_default().trim().to_owned();
                return Err(LabError::ServerStart { node: node.name.to_owned(), output });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Where it puts what it receives.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// What it has told so far.
    ///
    /// # Errors
    /// The event file cannot be read.
    pub fn events(&self) -> Result<Vec<Event>, LabError> {
        read_events(&self.dir.join("server.events"))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Ends it as a user would and waits for that; kills it if it takes too long.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn stop(mut self) -> std::io::Result<ExitStatus> {
        // It may have ended already.
        let _ = self.signal(Signal::SIGTERM);
        let limit = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > limit {
                self.child.kill()?;
                return self.child.wait();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // Stopped ones are gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads an event file.
///
/// # Errors
/// It is not there, or a line is no event.
pub fn read_events(path: &Path) -> Result<Vec<Event>, LabError> {
    let text = fs::read_to_string(path).map_err(LabError::file(path))?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(std::io::Error::from))
        .collect::<Result<_, _>>()
        .map_err(LabError::file(path))
}

/// How one style did.
#[derive(Debug, Clone, PartialEq)]
pub struct StyleResult {
    /// Which.
    pub style: Style,
    /// Whether the client ended with 0.
    pub success: bool,
    /// From start to end, in seconds.
    pub total: f64,
    /// The part of that which is not the simulated work.
    pub overhead: f64,
    /// Files that arrived whole, per server.
    pub delivered: Vec<usize>,
    /// Files there are.
    pub files: usize,
    /// Processes that ran tasks.
    pub processes: usize,
    /// Threads that ran tasks.
    pub threads: usize,
    /// What is wrong with which file.
    pub faults: Vec<String>,
}

impl StyleResult {
    /// Whether every file arrived at every server and the client said so.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.success && self.faults.is_empty()
    }
}

/// What a run of the lab goes by.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// Where logs, events and files go.
    pub out: PathBuf,
    /// The clients' `--delay`.
    pub delay: Duration,
    /// Per cent of the datagrams that each server loses.
    pub loss: u8,
    /// Runs of each style.
    pub runs: u16,
    /// Further options of the clients.
    pub arguments: Vec<String>,
    /// The nodes' root file system; `None`: this machine's.
    pub rootfs: Option<PathBuf>,
}

/// Runs every style as often as asked for, with the lab's samples on its gateway; what the
/// clients print is shown. The folder then holds all that a report and a grade need. Returns
/// what the folder's manifest says, and how the styles did at last.
///
/// # Errors
/// The lab itself fails; a client that fails is a result.
pub fn run_all(
    network: &mut Network,
    binaries: &Binaries,
    config: &RunConfig,
) -> Result<(Manifest, Vec<StyleResult>), LabError> {
    if config.loss > 0 {
        for server in SERVERS {
            network.drop_datagrams(server, config.loss)?;
        }
    }
    // They are of an earlier run.
    for name in [manifest::FILE_NAME, "report.pdf", "report.html"] {
        let path = config.out.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(LabError::file(&path))?;
        }
    }
    let samples = Arc::new(samples()?);
    let mut gateway = Gateway::start(network, Arc::clone(&samples))?;
    let mut certificates = None;
    let (network, binaries) = match &config.rootfs {
        None => (&*network, binaries),
        Some(rootfs) => {
            let views = config.out.join("nodes");
            let nodes = [CLIENT, SERVERS[0], SERVERS[1]];
            network.set_views(Views::new(rootfs, &views, &nodes, &config.out, binaries)?);
            certificates = Some(internet::start(network, gateway.port(), &config.out)?);
            gateway.set_origin(internet::origin());
            (&*network, &Binaries::on_node(PROGRAMS))
        }
    };
    let url_list = config.out.join("urls.toml");
    fs::write(&url_list, gateway.url_list(&samples)).map_err(LabError::file(&url_list))?;
    let mut manifest = Manifest::new(network, &gateway, &samples, config);
    let mut results = Vec::new();
    for run in 1..=config.runs {
        results.clear();
        for style in STYLES {
            let count = if config.runs > 1 {
                format!("  # {run} of {}", config.runs)
            } else {
                String::new()
            };
            println!("\n{}:~# {style}{count}", CLIENT.name);
            let setting = Setting { network, binaries, certificates: certificates.as_deref() };
            let result = run_style(setting, style, &url_list, &samples, config)?;
            for fault in &result.faults {
                eprintln!("error: {fault}");
            }
            manifest.add(&result);
            results.push(result);
        }
    }
    manifest.write(&config.out)?;
    Ok((manifest, results))
}

/// Where a style runs.
#[derive(Clone, Copy)]
struct Setting<'a> {
    network: &'a Network,
    binaries: &'a Binaries,
    /// To trust, where the gateway is asked over HTTPS.
    certificates: Option<&'a Path>,
}

/// Runs one style on fresh servers. What the client prints is shown and kept.
///
/// # Errors
/// The lab itself fails; a client that fails is a result.
fn run_style(
    Setting { network, binaries, certificates }: Setting<'_>,
    style: Style,
    url_list: &Path,
    samples: &[Sample],
    config: &RunConfig,
) -> Result<StyleResult, LabError> {
    let dir = config.out.join(style.to_string());
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(LabError::file(&dir))?;
    }
    let mut servers = Vec::new();
    for node in SERVERS {
        let dir = dir.join(node.name);
        servers.push(RunningServer::start(network, binaries, node, &dir, &[])?);
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
    let mut command = Command::new(binaries.client(style));
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
        capture.map_or(Ok(()), Capture::stop).map_err(LabError::file(&path))?;
    }

    let mut result = summarize(style, status.success(), &read_events(&events)?, config.delay, wall);
    result.files = samples.len();
    for server in servers {
        let (files, node) = (server.files(), server.node);
        // What it printed is in its log; its exit code tells nothing more.
        let _ = server.stop().map_err(LabError::file(&binaries.server()))?;
        let faults = compare(&files, samples);
        result.delivered.push(samples.len() - faults.len().min(samples.len()));
        result.faults.extend(faults.into_iter().map(|fault| format!("{}: {fault}", node.name)));
    }
    Ok(result)
}

/// Records what reaches a node; `None` on loopback, whose packets no node has to itself.
fn capture(network: &Network, node: Node, path: &Path) -> Result<Option<Capture>, LabError> {
    if network.namespace(node).is_none() {
        return Ok(None);
    }
    let capture = network.on(node, packet_socket).and_then(|socket| Capture::start(socket, path));
    capture.map(Some).map_err(LabError::file(path))
}

/// Runs a client on its node; what it prints is shown and logged, and its processes are
/// watched.
fn run_shown(
    network: &Network,
    command: &mut Command,
    dir: &NodeDir,
) -> Result<ExitStatus, LabError> {
    let (log, processes) = (&dir.client_log(), &dir.processes());
    let mut file = File::create(log).map_err(LabError::file(log))?;
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = network.spawn(CLIENT, command).map_err(LabError::file(&program))?;
    let watch = ProcessWatch::start(child.id(), processes).map_err(LabError::file(processes))?;
    let mut stderr_log = file.try_clone().map_err(LabError::file(log))?;
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || {
        for line in stderr
            .into_iter()
            .flat_map(|stderr| BufReader::new(stderr).lines())
            .map_while(Result::ok)
        {
            eprintln!("{line}");
            // The terminal has it.
            let _ = stderr_log.write_all(format!("{line}\n").as_bytes());
        }
    });
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            // In one piece: the other thread writes to the same file.
            file.write_all(format!("{line}\n").as_bytes()).map_err(LabError::file(log))?;
        }
    }
    if errors.join().is_err() {
        log::error!("the thread that shows standard error panicked");
    }
    let status = child.wait().map_err(LabError::file(&program))?;
    watch.stop().map_err(LabError::file(processes))?;
    Ok(status)
}

/// How a client did, by what it told.
pub(crate) fn summarize(
    style: Style,
    success: bool,
    events: &[Event],
    delay: Duration,
    wall: Duration,
) -> StyleResult {
    let of_tasks = || events.iter().filter(|event| event.kind == EventKind::DownloadStarted);
    let total = events.iter().find_map(|event| match event.kind {
        EventKind::RunFinished { seconds, .. } => Some(seconds),
        _ => None,
    });
    // A client that was killed does not say.
    let total = total.unwrap_or(wall.as_secs_f64());
    StyleResult {
        style,
        success,
        total,
        overhead: total - delay.as_secs_f64(),
        delivered: Vec::new(),
        files: 0,
        processes: of_tasks().map(|event| event.pid).collect::<BTreeSet<_>>().len(),
        threads: of_tasks().map(|event| event.tid).collect::<BTreeSet<_>>().len(),
        faults: Vec::new(),
    }
}

/// What is wrong with the files in `dir`, one entry a sample.
#[must_use]
pub fn compare(dir: &Path, samples: &[Sample]) -> Vec<String> {
    compare_files(dir, samples.iter().map(|sample| (sample.file_name(), sample.bytes.as_slice())))
}

/// The same with names and bytes as they should be.
pub(crate) fn compare_files<'a>(
    dir: &Path,
    wanted: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Vec<String> {
    let fault = |(name, wanted): (&str, &[u8])| match fs::read(dir.join(name)) {
        Ok(bytes) if bytes == wanted => None,
        Ok(bytes) => Some(format!(
            "{name} differs from its source ({} bytes, the source has {})",
            bytes.len(),
            wanted.len()
        )),
        Err(error) => Some(format!("{name}: {error}")),
    };
    wanted.into_iter().filter_map(fault).collect()
}

/// The table that ends a run.
#[must_use]
pub fn table(results: &[StyleResult]) -> String {
    let mut text = format!(
        "{:<10} {:>9} {:>10}  {:>10} {:>10}  {:>9} {:>7}\n",
        "style", "total", "overhead", SERVERS[0].name, SERVERS[1].name, "processes", "threads"
    );
    for result in results {
        let delivered = |index: usize| {
            let count = result.delivered.get(index).copied().unwrap_or(0);
            format!("{count} of {}", result.files)
        };
        text.push_str(&format!(
            "{:<10} {:>7.3} s {:>8.3} s  {:>10} {:>10}  {:>9} {:>7}\n",
            result.style.to_string(),
            result.total,
            result.overhead,
            delivered(0),
            delivered(1),
            result.processes,
            result.threads,
        ));
    }
    text
}
