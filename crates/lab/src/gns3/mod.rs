//! The lab on a GNS3 server.
//!
//! | module | job |
//! |---|---|
//! | [`topology`] | nodes, links, notes and files as they should be |
//! | [`project`] | the same as a portable project |
//! | [`api`], [`error`] | GNS3's REST API, what it refuses and what helps |
//! | [`deploy`] | makes a server's project so |
//! | [`telnet`], [`console`] | a shell behind a node's console |
//! | [`run`] | styles run by way of consoles |

pub mod api;
pub mod console;
pub mod deploy;
pub mod error;
pub mod project;
pub mod run;
pub mod telnet;
pub mod topology;
