//! The reasons why a download fails. The URLs in them have no password.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::speed::SpeedFloor;

/// The words of the error message when a host's address cannot be found.
pub const NOT_RESOLVED: &str = "the host's name cannot be looked up";

/// The reason why a URL could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, refuses the request, or aborts.
    #[error("{url}: {error}")]
    Http {
        /// The URL.
        url: String,
        /// The reason.
        error: Box<ureq::Error>,
    },
    /// The address of the server, or of the proxy, cannot be found.
    #[error("{url}: {NOT_RESOLVED}: {reason}")]
    NotResolved {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// A redirection leads nowhere.
    #[error("{url}: redirected wrongly: {reason}")]
    Redirection {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// A redirection leads where its server must not send a client.
    #[error("{from}: redirects to {to}, {how}: not followed (--allow-redirects any follows it)")]
    UnsafeRedirection {
        /// The URL that redirects.
        from: String,
        /// The URL that it redirects to.
        to: String,
        /// What is unsafe about it.
        how: String,
    },
    /// The environment names a proxy that cannot be used.
    #[error("{url}: no proxy can be chosen: {reason}")]
    Proxy {
        /// The URL.
        url: String,
        /// The variable, its value and the reason.
        reason: String,
    },
    /// The body ended too early or stalled.
    #[error("{url}: broke off after {bytes} bytes: {error}")]
    Body {
        /// The URL.
        url: String,
        /// The number of bytes that were received before.
        bytes: u64,
        /// The reason.
        error: io::Error,
    },
    /// The server sends too slowly.
    #[error(
        "{url}: given up: {rate} bytes/s for {:?}, less than {} bytes/s (--speed-limit, --speed-time)",
        .floor.time,
        .floor.bytes_per_second
    )]
    TooSlow {
        /// The URL.
        url: String,
        /// The rate, in bytes per second.
        rate: u64,
        /// The lowest rate, and the time over which it is measured.
        floor: SpeedFloor,
    },
    /// The task has taken as long as it may.
    #[error("{url}: given up after {bytes} bytes: not finished within {allowed:?} (--max-time)")]
    OutOfTime {
        /// The URL.
        url: String,
        /// The number of bytes that were received.
        bytes: u64,
        /// The time that the task may take.
        allowed: Duration,
    },
    /// The file is larger than the limit.
    #[error("{url}: more than {limit} bytes, the limit for one file")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A local file cannot be read.
    #[error("{path}: cannot be read: {error}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file whose size is known only at its end cannot be read to there.
    #[error("{path}: cannot be read to its end: {error}")]
    Copy {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The path leads to a folder or a pipe, not to a file.
    #[error("{path}: is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The trusted certificates cannot be used.
    #[error("{0}")]
    Trust(String),
    /// The file cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// The path of the file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
}
