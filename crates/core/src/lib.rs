//! What Siar's four clients and its server share.
//!
//! Data flows one way: options, task, fetch, broadcast, events, report.
//!
//! | layer | modules | knows |
//! |---|---|---|
//! | face | [`run`], `console`, `watch`, [`options`], [`worker`] | terminals, processes, clap |
//! | job | [`task`], [`mod@fetch`], `connections`, `local`, [`broadcast`], [`mod@receive`] | files, HTTP, sockets |
//! | edge | [`net`], [`store`], [`seal`] | sockets, disks, keys |
//! | protocol | [`protocol`], [`wire`] | nothing outside: bytes and a clock that it is given |
//! | data | [`event`], [`urls`], [`timing`], [`progress`] | what happened, and how it is shown |
//! | machine | `prefetch`, `lock`, `idle_pool`, [`panics`] | the processor's cache, mutexes, what is kept for a moment, threads that panic |

pub mod broadcast;
mod connections;
mod console;
pub mod event;
pub mod fetch;
mod idle_pool;
mod local;
mod lock;
pub mod net;
pub mod options;
pub mod panics;
mod prefetch;
pub mod progress;
pub mod protocol;
pub mod receive;
pub mod run;
pub mod seal;
pub mod store;
pub mod task;
pub mod timing;
pub mod urls;
mod watch;
pub mod wire;
pub mod worker;
