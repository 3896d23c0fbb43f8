//! The server: it turns datagrams into verified files.
//!
//! | module | job |
//! |---|---|
//! | `receive_loop` | the socket, signals and deadlines |
//! | `session` | one transfer, from announcement to end |
//! | `raw` | files in the Python scripts' format |
//! | `limits` | file sizes, the quota, the number of open files |
//! | `replay` | with a key: refuses a transfer that was recorded and is sent again |
//! | `dropped`, `token_bucket` | the counts and the log lines of useless datagrams |
//! | `check`, `readiness` | what a server could receive; whether one answers |
//! | `writers` | threads that decode, write, hash and publish |

mod check;
mod dropped;
mod limits;
mod raw;
mod readiness;
mod receive_loop;
mod replay;
mod session;
mod token_bucket;
mod writers;

pub use check::{Check, check};
pub use readiness::{NotReady, ask_if_ready};
pub use receive_loop::receive;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use siar_proto::wire::{Frame, ParseError, ReceiverId};
use siar_proto::{Peer, Receiver, ReceiverConfig, ReceiverEvent, TransferKey};

use crate::event::{Event, EventKind, Observer};
use crate::io::net::{Interface, NetError};
use crate::io::seal::{Key, KeyError, OpenError, SEALED_MAGIC, Sealing};
use crate::io::store::{FolderTraits, Naming, PartId, Usage};
use dropped::DroppedDatagrams;
use limits::{Limits, Refusal};
use replay::ReplayMemory;
use session::{Session, SessionEnd};
use token_bucket::TokenBucket;
use writers::{StoreResult, Wake, Writers};

/// The memory for the unfinished blocks of all transfers, in bytes.
const BLOCK_MEMORY: usize = 24 << 20;
/// The largest number of transfers that are known at once, if as many files may be open.
const MAX_TRANSFERS: usize = 4096;
/// A sender that sends nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(30);
const UNREPORTED_FAILURE: &str =
    "announcement of a transfer that failed unreported, after many others";
const NO_HOST: &str = "from an address that is not one host's: an answer would go to many";
const RAW_ONLY: &str = "frames, and this server takes raw files only (--wire)";
const NO_RAW: &str = "no frames; a Python script sends such files, and --wire both takes them";
const NO_KEY: &str = "sealed, and this server has no --key-file";
/// The largest number of senders with another key that are reported, each once.
const MAX_STRANGERS: usize = 1024;

/// The configuration of a server.
#[derive(Debug, Clone)]
pub struct ReceiveConfig {
    /// The address and port to listen on.
    pub bind: SocketAddr,
    /// The multicast groups to join.
    pub groups: Vec<IpAddr>,
    /// The interface to receive through.
    pub interface: Option<Interface>,
    /// The folder for received files.
    pub dir: PathBuf,
    /// How received files are named.
    pub names: FileNames,
    /// Whether a name keeps its leading dot.
    pub dotfiles: bool,
    /// The largest file that is accepted, in bytes.
    pub max_file: u64,
    /// The largest total size of all files in the folder, in bytes; the largest number: no limit.
    pub quota: u64,
    /// The wire formats that are accepted.
    pub accepts: Accepts,
    /// The receive buffer to request from the system, in bytes.
    pub recv_buffer: usize,
    /// The number of confirmed files after which the server stops.
    pub exit_after: Option<u64>,
    /// The path of the key file; if it is given, frames must be sealed with its key.
    pub key_file: Option<PathBuf>,
}

/// The wire formats that a server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// Frames, with repair and confirmation.
    pub frames: bool,
    /// The Python scripts' format: each datagram is a file.
    pub raw: bool,
}

/// How received files are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileNames {
    /// The sender's name, made safe.
    Original,
    /// `img1.png`, `img2.gif`, …
    Numbered,
}

/// The reason why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The socket fails.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The threads that write files cannot be started, or the folder's files cannot be counted.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    /// The folder cannot hold received files.
    #[error("cannot write to {dir}: {error}")]
    Dir {
        /// The path of the folder.
        dir: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
}

/// The result of a server's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveSummary {
    /// The number of published files, of which `raw` came in the Python scripts' format.
    pub files: u64,
    /// The number of files that nothing confirms.
    pub raw: u64,
    /// The total size of the published files, in bytes.
    pub bytes: u64,
    /// The number of transfers that failed or were aborted.
    pub failed: u64,
}

