//! The manifest of a run, `run.json`: settings and results, for the report and the grade.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use siar_core::event::Style;

use crate::StageError;
use crate::outcome::StyleResult;

/// The manifest's name in a run's folder.
pub const FILE_NAME: &str = "run.json";

/// The task of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The node downloads and broadcasts the files.
    Client,
    /// The node receives the files.
    Server,
    /// The node serves the files over HTTP.
    Gateway,
}

/// One node of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The node's name, as GNS3 shows it.
    pub name: String,
    /// The node's IP address.
    pub address: IpAddr,
    /// The name of the node's network interface.
    pub interface: String,
    /// The node's task.
    pub role: Role,
}

/// One file of the URL list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The file's key in the URL list.
    pub key: String,
    /// The file's URL.
    pub url: String,
    /// The file's name.
    pub name: String,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The BLAKE3 hash of the gateway's file, in hexadecimal.
    pub blake3: String,
}

/// One run of one style.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds from start to end.
    pub total: f64,
    /// Seconds of `total` that are not the simulated work.
    pub overhead: f64,
    /// Whether every file arrived whole at every server.
    pub complete: bool,
}

/// All runs of one style.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StyleRuns {
    /// The style.
    pub style: Style,
    /// The style's runs, in order; the logs of the last run are kept.
    pub runs: Vec<Timing>,
}

/// The lab's settings, and the results of the styles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The start of the run.
    pub time: Timestamp,
    /// The machine, in words.
    pub machine: String,
    /// Whether the nodes are namespaces joined by a switch; otherwise all nodes share loopback.
    pub has_switch: bool,
    /// The network's nodes.
    pub nodes: Vec<NodeEntry>,
    /// The address that the clients broadcast to.
    pub target: IpAddr,
    /// The UDP port that the clients broadcast to.
    pub port: u16,
    /// The simulated work between download and broadcast, in milliseconds.
    pub delay_ms: u64,
    /// The part of the UDP packets that each server was told to drop, in per cent.
    pub loss: u8,
    /// The part of the UDP packets that the servers did drop, in per cent; `None` unless they were
    /// told to.
    #[serde(default)]
    pub measured_loss: Option<f64>,
    /// Further options of the clients.
    pub arguments: Vec<String>,
    /// The files of the URL list, in order.
    pub files: Vec<FileEntry>,
    /// The styles, in the order in which they ran.
    pub styles: Vec<StyleRuns>,
    /// Whether the run has ended. Of a run that was broken off it is `false`.
    #[serde(default = "finished")]
    pub is_finished: bool,
}

/// Earlier versions wrote a manifest only at the end of a run.
fn finished() -> bool {
    true
}

/// The servers' UDP port.
pub const PORT: u16 = 5005;

impl Manifest {
    /// Adds the result of one run of a style.
    pub fn add(&mut self, result: &StyleResult) {
        let timing = Timing {
            total: result.total,
            overhead: result.overhead,
            complete: result.is_complete(),
        };
        match self.styles.iter_mut().find(|runs| runs.style == result.style) {
            Some(runs) => runs.runs.push(timing),
            None => self.styles.push(StyleRuns { style: result.style, runs: vec![timing] }),
        }
    }

    /// The nodes with this role.
    pub fn nodes(&self, role: Role) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Reads the manifest of a run's folder.
    ///
    /// # Errors
    /// The manifest is missing or damaged.
    pub fn read(dir: &Path) -> Result<Self, StageError> {
        let path = dir.join(FILE_NAME);
        let text = fs::read(&path).map_err(StageError::file(&path))?;
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(StageError::file(&path))
    }

    /// Reads the manifest of a run's folder, if the run has ended.
    ///
    /// # Errors
    /// The manifest is missing or damaged, or the run was broken off.
    pub fn read_finished(dir: &Path) -> Result<Self, StageError> {
        let manifest = Self::read(dir)?;
        if manifest.is_finished {
            Ok(manifest)
        } else {
            Err(StageError::BrokenOff { dir: dir.to_owned() })
        }
    }

    /// Writes the manifest into a run's folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), StageError> {
        let path = dir.join(FILE_NAME);
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path, text)).map_err(StageError::file(&path))
    }
}

/// The folder of one node in one style's run, and the paths of the files in it.
#[derive(Debug, Clone)]
pub struct NodeDir(PathBuf);

impl NodeDir {
    /// The folder of `node` in the run of `style`, below the run's folder `run`.
    #[must_use]
    pub fn new(run: &Path, style: Style, node: &str) -> Self {
        Self(run.join(style.to_string()).join(node))
    }

    /// The folder of downloaded or received files.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// The client's event file.
    #[must_use]
    pub fn client_events(&self) -> PathBuf {
        self.0.join("client.events")
    }

    /// The client's standard output and standard error.
    #[must_use]
    pub fn client_log(&self) -> PathBuf {
        self.0.join("client.log")
    }

    /// The client's processes and threads as the lab saw them.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.0.join("client.processes")
    }

    /// The server's event file.
    #[must_use]
    pub fn server_events(&self) -> PathBuf {
        self.0.join("server.events")
    }

    /// The server's standard output and standard error.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    /// The capture of the packets that reached the server, in pcap format.
    #[must_use]
    pub fn capture(&self) -> PathBuf {
        self.0.join("packets.pcap")
    }

    /// Creates the node's folder and the folder of files in it.
    ///
    /// # Errors
    /// A folder cannot be created.
    pub fn create(&self) -> Result<(), StageError> {
        let files = self.files();
        fs::create_dir_all(&files).map_err(StageError::file(&files))
    }
}
