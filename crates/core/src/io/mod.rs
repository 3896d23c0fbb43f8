//! The input and output: sockets, disks, keys, the clock.
//!
//! | module | job |
//! |---|---|
//! | [`net`] | UDP sockets, and trains of datagrams |
//! | [`store`] | files that are received completely or not at all, and files that are sent |
//! | [`seal`] | frames that only holders of the key can read or make |
//! | `key_file` | who may own a key file, and what it holds |
//! | `idle_pool` | values that are kept for a short time, in case they are needed again |
//! | `clock` | the wall clock |
//! | `notify` | messages to the service manager |

pub(crate) mod clock;
pub(crate) mod idle_pool;
mod key_file;
pub mod net;
pub(crate) mod notify;
pub mod seal;
pub mod store;
