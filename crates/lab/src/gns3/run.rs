//! Runs styles on nodes that have nothing but a console, and makes of it what a local run of
//! the lab makes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use jiff::Timestamp;
use siar_core::event::{Event, EventKind, Style};
use siar_core::urls::Task;

use super::console::Console;
use super::topology::{HOME, SETUP, alpines};
use crate::LabError;
use crate::manifest::{self, FileEntry, Manifest, NodeDir, NodeEntry, PORT, Role};
use crate::network::{CLIENT, GATEWAY, Node, SERVERS};
use crate::run::{StyleResult, compare_files, read_events, summarize};

/// A run's files are below this on a node.
const DIR: &str = "/tmp/siar-run";
const SHORT: Duration = Duration::from_secs(20);
const STYLE_LIMIT: Duration = Duration::from_secs(600);
/// For all files of a node, over a console that may be a serial line.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// Where consoles are, and what is to be run there.
#[derive(Debug, Clone)]
pub struct ConsoleRun {
    /// Host and port of the consoles, as [`alpines`] orders the nodes.
    pub consoles: [(String, u16); 3],
    /// Where the programs are on the nodes.
    pub home: String,
    /// The folder of a run's files on the nodes; each has its own below it.
    pub dir: String,
    /// On what this runs, for the report.
    pub machine: String,
    /// What is downloaded.
    pub tasks: Vec<Task>,
    /// The clients' `--delay`.
    pub delay: Duration,
    /// Further options of the clients.
    pub arguments: Vec<String>,
    /// Where logs, events and files go.
    pub out: PathBuf,
}

impl ConsoleRun {
    /// With the programs where [`deploy`](super::deploy) puts them.
    #[must_use]
    pub fn new(consoles: [(String, u16); 3], machine: String, tasks: Vec<Task>) -> Self {
        Self {
            consoles,
            home: HOME.to_owned(),
            dir: DIR.to_owned(),
            machine,
            tasks,
            delay: Duration::from_secs(2),
            arguments: Vec::new(),
            out: "lab-out".into(),
        }
    }

    /// Runs the styles one after the other; what the client prints is shown. What the folder
    /// has of other styles of such a run stays.
    ///
    /// # Errors
    /// A console does not answer, or a folder cannot be written; a client that fails is a
    /// result.
    pub fn run(&self, styles: &[Style]) -> Result<(Manifest, Vec<StyleResult>), LabError> {
        fs::create_dir_all(&self.out).map_err(LabError::file(&self.out))?;
        let mut manifest = self.manifest();
        let mut consoles = Vec::new();
        for (node, (host, port)) in alpines().iter().zip(&self.consoles) {
            let mut console = Console::open(node.name, host, *port)?;
            // A virtual machine that was just started has its programs on the medium only.
            console.run_well(&format!("[ -x {}/observe ] || {{ {SETUP}; }}", self.home), SHORT)?;
            consoles.push(console);
        }
        let mut results = Vec::new();
        for &style in styles {
            println!("\n{}:~# {style}", CLIENT.name);
            let result = self.run_style(style, &mut consoles, &mut manifest)?;
            for fault in &result.faults {
                eprintln!("error: {fault}");
            }
            manifest.styles.retain(|runs| runs.style != style);
            manifest.add(&result);
            results.push(result);
        }
        manifest
            .styles
            .sort_by_key(|runs| crate::binaries::STYLES.iter().position(|it| *it == runs.style));
        manifest.write(&self.out)?;
        Ok((manifest, results))
    }

    fn run_style(
        &self,
        style: Style,
        consoles: &mut [Console],
        manifest: &mut Manifest,
    ) -> Result<StyleResult, LabError> {
        let home = &self.home;
        let [client, servers @ ..] = consoles else {
            return Err(LabError::UnknownNode(CLIENT.name.to_owned()));
        };
        for (server, node) in servers.iter_mut().zip(SERVERS) {
            let dir = self.dir_of(node);
            server.run_well(&format!("rm -rf {dir}; mkdir -p {dir}/files"), SHORT)?;
            let events = format!("{dir}/server.events");
            let listening = format!(
                "({home}/observe server {dir} {home}/server --dir {dir}/files --events {events} \
                 2>&1 | tee {dir}/server.log) & \
                 for i in $(seq 50); do grep -qs listening {events} && break; sleep 0.2; done; \
                 grep -q listening {events}"
            );
            server.run_well(&listening, SHORT)?;
        }
        let dir = self.dir_of(CLIENT);
        client.run_well(&format!("rm -rf {dir}; mkdir -p {dir}/files"), SHORT)?;
        client.put(&format!("{dir}/urls.toml"), url_list(&self.tasks).as_bytes())?;
        let mut command = format!(
            "{home}/observe client {dir} {home}/{style} --urls {dir}/urls.toml --servers {} \
             --delay {}ms --no-progress --dir {dir}/files --events {dir}/client.events",
            SERVERS.len(),
            self.delay.as_millis()
        );
        for argument in &self.arguments {
            let _ = write!(command, " '{}'", argument.replace('\'', "'\\''"));
        }
        let begin = Instant::now();
        let ended = client.run(&command, STYLE_LIMIT, |line| println!("{line}"))?;
        let wall = begin.elapsed();
        for (server, node) in servers.iter_mut().zip(SERVERS) {
            let stop = format!("kill $(cat {}/pid); wait", self.dir_of(node));
            server.run(&stop, SHORT, |_| ())?;
        }

        let client_dir = NodeDir::new(&self.out, style, CLIENT.name);
        self.unpack(client, CLIENT, style)?;
        let log = client_dir.client_log();
        fs::write(&log, &ended.output).map_err(LabError::file(&log))?;
        let events = read_events(&client_dir.client_events())?;
        manifest.files = files(&self.tasks, &events);
        let mut result = summarize(style, ended.status == 0, &events, self.delay, wall);
        let sources = sources(&client_dir.files(), &manifest.files)?;
        result.files = manifest.files.len();
        for (server, node) in servers.iter_mut().zip(SERVERS) {
            self.unpack(server, node, style)?;
            let dir = NodeDir::new(&self.out, style, node.name).files();
            let wanted = sources.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
            let mut faults = compare_files(&dir, wanted);
            let missing = manifest.files.len() - sources.len();
            result.delivered.push(sources.len() - faults.len().min(sources.len()));
            faults.extend((missing > 0).then(|| format!("{missing} files were not downloaded")));
            result.faults.extend(faults.into_iter().map(|fault| format!("{}: {fault}", node.name)));
        }
        Ok(result)
    }

