//! The upper bound of the speed: the same bytes by the same system calls and with the same
//! hashing and writing, but without a protocol. The sender sends at a given rate; receivers
//! append all datagrams to a file and hash them. [`crate::limit::blast`] runs the two sides as
//! separate processes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use siar_core::io::net::{Destinations, NetError, ReceiveSocket, SendSocket};
use siar_proto::TransmitBatch;
use socket2::{Domain, Socket, Type};

/// The receivers' UDP port.
pub const PORT: u16 = 5006;
/// The length of a datagram in bytes: as long as a frame of a large file with its header.
const DATAGRAM_LEN: usize = 1432;
/// A datagram of one byte marks the end.
const END: [u8; 1] = [0];
const END_COPIES: usize = 20;
/// The longest time without a datagram; after it a receiver gives up.
const IDLE: Duration = Duration::from_secs(3);

/// A failure of the sender or a receiver of this module or of [`crate::bare`].
#[derive(Debug, thiserror::Error)]
pub enum BlastError {
    /// A socket failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The result cannot be printed.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file's path.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// The result of one side, printed as one JSON line on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The time of the sender's start or of a receiver's last datagram, in seconds since 1970.
    pub at: f64,
    /// The number of bytes of the file that were sent or received.
    pub bytes: u64,
}

fn seen(bytes: u64) -> Seen {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Seen { at, bytes }
}

/// Broadcasts a file at `rate` bytes per second, in trains that the kernel splits, or with one
/// system call for each datagram if `one_by_one`.
///
/// # Errors
/// The file or the socket fails.
pub fn send(path: &Path, rate: f64, one_by_one: bool) -> Result<Seen, BlastError> {
    let at = |error| BlastError::File { path: path.to_owned(), error };
    let mut file = File::open(path).map_err(at)?;
    let destinations =
        Destinations { addresses: vec![Ipv4Addr::BROADCAST.into()], port: PORT, interface: None };
    let mut trains = SendSocket::open(&destinations, true, None)?;
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

/// Appends all received datagrams to a file and hashes them, until the sender's end mark or a
/// pause of 3 s.
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
