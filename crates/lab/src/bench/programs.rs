//! One run of one program: Siar, the ceiling, and the peers.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use siar_core::event::{Event, EventKind, Style};
use siar_core::seal::Key;

use super::arena::{Arena, server_address};
use super::blast::Seen;
use super::origin::{Origin, SUFFIX};
use super::process::{Cost, Process};
use crate::LabError;
use crate::binaries::Binaries;
use crate::run::read_events;

/// No run takes longer, but for that of a huge file, which has to reach the least rate.
const LIMIT: Duration = Duration::from_secs(60);
/// In bytes per second.
const LEAST_RATE: u64 = 20_000_000;
const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a run showed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Run {
    /// Of the whole sending process, in seconds.
    pub wall: f64,
    /// From the start of sending to the last receiver's confirmation, in seconds, where the
    /// program tells.
    pub transfer: Option<f64>,
    /// What the sending process cost.
    pub sender: Option<Cost>,
    /// What the receiving processes cost.
    pub receivers: Vec<Cost>,
    /// Datagrams sent per source datagram, where the program tells.
    pub datagrams: Option<f64>,
    /// Bytes per second of each task.
    pub rates: Vec<f64>,
    /// What went wrong, if anything: then nothing else counts.
    pub fault: Option<String>,
}

impl Run {
    fn fault(fault: impl Into<String>) -> Self {
        Self { fault: Some(fault.into()), ..Self::default() }
    }
}

/// A file on the client's disk.
#[derive(Debug)]
pub struct Source {
    /// Where it stands.
    pub path: PathBuf,
    /// Its bytes.
    pub len: u64,
    digest: blake3::Hash,
}

/// Where the origin is, from the client.
pub const ORIGIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The HTTP server on the client's own node that offers the sources in `dir`.
///
/// # Errors
/// Its port is taken.
pub fn origin(arena: &Arena, dir: &Path) -> Result<Origin, LabError> {
    Origin::serve(arena.client.enter(|| TcpListener::bind(ORIGIN)), ORIGIN, dir)
}

impl Source {
    /// Makes a file of `len` bytes that no program can compress.
    ///
    /// # Errors
    /// The disk is full.
    pub fn make(dir: &Path, len: u64) -> Result<Self, LabError> {
        let path = dir.join(format!("{len}{SUFFIX}"));
        let noise = blake3::Hasher::new().update(b"bench").finalize_xof();
        let make = || -> std::io::Result<blake3::Hash> {
            std::io::copy(&mut noise.take(len), &mut File::create(&path)?)?;
            digest(&path)
        };
        let digest = make().map_err(LabError::file(&path))?;
        Ok(Self { path, len, digest })
    }

    fn is_at(&self, path: &Path) -> bool {
        digest(path).is_ok_and(|digest| digest == self.digest)
    }
}

fn digest(path: &Path) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize())
}

/// Where a run takes place.
pub struct Place<'a> {
    /// The network.
    pub arena: &'a Arena,
    /// Siar's programs.
    pub binaries: &'a Binaries,
    /// An empty folder.
    pub dir: PathBuf,
}

