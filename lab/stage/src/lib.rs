//! The stage: the assignment's network with its nodes and sample files, and the main job that
//! runs in it. All commands of the lab are built on this crate.
//!
//! | module | job |
//! |---|---|
//! | [`namespace`] | one network namespace |
//! | [`node`], [`network`] | the assignment's nodes, on a switch or on loopback |
//! | [`samples`], [`gateway`] | the four files, and the HTTP server that offers them |
//! | [`rootfs`], [`internet`] | root file systems for the nodes; HTTPS and DNS for them |
//! | [`programs`], [`target`] | builds of the programs by cargo; static builds for nodes |
//! | [`server`], [`events`] | a running server; the event files of clients and servers |
//! | [`run`], [`outcome`] | the main job: four styles, two servers, every byte compared |
//! | [`manifest`], [`run_folder`] | a run's settings and results, and the paths of its files; the folder |
//! | [`machine`], [`spread`] | the machine in words; median and extremes of measurements |
//! | [`system`] | programs of the system, such as `ip` and `nft` |
//! | [`tool`] | log, errors and exit codes of the commands |
//! | [`trial`] | a run of the lab for tests |

mod error;
pub mod events;
pub mod gateway;
pub mod internet;
pub mod machine;
pub mod manifest;
pub mod namespace;
pub mod network;
pub mod node;
pub mod outcome;
pub mod programs;
pub mod rootfs;
pub mod run;
pub mod run_folder;
pub mod samples;
pub mod server;
pub mod spread;
pub mod system;
pub mod target;
pub mod tool;
pub mod trial;

pub use error::StageError;
