//! The broadcast of a file to the servers.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use siar_code::MAX_BLOCK_SYMBOLS;
use siar_proto::wire::TransferId;
use siar_proto::{BlockLayout, Outcome, Sender, SenderConfig, SlowReceivers};

use super::drive::{SourceError, drive_sender};
use super::fetch::Download;
use super::sender_watch::{SenderWatch, label};
use super::time_limit::TimeLimit;
use crate::event::{EventKind, TaskVoice};
use crate::io::clock::unix_time_ms;
use crate::io::net::{Destinations, MAX_RAW_BYTES, NetError, SendSocket, send_raw};
use crate::io::seal::{Key, KeyError, SEAL_LEN};

/// The configuration of a broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroadcastConfig {
    /// The addresses and the port of the servers.
    pub destinations: Destinations,
    /// The wire format.
    pub wire: Wire,
    /// The number of servers to wait for.
    pub servers: Option<usize>,
    /// The longest wait for servers to join.
    pub join_wait: Duration,
    /// The highest sending rate, in bytes per second.
    pub rate: Option<u64>,
    /// Whether the kernel may cut trains into datagrams (UDP segmentation offload).
    pub segmentation: bool,
    /// The largest part of the file that is kept in memory for repair, in bytes.
    pub repair_memory: usize,
    /// The bytes that a server has to gain in each second for which the others wait for it.
    pub least_gain: u64,
    /// The treatment of a server that is much slower than the others.
    pub slow: SlowReceivers,
    /// The path of the key file that frames are sealed with. Each process reads the file itself.
    pub key_file: Option<PathBuf>,
}

/// The wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// Frames, with repair and confirmation.
    Reliable,
    /// The Python scripts' format: one datagram for each file.
    Raw,
}

/// The reason why a file did not reach every server.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The Python scripts' format cannot carry the file.
    #[error(
        "{name} has {bytes} bytes; --wire raw sends a file as one datagram of at most {} bytes",
        MAX_RAW_BYTES
    )]
    TooLargeForRaw {
        /// The name of the file.
        name: String,
        /// The size of the file, in bytes.
        bytes: u64,
    },
    /// The file cannot be cut into blocks.
    #[error("{name}: {error}")]
    Layout {
        /// The name of the file.
        name: String,
        /// The reason.
        error: siar_proto::LayoutError,
    },
    /// No server joined.
    #[error(
        "{name}: nobody confirmed, no server joined within {wait:?}; is one running, on port {port} \
         of this network? (a host whose Docker sets bridge-nf-call-iptables lets broadcasts \
         through and drops the answers)"
    )]
    NobodyJoined {
        /// The name of the file.
        name: String,
        /// The time that was waited.
        wait: Duration,
        /// The UDP port of the servers.
        port: u16,
    },
    /// Some servers did not get the file.
    #[error("{name}: {}", list(.unconfirmed))]
    Unconfirmed {
        /// The name of the file.
        name: String,
        /// The servers that did not confirm, each with the reason.
        unconfirmed: Vec<(String, String)>,
    },
    /// Some servers did not get the file: it has changed since it was announced.
    #[error("{path} has changed since it was hashed: {}", list(.unconfirmed))]
    Changed {
        /// The path of the file.
        path: PathBuf,
        /// The servers that did not confirm, each with the reason.
        unconfirmed: Vec<(String, String)>,
    },
    /// Fewer servers joined than `--servers` asks for.
    #[error("{name}: {} of {expected} servers joined: {}", .joined.len(), .joined.join(", "))]
    TooFewServers {
        /// The name of the file.
        name: String,
        /// The number of servers that `--servers` asks for.
        expected: usize,
        /// The servers that joined.
        joined: Vec<String>,
    },
    /// The task has taken as long as it may.
    #[error("{name}: not finished within {allowed:?} (--max-time){}", after_colon(.unconfirmed))]
    OutOfTime {
        /// The name of the file.
        name: String,
        /// The time that the task may take.
        allowed: Duration,
        /// The servers that did not confirm, each with the reason.
        unconfirmed: Vec<(String, String)>,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
}

fn after_colon(unconfirmed: &[(String, String)]) -> String {
    if unconfirmed.is_empty() { String::new() } else { format!(": {}", list(unconfirmed)) }
}

fn list(unconfirmed: &[(String, String)]) -> String {
    let entries = unconfirmed.iter().map(|(server, reason)| format!("{server} {reason}"));
    entries.collect::<Vec<_>>().join("; ")
}

const IP_AND_UDP_LEN: usize = 28;
/// The largest symbol, in bytes: it fits an Ethernet frame of 1,500 bytes, and is a whole number of
/// SIMD vectors.
const MAX_SYMBOL_SIZE: usize = 1408;
const MIN_SYMBOL_SIZE: usize = 64;