impl Place<'_> {
    fn dirs(&self) -> Result<Vec<PathBuf>, LabError> {
        let dir = |index| {
            let dir = self.dir.join(format!("server{index}"));
            fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
            Ok(dir)
        };
        (0..self.arena.servers.len()).map(dir).collect()
    }

    /// Starts one process for each server and waits until each has printed `ready`.
    fn start_receivers(
        &self,
        ready: &str,
        command: impl Fn(&Path) -> Command,
    ) -> Result<Vec<Process>, LabError> {
        let mut receivers = Vec::new();
        for (namespace, dir) in self.arena.servers.iter().zip(self.dirs()?) {
            let mut command = command(&dir);
            command.current_dir(&dir);
            let log = dir.with_extension("log");
            receivers.push(Process::start(namespace, &mut command, &log)?);
        }
        let limit = Instant::now() + START_LIMIT;
        for receiver in &receivers {
            while !receiver.output().contains(ready) {
                if Instant::now() > limit {
                    let output = receiver.output();
                    return Err(LabError::ServerStart { node: "a server".to_owned(), output });
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(receivers)
    }

    fn client_log(&self) -> PathBuf {
        self.dir.join("client.log")
    }

    /// Runs the sending side to its end; no status if it had to be killed.
    fn run_client(
        &self,
        command: &mut Command,
        source: &Source,
    ) -> Result<(Option<ExitStatus>, Cost), LabError> {
        let log = self.client_log();
        let client = Process::start(&self.arena.client, command, &log)?;
        let limit = LIMIT.max(Duration::from_secs(source.len / LEAST_RATE));
        client.finish(limit).map_err(LabError::file(&log))
    }

    fn client_output(&self) -> String {
        fs::read_to_string(self.client_log()).unwrap_or_default()
    }
}

/// What a client of Siar is to do.
#[derive(Debug, Clone)]
pub struct Siar {
    /// In which style.
    pub style: Style,
    /// With how many files at once.
    pub tasks: usize,
    /// Further options.
    pub arguments: &'static [&'static str],
    /// With a key that seals all frames.
    pub sealed: bool,
    /// The source is sent from where it stands, not downloaded before: it is one task.
    pub at_hand: bool,
    /// With a record of what happens when, as `transfer`, `datagrams` and `rates` need it.
    pub events: bool,
}

impl Siar {
    /// So many files, with a record and nothing else that is special.
    #[must_use]
    pub fn new(style: Style, tasks: usize) -> Self {
        Self { style, tasks, arguments: &[], sealed: false, at_hand: false, events: true }
    }
}

fn server(place: &Place<'_>, dir: &Path) -> Command {
    let mut command = Command::new(place.binaries.server());
    command.arg("--no-progress").arg("--dir").arg(dir);
    command
}

/// A client that waits for all servers and keeps its downloads in `dir`.
fn client(place: &Place<'_>, style: Style, dir: &Path) -> Command {
    let mut command = Command::new(place.binaries.client(style));
    command
        .args(["--delay", "0s", "--no-progress", "--timeout", "60s", "--servers"])
        .arg(place.arena.servers.len().to_string())
        .arg("--dir")
        .arg(dir);
    command
}

/// Runs a client of Siar against its servers.
///
/// # Errors
/// The lab itself fails; a client that fails is a run with a fault.
pub fn siar(place: &Place<'_>, source: &Source, what: &Siar) -> Result<Run, LabError> {
    let key = place.dir.join("key");
    if what.sealed {
        Key::create(&key)?;
    }
    let seal = |command: &mut Command| {
        if what.sealed {
            command.env("SIAR_KEY_FILE", &key);
        }
    };
    let receivers = place.start_receivers("listening", |dir| {
        let mut command = server(place, dir);
        seal(&mut command);
        command
    })?;
    let events = place.dir.join("client.events");
    let downloads = place.dir.join("downloads");
    fs::create_dir_all(&downloads).map_err(LabError::file(&downloads))?;
    let names = task_names(what.tasks);
    let list = place.dir.join("urls.toml");
    let origin = format!("http://{ORIGIN}/{}", source.len);
    let line = |name: &String| format!("\"{name}\" = \"{origin}/{name}{SUFFIX}\"\n");
    let text: String = names.iter().map(line).collect();
    fs::write(&list, text).map_err(LabError::file(&list))?;
    let mut command = client(place, what.style, &downloads);
    seal(&mut command);
    command.args(what.arguments);
    let files: Vec<PathBuf> = if what.at_hand {
        command.arg(&source.path);
        vec![source.path.file_name().unwrap_or_default().into()]
    } else {
        command.arg("--urls").arg(&list);
        names.iter().map(|name| format!("{name}{SUFFIX}").into()).collect()
    };
    if what.events {
        command.arg("--events").arg(&events);
    }
    let (status, sender) = place.run_client(&mut command, source)?;
    let costs = end_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        let output = place.client_output();
        let error = output.lines().find(|line| line.starts_with("error"));
        return Ok(Run::fault(error.filter(|_| status.is_some()).unwrap_or(fault)));
    }
    for file in &files {
        if !is_everywhere(place, source, file)? {
            return Ok(Run::fault("a file differs at a server"));
        }
    }
    let events = if what.events { read_events(&events)? } else { Vec::new() };
    let source_len = source.len as f64;
    let rates = names.iter().filter_map(|name| task_seconds(&events, name));
    Ok(Run {
        wall: sender.wall,
        transfer: span(&events, |_| true),
        sender: Some(sender),
        receivers: costs,
        datagrams: datagrams(&events),
        rates: rates.map(|seconds| source_len / seconds).collect(),
        fault: None,
    })
}

