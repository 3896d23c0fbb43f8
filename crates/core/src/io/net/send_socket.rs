//! The sending socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use siar_proto::TransmitBatch;
use socket2::Socket;

use super::coalescing::Coalescing;
use super::idle_socket::{keep_idle_socket, take_idle_socket};
use super::interface::ETHERNET_MTU;
use super::poll::wait;
use super::train::{Kernel, Train, TrainSender};
use super::{Destinations, NetError};
use crate::io::seal::{Key, SEAL_LEN, Sealing};

/// The most bytes that Linux takes in one segmented send.
const MAX_BATCH_BYTES: usize = 65_507;
const SEND_BUFFER: usize = 4 << 20;
/// The largest number of datagrams in one call.
const MAX_TRAIN: usize = 64;
/// The longest train of answers that the kernel joins, in bytes.
const MAX_TRAIN_LEN: usize = 1 << 16;
/// The number of trains that one call receives. If it returns fewer, no answer is left: a small
/// file with answers of two or three servers needs no further call.
const ANSWER_TRAINS: usize = 4;

/// Sends batches of datagrams to all destinations and receives the answers.
#[derive(Debug)]
pub struct SendSocket {
    sender: TrainSender<UdpSocket>,
    destinations: Destinations,
    /// As the caller asked; the `TrainSender` remembers what the kernel refuses.
    segmentation: bool,
    path_mtu: usize,
    coalescing: Coalescing,
    sealing: Option<Sealing>,
    sealed: TransmitBatch,
    /// The last datagram of the transfer before, not sealed.
    deferred: Vec<u8>,
    /// The buffer for the answers of one call.
    answers: Vec<u8>,
}

#[derive(Debug)]
struct UdpSocket {
    socket: Socket,
    state: UdpSocketState,
}

impl SendSocket {
    /// Returns a socket on a free port: one that was [put back](Self::put_back), or a new one.
    /// Without `segmentation`, the kernel is not asked to cut trains into datagrams. With a key,
    /// the socket seals what it sends, and ignores datagrams that are not sealed with the key.
    ///
    /// # Errors
    /// The interface is unknown, or the kernel refuses the socket.
    pub fn open(
        destinations: &Destinations,
        segmentation: bool,
        key: Option<&Key>,
    ) -> Result<Self, NetError> {
        if let Some(mut idle) = take_idle_socket(destinations, segmentation) {
            if key.is_some() {
                // The deferred datagram is not sealed.
                idle.send_deferred();
            }
            // Each transfer has a sealing session of its own.
            idle.sealing = key.map(Sealing::new);
            idle.sender.forget_sent();
            idle.coalescing = Coalescing::default();
            return Ok(idle);
        }
        let socket = destinations.open()?;
        let state = UdpSocketState::new((&socket).into())?;
        // The kernel may grant less; nothing depends on the size.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let mtus = destinations.sockets().map(|target| super::path_mtu(&socket, target));
        let path_mtu = mtus.min().unwrap_or(ETHERNET_MTU);
        log::info!("sending to {destinations}, packets of at most {path_mtu} bytes");
        Ok(Self {
            sender: TrainSender::new(UdpSocket { socket, state }, segmentation),
            destinations: destinations.clone(),
            segmentation,
            path_mtu,
            coalescing: Coalescing::default(),
            sealing: key.map(Sealing::new),
            sealed: TransmitBatch::default(),
            deferred: Vec::new(),
            // The system zeroes this memory page by page when it is used; most of it is never used.
            answers: vec![0; ANSWER_TRAINS * MAX_TRAIN_LEN],
        })
    }

    /// Keeps the socket, for 20 to 40 ms, for another transfer to the same destinations. Late
    /// answers to this transfer are not frames of the next one.
    pub fn put_back(self) {
        keep_idle_socket(self);
    }

    /// Whether the socket was opened for these destinations.
    pub(super) fn is_for(&self, destinations: &Destinations, segmentation: bool) -> bool {
        self.destinations == *destinations && self.segmentation == segmentation
    }

    /// Returns the size of the largest IP packet that reaches every destination, in bytes.
    #[must_use]
    pub fn path_mtu(&self) -> usize {
        self.path_mtu
    }

