//! Errors of the stage.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::node::NODES;
use crate::samples::SampleError;

/// A failure of the lab's network, or of a program that runs in it.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A program that the lab needs is not installed.
    #[error("{program} is not installed; {remedy}")]
    MissingProgram {
        /// The program's name, or a description of what is missing.
        program: String,
        /// An instruction how to get the program.
        remedy: &'static str,
    },
    /// A program that the lab runs failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// The program's standard error, or its exit status.
        output: String,
    },
    /// The kernel refuses a namespace.
    #[error("cannot make a network namespace: {0}")]
    Namespace(std::io::Error),
    /// Datagrams are to be dropped on loopback, which all nodes share.
    #[error("no datagram can be dropped on loopback: leave out --loss")]
    NoLossOnLoopback,
    /// A file or folder cannot be used.
    #[error("{path}: {error}")]
    File {
        /// The path of the file or folder.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The gateway's HTTP server cannot listen.
    #[error("gateway at {address}: {error}")]
    Gateway {
        /// The address that the server was to listen on.
        address: SocketAddr,
        /// The cause, in words.
        error: String,
    },
    /// A sample file cannot be made.
    #[error("sample files: {0}")]
    Samples(#[from] SampleError),
    /// A server did not start, or did not listen within its time limit.
    #[error("server on {node} did not start: {output}")]
    ServerStart {
        /// The node's name.
        node: String,
        /// The server's log.
        output: String,
    },
    /// A program that is to be copied to nodes cannot run on every node.
    #[error("{program} {fault}")]
    NotForNodes {
        /// The program's path.
        program: PathBuf,
        /// The reason, in words.
        fault: String,
    },
    /// A folder has files with the names of a run's, but holds no run.
    #[error(
        "{dir} is not the folder of a run ({reason}), and {lost} in it would be lost: choose \
         another folder with --out"
    )]
    NotARun {
        /// The folder.
        dir: PathBuf,
        /// The reason why it is not the folder of a run, in words.
        reason: &'static str,
        /// The names of the files and folders that a run would replace.
        lost: String,
    },
    /// A run ended before all its styles had ended.
    #[error("{dir}: this run was broken off; run `cargo lab --out {dir}` again")]
    BrokenOff {
        /// The run's folder.
        dir: PathBuf,
    },
    /// No node has this name.
    #[error("no node is called {0}; there are {nodes}", nodes = NODES.map(|node| node.name).join(", "))]
    UnknownNode(String),
}

impl StageError {
    /// A function that makes an I/O error on `path` a [`StageError::File`].
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}
