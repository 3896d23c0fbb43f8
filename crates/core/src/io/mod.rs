//! The edge: sockets, disks, keys, the clock.
//!
//! | module | job |
//! |---|---|
//! | [`net`] | UDP sockets, and trains of datagrams |
//! | [`store`] | files that are received whole or not at all, and files that are sent |
//! | [`seal`] | frames that nobody without the key can read or make |
//! | `idle_pool` | what is kept for a moment, in case it is wanted again |
//! | `clock` | the wall clock |

pub(crate) mod clock;
pub(crate) mod idle_pool;
pub mod net;
pub mod seal;
pub mod store;
