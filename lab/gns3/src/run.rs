//! Runs of styles over the nodes' consoles. The results have the same files as a local run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use jiff::Timestamp;
use siar_core::client::urls::Task;
use siar_core::event::{Event, EventKind, Style};
use stage::StageError;
use stage::events::read_events;
use stage::manifest::{FileEntry, Manifest, NodeDir, NodeEntry, PORT, Role};
use stage::node::{CLIENT, GATEWAY, Node, SERVERS};
use stage::outcome::{StyleResult, compare_files, summarize};
use stage::programs::STYLES;
use stage::run_folder;

use super::console::Console;
use super::topology::{HOME, SETUP_IF_NEEDED, alpines};
use crate::Gns3Error;

/// The folder of a run's files on a node.
const DIR: &str = "/tmp/siar-run";
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
const MAX_UNPACKED: u64 = 4 << 30;
const STYLE_LIMIT: Duration = Duration::from_secs(600);
/// The time limit to fetch all files of a node, over a console that may be a serial line.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// Host and TCP port of each console, in the order of [`alpines`].
pub type Consoles = [(String, u16); 3];

/// The settings of a run over consoles.
#[derive(Debug, Clone)]
pub struct ConsoleRun {
    /// The nodes' consoles.
    pub consoles: Consoles,
    /// The folder of the programs on the nodes.
    pub home: String,
    /// Whether the nodes get the programs on a disk, as QEMU nodes do.
    pub has_medium: bool,
    /// The folder of a run's files on the nodes; each node has a subfolder with its name.
    pub dir: String,
    /// The machine in words, for the report.
    pub machine: String,
    /// The tasks, as in the URL list.
    pub tasks: Vec<Task>,
    /// The clients' `--delay`: the simulated work between download and broadcast.
    pub delay: Duration,
    /// Further options of the clients.
    pub arguments: Vec<String>,
    /// The folder for logs, events and files, on this machine.
    pub out: PathBuf,
}

impl ConsoleRun {
    /// Settings with defaults, and with the programs where [`deploy`](super::deploy) puts them.
    #[must_use]
    pub fn new(consoles: Consoles, machine: String, tasks: Vec<Task>) -> Self {
        Self {
            consoles,
            home: HOME.to_owned(),
            has_medium: false,
            dir: DIR.to_owned(),
            machine,
            tasks,
            delay: Duration::from_secs(2),
            arguments: Vec::new(),
            out: "lab-out".into(),
        }
    }

    /// Runs the styles one after the other, and shows the client's output. Results of other styles
    /// stay in the folder if their run had the same settings.
    ///
    /// # Errors
    /// A console does not answer, or a file cannot be written; a client that fails is a result.
    pub fn run(&self, styles: &[Style]) -> Result<(Manifest, Vec<StyleResult>), Gns3Error> {
        let mut manifest = self.manifest()?;
        let open = |index: usize| {
            let (node, (host, port)) = (alpines()[index], &self.consoles[index]);
            let mut console = Console::open(node.name, host, *port)?;
            if self.has_medium {
                console.run_well(SETUP_IF_NEEDED, COMMAND_LIMIT)?;
            }
            Ok::<_, Gns3Error>(console)
        };
        let mut consoles = [open(0)?, open(1)?, open(2)?];
        let mut results = Vec::new();
        for &style in styles {
            println!("\n{}:~# {style}", CLIENT.name);
            manifest.styles.retain(|runs| runs.style != style);
            // Until the style has ended, the folder says that the run was broken off.
            manifest.is_finished = false;
            manifest.write(&self.out)?;
            let result = self.run_style(style, &mut consoles, &mut manifest);
            let result = result.inspect_err(|_| self.clean_up(&mut consoles))?;
            for fault in &result.faults {
                eprintln!("error: {fault}");
            }
            manifest.add(&result);
            manifest.is_finished = true;
            let position = |style| STYLES.iter().position(|other| *other == style);
            manifest.styles.sort_by_key(|runs| position(runs.style));
            // The manifest is written after each style, so that a later failure keeps the results.
            manifest.write(&self.out)?;
            results.push(result);
        }
        Ok((manifest, results))
    }