/// Runs `count` clients at once, each with one file of its own, against the same servers.
///
/// # Errors
/// The lab itself fails; a client that fails is a run with a fault.
pub fn clients(place: &Place<'_>, source: &Source, count: usize) -> Result<Run, LabError> {
    let receivers = place.start_receivers("listening", |dir| server(place, dir))?;
    let names = task_names(count);
    let start = |name: &String| -> Result<_, LabError> {
        let dir = place.dir.join(name);
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let (events, log) = (dir.join("events"), dir.join("log"));
        let mut command = client(place, Style::Mt, &dir);
        command
            .arg("--events")
            .arg(&events)
            .arg(format!("http://{ORIGIN}/{}/{name}{SUFFIX}", source.len));
        Ok((Process::start(&place.arena.client, &mut command, &log)?, events, log))
    };
    let started = names.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let mut run = Run::default();
    for ((client, events, log), name) in started.into_iter().zip(&names) {
        let (status, cost) = client.finish(LIMIT).map_err(LabError::file(&log))?;
        if let Some(fault) = fault(status) {
            return Ok(Run::fault(format!("{name}: {fault}")));
        }
        if !is_everywhere(place, source, format!("{name}{SUFFIX}").as_ref())? {
            return Ok(Run::fault("a file differs at a server"));
        }
        run.wall = run.wall.max(cost.wall);
        run.rates.extend(span(&read_events(&events)?, |_| true).map(|s| source.len as f64 / s));
    }
    run.receivers = end_receivers(receivers)?;
    Ok(run)
}

fn task_names(tasks: usize) -> Vec<String> {
    (0..tasks).map(|index| format!("task{index}")).collect()
}

/// From the first start of a broadcast to the last confirmation, in seconds.
fn span(events: &[Event], of: impl Fn(&Event) -> bool) -> Option<f64> {
    let events: Vec<&Event> = events.iter().filter(|event| of(event)).collect();
    let begin = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::BroadcastStarted { .. }))
        .map(|event| event.time)
        .min()?;
    let end = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Confirmed { .. }))
        .map(|event| event.time)
        .max()?;
    Some(end.duration_since(begin).as_secs_f64())
}

fn task_seconds(events: &[Event], task: &str) -> Option<f64> {
    span(events, |event| event.task.as_deref() == Some(task))
}

fn datagrams(events: &[Event]) -> Option<f64> {
    let (mut source, mut all) = (0, 0);
    for event in events {
        match event.kind {
            EventKind::SourceSent { datagrams } => {
                source += datagrams;
                all += datagrams;
            }
            EventKind::RepairSent { datagrams, .. } => all += datagrams,
            _ => {}
        }
    }
    (source > 0).then(|| all as f64 / source as f64)
}

/// Runs the ceiling at `rate` bytes per second; a run that lost anything has a fault.
///
/// # Errors
/// The lab itself fails.
pub fn blast(
    place: &Place<'_>,
    source: &Source,
    rate: f64,
    one_by_one: bool,
) -> Result<Run, LabError> {
    let here = std::env::current_exe().map_err(LabError::file(Path::new("this program")))?;
    let receivers = place.start_receivers("ready", |_| {
        let mut command = Command::new(&here);
        command.args(["blast-receive", "file"]);
        command
    })?;
    let mut command = Command::new(&here);
    command.arg("blast-send").arg(&source.path).arg(rate.to_string());
    if one_by_one {
        command.arg("--one-by-one");
    }
    let (status, sender) = place.run_client(&mut command, source)?;
    let Some(begin) = status.and_then(|_| last_line(&place.client_log())) else {
        return Ok(Run::fault("the blaster failed"));
    };
    let (mut costs, mut end, mut least) = (Vec::new(), begin.at, u64::MAX);
    for (receiver, dir) in receivers.into_iter().zip(place.dirs()?) {
        let log = dir.with_extension("log");
        costs.push(receiver.finish(LIMIT).map_err(LabError::file(&log))?.1);
        let Some(seen) = last_line(&log) else {
            return Ok(Run::fault("a receiver of the blaster failed"));
        };
        end = end.max(seen.at);
        least = least.min(seen.bytes);
    }
    if least < source.len {
        let lost = 1.0 - least as f64 / source.len as f64;
        return Ok(Run::fault(format!("{:.1} % were lost", lost * 100.0)));
    }
    Ok(Run {
        wall: sender.wall,
        transfer: Some(end - begin.at),
        sender: Some(sender),
        receivers: costs,
        datagrams: Some(1.0),
        ..Run::default()
    })
}