/// Returns the symbol size in bytes. One symbol fits one packet; a small file is not padded to a
/// whole packet.
fn symbol_size(path_mtu: usize, bytes: u64) -> u16 {
    let room =
        path_mtu - (IP_AND_UDP_LEN + SEAL_LEN + siar_proto::wire::SYMBOL_HEADER_LEN).min(path_mtu);
    let fits = (room / 64 * 64).clamp(MIN_SYMBOL_SIZE, MAX_SYMBOL_SIZE);
    // Between 1 and 1,408.
    u64::max(1, bytes).min(fits as u64) as u16
}

/// Broadcasts a downloaded file and waits until every server that joined has confirmed it. With
/// `keeps_open`, the next broadcast of this process may use the same socket.
///
/// # Errors
/// No server joined, a server that joined does not have the file, or the network failed.
pub fn broadcast(
    file: &Download,
    config: &BroadcastConfig,
    time_limit: Option<TimeLimit>,
    keeps_open: bool,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    match config.wire {
        Wire::Raw => broadcast_raw(file, config, voice),
        Wire::Reliable => broadcast_reliably(file, config, time_limit, keeps_open, voice),
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

fn broadcast_raw(
    file: &Download,
    config: &BroadcastConfig,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    if file.bytes > MAX_RAW_BYTES {
        return Err(BroadcastError::TooLargeForRaw { name: file.name.clone(), bytes: file.bytes });
    }
    started(file, "raw".to_owned(), voice);
    let bytes = read_raw(file).map_err(|error| SourceError::new(file, error))?;
    send_raw(&bytes, &config.destinations)?;
    voice.event(EventKind::SourceSent { datagrams: 1 });
    Ok(())
}

/// Reads the whole file, which may have grown since its size was read.
fn read_raw(file: &Download) -> io::Result<Vec<u8>> {
    let len = file.content.size()?;
    if len > MAX_RAW_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // At most 65,507.
    let mut bytes = vec![0; len as usize];
    file.content.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn broadcast_reliably(
    file: &Download,
    config: &BroadcastConfig,
    time_limit: Option<TimeLimit>,
    keeps_open: bool,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    let key = config.key_file.as_deref().map(Key::load).transpose()?;
    let mut socket = SendSocket::open(&config.destinations, config.segmentation, key.as_ref())?;
    let symbol_size = symbol_size(socket.path_mtu(), file.bytes);
    let layout = BlockLayout::new(file.bytes, symbol_size, MAX_BLOCK_SYMBOLS)
        .map_err(|error| BroadcastError::Layout { name: file.name.clone(), error })?;
    let transfer = TransferId(rand::random());
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
            least_gain: config.least_gain,
            slow: config.slow,
        },
    );
    started(file, transfer.to_string(), voice);

    let mut watch = SenderWatch::new(Instant::now(), file.bytes);
    let driven =
        drive_sender(&mut sender, &mut socket, file, usize::from(symbol_size), |sender, event| {
            watch.observe(sender, event, voice);
            time_limit.is_none_or(|limit| !limit.is_over())
        });
    watch.finish(&sender, voice);
    let outcomes = sender.outcomes();
    let unconfirmed = unconfirmed(&outcomes, config.servers);
    for (server, reason) in &unconfirmed {
        voice.event(EventKind::Unconfirmed { server: server.clone(), reason: reason.clone() });
    }
    let is_whole = driven?;
    if let Some(TimeLimit { allowed, .. }) = time_limit.filter(|_| !is_whole) {
        return Err(BroadcastError::OutOfTime { name: file.name.clone(), allowed, unconfirmed });
    }
    if keeps_open {
        socket.put_back();
    }
    check_outcomes(file, config, &outcomes, unconfirmed)
}

/// The servers that did not confirm the file, each with its reason. If as many as were asked for
/// have confirmed, one that has never answered after its Join is a warning: it may never have been
/// there.
fn unconfirmed(outcomes: &[Outcome], servers: Option<usize>) -> Vec<(String, String)> {
    let confirmed = outcomes.iter().filter(|outcome| outcome.result.is_ok()).count();
    let are_enough = servers.is_some_and(|servers| confirmed >= servers);
    let is_phantom =
        |outcome: &Outcome| are_enough && outcome.result.is_err() && !outcome.has_answered;
    for outcome in outcomes.iter().filter(|outcome| is_phantom(outcome)) {
        log::warn!("{} joined and never answered", label(outcome, outcomes));
    }
    outcomes
        .iter()
        .filter(|outcome| !is_phantom(outcome))
        .filter_map(|outcome| Some((label(outcome, outcomes), outcome.result.clone().err()?)))
        .collect()
}

/// Returns an error unless all servers that were to confirm the file did.
fn check_outcomes(
    file: &Download,
    config: &BroadcastConfig,
    outcomes: &[Outcome],
    unconfirmed: Vec<(String, String)>,
) -> Result<(), BroadcastError> {
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
        let joined = outcomes.iter().map(|outcome| label(outcome, outcomes)).collect();
        return Err(BroadcastError::TooFewServers { name, expected, joined });
    }
    Ok(())
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