    /// Returns how many frames of `len` bytes one call may send.
    #[must_use]
    pub fn max_segments(&self, len: usize) -> usize {
        let len = len + if self.sealing.is_some() { SEAL_LEN } else { 0 };
        (MAX_BATCH_BYTES / len.max(1)).clamp(1, MAX_TRAIN)
    }

    /// Sends every datagram of the batch to every destination. The batch is longer afterwards if a
    /// [deferred datagram](Self::send_with_next) went with it.
    ///
    /// # Errors
    /// The error names the destination that the kernel cannot send to.
    pub fn send(&mut self, batch: &mut TransmitBatch) -> Result<(), NetError> {
        if !self.deferred.is_empty() {
            // The last datagram of a train may be shorter.
            let fits = self.deferred.len() <= batch.segment_len
                && batch.bytes.len().is_multiple_of(batch.segment_len);
            if fits {
                batch.bytes.append(&mut self.deferred);
            } else {
                self.send_deferred();
            }
        }
        let most_frames = self.max_segments(batch.segment_len);
        let batch = match &mut self.sealing {
            None => batch,
            Some(sealing) => {
                self.sealed.bytes.clear();
                self.sealed.segment_len = batch.segment_len + SEAL_LEN;
                for frame in batch.bytes.chunks(batch.segment_len.max(1)) {
                    sealing.sealer.seal(frame, &mut self.sealed.bytes);
                }
                &self.sealed
            }
        };
        send_to_all(&mut self.sender, &self.destinations, batch, most_frames)
    }

    /// Defers a batch of one datagram to the train of the next batch, where it costs almost
    /// nothing. It is sent at the latest when the socket is closed. With a key it is sent at once,
    /// because a sealing session belongs to one transfer.
    ///
    /// # Errors
    /// The errors are those of [`send`](Self::send).
    pub fn send_with_next(&mut self, batch: &mut TransmitBatch) -> Result<(), NetError> {
        if self.sealing.is_some() || !self.deferred.is_empty() {
            return self.send(batch);
        }
        self.deferred.extend_from_slice(&batch.bytes);
        Ok(())
    }

    fn send_deferred(&mut self) {
        let bytes = std::mem::take(&mut self.deferred);
        if bytes.is_empty() {
            return;
        }
        let batch = TransmitBatch { segment_len: bytes.len(), bytes };
        if let Err(error) = send_to_all(&mut self.sender, &self.destinations, &batch, 1) {
            log::debug!("the end of a transfer: {error}");
        }
    }

    /// Waits for an answer, but not longer than `timeout`.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let socket = &self.sender.kernel().socket;
        self.coalescing.wait(&[(socket.as_fd(), PollFlags::POLLIN)], timeout)
    }

    /// Passes every waiting answer to `handle`, with its sender's address.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn receive(&mut self, mut handle: impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
        let UdpSocket { socket, state } = self.sender.kernel();
        loop {
            let mut meta = [RecvMeta::default(); ANSWER_TRAINS];
            let mut trains = self.answers.chunks_mut(MAX_TRAIN_LEN);
            let mut buffers: [IoSliceMut<'_>; ANSWER_TRAINS] =
                std::array::from_fn(|_| IoSliceMut::new(trains.next().unwrap_or_default()));
            let count = match state.recv(socket.into(), &mut buffers, &mut meta) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            for (meta, bytes) in meta[..count].iter().zip(self.answers.chunks(MAX_TRAIN_LEN)) {
                for datagram in bytes[..meta.len].chunks(meta.stride.max(1)) {
                    match &mut self.sealing {
                        None => handle(meta.addr, datagram),
                        Some(sealing) => match sealing.opener.open(meta.addr, datagram) {
                            Ok(opened) => handle(meta.addr, opened.frame),
                            Err(error) => log::debug!("answer of {}: {error}", meta.addr),
                        },
                    }
                }
            }
            if count < ANSWER_TRAINS {
                return Ok(());
            }
        }
    }
}

impl Drop for SendSocket {
    fn drop(&mut self) {
        self.send_deferred();
    }
}

fn send_to_all(
    sender: &mut TrainSender<UdpSocket>,
    destinations: &Destinations,
    batch: &TransmitBatch,
    most_frames: usize,
) -> Result<(), NetError> {
    let segment_len = batch.segment_len;
    for destination in destinations.sockets() {
        for bytes in batch.bytes.chunks((segment_len * most_frames).max(1)) {
            sender
                .send(Train { bytes, segment_len, destination })
                .map_err(|error| NetError::Send { destination, error })?;
        }
    }
    Ok(())
}

