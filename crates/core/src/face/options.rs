//! The command lines of the four clients and of the server. The folders below `face` do not use
//! clap.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, ValueEnum};
use clap_complete::Shell;
use siar_proto::SlowReceivers;

use super::values::{bind_address, buffer_size, duration, rate, size};
use crate::client::broadcast::{BroadcastConfig, Wire};
use crate::client::fetch::{Redirections, SpeedFloor};
use crate::client::task::TaskConfig;
use crate::client::urls::{self, Task, UrlListError};
use crate::event::Style;
use crate::io::net::{Destinations, Interface, RECEIVE_BUFFER};
use crate::io::seal::Key;
use crate::server::{Accepts, FileNames, ReceiveConfig};

/// The shortest join wait with `--servers`: a server may be started this much later than the
/// client.
const SERVERS_WAIT: Duration = Duration::from_secs(10);

/// The file contents that all tasks together may keep to make repair symbols from, in bytes.
const REPAIR_MEMORY: usize = 12 << 20;

/// The values of a flag's variable: `1`, `true` and other words set it; `0`, `false`, `no`, `off`
/// and an empty one do not.
fn flag() -> FalseyValueParser {
    FalseyValueParser::new()
}

/// The command line of a client; `help` adds what differs between the styles.
#[derive(Debug, Parser)]
#[command(version = crate::version::VERSION)]
pub struct ClientOptions {
    /// URLs to download, or local files (paths or file:// URLs); NAME= names the file; default: the built-in list (its, detik, file2, file3)
    #[arg(value_name = "[NAME=]URL|FILE", conflicts_with = "urls")]
    pub url: Vec<String>,
    /// TOML table `name = "url"`, in order
    #[arg(long, value_name = "FILE", env = "SIAR_URLS")]
    pub urls: Option<PathBuf>,
    /// Limited or directed broadcast address, multicast group or unicast address; repeatable
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "255.255.255.255",
        env = "SIAR_TARGET",
        value_delimiter = ','
    )]
    pub target: Vec<IpAddr>,
    /// UDP port of the servers
    #[arg(long, default_value_t = 5005, value_parser = clap::value_parser!(u16).range(1..), env = "SIAR_PORT")]
    pub port: u16,
    /// Interface (name or address) to send broadcast and multicast through
    #[arg(long, value_name = "NAME|IP", env = "SIAR_INTERFACE")]
    pub interface: Option<Interface>,
    /// Simulated work between download and broadcast
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = duration, env = "SIAR_DELAY")]
    pub delay: Duration,
    /// Folder for downloaded files
    #[arg(long, default_value = ".", env = "SIAR_DIR")]
    pub dir: PathBuf,
    /// Largest file, e.g. 1GiB; a larger download is aborted, a larger local file is refused
    #[arg(long, value_name = "SIZE", value_parser = size, env = "SIAR_MAX_FILE")]
    pub max_file: Option<u64>,
    /// Name a file as the server's Content-Disposition does, if it does (as curl -OJ)
    #[arg(long, env = "SIAR_REMOTE_NAME", value_parser = flag())]
    pub remote_name: bool,
    /// Redirections to follow: safe ones (none from a public address to one that is not, none from https to http), or any
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = RedirectChoice::Safe, env = "SIAR_ALLOW_REDIRECTS")]
    pub allow_redirects: RedirectChoice,
    /// Give up a download slower than this, in bytes per second, e.g. 10KiB; 0: never
    #[arg(long, value_name = "BYTES/S", default_value = "100", value_parser = size, env = "SIAR_SPEED_LIMIT")]
    pub speed_limit: u64,
    /// The time over which that speed is measured, a second at least
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration, env = "SIAR_SPEED_TIME")]
    pub speed_time: Duration,
    /// Largest number of workers at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "SIAR_WORKERS")]
    pub workers: Option<u16>,
    /// Give up a result when its task has made no progress for this long
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration, env = "SIAR_TIMEOUT")]
    pub timeout: Duration,
    /// Give up a task that has taken this long in all [default: as long as it advances]
    #[arg(long, value_name = "DUR", value_parser = duration, env = "SIAR_MAX_TIME")]
    pub max_time: Option<Duration>,
    /// Wait for N servers to join (at least 10 s) and confirm; fewer servers are an error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), env = "SIAR_SERVERS")]
    pub servers: Option<u16>,
    /// Without --servers: the longest wait for the first server to join
    #[arg(long, value_name = "DUR", default_value = "300ms", value_parser = duration, env = "SIAR_JOIN_WAIT")]
    pub join_wait: Duration,
    /// Seal frames with the key in this file, which the servers need as well: cargo lab keygen FILE
    #[arg(long, value_name = "FILE", env = "SIAR_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Wire format; raw sends one datagram as the Python scripts do, without confirmation
    #[arg(long, value_enum, default_value_t = WireChoice::Reliable, env = "SIAR_WIRE")]
    pub wire: WireChoice,
    /// Upper bound on the sending rate, e.g. 100mbit, of which each task that may run at once has an equal part [default: found by feedback]
    #[arg(long, value_parser = rate, env = "SIAR_RATE")]
    pub rate: Option<u64>,
    /// A server much slower than the others: wait for it, or drop it and send it the rest later
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = SlowChoice::Wait, env = "SIAR_SLOW")]
    pub slow: SlowChoice,
    /// Send datagrams one by one, without UDP segmentation offload [default: only if it is refused]
    #[arg(long, env = "SIAR_NO_SEGMENTATION", value_parser = flag())]
    pub no_segmentation: bool,
    /// The options for output.
    #[command(flatten)]
    pub console: ConsoleOptions,
}

