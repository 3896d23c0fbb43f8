//! The code that Siar's four clients and its server share.
//!
//! Data flows in one direction: options, task, fetch, broadcast, events, report. Each folder uses
//! only the folders below it in this table:
//!
//! | folder | knows |
//! |---|---|
//! | [`face`] | terminals, clap |
//! | [`client`], [`server`] | HTTP and processes; threads that write files |
//! | [`io`] | sockets, disks, keys |
//! | [`event`] | events as data: all output and all records are made from them |
//! | [`visible`] | characters that a terminal must not be given |
//!
//! Below all of them are the crates `siar-proto`, the protocol without I/O, and `siar-code`, its
//! erasure code.

pub mod client;
pub mod event;
pub mod face;
pub mod io;
pub mod lock;
pub mod panics;
pub mod server;
mod version;
pub mod visible;

pub use client::task::{download_and_broadcast, download_and_broadcast_in_turn};
pub use client::turns::Turn;
pub use client::worker::serve_if_worker;
pub use event::Style;
pub use face::run::{Run, run_client, run_server};
pub use version::VERSION;
