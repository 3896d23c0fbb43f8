//! File to servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::event::{EventKind, Phase, TaskVoice};
use crate::fetch::Download;
use crate::net::{BroadcastFile, Broadcaster, Destinations, NetError, drive_sender, send_raw};
use crate::protocol::{
    BlockLayout, MAX_BLOCK_SYMBOLS, Outcome, Sender, SenderConfig, SenderEvent, SlowReceivers,
};
use crate::seal::{Key, KeyError, SEAL_LEN};
use crate::wire::TransferId;

/// How a file is broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroadcastConfig {
    /// Where to.
    pub destinations: Destinations,
    /// Wire format.
    pub wire: Wire,
    /// Wait for this many servers.
    pub servers: Option<usize>,
    /// The longest wait for servers to join.
    pub join_wait: Duration,
    /// Ceiling in bytes per second.
    pub rate: Option<u64>,
    /// Whether the kernel is asked to cut trains into datagrams.
    pub segmentation: bool,
    /// Most bytes of the file kept in memory for repair.
    pub repair_memory: usize,
    /// What becomes of a server that is much slower than the others.
    pub slow: SlowReceivers,
    /// Holds the key that frames are sealed with. Each process reads it for itself.
    pub key_file: Option<PathBuf>,
}

/// Wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// Frames, with repair and confirmation.
    Reliable,
    /// The seed's: one datagram, nothing more.
    Raw,
}