fn last_line(log: &Path) -> Option<Seen> {
    serde_json::from_str(fs::read_to_string(log).ok()?.lines().last()?).ok()
}

/// Runs the least that `tasks` small tasks can cost.
///
/// # Errors
/// The lab itself fails.
pub fn bare(place: &Place<'_>, source: &Source, tasks: usize) -> Result<Run, LabError> {
    let here = std::env::current_exe().map_err(LabError::file(Path::new("this program")))?;
    let receivers = place.start_receivers("ready", |_| {
        let mut command = Command::new(&here);
        command.arg("bare-receive").arg(tasks.to_string());
        command
    })?;
    let mut command = Command::new(&here);
    let numbers = [source.len, tasks as u64, receivers.len() as u64];
    command.arg("bare-send").arg(ORIGIN.to_string()).args(numbers.map(|number| number.to_string()));
    command.current_dir(&place.dir);
    let (status, sender) = place.run_client(&mut command, source)?;
    let receivers = end_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), receivers, ..Run::default() })
}

/// Runs UFTP at `rate` kbit/s, with its receivers named so that it need not wait for others.
///
/// # Errors
/// The lab itself fails.
pub fn uftp(place: &Place<'_>, source: &Source, rate: u32) -> Result<Run, LabError> {
    const BUFFER: &str = "104857600";
    let receivers = place.start_receivers("Loaded", |dir| {
        let mut command = Command::new("uftpd");
        command.args(["-d", "-I", "eth0", "-B", BUFFER, "-D"]).arg(dir);
        command
    })?;
    // Its first line comes before it has joined its group.
    thread::sleep(Duration::from_millis(300));
    let hosts = (0..receivers.len()).map(|index| server_address(index).to_string());
    let hosts = hosts.collect::<Vec<_>>().join(",");
    let mut command = Command::new("uftp");
    command
        .args(["-R", &rate.to_string(), "-I", "eth0", "-B", BUFFER, "-b", "1440", "-H", &hosts])
        .arg(&source.path);
    let (status, sender) = place.run_client(&mut command, source)?;
    let costs = end_unconfirmed_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    if !is_everywhere(place, source, source.path.file_name().unwrap_or_default().as_ref())? {
        return Ok(Run::fault("a file differs at a receiver"));
    }
    let output = place.client_output();
    let elapsed = output.lines().find_map(|line| {
        line.strip_prefix("Total elapsed time: ")?.split(' ').next()?.parse().ok()
    });
    Ok(Run {
        wall: sender.wall,
        transfer: elapsed,
        sender: Some(sender),
        receivers: costs,
        ..Run::default()
    })
}

/// Downloads the source with curl, which is what UFTP and UDPcast leave to others.
///
/// # Errors
/// The lab itself fails.
pub fn curl(place: &Place<'_>, source: &Source) -> Result<Run, LabError> {
    let file = place.dir.join("file");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--output"]).arg(&file);
    command.arg(format!("http://{ORIGIN}/{}/source{SUFFIX}", source.len));
    let (status, sender) = place.run_client(&mut command, source)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    if !source.is_at(&file) {
        return Ok(Run::fault("the download differs"));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), ..Run::default() })
}

/// Runs UDPcast in full duplex.
///
/// # Errors
/// The lab itself fails.
pub fn udpcast(place: &Place<'_>, source: &Source) -> Result<Run, LabError> {
    let receivers = place.start_receivers("UDP receiver", |_| {
        let mut command = Command::new("udp-receiver");
        command.args(["--file", "file", "--nokbd", "--interface", "eth0", "--rcvbuf", "16m"]);
        command
    })?;
    let mut command = Command::new("udp-sender");
    command
        .args(["--full-duplex", "--nokbd", "--interface", "eth0", "--sendbuf", "4m"])
        .args(["--min-receivers", &receivers.len().to_string(), "--file"])
        .arg(&source.path);
    let (status, sender) = place.run_client(&mut command, source)?;
    let costs = end_unconfirmed_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    if !is_everywhere(place, source, Path::new("file"))? {
        return Ok(Run::fault("a file differs at a receiver"));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), receivers: costs, ..Run::default() })
}

