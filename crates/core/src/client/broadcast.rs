//! File to servers.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use siar_code::MAX_BLOCK_SYMBOLS;
use siar_proto::wire::TransferId;
use siar_proto::{BlockLayout, Sender, SenderConfig, SlowReceivers};

use super::drive::{SourceError, drive_sender};
use super::fetch::Download;
use super::sender_watch::{SenderWatch, label};
use crate::event::{EventKind, TaskVoice};
use crate::io::clock::unix_time_ms;
use crate::io::net::{Destinations, MAX_RAW_BYTES, NetError, SendSocket, send_raw};
use crate::io::seal::{Key, KeyError, SEAL_LEN};

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
    /// The Python scripts': one datagram, nothing more.
    Raw,
}

/// A file did not reach every server.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The Python scripts' format cannot carry it.
    #[error(
        "{name} has {bytes} bytes; --wire raw sends a file as one datagram of at most {} bytes",
        MAX_RAW_BYTES
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
        error: siar_proto::LayoutError,
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
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The network failed.
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
        path_mtu - (IP_AND_UDP_LEN + SEAL_LEN + siar_proto::wire::SYMBOL_HEADER_LEN).min(path_mtu);
    let fits = (room / 64 * 64).clamp(MIN_SYMBOL_SIZE, MAX_SYMBOL_SIZE);
    // Between 1 and 1,408.
    u64::max(1, bytes).min(fits as u64) as u16
}

/// Broadcasts a downloaded file and waits until every server that joined has confirmed it. If
/// `keeps_open` says so, the next broadcast of this process may use the same socket.
///
/// # Errors
/// Nobody joined, somebody who joined does not have the file, or the network failed.
pub fn broadcast(
    file: &Download,
    config: &BroadcastConfig,
    keeps_open: bool,
    voice: &TaskVoice,
) -> Result<(), BroadcastError> {
    match config.wire {
        Wire::Raw => broadcast_raw(file, config, voice),
        Wire::Reliable => broadcast_reliably(file, config, keeps_open, voice),
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

/// The whole file, which may have grown since it was looked at.
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
            slow: config.slow,
        },
    );
    started(file, transfer.to_string(), voice);

    let mut watch = SenderWatch::new(Instant::now());
    let driven =
        drive_sender(&mut sender, &mut socket, file, usize::from(symbol_size), |sender, event| {
            watch.observe(sender, event, voice)
        });
    watch.finish(&sender, voice);
    let outcomes = sender.outcomes();
    let unconfirmed: Vec<(String, String)> = outcomes
        .iter()
        .filter_map(|outcome| Some((label(outcome, &outcomes), outcome.result.clone().err()?)))
        .collect();
    for (server, reason) in &unconfirmed {
        voice.event(EventKind::Unconfirmed { server: server.clone(), reason: reason.clone() });
    }
    driven?;
    if keeps_open {
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
