//! Where a case takes place: the seed's network with a gateway that serves the case's files.

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

use crate::LabError;
use crate::binaries::Binaries;
use crate::gateway::Gateway;
use crate::network::{CLIENT, GATEWAY, Network, Node, SERVERS};
use crate::run::{RunningServer, compare, read_events};
use crate::samples::Sample;

/// No client takes longer; one that does hangs.
const MORE_PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(60);

/// A network of its own, and a folder.
pub struct Stage {
    /// The nodes.
    pub network: Network,
    /// Where everything of the case lies.
    pub dir: PathBuf,
    binaries: Binaries,
}

/// Files on the gateway.
pub struct Source {
    /// They.
    pub samples: Arc<Vec<Sample>>,
    gateway: Gateway,
}

impl Source {
    /// The URL of a file.
    #[must_use]
    pub fn url(&self, index: usize) -> String {
        format!("{}{}", self.gateway.origin(), self.samples[index].path)
    }
}

/// A client that runs; it is killed when dropped.
pub struct Client {
    child: Child,
    log: PathBuf,
    events: PathBuf,
    /// Its downloads.
    pub dir: PathBuf,
}

/// How a client ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed, both outputs.
    pub text: String,
    /// What it told.
    pub events: Vec<Event>,
}

impl Stage {
    /// Builds the network; what is there of earlier cases ends with them.
    ///
    /// # Errors
    /// Namespaces are not permitted.
    pub fn new(binaries: &Binaries, dir: &Path) -> Result<Self, LabError> {
        let network = Network::namespaces()?;
        Ok(Self { network, dir: dir.to_owned(), binaries: binaries.clone() })
    }

    /// Serves files.
    ///
    /// # Errors
    /// The gateway's port is taken.
    pub fn serve(&self, samples: Vec<Sample>) -> Result<Source, LabError> {
        let samples = Arc::new(samples);
        let gateway = Gateway::start(&self.network, Arc::clone(&samples))?;
        Ok(Source { samples, gateway })
    }

    /// Serves further files beside, from another port.
    ///
    /// # Errors
    /// The port is taken.
    pub fn serve_more(&self, samples: Vec<Sample>) -> Result<Source, LabError> {
        let samples = Arc::new(samples);
        let address = SocketAddr::from((GATEWAY.address, MORE_PORT));
        let listener = self.network.on(GATEWAY, || TcpListener::bind(address));
        let gateway = Gateway::serve(listener, address, Arc::clone(&samples) as _)?;
        Ok(Source { samples, gateway })
    }

    /// Starts a server.
    ///
    /// # Errors
    /// It does not come up.
    pub fn server(&self, node: Node, arguments: &[&str]) -> Result<RunningServer, LabError> {
        self.server_in(node, &self.dir.join(node.name), arguments)
    }

    /// Starts a server whose files and logs lie below `dir`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn server_in(
        &self,
        node: Node,
        dir: &Path,
        arguments: &[&str],
    ) -> Result<RunningServer, LabError> {
        RunningServer::start(&self.network, &self.binaries, node, dir, arguments)
    }

    /// One of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.dir().join(name)
    }

    /// Starts both servers.
    ///
    /// # Errors
    /// One does not come up.
    pub fn servers(&self) -> Result<[RunningServer; 2], LabError> {
        Ok([self.server(SERVERS[0], &[])?, self.server(SERVERS[1], &[])?])
    }

    /// Starts a client of a style in a folder of its own, without delay.
    ///
    /// # Errors
    /// The program is missing.
    pub fn client(&self, style: &str, name: &str, arguments: &[&str]) -> Result<Client, LabError> {
        let home = self.dir.join(name);
        let dir = home.join("files");
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let (log, events) = (home.join("client.log"), home.join("client.events"));
        let output = File::create(&log).map_err(LabError::file(&log))?;
        let mut command = Command::new(self.binaries.dir().join(style));
        command
            .env("SIAR_DELAY", "0s")
            .env("SIAR_DIR", &dir)
            .env("SIAR_EVENTS", &events)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(LabError::file(&log))?)
            .stdout(output);
        let program = PathBuf::from(command.get_program());
        let child = self.network.spawn(CLIENT, &mut command).map_err(LabError::file(&program))?;
        Ok(Client { child, log, events, dir })
    }

    /// A file system in memory of so many bytes; gone when dropped.
    ///
    /// # Errors
    /// The kernel does not permit it.
    pub fn small_disk(&self, name: &str, bytes: u64) -> Result<SmallDisk, LabError> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let options = format!("size={bytes}");
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|error| LabError::file(&dir)(error.into()))?;
        Ok(SmallDisk(dir))
    }
}

/// See [`Stage::small_disk`].
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Nothing can be written any more.
    ///
    /// # Errors
    /// The kernel does not permit it.
    pub fn make_read_only(&self) -> Result<(), LabError> {
        let no_path: Option<&str> = None;
        mount(no_path, &self.0, no_path, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, no_path)
            .map_err(|error| LabError::file(&self.0)(error.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still uses it keeps it; both end with the lab.
        let _ = umount(&self.0);
    }
}

impl Client {
    /// What it has told so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        read_events(&self.events).unwrap_or_default()
    }

    /// Waits until it has told something such.
    ///
    /// # Errors
    /// It did not, for long.
    pub fn wait_for(
        &self,
        what: &str,
        is: impl Fn(&Event) -> bool,
    ) -> Result<Event, Box<dyn Error>> {
        wait_for(what, || self.events().into_iter().find(|event| is(event)))
    }

    /// Kills it.
    ///
    /// # Errors
    /// It is gone.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It hangs, or what it told cannot be read.
    pub fn wait(mut self) -> Result<Ended, Box<dyn Error>> {
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
        // One that was waited for is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// It ended with this code and said these things, one line for each error.
    ///
    /// # Errors
    /// Says what is different.
    pub fn expect(&self, code: i32, says: &[&str]) -> Result<(), String> {
        if self.code != Some(code) {
            return Err(format!("exit code {:?} instead of {code}: {}", self.code, self.errors()));
        }
        match says.iter().find(|words| !self.text.contains(**words)) {
            Some(words) => Err(format!("did not say {words:?}: {}", self.errors())),
            None => Ok(()),
        }
    }

    /// Its error lines.
    #[must_use]
    pub fn errors(&self) -> String {
        let lines = self.text.lines().filter(|line| line.contains("error"));
        lines.collect::<Vec<_>>().join("; ")
    }

    /// Source and repair datagrams that it sent.
    #[must_use]
    pub fn datagrams(&self) -> (u64, u64) {
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

/// Waits for something, at most 20 s.
///
/// # Errors
/// It did not happen.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Box<dyn Error>> {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > limit {
            return Err(format!("{what} did not happen").into());
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// Every file is at the server, whole, and nothing else is.
///
/// # Errors
/// Says what is not.
pub fn delivered(server: &RunningServer, samples: &[Sample]) -> Result<usize, Box<dyn Error>> {
    if let Some(fault) = compare(&server.files(), samples).first() {
        return Err(format!("{}: {fault}", server.node.name).into());
    }
    let there = names(&server.files());
    if there.len() != samples.len() {
        return Err(format!("{} has {there:?}", server.node.name).into());
    }
    Ok(samples.len())
}

/// What stands in a folder.
#[must_use]
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Sends a signal to a process of the case.
///
/// # Errors
/// It is gone.
pub fn signal(pid: u32, signal: Signal) -> std::io::Result<()> {
    Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?)
}