fn fault(status: Option<ExitStatus>) -> Option<&'static str> {
    match status {
        None => Some("did not end"),
        Some(status) if !status.success() => Some("failed"),
        Some(_) => None,
    }
}

/// Receivers that confirm nothing may still have to write.
fn end_unconfirmed_receivers(receivers: Vec<Process>) -> Result<Vec<Cost>, LabError> {
    thread::sleep(Duration::from_millis(100));
    end_receivers(receivers)
}

fn end_receivers(receivers: Vec<Process>) -> Result<Vec<Cost>, LabError> {
    let end = |receiver: Process| {
        receiver.ask_to_end();
        receiver.finish(STOP_LIMIT).map(|(_, cost)| cost)
    };
    let costs: std::io::Result<Vec<Cost>> = receivers.into_iter().map(end).collect();
    costs.map_err(LabError::file(Path::new("a receiver")))
}

fn is_everywhere(place: &Place<'_>, source: &Source, name: &Path) -> Result<bool, LabError> {
    Ok(place.dirs()?.iter().all(|dir| source.is_at(&dir.join(name))))
}

/// The four scripts as the seed has them, with its lines and without its sleep: the style, then
/// the URLs.
const PYTHON: &str = r#"
import concurrent.futures, logging, multiprocessing, os, requests, socket, sys, threading
from datetime import datetime
from urllib.parse import urlsplit

def task(url):
    start = datetime.now()
    data = requests.get(url).content
    name = os.path.basename(urlsplit(url).path)
    with open(name, "wb") as file:
        file.write(data)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    print(f"broadcast file {name}")
    with open(name, "rb") as file:
        sock.sendto(file.read(), ("255.255.255.255", 5005))
    took, end = datetime.now() - start, datetime.now()
    logging.warning(f"writing {name} dalam waktu {took} {start} s/d {end}")
    return took

def queued(urls):
    for url in urls:
        print(f"mendownload {url}")
        yield url

def joined(kind, urls):
    started = []
    for url in queued(urls):
        started.append(kind(target=task, args=(url,)))
        started[-1].start()
    for one in started:
        one.join()

if __name__ == "__main__":
    style, origin, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    urls = [f"{origin}/task{i}-file.bin" for i in range(count)]
    if style == "mp":
        joined(multiprocessing.Process, urls)
    elif style == "mt":
        joined(threading.Thread, urls)
    elif style == "mp-async":
        with multiprocessing.Pool(20) as pool:
            results = [pool.apply_async(task, (url,)) for url in queued(urls)]
            print([result.get() for result in results])
    else:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            results = [pool.submit(task, url) for url in queued(urls)]
            print([result.result() for result in results])
"#;

/// A receiver in the seed's manner, without its prints.
const PYTHON_SERVER: &str = r#"
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 5005))
print("ready", flush=True)
count = 1
while True:
    data, address = sock.recvfrom(65536)
    with open("img" + str(count) + ".jpg", "wb") as file:
        file.write(data)
    count += 1
"#;

/// Runs the Python script of a style with its receivers; nobody looks what they have missed.
///
/// # Errors
/// The lab itself fails.
pub fn python(
    place: &Place<'_>,
    source: &Source,
    style: Style,
    tasks: usize,
) -> Result<Run, LabError> {
    let receivers = place.start_receivers("ready", |_| {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON_SERVER]);
        command
    })?;
    let script = place.dir.join("script.py");
    fs::write(&script, PYTHON).map_err(LabError::file(&script))?;
    let mut command = Command::new("python3");
    command
        .arg(&script)
        .args([style.to_string(), format!("http://{ORIGIN}/{}", source.len), tasks.to_string()])
        .current_dir(&place.dir);
    let (status, sender) = place.run_client(&mut command, source)?;
    let receivers = end_unconfirmed_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), receivers, ..Run::default() })
}