/// The options for output, which clients and server share.
#[derive(Debug, Clone, Args)]
pub struct ConsoleOptions {
    /// Write every event as one JSON line (`-`: to stdout, instead of the usual lines)
    #[arg(long, value_name = "FILE", env = "SIAR_EVENTS")]
    pub events: Option<PathBuf>,
    /// Print only what goes wrong
    #[arg(short, long, env = "SIAR_QUIET", value_parser = flag())]
    pub quiet: bool,
    /// Print more: who joins, what is repaired, addresses and interfaces; twice for the protocol
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", env = "SIAR_VERBOSE")]
    pub verbose: u8,
    /// No progress bars
    #[arg(long, env = "SIAR_NO_PROGRESS", value_parser = flag())]
    pub no_progress: bool,
    /// Colour in messages
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, env = "SIAR_COLOR")]
    pub color: ColorChoice,
    /// Print a completion script and exit
    #[arg(long, value_name = "SHELL", value_enum)]
    pub completions: Option<Shell>,
}

/// The values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// Colour on a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The values of `--allow-redirects`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RedirectChoice {
    /// None from a public address to one that is not, and none from https to http.
    Safe,
    /// All.
    Any,
}

/// The values of `--slow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SlowChoice {
    /// The slowest server sets the pace of all.
    Wait,
    /// The slow server is dropped and gets the rest at the end.
    Drop,
}

/// The values of `--wire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WireChoice {
    /// Frames with repair and confirmation.
    Reliable,
    /// The Python scripts' format.
    Raw,
}

/// What a server has to gain of all tasks together, in bytes per second: as on a line of 64 kbit/s.
const LEAST_GAIN: u64 = 8_000;

/// The values of a server's `--wire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AcceptedChoice {
    /// Frames with repair and confirmation.
    Reliable,
    /// The Python scripts' format.
    Raw,
    /// Both formats.
    Both,
}

/// The values of `--names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NamesChoice {
    /// The sender's name, made safe.
    Original,
    /// `img1.png`, `img2.gif`, …
    Img,
}