/// A server without its socket.
struct Server<'a> {
    config: &'a ReceiveConfig,
    observer: &'a dyn Observer,
    machine: Receiver,
    sessions: HashMap<TransferKey, Session>,
    /// The parts that sessions write, with the number of these.
    written: HashMap<PartId, usize>,
    /// The paths of the files that were published lately, by their digests.
    published: HashMap<[u8; 32], PathBuf>,
    limits: Limits,
    /// The announcements seen so far; checked only with a key.
    replays: ReplayMemory,
    writers: Writers,
    finished: crossbeam::channel::Receiver<StoreResult>,
    /// The memory of raw files that wait to be written, in bytes.
    raw_waiting: usize,
    sealing: Option<Sealing>,
    /// The addresses of senders with another key that were reported.
    strangers: HashSet<IpAddr>,
    log_lines: TokenBucket,
    dropped: DroppedDatagrams,
    /// How many datagrams the kernel had dropped at the full socket buffer at the latest check.
    overflowed: u64,
    summary: ReceiveSummary,
}

/// Whether an answer to `address` would reach one host. A subnet's broadcast address is not
/// recognised here; the kernel refuses to send to it, since the socket may not broadcast.
fn is_of_one_host(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(ip.is_multicast() || ip.is_unspecified() || is_broadcast) && address.port() != 0
}

impl<'a> Server<'a> {
    /// Starts a server whose socket has a receive buffer of `recv_buffer` bytes, and whose folder
    /// has these traits. Other threads call
    /// `wake` when [`Self::handle_store_results`] has something to do.
    fn start(
        config: &'a ReceiveConfig,
        observer: &'a dyn Observer,
        key: Option<&Key>,
        recv_buffer: u32,
        folder: FolderTraits,
        wake: &Wake,
    ) -> std::io::Result<Self> {
        let mut naming = match config.names {
            FileNames::Original => Naming::original(),
            FileNames::Numbered => Naming::numbered(),
        };
        naming = naming.in_folder(folder);
        if !config.dotfiles {
            naming = naming.without_dotfiles();
        }
        let mut limits = Limits::new(config.max_file, config.quota);
        if config.quota < u64::MAX {
            limits.count(&Usage::of(&config.dir)?, Instant::now());
        }
        let (results, finished) = crossbeam::channel::unbounded();
        Ok(Self {
            config,
            observer,
            machine: Receiver::new(ReceiverConfig {
                id: ReceiverId(rand::random()),
                recv_buffer,
                block_memory: BLOCK_MEMORY,
                max_transfers: limits.max_open_files().min(MAX_TRANSFERS),
                silence: SILENCE,
            }),
            sessions: HashMap::new(),
            written: HashMap::new(),
            published: HashMap::new(),
            limits,
            replays: ReplayMemory::default(),
            writers: Writers::start(&config.dir, naming, results, wake)?,
            finished,
            raw_waiting: 0,
            sealing: key.map(Sealing::new),
            strangers: HashSet::new(),
            log_lines: TokenBucket::new(Instant::now()),
            dropped: DroppedDatagrams::default(),
            overflowed: 0,
            summary: ReceiveSummary::default(),
        })
    }

