//! The seed's network in namespaces: its nodes, its files, and the four styles run in it.
//!
//! | module | job |
//! |---|---|
//! | [`namespace`] | one network namespace |
//! | [`network`] | the seed's nodes, joined by a switch; loopback where namespaces are not permitted |
//! | [`samples`], [`gateway`] | the four files, and the HTTP server that offers them |
//! | [`rootfs`], [`internet`] | nodes that are real systems, and what they need of the internet |
//! | [`binaries`] | the clients and the server, built by cargo |
//! | [`dist`] | the same as static files, to be copied to nodes |
//! | [`overhead`] | what one small file costs, beside Python |
//! | [`mod@bench`] | Siar beside its ceiling and its peers |
//! | [`run`] | the main job: four styles, two servers, every byte compared |
//! | [`observe`] | what the lab sees by itself: packets, processes |
//! | [`manifest`] | what a run was made with, and where its parts lie |
//! | [`timeline`], [`chart`], [`pictures`] | pictures of a run |
//! | [`mod@faults`] | what can go wrong is made to go wrong |
//! | [`mod@gns3`] | the same lab on a GNS3 server |
//! | [`doctor`] | what this machine has of all that |
//! | [`grade`] | a run judged from its evidence |

pub mod bench;
pub mod binaries;
pub mod chart;
pub mod dist;
pub mod doctor;
pub mod faults;
pub mod gateway;
pub mod gns3;
pub mod grade;
pub mod internet;
pub mod manifest;
pub mod namespace;
pub mod network;
pub mod observe;
pub mod overhead;
pub mod pictures;
pub mod rootfs;
pub mod run;
pub mod samples;
pub mod timeline;

use std::path::{Path, PathBuf};

/// The lab cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program that the lab needs is not installed.
    #[error("{program} is not installed; {remedy}")]
    MissingProgram {
        /// Its name.
        program: String,
        /// How to get it.
        remedy: &'static str,
    },
    /// A program that the lab runs failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// As typed.
        command: String,
        /// What it said.
        output: String,
    },
    /// The kernel refuses a namespace.
    #[error("cannot make a network namespace: {0}")]
    Namespace(std::io::Error),
    /// A file or folder cannot be used.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The gateway's HTTP server cannot listen.
    #[error("gateway at {address}: {error}")]
    Gateway {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: String,
    },
    /// A sample file cannot be made.
    #[error("sample files: {0}")]
    Samples(#[from] samples::SampleError),
    /// The bench's ceiling cannot work.
    #[error(transparent)]
    Blast(#[from] bench::blast::BlastError),
    /// A server did not come up.
    #[error("server on {node} did not start: {output}")]
    ServerStart {
        /// The node.
        node: String,
        /// What it said.
        output: String,
    },
    /// A program that is to be copied to nodes would not do there.
    #[error("{program} {fault}")]
    NotForNodes {
        /// Which.
        program: PathBuf,
        /// Why not.
        fault: String,
    },
    /// A GNS3 server does not do what is asked of it.
    #[error(transparent)]
    Gns3(#[from] gns3::error::Gns3Error),
    /// A node's console cannot be used.
    #[error(transparent)]
    Console(#[from] gns3::console::ConsoleError),
    /// A URL list cannot be used.
    #[error(transparent)]
    Urls(#[from] siar_core::urls::UrlListError),
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] siar_core::seal::KeyError),
    /// No node has this name.
    #[error("no node is called {0}; there are {nodes}", nodes = network::NODES.map(|node| node.name).join(", "))]
    UnknownNode(String),
}

impl LabError {
    /// An error on `path`.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}
