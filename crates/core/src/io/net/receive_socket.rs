//! The receiving socket.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::PollFlags;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use siar_code::prefetch::{LINE, prefetch};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::coalescing::Coalescing;
use super::poll;
use super::{Interface, NetError};

/// The receive buffer that is requested, in bytes; [`ReceiveSocket::recv_buffer`] returns the size
/// that the kernel granted.
pub const RECEIVE_BUFFER: usize = 16 << 20;
/// The size of a buffer, in bytes: it takes the longest datagram, or a train of shorter datagrams
/// that the kernel joined.
const BUFFER_LEN: usize = 1 << 16;
/// The number of long trains that one call takes, so that they stay in the processor's cache.
const LONG_TRAINS: usize = 3;
const LONG_TRAIN_LEN: usize = 1 << 13;
/// While one datagram is handled, the head of the datagram this many places later is prefetched.
const DATAGRAMS_AHEAD: usize = 4;

/// A train of datagrams from one sender.
#[derive(Debug)]
pub struct Datagrams<'a> {
    /// The address of the sender.
    pub from: SocketAddr,
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Datagrams<'a> {
    /// Returns the bytes of all datagrams, one after the other.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the datagrams one by one; a single empty datagram counts too.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, stride) = (self.bytes, self.stride.max(1));
        let datagrams = bytes.chunks(stride).enumerate().map(move |(index, datagram)| {
            // The kernel's copy has left the cache: without the prefetch, each datagram would cost
            // a wait.
            let ahead = bytes.get((index + DATAGRAMS_AHEAD) * stride..).unwrap_or_default();
            prefetch(&ahead[..ahead.len().min(LINE)]);
            datagram
        });
        datagrams.chain(bytes.is_empty().then_some(bytes))
    }
}

/// Interrupts [`ReceiveSocket::wait`] from another thread or a signal handler.
#[derive(Debug)]
pub struct Wakeup {
    waker: UnixStream,
    pending: Arc<AtomicBool>,
}

impl Wakeup {
    /// Interrupts the present wait, or the next one.
    pub fn wake(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            // A full pipe wakes the thread too.
            let _ = (&self.waker).write(&[0]);
        }
    }

    /// Interrupts the wait on `signal` too.
    ///
    /// # Errors
    /// The signal cannot be handled.
    pub fn wake_on_signal(&self, signal: i32) -> io::Result<()> {
        signal_hook::low_level::pipe::register(signal, self.waker.try_clone()?)?;
        Ok(())
    }
}

/// A bound socket that receives datagrams in trains.
#[derive(Debug)]
pub struct ReceiveSocket {
    socket: Socket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    /// The number of buffers that are offered to the next call.
    offered: usize,
    inode: String,
    woken: UnixStream,
    waker: UnixStream,
    wake_pending: Arc<AtomicBool>,
    coalescing: Coalescing,
}

