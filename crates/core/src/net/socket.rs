//! The sending socket: batches by segmentation offload, one by one where that is refused.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Interface, NetError};
use crate::protocol::TransmitBatch;

/// Linux takes at most this many bytes in one segmented send.
const MAX_BATCH_BYTES: usize = 65_507;
const SEND_BUFFER: usize = 4 << 20;
/// How often a full device queue is asked again, and how long between.
const FULL_QUEUE_RETRIES: u32 = 1000;
const FULL_QUEUE_PAUSE: Duration = Duration::from_micros(200);

/// Errors that pass, once a first datagram has shown that the destination is right.
const LOSSES: [i32; 4] = [
    Errno::EPERM as i32,
    Errno::ENETDOWN as i32,
    Errno::ENETUNREACH as i32,
    Errno::EHOSTUNREACH as i32,
];

/// Where every datagram goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Destinations {
    /// Broadcast, multicast or unicast addresses; at least one.
    pub addresses: Vec<IpAddr>,
    /// UDP port at each.
    pub port: u16,
    /// Where broadcast and multicast leave.
    pub interface: Option<Interface>,
}

impl Destinations {
    /// Every address with the port.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|address| SocketAddr::new(*address, self.port))
    }

    /// A socket of the right family that may broadcast, bound to a free port.
    pub(super) fn open(&self) -> Result<Socket, NetError> {
        let domain = match self.addresses.first() {
            Some(IpAddr::V6(_)) => Domain::IPV6,
            _ => Domain::IPV4,
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        if let Some(interface) = &self.interface {
            interface.apply(&socket)?;
        }
        if domain == Domain::IPV4 {
            let address = SocketAddr::new(Interface::source_address(self.interface.as_ref()), 0);
            socket.bind(&address.into()).map_err(|error| match &self.interface {
                Some(interface) => interface.error(error),
                None => NetError::Bind { address, error },
            })?;
        }
        Ok(socket)
    }
}

/// Sends batches of datagrams to all destinations and receives the answers.
#[derive(Debug)]
pub struct Broadcaster {
    socket: Socket,
    state: UdpSocketState,
    destinations: Vec<SocketAddr>,
    receive_buffer: Vec<u8>,
    has_sent: AtomicBool,
}

impl Broadcaster {
    /// Opens a socket on a free port.
    ///
    /// # Errors
    /// The interface is unknown, or the kernel refuses the socket.
    pub fn open(destinations: &Destinations) -> Result<Self, NetError> {
        let socket = destinations.open()?;
        let state = UdpSocketState::new((&socket).into())?;
        // The kernel gives less if it must; nothing depends on it.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        Ok(Self {
            socket,
            state,
            destinations: destinations.sockets().collect(),
            receive_buffer: vec![0; 1 << 16],
            has_sent: AtomicBool::new(false),
        })
    }

    /// The largest IP packet that reaches every destination.
    #[must_use]
    pub fn path_mtu(&self) -> usize {
        let mtus = self.destinations.iter().map(|target| super::path_mtu(&self.socket, *target));
        mtus.min().unwrap_or(1500)
    }

    /// How many datagrams of `len` bytes one call may send.
    #[must_use]
    pub fn max_segments(&self, len: usize) -> usize {
        self.state.max_gso_segments().min(MAX_BATCH_BYTES / len.max(1)).max(1)
    }

    /// Sends every datagram of the batch to every destination.
    ///
    /// # Errors
    /// Names the destination that the kernel cannot send to.
    pub fn send(&self, batch: &TransmitBatch) -> Result<(), NetError> {
        for &destination in &self.destinations {
            let chunk = batch.segment_len * self.max_segments(batch.segment_len);
            for bytes in batch.bytes.chunks(chunk) {
                match self.send_segments(bytes, batch.segment_len, destination) {
                    Err(error)
                        if is_segmentation_refusal(&error) && bytes.len() > batch.segment_len =>
                    {
                        log::debug!("segmentation offload refused ({error}), sending one by one");
                        for datagram in bytes.chunks(batch.segment_len) {
                            self.send_segments(datagram, batch.segment_len, destination)
                                .map_err(|error| NetError::Send { destination, error })?;
                        }
                    }
                    Err(error) => return Err(NetError::Send { destination, error }),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    fn send_segments(
        &self,
        bytes: &[u8],
        segment: usize,
        destination: SocketAddr,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: bytes,
            segment_size: (bytes.len() > segment).then_some(segment),
            src_ip: None,
        };
        let mut retries = 0;
        loop {
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => {
                    self.has_sent.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&[(self.socket.as_fd(), PollFlags::POLLOUT)], None)?;
                }
                // The device's queue is full for the moment.
                Err(error)
                    if error.raw_os_error() == Some(Errno::ENOBUFS as i32)
                        && retries < FULL_QUEUE_RETRIES =>
                {
                    retries += 1;
                    std::thread::sleep(FULL_QUEUE_PAUSE);
                }
                // An answer to an earlier datagram (a port unreachable), not to this one.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && retries < FULL_QUEUE_RETRIES =>
                {
                    retries += 1;
                }
                // A local firewall's drop, or a link that is down for a while: lost like any other.
                Err(error)
                    if error.raw_os_error().is_some_and(|code| LOSSES.contains(&code))
                        && self.has_sent.load(Ordering::Relaxed) =>
                {
                    log::debug!("datagrams to {destination} lost: {error}");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for an answer, at most `timeout`.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        wait(&[(self.socket.as_fd(), PollFlags::POLLIN)], timeout).map(|_| ())
    }

    /// Hands every answer that is there to `handle`, with its sender's address.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn receive(&mut self, mut handle: impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
        loop {
            let mut meta = [RecvMeta::default()];
            let mut buffers = [IoSliceMut::new(&mut self.receive_buffer)];
            match self.state.recv((&self.socket).into(), &mut buffers, &mut meta) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            }
            let [meta] = meta;
            for datagram in self.receive_buffer[..meta.len].chunks(meta.stride.max(1)) {
                handle(meta.addr, datagram);
            }
        }
    }
}

fn is_segmentation_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::EIO as i32, Errno::EINVAL as i32, Errno::EMSGSIZE as i32];
    error.raw_os_error().is_some_and(|code| refusals.contains(&code))
}

/// Waits until one of the descriptors is ready; `false` if the time ran out.
pub(super) fn wait(
    descriptors: &[(std::os::fd::BorrowedFd<'_>, PollFlags)],
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let mut descriptors: Vec<PollFd<'_>> =
        descriptors.iter().map(|(descriptor, flags)| PollFd::new(*descriptor, *flags)).collect();
    match nix::poll::ppoll(&mut descriptors, timeout.map(TimeSpec::from_duration), None) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
