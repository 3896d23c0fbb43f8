//! One run of one program: its source file, its setting and its result.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use stage::StageError;
use stage::programs::Programs;

use crate::BenchError;
use crate::arena::Arena;
use crate::origin::{Origin, SUFFIX};
use crate::process::{Cost, Process};

/// The time limit of a run. A huge file has more time, by `LEAST_RATE`.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The least rate of a huge file, in bytes per second.
const LEAST_RATE: u64 = 20_000_000;
const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Run {
    /// Seconds of the whole sending process.
    pub wall: f64,
    /// Seconds from the start of sending to the last receiver's confirmation, if the program
    /// reports them.
    pub transfer: Option<f64>,
    /// The costs of the sending process.
    pub sender: Option<Cost>,
    /// The costs of the receiving processes.
    pub receivers: Vec<Cost>,
    /// Sent datagrams per source datagram, if the program reports them.
    pub datagrams: Option<f64>,
    /// The rate of each task, in bytes per second.
    pub rates: Vec<f64>,
    /// The fault of a failed run, whose other fields are then meaningless.
    pub fault: Option<String>,
}

impl Run {
    pub(crate) fn fault(fault: impl Into<String>) -> Self {
        Self { fault: Some(fault.into()), ..Self::default() }
    }
}

/// A source file, which the origin serves.
#[derive(Debug)]
pub struct Source {
    /// The file's path.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub len: u64,
    digest: blake3::Hash,
}

impl Source {
    /// Makes a file of `len` incompressible bytes in `dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn make(dir: &Path, len: u64) -> Result<Self, BenchError> {
        let path = dir.join(format!("{len}{SUFFIX}"));
        let noise = blake3::Hasher::new().update(b"bench").finalize_xof();
        let make = || -> std::io::Result<blake3::Hash> {
            std::io::copy(&mut noise.take(len), &mut File::create(&path)?)?;
            digest(&path)
        };
        let digest = make().map_err(BenchError::file(&path))?;
        Ok(Self { path, len, digest })
    }

    pub(crate) fn is_at(&self, path: &Path) -> bool {
        digest(path).is_ok_and(|digest| digest == self.digest)
    }
}

fn digest(path: &Path) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize())
}

/// The address of the origin, in the client's namespace.
pub const ORIGIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Starts the HTTP server of the source files in `dir`, in the client's namespace.
///
/// # Errors
/// The server's port is in use.
pub fn origin(arena: &Arena, dir: &Path) -> Result<Origin, StageError> {
    Origin::serve(arena.client.enter(|| TcpListener::bind(ORIGIN)), ORIGIN, dir)
}

/// The setting of a run.
pub struct Place<'a> {
    /// The network.
    pub arena: &'a Arena,
    /// Siar's programs.
    pub programs: &'a Programs,
    /// An empty folder for the files of the run.
    pub dir: PathBuf,
}

impl Place<'_> {
    pub(crate) fn dirs(&self) -> Result<Vec<PathBuf>, BenchError> {
        let dir = |index| {
            let dir = self.dir.join(format!("server{index}"));
            fs::create_dir_all(&dir).map_err(BenchError::file(&dir))?;
            Ok(dir)
        };
        (0..self.arena.servers.len()).map(dir).collect()
    }

    /// Starts one process for each server and waits until the output of each contains `ready`.
    pub(crate) fn start_receivers(
        &self,
        ready: &str,
        command: impl Fn(&Path) -> Command,
    ) -> Result<Vec<Process>, BenchError> {
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
                    let node = "a server".to_owned();
                    return Err(StageError::ServerStart { node, output }.into());
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(receivers)
    }

    pub(crate) fn client_log(&self) -> PathBuf {
        self.dir.join("client.log")
    }

    /// Runs the sending side to its end. The status is `None` if it was killed at the time limit.
    pub(crate) fn run_client(
        &self,
        command: &mut Command,
        source: &Source,
    ) -> Result<(Option<ExitStatus>, Cost), BenchError> {
        let log = self.client_log();
        let client = Process::start(&self.arena.client, command, &log)?;
        let limit = LIMIT.max(Duration::from_secs(source.len / LEAST_RATE));
        client.finish(limit).map_err(BenchError::file(&log))
    }

    pub(crate) fn client_output(&self) -> String {
        fs::read_to_string(self.client_log()).unwrap_or_default()
    }
}

pub(crate) fn fault(status: Option<ExitStatus>) -> Option<&'static str> {
    match status {
        None => Some("did not end"),
        Some(status) if !status.success() => Some("failed"),
        Some(_) => None,
    }
}

/// Ends receivers that confirm nothing, after a short wait in which they may still write.
pub(crate) fn end_unconfirmed_receivers(receivers: Vec<Process>) -> Result<Vec<Cost>, BenchError> {
    thread::sleep(Duration::from_millis(100));
    end_receivers(receivers)
}

pub(crate) fn end_receivers(receivers: Vec<Process>) -> Result<Vec<Cost>, BenchError> {
    let end = |receiver: Process| {
        receiver.ask_to_end();
        receiver.finish(STOP_LIMIT).map(|(_, cost)| cost)
    };
    let costs: std::io::Result<Vec<Cost>> = receivers.into_iter().map(end).collect();
    costs.map_err(BenchError::file(Path::new("a receiver")))
}

pub(crate) fn is_everywhere(
    place: &Place<'_>,
    source: &Source,
    name: &Path,
) -> Result<bool, BenchError> {
    Ok(place.dirs()?.iter().all(|dir| source.is_at(&dir.join(name))))
}