    fn run_style(
        &self,
        style: Style,
        consoles: &mut [Console; 3],
        manifest: &mut Manifest,
    ) -> Result<StyleResult, Gns3Error> {
        let [client, servers @ ..] = consoles;
        for (server, node) in servers.iter_mut().zip(SERVERS) {
            self.start_server(server, node)?;
        }
        let dir = self.begin(client, CLIENT)?;
        client.put(&format!("{dir}/urls.toml"), url_list(&self.tasks)?.as_bytes())?;
        client.put(&format!("{dir}/run.sh"), self.client_script(style, &dir).as_bytes())?;
        let begin = Instant::now();
        let run = format!("sh {dir}/run.sh");
        let ended = client.run(&run, STYLE_LIMIT, |line| println!("{line}"))?;
        let wall = begin.elapsed();
        let mut faults = Vec::new();
        for (server, node) in servers.iter_mut().zip(SERVERS) {
            let stop = format!("kill $(cat {}/pid); wait $SIAR_SERVER", self.dir_of(node));
            if let Err(error) = server.run(&stop, COMMAND_LIMIT, |_| ()) {
                faults.push(error.to_string());
            }
        }

        self.unpack(client, CLIENT, style)?;
        let client_dir = NodeDir::new(&self.out, style, CLIENT.name);
        let log = client_dir.client_log();
        fs::write(&log, &ended.output).map_err(Gns3Error::file(&log))?;
        let path = client_dir.client_events();
        let events = if path.exists() { read_events(&path)? } else { Vec::new() };
        if events.is_empty() {
            faults.push(format!("{style} ended with {} before it told anything", ended.status));
        }
        manifest.files = files(&self.tasks, &events);
        let mut result = summarize(style, ended.status == 0, &events, self.delay, wall);
        result.files = manifest.files.len();
        result.faults = faults;
        let sources = sources(&client_dir.files(), &manifest.files)?;
        let missing = manifest.files.iter().filter(|file| file.blake3.is_empty()).count();
        if missing > 0 {
            result.faults.push(format!("{missing} of {} files were not downloaded", result.files));
        }
        for (server, node) in servers.iter_mut().zip(SERVERS) {
            self.unpack(server, node, style)?;
            let dir = NodeDir::new(&self.out, style, node.name).files();
            let wanted = sources.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
            let faults = compare_files(&dir, wanted);
            result.delivered.push((result.files - missing).saturating_sub(faults.len()));
            result.faults.extend(faults.into_iter().map(|fault| format!("{}: {fault}", node.name)));
        }
        Ok(result)
    }

    /// Makes an empty folder on a node, and ends a program that an earlier run left.
    fn begin(&self, console: &mut Console, node: Node) -> Result<String, Gns3Error> {
        let dir = self.dir_of(node);
        let begin = format!(
            "[ -f {dir}/pid ] && kill $(cat {dir}/pid) 2>/dev/null && sleep 1; \
             rm -rf {dir} {dir}.tgz; mkdir -p {dir}/files"
        );
        console.run_well(&begin, COMMAND_LIMIT)?;
        Ok(dir)
    }

    fn start_server(&self, console: &mut Console, node: Node) -> Result<(), Gns3Error> {
        let (home, dir) = (&self.home, self.begin(console, node)?);
        // Several servers can share a port, and then all of them would answer.
        let taken = format!("netstat -lun 2>/dev/null | grep -q ':{PORT} '");
        if console.run(&taken, COMMAND_LIMIT, |_| ())?.status == 0 {
            let output = format!("something listens on UDP port {PORT} already: end it first");
            return Err(StageError::ServerStart { node: node.name.to_owned(), output }.into());
        }
        let script = format!(
            "{home}/observe server {dir} {home}/server --dir {dir}/files \
             --events {dir}/server.events 2>&1 | tee {dir}/server.log\n"
        );
        console.put(&format!("{dir}/run.sh"), script.as_bytes())?;
        console.run(&format!("sh {dir}/run.sh & SIAR_SERVER=$!"), COMMAND_LIMIT, |_| ())?;
        let wait = format!(
            "i=0; until grep -qs listening {dir}/server.events || [ $i = 50 ]; do \
             i=$((i+1)); sleep 0.2; done; grep -qs listening {dir}/server.events"
        );
        if console.run(&wait, COMMAND_LIMIT, |_| ())?.status == 0 {
            return Ok(());
        }
        let output = console.run(&format!("cat {dir}/server.log"), COMMAND_LIMIT, |_| ())?.output;
        let (node, output) = (node.name.to_owned(), output.trim().to_owned());
        Err(StageError::ServerStart { node, output }.into())
    }