    /// Handles a datagram and all its consequences: the next one may concern the same transfer.
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if !is_of_one_host(from) {
            return self.dropped.count(NO_HOST, 1);
        }
        let (peer, frame) = match &mut self.sealing {
            None if bytes.starts_with(&SEALED_MAGIC) => return self.dropped.count(NO_KEY, 1),
            None => (Peer::Address(from), bytes),
            Some(sealing) => match sealing.opener.open(from, bytes) {
                Ok(opened) => (Peer::Session(opened.session), opened.frame),
                Err(error) => return self.drop_unopened(from, error),
            },
        };
        if !self.config.accepts.frames {
            return match Frame::parse(frame) {
                Err(ParseError::NotAFrame) => self.handle_raw(from, bytes),
                _ => self.dropped.count(RAW_ONLY, 1),
            };
        }
        match self.machine.handle_datagram(now, peer, frame) {
            Ok(()) => self.handle_events(),
            // In the Python scripts' format, the datagram is the file.
            Err(ParseError::NotAFrame) if self.config.accepts.raw => self.handle_raw(from, bytes),
            Err(ParseError::NotAFrame) => self.dropped.count(NO_RAW, 1),
            Err(error) => {
                // A sender chooses the kind: each value must not become a reason of its own.
                let reason = match error {
                    ParseError::Kind(_) => "unknown frame kind".to_owned(),
                    ParseError::Version(_) => "another version of the protocol".to_owned(),
                    other => other.to_string(),
                };
                self.dropped.count(reason, 1);
            }
        }
    }

    /// Counts a datagram that cannot be opened, and reports each sender once.
    fn drop_unopened(&mut self, from: SocketAddr, error: OpenError) {
        self.dropped.count(error.to_string(), 1);
        // Who sends again what others have sealed is no sender with another key.
        if error != OpenError::Repeated
            && self.strangers.len() < MAX_STRANGERS
            && self.strangers.insert(from.ip())
        {
            log::warn!("{}: {error}: nothing of it is taken", from.ip());
        }
    }

    /// Returns where a sender is now. A session's address is unknown only after a flood of sessions
    /// and before its next datagram.
    fn address_of(&self, peer: Peer) -> Option<SocketAddr> {
        match peer {
            Peer::Address(address) => Some(address),
            Peer::Session(id) => self.sealing.as_ref()?.opener.address_of(id),
        }
    }

    /// Returns a sender's address in words.
    fn name_of(&self, peer: Peer) -> String {
        self.address_of(peer).map_or_else(|| peer.to_string(), |address| address.to_string())
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
        self.handle_events();
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                ReceiverEvent::Announced { key, file } => self.handle_announced(key, file),
                ReceiverEvent::Block { key, block } => self.handle_block(key, block),
                ReceiverEvent::Complete { key } => self.handle_complete(key),
                ReceiverEvent::Abandoned { key, why } => {
                    self.end_session(key, SessionEnd::Abandoned(why));
                }
            }
        }
    }

    /// Handles the results of the writers.
    fn handle_store_results(&mut self) {
        self.writers.sync();
        while let Ok(result) = self.finished.try_recv() {
            self.handle_store_result(result);
        }
    }

    fn handle_store_result(&mut self, result: StoreResult) {
        match result {
            StoreResult::Written { key, buffer, result } => {
                self.machine.handle_block_written(key, buffer);
                if let Err(error) = result {
                    self.end_session(key, SessionEnd::Failed(error));
                }
            }
            StoreResult::Failed { key, error }
            | StoreResult::Published { key, result: Err(error) } => {
                self.end_session(key, SessionEnd::Failed(error));
            }
            StoreResult::Published { key, result: Ok(published) } => {
                self.end_session(key, SessionEnd::Published(published));
            }
            StoreResult::Raw { from, bytes, blake3, result } => {
                self.handle_raw_stored(from, bytes, blake3, result);
            }
        }
    }

    /// Counts new losses; the kernel has dropped `overflowed` datagrams so far.
    fn count_losses(&mut self, overflowed: u64) {
        let new = overflowed.saturating_sub(self.overflowed);
        self.overflowed = overflowed;
        self.machine.handle_overflow(overflowed);
        self.dropped.count("the socket's receive buffer was full", new);
        self.dropped
            .count("no memory for another block", self.machine.take_symbols_without_memory());
        self.dropped.count(
            "announcement of one more file of a host that has begun too many, or too large ones",
            self.machine.take_announcements_without_room(),
        );
    }

    /// Refuses new transfers, and aborts those that still need their sender.
    fn stop(&mut self) {
        self.limits.stop();
        for key in self.machine.unfinished_transfers() {
            self.end_session(key, SessionEnd::Refused(Refusal::stopping()));
        }
    }

    /// Refuses new transfers; those under way go on.
    fn refuse_new(&mut self) {
        self.limits.stop();
    }

    /// Gives up the transfers under way that bring nothing, or all if `all`.
    fn finish_soon(&mut self, now: Instant, all: bool) {
        let time = if all { Duration::ZERO } else { SILENCE };
        for key in self.machine.useless_transfers(now, time) {
            self.end_session(key, SessionEnd::Refused(Refusal::stopping()));
        }
    }

    /// Waits until the writers have ended.
    fn finish(&mut self) {
        self.writers.stop();
        self.handle_store_results();
        self.tell_dropped();
    }

    /// Counts a failed transfer, and reports it unless there are too many.
    fn tell_failed(&mut self, transfer: String, from: String, reason: String) {
        self.summary.failed += 1;
        if self.log_lines.take(Instant::now()) {
            self.tell(EventKind::TransferFailed { transfer, from, reason });
        } else {
            self.dropped.count(UNREPORTED_FAILURE, 1);
        }
    }

    fn tell(&self, kind: EventKind) {
        self.observer.event(Event::now(kind));
    }

    fn tell_dropped(&mut self) {
        for (reason, count) in self.dropped.take() {
            self.tell(EventKind::Dropped { reason, count });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_one_host_only() {
        for (address, is_one) in [
            ("192.0.2.1:5000", true),
            ("[2001:db8::1]:5000", true),
            ("255.255.255.255:5000", false),
            ("[::ffff:255.255.255.255]:5000", false),
            ("239.1.2.3:5000", false),
            ("[ff02::1]:5000", false),
            ("0.0.0.0:5000", false),
            ("192.0.2.1:0", false),
        ] {
            assert_eq!(is_of_one_host(address.parse().unwrap()), is_one, "{address}");
        }
    }
}
