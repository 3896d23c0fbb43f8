//! What Siar's four clients and its server share.
//!
//! Data flows one way: options, task, fetch, broadcast, events, report. Each folder uses only
//! those below it:
//!
//! | folder | knows |
//! |---|---|
//! | [`face`] | terminals, clap |
//! | [`client`], [`server`] | HTTP and processes; threads that write files |
//! | [`io`] | sockets, disks, keys |
//! | [`event`] | what happened, as data: all that is shown or judged is made from it |
//!
//! Below all of them are the crates `siar-proto`, the protocol without I/O, and `siar-code`, its
//! erasure code.

pub mod client;
pub mod event;
pub mod face;
pub mod io;
mod lock;
pub mod panics;
pub mod server;

pub use client::task::{download_and_broadcast, download_and_broadcast_in_turn};
pub use client::turns::Turn;
pub use client::worker::serve_if_worker;
pub use event::Style;
pub use face::run::{Run, run_client, run_server};