impl ReceiveSocket {
    /// Binds `address`, which several servers on one machine may share, and joins `groups`.
    ///
    /// # Errors
    /// Another program uses the address, or an interface or group is unknown.
    pub fn bind(
        address: SocketAddr,
        groups: &[IpAddr],
        interface: Option<&Interface>,
    ) -> Result<Self, NetError> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if let Some(interface) = interface {
            interface.receive_only_by(&socket)?;
        }
        socket.bind(&address.into()).map_err(|error| NetError::Bind { address, error })?;
        for &group in groups {
            join(&socket, group, interface).map_err(|error| NetError::Group { group, error })?;
        }
        let state = UdpSocketState::new((&socket).into())?;
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let inode = File::from(socket.as_fd().try_clone_to_owned()?).metadata()?.ino().to_string();
        let buffers = vec![0; BUFFER_LEN * BATCH_SIZE];
        let new = Self {
            socket,
            state,
            buffers,
            offered: BATCH_SIZE,
            inode,
            woken,
            waker,
            wake_pending: Arc::default(),
            coalescing: Coalescing::default(),
        };
        new.set_recv_buffer(RECEIVE_BUFFER)?;
        Ok(new)
    }

    /// Requests a receive buffer of `bytes` bytes instead of [`RECEIVE_BUFFER`].
    ///
    /// # Errors
    /// The kernel refuses the size.
    pub fn set_recv_buffer(&self, bytes: usize) -> io::Result<()> {
        use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
        // For root, the limit net.core.rmem_max does not apply.
        match setsockopt(&self.socket, RcvBufForce, &bytes) {
            Ok(()) => Ok(()),
            Err(_) => self.socket.set_recv_buffer_size(bytes),
        }
    }

    /// Returns the address that is really bound.
    ///
    /// # Errors
    /// The kernel does not return the address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP address"))
    }

    /// Returns the real size of the receive buffer in bytes, as the kernel counts it.
    ///
    /// # Errors
    /// The kernel does not return the size.
    pub fn recv_buffer(&self) -> io::Result<u32> {
        self.socket.recv_buffer_size().map(|size| u32::try_from(size).unwrap_or(u32::MAX))
    }

    /// Returns a handle that interrupts [`ReceiveSocket::wait`].
    ///
    /// # Errors
    /// No file descriptor is free.
    pub fn wakeup(&self) -> io::Result<Wakeup> {
        let waker = self.waker.try_clone()?;
        Ok(Wakeup { waker, pending: Arc::clone(&self.wake_pending) })
    }

    /// Waits for a datagram or a wakeup, but not longer than `timeout`. In a `stream`, in which a
    /// datagram needs no answer of its own, datagrams may gather.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub fn wait(&mut self, timeout: Option<Duration>, stream: bool) -> io::Result<()> {
        let descriptors =
            [(self.socket.as_fd(), PollFlags::POLLIN), (self.woken.as_fd(), PollFlags::POLLIN)];
        if stream {
            self.coalescing.wait(&descriptors, timeout)?;
        } else {
            poll::wait(&descriptors, timeout)?;
        }
        while self.woken.read(&mut [0; 64]).is_ok_and(|read| read == 64) {}
        // A wakeup before this line has ended this wait; a wakeup after it writes to the pipe
        // again.
        self.wake_pending.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Passes the datagrams of one system call to `handle`; returns `false` if there were none.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn receive(&mut self, mut handle: impl FnMut(Datagrams<'_>)) -> io::Result<bool> {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> =
            self.buffers.chunks_mut(BUFFER_LEN).take(self.offered).map(IoSliceMut::new).collect();
        let count = match self.state.recv((&self.socket).into(), &mut slices, &mut meta) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An earlier answer met a closed port: this does not concern the next datagram.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        let len: usize = meta[..count].iter().map(|meta| meta.len).sum();
        let are_long = len > count * LONG_TRAIN_LEN;
        self.offered = if are_long { LONG_TRAINS } else { BATCH_SIZE };
        for (meta, bytes) in meta[..count].iter().zip(self.buffers.chunks(BUFFER_LEN)) {
            handle(Datagrams { from: meta.addr, bytes: &bytes[..meta.len], stride: meta.stride });
        }
        Ok(count > 0)
    }

    /// Sends an answer. The other side asks again for a lost answer, so a full queue is no error.
    pub fn reply(&self, to: SocketAddr, bytes: &[u8]) {
        if let Err(error) = self.socket.send_to(bytes, &to.into()) {
            log::debug!("answer to {to}: {error}");
        }
    }

    /// Returns how many datagrams the kernel has dropped because the socket's buffer was full.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        // quinn-udp hides SO_RXQ_OVFL, which comes with each datagram; this is the same counter.
        let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
        table
            .lines()
            .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
            .find(|fields| fields.get(9).is_some_and(|field| *field == self.inode))
            .and_then(|fields| fields.last()?.parse().ok())
            .unwrap_or(0)
    }
}

fn join(socket: &Socket, group: IpAddr, interface: Option<&Interface>) -> io::Result<()> {
    let index = interface.map_or(Ok(0), Interface::index)?;
    match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups that an interface has joined, as `/proc/net/igmp` writes them.
    fn groups_of(interface: &str) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
        let mut is_its = false;
        let mut groups = Vec::new();
        for line in table.lines() {
            if !line.starts_with('\t') {
                is_its = line.contains(&format!("\t{interface} "));
            } else if is_its {
                groups.extend(line.split_ascii_whitespace().next().map(str::to_owned));
            }
        }
        groups
    }

    /// A forged source address can be a subnet's broadcast address.
    #[test]
    fn no_answer_goes_to_a_whole_subnet() {
        let socket = ReceiveSocket::bind("127.0.0.1:0".parse().unwrap(), &[], None).unwrap();
        let subnet: SocketAddr = "127.255.255.255:9".parse().unwrap();
        let error = socket.socket.send_to(b"answer", &subnet.into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_group_is_joined_on_the_interface_that_is_named() {
        let group = "239.77.1.9".parse().unwrap();
        // The kernel writes the address in its own byte order.
        let shown = format!("{:08X}", u32::from_ne_bytes([239, 77, 1, 9]));
        for interface in [Interface::Name("lo".to_owned()), "127.0.0.1".parse().unwrap()] {
            let address = "0.0.0.0:0".parse().unwrap();
            let socket = ReceiveSocket::bind(address, &[group], Some(&interface)).unwrap();
            assert!(groups_of("lo").contains(&shown), "{:?}", groups_of("lo"));
            drop(socket);
        }
    }
}
