//! The client's job: URLs to files, files to servers.
//!
//! | module | job |
//! |---|---|
//! | [`urls`] | the URL list |
//! | [`task`] | the function that all four styles run |
//! | [`turns`] | how many downloads go at once |
//! | [`mod@fetch`] | URL to file |
//! | [`mod@broadcast`], `drive`, `sender_watch` | file to servers |
//! | [`worker`] | the same in another process |
//! | [`activity`] | how long each task has not advanced |

pub mod activity;
pub mod broadcast;
mod drive;
pub mod fetch;
mod sender_watch;
pub mod task;
pub mod turns;
pub mod urls;
pub mod worker;
