//! The driver that runs a [`Sender`] over a socket.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use siar_proto::wire::SYMBOL_HEADER_LEN;
use siar_proto::{BlockSource, Sender, SenderEvent, TransmitBatch};

use super::broadcast::BroadcastError;
use super::fetch::Download;
use crate::io::net::{NetError, SendSocket};

/// The error of reading the file that is broadcast.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct SourceError {
    path: PathBuf,
    error: io::Error,
}

impl SourceError {
    pub(super) fn new(file: &Download, error: io::Error) -> Self {
        Self { path: file.path.clone(), error }
    }
}

impl BlockSource for &Download {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.content.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("has become shorter since it was hashed")
            }
            _ => error,
        })
    }
}

/// Runs the transfer to its end, and reports events and progress. It is cancelled when `observe`
/// returns `false`; returns whether it was not. The last frame may still be
/// deferred in the socket; see [`SendSocket::send_with_next`].
///
/// # Errors
/// The socket or the file fails; the receivers are told that nothing more follows.
pub(super) fn drive_sender(
    sender: &mut Sender,
    socket: &mut SendSocket,
    mut file: &Download,
    symbol_size: usize,
    mut observe: impl FnMut(&Sender, Option<SenderEvent>) -> bool,
) -> Result<bool, BroadcastError> {
    let result = run(sender, socket, file, symbol_size, &mut observe);
    if !matches!(result, Ok(true)) {
        sender.cancel();
        let mut batch = TransmitBatch::default();
        while matches!(sender.poll_transmit(Instant::now(), &mut file, 1, &mut batch), Ok(true)) {
            // The first error is the one to return.
            let _ = socket.send(&mut batch);
        }
    }
    result
}

fn run(
    sender: &mut Sender,
    socket: &mut SendSocket,
    mut file: &Download,
    symbol_size: usize,
    observe: &mut impl FnMut(&Sender, Option<SenderEvent>) -> bool,
) -> Result<bool, BroadcastError> {
    let segment_len = SYMBOL_HEADER_LEN + symbol_size;
    let mut batch = TransmitBatch::default();
    while !sender.is_ended() {
        let now = Instant::now();
        let received = socket.receive(|from, bytes| sender.handle_datagram(now, from, bytes));
        received.map_err(NetError::from)?;
        sender.handle_timeout(now);
        while let Some(event) = sender.poll_event() {
            observe(sender, Some(event));
        }
        let segments = socket.max_segments(segment_len);
        let sent = sender
            .poll_transmit(now, &mut file, segments, &mut batch)
            .map_err(|error| SourceError::new(file, error))?;
        if sent && sender.is_ended() {
            socket.send_with_next(&mut batch)?;
        } else if sent {
            socket.send(&mut batch)?;
        } else if let Some(due) = sender.poll_timeout(now) {
            let timeout = due.saturating_duration_since(now);
            socket.wait(Some(timeout)).map_err(NetError::from)?;
        }
        if !observe(sender, None) && !sender.is_ended() {
            return Ok(false);
        }
    }
    Ok(true)
}