    fn client_script(&self, style: Style, dir: &str) -> String {
        let home = &self.home;
        let mut script = format!(
            "exec {home}/observe client {dir} {home}/{style} --urls {dir}/urls.toml --servers {} \
             --delay {}ms --no-progress --dir {dir}/files --events {dir}/client.events",
            SERVERS.len(),
            self.delay.as_millis()
        );
        for argument in &self.arguments {
            let _ = write!(script, " '{}'", argument.replace('\'', "'\\''"));
        }
        script + " 2>&1\n"
    }

    /// Ends the programs of a failed run. Errors are ignored, because the failure is reported
    /// already.
    fn clean_up(&self, consoles: &mut [Console; 3]) {
        for (console, node) in consoles.iter_mut().zip(alpines()) {
            let _ = console.interrupt();
            let _ = console.run(
                &format!("kill $(cat {}/pid)", self.dir_of(node)),
                COMMAND_LIMIT,
                |_| (),
            );
        }
    }

    fn dir_of(&self, node: Node) -> String {
        format!("{}/{}", self.dir, node.name)
    }

    /// Fetches the folder of the run from a node.
    fn unpack(&self, console: &mut Console, node: Node, style: Style) -> Result<(), Gns3Error> {
        let dir = self.out.join(style.to_string()).join(node.name);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Gns3Error::file(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(Gns3Error::file(&dir))?;
        let packed = console.fetch_folder(&self.dir_of(node), FETCH_LIMIT)?;
        unpack_files(&packed, &dir).map_err(Gns3Error::file(&dir))
    }

    /// A new manifest, with the results of the folder's manifest if it has the same settings.
    fn manifest(&self) -> Result<Manifest, Gns3Error> {
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
            measured_loss: None,
            arguments: self.arguments.clone(),
            files: files(&self.tasks, &[]),
            styles: Vec::new(),
            is_finished: false,
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
            Some(old) => Ok(Manifest { styles: old.styles, ..new }),
            None => {
                run_folder::prepare(&self.out)?;
                Ok(new)
            }
        }
    }
}

/// Unpacks files and folders only: a node is not trusted, and a link could lead anywhere.
fn unpack_files(packed: &[u8], dir: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(packed).take(MAX_UNPACKED));
    archive.set_preserve_permissions(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_dir() {
            let path = entry.path()?.display().to_string();
            return Err(io::Error::other(format!("{path} is neither a file nor a folder")));
        }
        entry.unpack_in(dir)?;
    }
    // The checksum of gzip is at the end, so that the rest must be read.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

fn url_list(tasks: &[Task]) -> Result<String, Gns3Error> {
    let table: toml::Table =
        tasks.iter().map(|task| (task.name.clone(), task.url.clone().into())).collect();
    let text = toml::to_string(&table).map_err(io::Error::other);
    text.map_err(Gns3Error::file(Path::new("urls.toml")))
}

/// The entries of the tasks' files by the client's events. A file that was not downloaded has
/// an empty hash.
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
        let nothing = || (siar_core::client::fetch::file_name(&task.url), 0, String::new());
        let (name, bytes, blake3) = begun.unwrap_or_else(nothing);
        FileEntry { key: task.name.clone(), url: task.url.clone(), name, bytes, blake3 }
    };
    tasks.iter().map(entry).collect()
}

/// The client's downloads, by name.
fn sources(dir: &Path, files: &[FileEntry]) -> Result<BTreeMap<String, Vec<u8>>, Gns3Error> {
    let downloaded = files.iter().filter(|file| !file.blake3.is_empty());
    let read = |file: &FileEntry| {
        let path = dir.join(&file.name);
        let bytes = fs::read(&path).map_err(Gns3Error::file(&path))?;
        Ok((file.name.clone(), bytes))
    };
    downloaded.map(read).collect()
}