/// A file did not reach every server.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The seed's format cannot carry it.
    #[error(
        "{name} has {bytes} bytes; --wire raw sends a file as one datagram of at most {} bytes",
        crate::net::MAX_RAW_BYTES
    )]
    TooLargeForRaw {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// The file cannot be cut into blocks.
    #[error("{name}: {error}")]
    Layout {
        /// The file.
        name: String,
        /// Why.
        error: crate::protocol::LayoutError,
    },
    /// Nobody answered.
    #[error(
        "{name}: nobody confirmed, no server joined within {wait:?}; is one running, on port {port} \
         of this network? (a host whose Docker sets bridge-nf-call-iptables lets broadcasts \
         through and drops the answers)"
    )]
    NobodyJoined {
        /// The file.
        name: String,
        /// How long it was waited.
        wait: Duration,
        /// Where servers listen.
        port: u16,
    },
    /// Some did not get it.
    #[error("{name}: {}", list(.unconfirmed))]
    Unconfirmed {
        /// The file.
        name: String,
        /// Who did not, and why.
        unconfirmed: Vec<(String, String)>,
    },
    /// Some did not get it: it is no longer what was announced.
    #[error("{path} has changed since it was hashed: {}", list(.unconfirmed))]
    Changed {
        /// The file.
        path: PathBuf,
        /// Who did not, and why.
        unconfirmed: Vec<(String, String)>,
    },
    /// `--servers` asked for more than there were.
    #[error("{name}: {} of {expected} servers joined: {}", .joined.len(), .joined.join(", "))]
    TooFewServers {
        /// The file.
        name: String,
        /// How many were asked for.
        expected: usize,
        /// Who joined.
        joined: Vec<String>,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The network or the file failed.
    #[error(transparent)]
    Net(#[from] NetError),
}

fn list(unconfirmed: &[(String, String)]) -> String {
    let entries = unconfirmed.iter().map(|(server, reason)| format!("{server} {reason}"));
    entries.collect::<Vec<_>>().join("; ")
}

const IP_AND_UDP_LEN: usize = 28;
/// A whole number of vectors, and what an Ethernet frame of 1,500 bytes holds.
const MAX_SYMBOL_SIZE: usize = 1408;
const MIN_SYMBOL_SIZE: usize = 64;

/// One symbol fits one packet; a small file is not padded to a whole packet.
fn symbol_size(path_mtu: usize, bytes: u64) -> u16 {
    let room =
        path_mtu - (IP_AND_UDP_LEN + SEAL_LEN + crate::wire::SYMBOL_HEADER_LEN).min(path_mtu);
    let fits = (room / 64 * 64).clamp(MIN_SYMBOL_SIZE, MAX_SYMBOL_SIZE);
    // Between 1 and 1,408.
    u64::max(1, bytes).min(fits as u64) as u16
}

/// Broadcasts a downloaded file and waits until every server that joined has confirmed it. If
/// `keep_socket` says so, the next broadcast of this process may use the same socket.
///
/// # Errors
/// Nobody joined, somebody who joined does not have the file, or the network failed.
pub fn broadcast(
    file: &Download,
    config: &BroadcastConfig,
    keep_socket: bool,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    match config.wire {
        Wire::Raw => broadcast_raw(file, config, voice),
        Wire::Reliable => broadcast_reliably(file, config, keep_socket, voice),
    }
}

fn started(file: &Download, transfer: String, voice: &TaskVoice) {
    voice.event(EventKind::BroadcastStarted {
        transfer,
        name: file.name.clone(),
        bytes: file.bytes,
        blake3: blake3::Hash::from_bytes(file.digest.name()).to_string(),
    });
}

fn source(file: &Download) -> BroadcastFile {
    BroadcastFile { path: file.path.clone(), content: Arc::clone(&file.content) }
}

fn broadcast_raw(
    file: &Download,
    config: &BroadcastConfig,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    if file.bytes > crate::net::MAX_RAW_BYTES {
        return Err(BroadcastError::TooLargeForRaw { name: file.name.clone(), bytes: file.bytes });
    }
    started(file, "raw".to_owned(), voice);
    send_raw(&source(file), &config.destinations)?;
    voice.event(EventKind::SourceSent { datagrams: 1 });
    Ok(())
}

fn broadcast_reliably(
    file: &Download,
    config: &BroadcastConfig,
    keep_socket: bool,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    let key = config.key_file.as_deref().map(Key::load).transpose()?;
    let mut socket = Broadcaster::open(&config.destinations, config.segmentation, key.as_ref())?;
    let symbol_size = symbol_size(socket.path_mtu(), file.bytes);
    let layout = BlockLayout::new(file.bytes, symbol_size, MAX_BLOCK_SYMBOLS)
        .map_err(|error| BroadcastError::Layout { name: file.name.clone(), error })?;
    let transfer = TransferId(rand::random());
    let mut source = source(file);
    let mut sender = Sender::new(
        Instant::now(),
        SenderConfig {
            transfer,
            name: file.name.clone(),
            digest: file.digest,
            unix_time_ms: unix_time_ms(),
            layout,
            servers: config.servers,
            join_wait: config.join_wait,
            rate: config.rate,
            repair_memory: config.repair_memory,
            slow: config.slow,
        },
    );
    started(file, transfer.to_string(), voice);

    let mut telling = Telling::new(Instant::now());
    let driven = drive_sender(
        &mut sender,
        &mut socket,
        &mut source,
        usize::from(symbol_size),
        |sender, event| telling.observe(sender, event, voice),
    );
    telling.finish(&sender, voice);
    let outcomes = sender.outcomes();
    let unconfirmed: Vec<(String, String)> = outcomes
        .iter()
        .filter_map(|outcome| Some((label(outcome, &outcomes), outcome.result.clone().err()?)))
        .collect();
    for (server, reason) in &unconfirmed {
        voice.event(EventKind::Unconfirmed { server: server.clone(), reason: reason.clone() });
    }
    driven?;
    if keep_socket {
        socket.put_back();
    }
    let name = file.name.clone();
    if outcomes.is_empty() {
        let port = config.destinations.port;
        return Err(BroadcastError::NobodyJoined { name, wait: config.join_wait, port });
    }
    if !unconfirmed.is_empty() {
        return Err(if file.content.has_changed() {
            BroadcastError::Changed { path: file.path.clone(), unconfirmed }
        } else {
            BroadcastError::Unconfirmed { name, unconfirmed }
        });
    }
    if let Some(expected) = config.servers.filter(|expected| outcomes.len() < *expected) {
        let joined = outcomes.iter().map(|outcome| label(outcome, &outcomes)).collect();
        return Err(BroadcastError::TooFewServers { name, expected, joined });
    }
    Ok(())
}

/// Milliseconds since 1970; zero before.
pub(crate) fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The address, and the receiver's number where several share it.
fn label(outcome: &Outcome, all: &[Outcome]) -> String {
    let shared = all.iter().filter(|other| other.server == outcome.server).count() > 1;
    server_label(outcome.server, outcome.receiver.0, shared)
}

fn server_label(server: SocketAddr, receiver: u64, shared: bool) -> String {
    if shared { format!("{server}#{:04x}", receiver >> 48) } else { server.to_string() }
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Turns what the sender does into events, and into progress a few times a second.
struct Telling {
    started: Instant,
    last_progress: Instant,
    source_told: bool,
    repair_sent: u64,
    /// When the first repair was noticed, and the latest.
    repairs: Option<(Instant, Instant)>,
    addresses: Vec<(SocketAddr, u64)>,
}

impl Telling {
    fn new(started: Instant) -> Self {
        Self {
            started,
            last_progress: started,
            source_told: false,
            repair_sent: 0,
            repairs: None,
            addresses: Vec::new(),
        }
    }

    fn tell_source_sent(&mut self, sender: &Sender, voice: &TaskVoice) {
        if !std::mem::replace(&mut self.source_told, true) {
            voice.event(EventKind::SourceSent { datagrams: sender.progress().source_sent });
        }
    }

    /// Tells what has not been told on the way.
    fn finish(&mut self, sender: &Sender, voice: &TaskVoice) {
        self.tell_source_sent(sender, voice);
        let after = |time: Instant| time.saturating_duration_since(self.started).as_secs_f64();
        let (first_seconds, last_seconds) =
            self.repairs.map_or((0.0, 0.0), |(first, last)| (after(first), after(last)));
        let datagrams = sender.repair_sent();
        voice.event(EventKind::RepairSent { datagrams, first_seconds, last_seconds });
    }

    fn observe(&mut self, sender: &Sender, event: Option<SenderEvent>, voice: &TaskVoice) {
        let repair_sent = sender.repair_sent();
        if repair_sent > self.repair_sent {
            let now = Instant::now();
            self.repair_sent = repair_sent;
            self.repairs.get_or_insert((now, now)).1 = now;
        }
        // A small file goes out before anybody has joined; it is not waited for until then.
        let is_awaited = sender.is_source_sent() && !self.addresses.is_empty();
        if is_awaited {
            self.tell_source_sent(sender, voice);
        }
        match event {
            Some(SenderEvent::Joined { receiver, server }) => {
                self.addresses.push((server, receiver.0));
                let server = self.label(server, receiver.0);
                voice.event(EventKind::ServerJoined { server });
            }
            Some(SenderEvent::Confirmed { receiver, server }) => {
                let server = self.label(server, receiver.0);
                voice.event(EventKind::Confirmed { server });
            }
            Some(SenderEvent::FinishesLater { receiver, server }) => {
                let server = self.label(server, receiver.0);
                voice.event(EventKind::FinishesLater { server });
            }
            None => {
                let now = Instant::now();
                if now >= self.last_progress + PROGRESS_INTERVAL {
                    self.last_progress = now;
                    let progress = sender.progress();
                    if is_awaited {
                        let (done, total) = (progress.confirmed as u64, progress.joined as u64);
                        voice.progress(Phase::Confirming, done, total);
                    } else {
                        let (done, total) = (progress.source_sent, progress.source_total);
                        voice.progress(Phase::Broadcasting, done, total);
                    }
                }
            }
        }
    }

    fn label(&self, server: SocketAddr, receiver: u64) -> String {
        let shared = self.addresses.iter().filter(|(address, _)| *address == server).count() > 1;
        server_label(server, receiver, shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_fit_the_packet() {
        assert_eq!(symbol_size(1500, 1 << 30), 1408);
        assert_eq!(symbol_size(65_536, 1 << 30), 1408);
        assert_eq!(symbol_size(576, 1 << 30), 448);
        assert_eq!(symbol_size(1500, 100), 100);
        assert_eq!(symbol_size(1500, 0), 1);
    }
}