    fn dir_of(&self, node: Node) -> String {
        format!("{}/{}", self.dir, node.name)
    }

    /// Fetches a node's folder of the run.
    fn unpack(&self, console: &mut Console, node: Node, style: Style) -> Result<(), LabError> {
        let dir = self.out.join(style.to_string()).join(node.name);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(LabError::file(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let packed = console.fetch_folder(&self.dir_of(node), FETCH_LIMIT)?;
        let mut archive = tar::Archive::new(GzDecoder::new(packed.as_slice()));
        archive.set_preserve_permissions(false);
        archive.unpack(&dir).map_err(LabError::file(&dir))
    }

    /// That of the folder, if it is of the same kind of run; else a new one.
    fn manifest(&self) -> Manifest {
        let entry = |node: Node, role| NodeEntry {
            name: node.name.to_owned(),
            address: node.address.into(),
            interface: "eth0".to_owned(),
            role,
        };
        let mut nodes = vec![entry(CLIENT, Role::Client)];
        nodes.extend(SERVERS.map(|server| entry(server, Role::Server)));
        nodes.push(entry(GATEWAY, Role::Gateway));
        let new = Manifest {
            time: Timestamp::now(),
            machine: self.machine.clone(),
            has_switch: true,
            nodes,
            target: Ipv4Addr::BROADCAST.into(),
            port: PORT,
            delay_ms: u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
            loss: 0,
            arguments: self.arguments.clone(),
            files: files(&self.tasks, &[]),
            styles: Vec::new(),
        };
        let is_same = |old: &Manifest| {
            let urls = |manifest: &Manifest| -> Vec<String> {
                manifest.files.iter().map(|file| file.url.clone()).collect()
            };
            old.machine == new.machine
                && old.delay_ms == new.delay_ms
                && old.arguments == new.arguments
                && urls(old) == urls(&new)
        };
        match Manifest::read(&self.out).ok().filter(is_same) {
            Some(old) => Manifest { styles: old.styles, ..new },
            None => {
                // The report of an earlier run is not this one's.
                for name in [manifest::FILE_NAME, "report.pdf", "report.html"] {
                    // Most often there is none.
                    let _ = fs::remove_file(self.out.join(name));
                }
                new
            }
        }
    }
}

fn url_list(tasks: &[Task]) -> String {
    let line = |task: &Task| format!("{:?} = {:?}\n", task.name, task.url);
    tasks.iter().map(line).collect()
}

/// What the client told of each task's file; of one that it could not download, no digest.
fn files(tasks: &[Task], events: &[Event]) -> Vec<FileEntry> {
    let entry = |task: &Task| {
        let begun = events.iter().find_map(|event| match &event.kind {
            EventKind::BroadcastStarted { name, bytes, blake3, .. }
                if event.task.as_ref() == Some(&task.name) =>
            {
                Some((name.clone(), *bytes, blake3.clone()))
            }
            _ => None,
        });
        let nothing = || (siar_core::fetch::file_name(&task.url), 0, String::new());
        let (name, bytes, blake3) = begun.unwrap_or_else(nothing);
        FileEntry { key: task.name.clone(), url: task.url.clone(), name, bytes, blake3 }
    };
    tasks.iter().map(entry).collect()
}

/// The client's downloads by name.
fn sources(dir: &Path, files: &[FileEntry]) -> Result<BTreeMap<String, Vec<u8>>, LabError> {
    let downloaded = files.iter().filter(|file| !file.blake3.is_empty());
    let read = |file: &FileEntry| {
        let path = dir.join(&file.name);
        let bytes = fs::read(&path).map_err(LabError::file(&path))?;
        Ok((file.name.clone(), bytes))
    };
    downloaded.map(read).collect()
}