/// Receive files that are broadcast over UDP.
#[derive(Debug, Parser)]
#[command(version = crate::version::VERSION)]
pub struct ServerOptions {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:5005", value_parser = bind_address, env = "SIAR_BIND")]
    pub bind: SocketAddr,
    /// Multicast group to join; repeatable
    #[arg(long, value_name = "ADDR", env = "SIAR_GROUP", value_delimiter = ',')]
    pub group: Vec<IpAddr>,
    /// Interface (name or address) to receive through
    #[arg(long, value_name = "NAME|IP", env = "SIAR_INTERFACE")]
    pub interface: Option<Interface>,
    /// Folder for received files
    #[arg(long, default_value = ".", env = "SIAR_DIR")]
    pub dir: PathBuf,
    /// original: the sender's name, made safe; img: img1.png, img2.gif, … as the Python scripts number them
    #[arg(long, value_enum, default_value_t = NamesChoice::Original, env = "SIAR_NAMES")]
    pub names: NamesChoice,
    /// Make no hidden files: a name loses its leading dot
    #[arg(long, env = "SIAR_NO_DOTFILES", value_parser = flag())]
    pub no_dotfiles: bool,
    /// Largest file that is accepted, e.g. 1GiB
    #[arg(long, value_name = "SIZE", value_parser = size, env = "SIAR_MAX_FILE")]
    pub max_file: Option<u64>,
    /// Largest total size of the files in --dir, with those that are there already; a file that would exceed it is refused
    #[arg(long, value_name = "SIZE", value_parser = size, env = "SIAR_QUOTA")]
    pub quota: Option<u64>,
    /// Accept only frames that are sealed with the key in this file: cargo lab keygen FILE
    #[arg(long, value_name = "FILE", env = "SIAR_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Wire format to accept; raw takes each datagram as a file, as the Python scripts send it: from anybody, whole or not
    #[arg(long, value_enum, default_value_t = AcceptedChoice::Reliable, env = "SIAR_WIRE")]
    pub wire: AcceptedChoice,
    /// Receive buffer to request from the system [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = buffer_size, env = "SIAR_RECV_BUFFER")]
    pub recv_buffer: Option<usize>,
    /// Exit with status 0 after N confirmed files, when those under way are finished too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), env = "SIAR_EXIT_AFTER")]
    pub exit_after: Option<u64>,
    /// Print what this server could receive, at which addresses, with which buffer, and exit
    #[arg(long, conflicts_with = "is_ready")]
    pub check: bool,
    /// Ask the server that runs on this machine whether it answers, and exit with 0 if it does
    #[arg(long)]
    pub is_ready: bool,
    /// Print the received bytes as the Python scripts do (Python bytes notation)
    #[arg(long, env = "SIAR_DUMP", value_parser = flag())]
    pub dump: bool,
    /// The options for output.
    #[command(flatten)]
    pub console: ConsoleOptions,
}

impl ClientOptions {
    /// Returns the tasks, in order.
    ///
    /// # Errors
    /// The URL list cannot be used.
    pub fn tasks(&self) -> Result<Vec<Task>, UrlListError> {
        match &self.urls {
            Some(path) => urls::read(path),
            None if self.url.is_empty() => Ok(urls::built_in()),
            None => urls::from_arguments(&self.url),
        }
    }

    /// Returns the largest number of workers in `style`.
    #[must_use]
    pub fn worker_count(&self, style: Style) -> usize {
        let default = if style == Style::MpAsync { 20 } else { 4 };
        self.workers.map_or(default, usize::from)
    }

    /// Describes what is wrong with the key file or with its use, if anything is.
    #[must_use]
    pub fn key_fault(&self) -> Option<String> {
        let path = self.key_file.as_deref()?;
        if self.wire == WireChoice::Raw {
            return Some("--wire raw sends nothing sealed: leave out --key-file".to_owned());
        }
        Key::load(path).err().map(|error| error.to_string())
    }