impl Kernel for UdpSocket {
    fn send_segmented(&mut self, train: Train<'_>) -> io::Result<()> {
        let transmit = Transmit {
            destination: train.destination,
            ecn: None,
            contents: train.bytes,
            segment_size: Some(train.segment_len),
            src_ip: None,
        };
        // quinn-udp's `send` would hide most errors.
        self.state.try_send((&self.socket).into(), &transmit)
    }

    fn send_one_by_one(&mut self, train: Train<'_>) -> io::Result<usize> {
        if train.bytes.len() <= train.segment_len {
            return self.socket.send_to(train.bytes, &train.destination.into()).map(|_| 1);
        }
        let slices: Vec<[IoSlice<'_>; 1]> = train
            .bytes
            .chunks(train.segment_len)
            .map(|datagram| [IoSlice::new(datagram)])
            .take(MAX_TRAIN)
            .collect();
        let addresses = vec![Some(SockaddrStorage::from(train.destination)); slices.len()];
        let mut headers = MultiHeaders::preallocate(slices.len(), None);
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            &slices,
            &addresses,
            [],
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    }

    fn wait_until_writable(&self) -> io::Result<()> {
        wait(&[(self.socket.as_fd(), PollFlags::POLLOUT)], None).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    fn batch(bytes: &[u8], segment_len: usize) -> TransmitBatch {
        TransmitBatch { bytes: bytes.to_vec(), segment_len }
    }

    fn receiver() -> (UdpSocket, Destinations) {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let addresses = vec![Ipv4Addr::LOCALHOST.into()];
        (receiver, Destinations { addresses, port, interface: None })
    }

    #[test]
    fn a_socket_that_was_put_back_serves_another_key() {
        let (receiver, destinations) = receiver();
        let received = || receiver.recv(&mut [0; 100]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let key = Key::create(&dir.path().join("key")).unwrap();
        for (key, overhead) in [(Some(&key), SEAL_LEN), (Some(&key), SEAL_LEN), (None, 0)] {
            let mut socket = SendSocket::open(&destinations, true, key).unwrap();
            socket.send(&mut batch(b"first-second", 6)).unwrap();
            assert_eq!([received(), received()], [6 + overhead; 2]);
            socket.send_with_next(&mut batch(b"end", 3)).unwrap();
            if key.is_some() {
                assert_eq!(received(), 3 + overhead);
            }
            socket.put_back();
        }
        // The deferred datagram is not sealed, so it goes before the sealed ones.
        let mut socket = SendSocket::open(&destinations, true, Some(&key)).unwrap();
        socket.send(&mut batch(b"first", 5)).unwrap();
        let mut lens = [received(), received()];
        // The order may differ if the idle socket has just timed out.
        lens.sort_unstable();
        assert_eq!(lens, [3, 5 + SEAL_LEN]);
    }

    #[test]
    fn the_last_datagram_goes_with_the_next_transfer_or_when_the_socket_is_closed() {
        let (receiver, destinations) = receiver();
        let received = || {
            let mut datagram = [0; 100];
            let len = receiver.recv(&mut datagram).unwrap();
            String::from_utf8_lossy(&datagram[..len]).into_owned()
        };

        let mut socket = SendSocket::open(&destinations, true, None).unwrap();
        socket.send(&mut batch(b"first-second", 6)).unwrap();
        assert_eq!([received(), received()], ["first-", "second"]);
        socket.send_with_next(&mut batch(b"end", 3)).unwrap();
        socket.send(&mut batch(b"third-fourth", 6)).unwrap();
        assert_eq!([received(), received(), received()], ["third-", "fourth", "end"]);

        // The deferred datagram does not fit into the train: it goes before.
        socket.send_with_next(&mut batch(b"the end", 7)).unwrap();
        socket.send(&mut batch(b"fifth", 5)).unwrap();
        assert_eq!([received(), received()], ["the end", "fifth"]);

        socket.send_with_next(&mut batch(b"end", 3)).unwrap();
        drop(socket);
        assert_eq!(received(), "end");
    }
}
