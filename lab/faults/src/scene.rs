//! The setting of a case: the assignment's network with a gateway that serves the case's files.

use std::error::Error;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::{Event, EventKind};
use stage::StageError;
use stage::events::read_events;
use stage::gateway::Gateway;
use stage::network::Network;
use stage::node::{CLIENT, GATEWAY, Node, SERVERS};
use stage::outcome::compare;
use stage::programs::Programs;
use stage::samples::Sample;
use stage::server::RunningServer;

/// The TCP port of the gateway's second HTTP server.
const MORE_PORT: u16 = 8080;
/// The longest wait for a client; a slower client is taken to hang.
const LIMIT: Duration = Duration::from_secs(60);

/// A separate network and a folder.
pub(crate) struct Scene {
    /// The network of the nodes.
    pub(crate) network: Network,
    /// The folder of all files of the case.
    pub(crate) dir: PathBuf,
    programs: Programs,
}

/// The files that the gateway serves.
pub(crate) struct Source {
    /// The files.
    pub(crate) samples: Arc<Vec<Sample>>,
    gateway: Gateway,
}

impl Source {
    /// The URL of a file.
    #[must_use]
    pub(crate) fn url(&self, index: usize) -> String {
        format!("{}{}", self.gateway.origin(), self.samples[index].path)
    }
}

/// A running client; dropping the value kills the client.
pub(crate) struct Client {
    child: Child,
    log: PathBuf,
    events: PathBuf,
    /// The folder of the client's downloads.
    pub(crate) dir: PathBuf,
}

/// The end of a client.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` if a signal ended the client.
    pub(crate) code: Option<i32>,
    /// Standard output and standard error.
    pub(crate) text: String,
    /// The client's events.
    pub(crate) events: Vec<Event>,
}

impl Scene {
    /// Makes the network of a case with files in `dir`.
    ///
    /// # Errors
    /// Namespaces are not permitted.
    pub(crate) fn new(programs: &Programs, dir: &Path) -> Result<Self, StageError> {
        let network = Network::namespaces()?;
        Ok(Self { network, dir: dir.to_owned(), programs: programs.clone() })
    }

    /// Serves files on the gateway, at port 80.
    ///
    /// # Errors
    /// The port is in use.
    pub(crate) fn serve(&self, samples: Vec<Sample>) -> Result<Source, StageError> {
        let samples = Arc::new(samples);
        let gateway = Gateway::start(&self.network, Arc::clone(&samples))?;
        Ok(Source { samples, gateway })
    }

    /// Serves further files on the gateway, at port 8080.
    ///
    /// # Errors
    /// The port is in use.
    pub(crate) fn serve_more(&self, samples: Vec<Sample>) -> Result<Source, StageError> {
        let samples = Arc::new(samples);
        let address = SocketAddr::from((GATEWAY.address, MORE_PORT));
        let listener = self.network.on(GATEWAY, || TcpListener::bind(address));
        let gateway = Gateway::serve(listener, address, Arc::clone(&samples) as _)?;
        Ok(Source { samples, gateway })
    }

    /// Starts a server in the node's folder.
    ///
    /// # Errors
    /// The server does not start.
    pub(crate) fn server(
        &self,
        node: Node,
        arguments: &[&str],
    ) -> Result<RunningServer, StageError> {
        self.server_in(node, &self.dir.join(node.name), arguments)
    }

    /// Starts a server with its files and logs below `dir`.
    ///
    /// # Errors
    /// The server does not start.
    pub(crate) fn server_in(
        &self,
        node: Node,
        dir: &Path,
        arguments: &[&str],
    ) -> Result<RunningServer, StageError> {
        RunningServer::start(&self.network, &self.programs, node, dir, arguments)
    }

    /// The path of one of the programs.
    #[must_use]
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.dir().join(name)
    }

    /// Starts both servers.
    ///
    /// # Errors
    /// A server does not start.
    pub(crate) fn servers(&self) -> Result<[RunningServer; 2], StageError> {
        Ok([self.server(SERVERS[0], &[])?, self.server(SERVERS[1], &[])?])
    }

    /// Starts a client of a style in the folder `name` of the case, without delay.
    ///
    /// # Errors
    /// The client cannot be started, or a file cannot be made.
    pub(crate) fn client(
        &self,
        style: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Client, StageError> {
        let home = self.dir.join(name);
        let dir = home.join("files");
        fs::create_dir_all(&dir).map_err(StageError::file(&dir))?;
        let (log, events) = (home.join("client.log"), home.join("client.events"));
        let output = File::create(&log).map_err(StageError::file(&log))?;
        let mut command = Command::new(self.programs.dir().join(style));
        command
            .env("SIAR_DELAY", "0s")
            .env("SIAR_DIR", &dir)
            .env("SIAR_EVENTS", &events)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(StageError::file(&log))?)
            .stdout(output);
        let program = PathBuf::from(command.get_program());
        let child = self.network.spawn(CLIENT, &mut command).map_err(StageError::file(&program))?;
        Ok(Client { child, log, events, dir })
    }

    /// Mounts a file system in memory with room for `bytes` bytes; dropping the value unmounts it.
    ///
    /// # Errors
    /// The kernel does not permit the mount.
    pub(crate) fn small_disk(&self, name: &str, bytes: u64) -> Result<SmallDisk, StageError> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(StageError::file(&dir))?;
        let options = format!("size={bytes}");
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|error| StageError::file(&dir)(error.into()))?;
        Ok(SmallDisk(dir))
    }
}

