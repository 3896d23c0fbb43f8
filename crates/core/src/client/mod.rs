//! The client: it downloads URLs to files, and broadcasts files to servers.
//!
//! | module | job |
//! |---|---|
//! | [`urls`] | the URL list |
//! | [`shown_url`] | URLs as people may see them |
//! | [`task`] | the function that all four styles run |
//! | [`time_limit`] | the limit of a task's time |
//! | [`turns`] | the number of downloads at once |
//! | [`mod@fetch`] | the download of a URL to a file |
//! | [`mod@broadcast`], `drive`, `sender_watch` | the broadcast of a file to servers |
//! | [`worker`] | tasks in another process |
//! | [`activity`] | when each task last advanced |

pub mod activity;
pub mod broadcast;
mod drive;
pub mod fetch;
mod sender_watch;
pub mod shown_url;
pub mod task;
pub mod time_limit;
pub mod turns;
pub mod urls;
pub mod worker;