    /// Returns the configuration that all tasks share; `concurrent` tasks share the rate. With
    /// `keeps_open`, connections and sockets are kept for the next task of the process.
    #[must_use]
    pub fn task_config(&self, concurrent: usize, keeps_open: bool) -> TaskConfig {
        let join_wait = match self.servers {
            Some(_) => self.join_wait.max(SERVERS_WAIT),
            None => self.join_wait,
        };
        // Each datagram goes to every target.
        let copies = concurrent * self.target.len();
        TaskConfig {
            dir: self.dir.clone(),
            max_file: self.max_file.unwrap_or(u64::MAX),
            remote_name: self.remote_name,
            redirections: match self.allow_redirects {
                RedirectChoice::Safe => Redirections::Safe,
                RedirectChoice::Any => Redirections::Any,
            },
            speed: SpeedFloor { bytes_per_second: self.speed_limit, time: self.speed_time },
            max_time: self.max_time,
            delay: self.delay,
            keeps_open,
            broadcast: BroadcastConfig {
                destinations: Destinations {
                    addresses: self.target.clone(),
                    port: self.port,
                    interface: self.interface.clone(),
                },
                wire: match self.wire {
                    WireChoice::Reliable => Wire::Reliable,
                    WireChoice::Raw => Wire::Raw,
                },
                servers: self.servers.map(usize::from),
                join_wait,
                rate: self.rate.map(|rate| (rate / copies.max(1) as u64).max(1)),
                segmentation: !self.no_segmentation,
                least_gain: (LEAST_GAIN / copies.max(1) as u64).max(1),
                slow: match self.slow {
                    SlowChoice::Wait => SlowReceivers::Wait,
                    SlowChoice::Drop => SlowReceivers::Drop,
                },
                repair_memory: REPAIR_MEMORY / concurrent.max(1),
                key_file: self.key_file.clone(),
            },
        }
    }
}

impl ServerOptions {
    /// Describes which options exclude each other, if any do.
    #[must_use]
    pub fn conflict(&self) -> Option<&'static str> {
        if self.wire != AcceptedChoice::Reliable && self.key_file.is_some() {
            return Some("raw files are not sealed: give --key-file or --wire, not both");
        }
        if self.wire == AcceptedChoice::Raw && self.is_ready {
            return Some("--is-ready asks by a frame, and --wire raw takes none");
        }
        if self.wire == AcceptedChoice::Raw && self.exit_after.is_some() {
            return Some("--exit-after counts confirmed files, and --wire raw confirms none");
        }
        None
    }

    /// Returns the configuration of the receiver: all options but those for output.
    #[must_use]
    pub fn receive_config(&self) -> ReceiveConfig {
        ReceiveConfig {
            bind: self.bind,
            groups: self.group.clone(),
            interface: self.interface.clone(),
            dir: self.dir.clone(),
            names: match self.names {
                NamesChoice::Original => FileNames::Original,
                NamesChoice::Img => FileNames::Numbered,
            },
            dotfiles: !self.no_dotfiles,
            max_file: self.max_file.unwrap_or(u64::MAX),
            quota: self.quota.unwrap_or(u64::MAX),
            accepts: match self.wire {
                AcceptedChoice::Reliable => Accepts { frames: true, raw: false },
                AcceptedChoice::Raw => Accepts { frames: false, raw: true },
                AcceptedChoice::Both => Accepts { frames: true, raw: true },
            },
            recv_buffer: self.recv_buffer.unwrap_or(RECEIVE_BUFFER),
            exit_after: self.exit_after,
            key_file: self.key_file.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_parsers_are_sound() {
        ClientOptions::command().debug_assert();
        ServerOptions::command().debug_assert();
    }

    #[test]
    fn sources_are_bounded_unless_that_is_unwanted() {
        let config = |arguments: &[&str]| {
            let arguments = [&["mt"][..], arguments].concat();
            ClientOptions::parse_from(arguments).task_config(1, false)
        };
        let (usual, bold) = (
            config(&[]),
            config(&["--allow-redirects", "any", "--speed-limit", "0", "--speed-time", "1m"]),
        );
        let floor = |bytes_per_second, seconds| SpeedFloor {
            bytes_per_second,
            time: Duration::from_secs(seconds),
        };
        assert_eq!((usual.redirections, usual.speed), (Redirections::Safe, floor(100, 30)));
        assert_eq!((bold.redirections, bold.speed), (Redirections::Any, floor(0, 60)));
    }

    #[test]
    fn concurrent_tasks_share_the_rate() {
        let options = ClientOptions::parse_from(["mt", "--rate", "80mbit"]);
        assert_eq!(options.task_config(4, false).broadcast.rate, Some(2_500_000));
    }
}