/// A small file system in memory, see [`Scene::small_disk`].
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// The path of the file system.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the file system read-only.
    ///
    /// # Errors
    /// The kernel does not permit the mount.
    pub(crate) fn make_read_only(&self) -> Result<(), StageError> {
        let no_path: Option<&str> = None;
        mount(no_path, &self.0, no_path, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, no_path)
            .map_err(|error| StageError::file(&self.0)(error.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The file system stays while a process uses it; both end with the lab.
        let _ = umount(&self.0);
    }
}

impl Client {
    /// The client's events so far.
    #[must_use]
    pub(crate) fn events(&self) -> Vec<Event> {
        read_events(&self.events).unwrap_or_default()
    }

    /// Waits for an event for which `is` is true.
    ///
    /// # Errors
    /// There was no such event for 20 s.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        is: impl Fn(&Event) -> bool,
    ) -> Result<Event, Box<dyn Error>> {
        wait_for(what, || self.events().into_iter().find(|event| is(event)))
    }

    /// Kills the client.
    ///
    /// # Errors
    /// The kill or the wait fails.
    pub(crate) fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Waits for the client's end, for at most 60 s.
    ///
    /// # Errors
    /// The client hangs, or its output cannot be read.
    pub(crate) fn wait(mut self) -> Result<Ended, Box<dyn Error>> {
        let limit = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > limit {
                return Err(format!("the client hangs after {LIMIT:?}").into());
            }
            thread::sleep(Duration::from_millis(5));
        };
        let text = fs::read_to_string(&self.log)?;
        Ok(Ended { code: status.code(), text, events: self.events() })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A client that was waited for has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Checks that the exit code is `code` and that the output contains each of `says`.
    ///
    /// # Errors
    /// A description of the difference.
    pub(crate) fn expect(&self, code: i32, says: &[&str]) -> Result<(), String> {
        if self.code != Some(code) {
            return Err(format!("exit code {:?} instead of {code}: {}", self.code, self.errors()));
        }
        match says.iter().find(|words| !self.text.contains(**words)) {
            Some(words) => Err(format!("did not say {words:?}: {}", self.errors())),
            None => Ok(()),
        }
    }

    /// The error lines of the output.
    #[must_use]
    pub(crate) fn errors(&self) -> String {
        let lines = self.text.lines().filter(|line| line.contains("error"));
        lines.collect::<Vec<_>>().join("; ")
    }

    /// The numbers of source and repair datagrams that the client sent.
    #[must_use]
    pub(crate) fn datagrams(&self) -> (u64, u64) {
        let mut sent = (0, 0);
        for event in &self.events {
            match event.kind {
                EventKind::SourceSent { datagrams } => sent.0 += datagrams,
                EventKind::RepairSent { datagrams, .. } => sent.1 += datagrams,
                _ => {}
            }
        }
        sent
    }
}

/// Waits until `look` finds something, for at most 20 s.
///
/// # Errors
/// Nothing was found in time.
pub(crate) fn wait_for<T>(
    what: &str,
    look: impl FnMut() -> Option<T>,
) -> Result<T, Box<dyn Error>> {
    wait_at_most(Duration::from_secs(20), what, look)
}

/// Waits until `look` finds something, for at most `limit`.
///
/// # Errors
/// Nothing was found in time.
pub(crate) fn wait_at_most<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Box<dyn Error>> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begin.elapsed() > limit {
            return Err(format!("{what} did not happen within {limit:?}").into());
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// Checks that the server's folder has all files of `samples`, whole, and no others; returns
/// their number.
///
/// # Errors
/// A description of the difference.
pub(crate) fn delivered(
    server: &RunningServer,
    samples: &[Sample],
) -> Result<usize, Box<dyn Error>> {
    if let Some(fault) = compare(&server.files(), samples).first() {
        return Err(format!("{}: {fault}", server.node.name).into());
    }
    let there = names(&server.files());
    if there.len() != samples.len() {
        return Err(format!("{} has {there:?}", server.node.name).into());
    }
    Ok(samples.len())
}

/// The names in a folder, sorted.
#[must_use]
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Sends a signal to a process of the case.
///
/// # Errors
/// The process does not exist any more.
pub(crate) fn signal(pid: u32, signal: Signal) -> std::io::Result<()> {
    Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?)
}
