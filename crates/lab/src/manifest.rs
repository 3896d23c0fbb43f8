//! `run.json`: what a run of the lab was made with, for the report and the grade.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use siar_core::event::Style;

use crate::LabError;
use crate::bench::summary::machine;
use crate::gateway::Gateway;
use crate::network::{CLIENT, GATEWAY, Network, SERVERS};
use crate::run::{RunConfig, StyleResult};
use crate::samples::Sample;

/// The file's name in a run's folder.
pub const FILE_NAME: &str = "run.json";

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Downloads and broadcasts.
    Client,
    /// Receives.
    Server,
    /// Serves the files over HTTP.
    Gateway,
}

/// One node of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// As GNS3 shows it.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its interface on the switch.
    pub interface: String,
    /// What it is for.
    pub role: Role,
}

/// One file of the URL list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its key in the list.
    pub key: String,
    /// Where it comes from.
    pub url: String,
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its source.
    pub blake3: String,
}

/// One run of one style.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// In seconds.
    pub total: f64,
    /// The part of that which is not the simulated work.
    pub overhead: f64,
    /// Whether every file arrived whole at every server.
    pub complete: bool,
}

/// All runs of one style.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StyleRuns {
    /// Which.
    pub style: Style,
    /// The last one is that whose logs are kept.
    pub runs: Vec<Timing>,
}

/// What the lab was, and how the styles did in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// When it began.
    pub time: Timestamp,
    /// On what.
    pub machine: String,
    /// Whether the nodes are namespaces joined by a switch; else all are this machine.
    pub has_switch: bool,
    /// The network's nodes.
    pub nodes: Vec<NodeEntry>,
    /// Where the clients broadcast to.
    pub target: IpAddr,
    /// To which UDP port.
    pub port: u16,
    /// The simulated work, in milliseconds.
    pub delay_ms: u64,
    /// Per cent of the datagrams that each server loses.
    pub loss: u8,
    /// Further options of the clients.
    pub arguments: Vec<String>,
    /// The URL list.
    pub files: Vec<FileEntry>,
    /// In the order in which they ran.
    pub styles: Vec<StyleRuns>,
}

/// The servers' port.
pub const PORT: u16 = 5005;

impl Manifest {
    /// Before the first style has run.
    #[must_use]
    pub fn new(
        network: &Network,
        gateway: &Gateway,
        samples: &[Sample],
        config: &RunConfig,
    ) -> Self {
        let has_switch = matches!(network, Network::Namespaces { .. });
        let node = |node: crate::network::Node, role| NodeEntry {
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
        Self {
            time: Timestamp::now(),
            machine: machine(),
            has_switch,
            nodes,
            target: network.broadcast_address(),
            port: PORT,
            delay_ms: u64::try_from(config.delay.as_millis()).unwrap_or(u64::MAX),
            loss: config.loss,
            arguments: config.arguments.clone(),
            files: samples.iter().map(file).collect(),
            styles: Vec::new(),
        }
    }

    /// Notes how a style did.
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

    /// Writes it into a run's folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, dir: &Path) -> Result<(), LabError> {
        let path = dir.join(FILE_NAME);
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path, text)).map_err(LabError::file(&path))
    }

    /// Reads that of a run's folder.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(dir: &Path) -> Result<Self, LabError> {
        let path = dir.join(FILE_NAME);
        let text = fs::read(&path).map_err(LabError::file(&path))?;
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(LabError::file(&path))
    }
}

/// Where a style's run keeps what belongs to a node.
#[derive(Debug, Clone)]
pub struct NodeDir(PathBuf);

impl NodeDir {
    /// Of `node` in the run of `style` below `run`.
    #[must_use]
    pub fn new(run: &Path, style: Style, node: &str) -> Self {
        Self(run.join(style.to_string()).join(node))
    }

    /// What was downloaded or received.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// Of the client: its events.
    #[must_use]
    pub fn client_events(&self) -> PathBuf {
        self.0.join("client.events")
    }

    /// Of the client: what its terminal showed.
    #[must_use]
    pub fn client_log(&self) -> PathBuf {
        self.0.join("client.log")
    }

    /// Of the client: its processes and threads as the lab saw them.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.0.join("client.processes")
    }

    /// Of a server: its events.
    #[must_use]
    pub fn server_events(&self) -> PathBuf {
        self.0.join("server.events")
    }

    /// Of a server: what its terminal showed.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    /// Of a server: the packets that reached it.
    #[must_use]
    pub fn capture(&self) -> PathBuf {
        self.0.join("packets.pcap")
    }

    /// Makes the folder for its files, and itself.
    ///
    /// # Errors
    /// The disk is full, or forbids it.
    pub fn create(&self) -> Result<(), LabError> {
        let files = self.files();
        fs::create_dir_all(&files).map_err(LabError::file(&files))
    }
}
