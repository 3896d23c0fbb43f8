//! Drives a [`Sender`] over a socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::{Broadcaster, NetError};
use crate::protocol::{BlockSource, Sender, SenderEvent, TransmitBatch};
use crate::store::Content;
use crate::wire::SYMBOL_HEADER_LEN;

/// The file that is broadcast.
#[derive(Debug)]
pub struct BroadcastFile {
    /// Where it stands, for messages.
    pub path: PathBuf,
    /// Its bytes.
    pub content: Arc<Content>,
}

impl BlockSource for BroadcastFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.content.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("has become shorter since it was hashed")
            }
            _ => error,
        })
    }
}

/// Runs the transfer to its end and tells what happens and how far it is. Its last
/// frame may still be deferred in the socket; see [`Broadcaster::send_with_next`].
///
/// # Errors
/// The socket or the file fails; receivers are told that nothing more will come.
pub fn drive_sender(
    sender: &mut Sender,
    socket: &mut Broadcaster,
    file: &mut BroadcastFile,
    symbol_size: usize,
    mut observe: impl FnMut(&Sender, Option<SenderEvent>),
) -> Result<(), NetError> {
    let result = run(sender, socket, file, symbol_size, &mut observe);
    if result.is_err() {
        sender.cancel();
        let mut batch = TransmitBatch::default();
        while matches!(sender.poll_transmit(Instant::now(), file, 1, &mut batch), Ok(true)) {
            // The first error is the one to tell.
            let _ = socket.send(&mut batch);
        }
    }
    result
}

fn run(
    sender: &mut Sender,
    socket: &mut Broadcaster,
    file: &mut BroadcastFile,
    symbol_size: usize,
    observe: &mut impl FnMut(&Sender, Option<SenderEvent>),
) -> Result<(), NetError> {
    let segment_len = SYMBOL_HEADER_LEN + symbol_size;
    let mut batch = TransmitBatch::default();
    while !sender.is_ended() {
        let now = Instant::now();
        socket.receive(|from, bytes| sender.handle_datagram(now, from, bytes))?;
        sender.handle_timeout(now);
        while let Some(event) = sender.poll_event() {
            observe(sender, Some(event));
        }
        let segments = socket.max_segments(segment_len);
        let sent = sender
            .poll_transmit(now, file, segments, &mut batch)
            .map_err(|error| NetError::Source { path: file.path.clone(), error })?;
        if sent && sender.is_ended() {
            socket.send_with_next(&mut batch)?;
        } else if sent {
            socket.send(&mut batch)?;
        } else if let Some(due) = sender.poll_timeout(now) {
            socket.wait(Some(due.saturating_duration_since(now)))?;
        }
        observe(sender, None);
    }
    Ok(())
}
