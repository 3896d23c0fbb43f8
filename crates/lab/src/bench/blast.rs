//! The ceiling: the same bytes by the same system calls and with the same work on them, but
//! without any protocol. A sender that was given a rate sends; receivers append what comes to
//! a file and hash it. Run as processes of their own by [`super::programs::blast`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use siar_core::net::{Broadcaster, Destinations, NetError, ReceiveSocket};
use siar_core::protocol::TransmitBatch;
use socket2::{Domain, Socket, Type};

/// Its port.
pub const PORT: u16 = 5006;
/// As long as a frame of a large file, header included.
const DATAGRAM_LEN: usize = 1432;
/// A train that has one byte says that nothing more will come.
const END: [u8; 1] = [0];
const END_COPIES: usize = 20;
/// A receiver gives up after this long without a datagram.
const IDLE: Duration = Duration::from_secs(3);

/// The blaster cannot work.
#[derive(Debug, thiserror::Error)]
pub enum BlastError {
    /// Its socket fails.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Standard output fails.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// A file fails.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What one side saw, as one JSON line on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Start at the sender, end at a receiver, in seconds since 1970.
    pub at: f64,
    /// Bytes of the file that were sent or received.
    pub bytes: u64,
}

fn seen(bytes: u64) -> Seen {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Seen { at, bytes }
}

/// Broadcasts a file, `rate` bytes a second, in trains that the kernel cuts, or with one call
/// for each datagram.
///
/// # Errors
/// The file or the socket fails.
pub fn send(path: &Path, rate: f64, one_by_one: bool) -> Result<Seen, BlastError> {
    let at = |error| BlastError::File { path: path.to_owned(), error };
    let mut file = File::open(path).map_err(at)?;
    let destinations =
        Destinations { addresses: vec![Ipv4Addr::BROADCAST.into()], port: PORT, interface: None };
    let mut trains = Broadcaster::open(&destinations, true, None)?;
    let single = Socket::new(Domain::IPV4, Type::DGRAM, None).map_err(NetError::from)?;
    single.set_broadcast(true).map_err(NetError::from)?;
    let to = SocketAddr::from((Ipv4Addr::BROADCAST, PORT)).into();

    let mut batch = TransmitBatch { bytes: Vec::new(), segment_len: DATAGRAM_LEN };
    let most = DATAGRAM_LEN * trains.max_segments(DATAGRAM_LEN);
    let begin = seen(0);
    let started = Instant::now();
    let mut sent = 0u64;
    loop {
        batch.bytes.resize(most, 0);
        let len = read_full(&mut file, &mut batch.bytes).map_err(at)?;
        batch.bytes.truncate(len);
        if len == 0 {
            break;
        }
        if one_by_one {
            for datagram in batch.bytes.chunks(DATAGRAM_LEN) {
                single.send_to(datagram, &to).map_err(NetError::from)?;
            }
        } else {
            trains.send(&mut batch)?;
        }
        sent += len as u64;
        let due = started + Duration::from_secs_f64(sent as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    for _ in 0..END_COPIES {
        single.send_to(&END, &to).map_err(NetError::from)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Seen { bytes: sent, ..begin })
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..])? {
            0 => break,
            read => len += read,
        }
    }
    Ok(len)
}

/// Appends all that comes to a file and hashes it, until the sender says that it is done.
///
/// # Errors
/// The file or the socket fails.
pub fn receive(path: &Path) -> Result<Seen, BlastError> {
    let at = |error| BlastError::File { path: path.to_owned(), error };
    let mut file = File::create(path).map_err(at)?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let mut socket = ReceiveSocket::bind(address, &[], None)?;
    println!("ready");
    let mut hasher = blake3::Hasher::new();
    let (mut bytes, mut is_over) = (0u64, false);
    let mut last = Instant::now();
    let mut result = seen(0);
    while !is_over && (bytes == 0 || last.elapsed() < IDLE) {
        let mut failed = None;
        let any = socket
            .receive(|train| {
                if train.bytes() == END {
                    is_over = true;
                    return;
                }
                failed = failed.take().or(file.write_all(train.bytes()).err());
                hasher.update(train.bytes());
                bytes += train.bytes().len() as u64;
            })
            .map_err(NetError::from)?;
        if let Some(error) = failed {
            return Err(at(error));
        }
        if any {
            last = Instant::now();
            result = seen(bytes);
        } else {
            socket.wait(Some(IDLE), true).map_err(NetError::from)?;
        }
    }
    file.sync_data().map_err(at)?;
    let digest = hasher.finalize();
    log::debug!("{digest}");
    Ok(result)
}
