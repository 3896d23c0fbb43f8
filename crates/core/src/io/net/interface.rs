//! The network interface of a socket, and the largest packet that it can send.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{SockaddrStorage, getsockopt, sockopt};
use socket2::Socket;

use super::NetError;

/// An interface, given by its name or by one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Interface {
    /// The name of the interface, as `ip link` shows it.
    Name(String),
    /// One of the interface's addresses.
    Address(IpAddr),
}

impl FromStr for Interface {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Address))
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Interface {
    /// Makes `socket` send and receive through this interface only.
    pub(super) fn apply(&self, socket: &Socket) -> Result<(), NetError> {
        let applied = match self {
            Self::Name(name) => socket.bind_device(Some(name.as_bytes())),
            Self::Address(IpAddr::V4(address)) => socket.set_multicast_if_v4(address),
            Self::Address(IpAddr::V6(_)) => Ok(()),
        };
        applied.map_err(|error| self.error(error))
    }

    /// Makes `socket` ignore datagrams that arrive through another interface.
    pub(super) fn receive_only_by(&self, socket: &Socket) -> Result<(), NetError> {
        let name = self.name().map_err(|error| self.error(error))?;
        socket.bind_device(Some(name.as_bytes())).map_err(|error| self.error(error))
    }

    fn name(&self) -> io::Result<String> {
        match self {
            Self::Name(name) => Ok(name.clone()),
            Self::Address(address) => name_of(*address),
        }
    }

    /// Returns the number by which the kernel knows the interface.
    pub(super) fn index(&self) -> io::Result<u32> {
        Ok(if_nametoindex(self.name()?.as_str())?)
    }

    /// Returns an address of the interface, of the same family as `like`.
    ///
    /// # Errors
    /// There is no such interface, or it has no such address.
    pub fn address(&self, like: IpAddr) -> io::Result<IpAddr> {
        let name = match self {
            Self::Address(address) => return Ok(*address),
            Self::Name(name) => name,
        };
        let addresses = getifaddrs()?.filter(|found| found.interface_name == *name);
        let addresses = addresses.filter_map(|found| ip(found.address.as_ref()?));
        let mut addresses = addresses.filter(|address| address.is_ipv4() == like.is_ipv4());
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
        addresses.next().ok_or_else(none)
    }

    pub(super) fn error(&self, error: io::Error) -> NetError {
        NetError::Interface { interface: self.to_string(), error }
    }

    /// Returns the local address to send from: a limited broadcast leaves through the interface
    /// that has it.
    pub(super) fn source_address(interface: Option<&Self>) -> IpAddr {
        match interface {
            Some(Self::Address(address)) => *address,
            _ => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

/// Returns the name of the interface that has `address`.
fn name_of(address: IpAddr) -> io::Result<String> {
    let has_address = |storage: &SockaddrStorage| ip(storage) == Some(address);
    let found = getifaddrs()?.find(|interface| interface.address.as_ref().is_some_and(has_address));
    let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no interface has this address");
    Ok(found.ok_or_else(none)?.interface_name)
}

/// Returns the IP address in a socket's address.
pub(crate) fn ip(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

pub(super) const ETHERNET_MTU: usize = 1500;

/// Returns the size of the largest IP packet to `target` in bytes, as the kernel knows it; if the
/// kernel does not know it, Ethernet's 1,500 bytes.
#[must_use]
pub fn path_mtu(socket: &Socket, target: SocketAddr) -> usize {
    let query = || -> io::Result<usize> {
        let probe: UdpSocket =
            socket2::Socket::new(socket2::Domain::for_address(target), socket2::Type::DGRAM, None)?
                .into();
        probe.set_broadcast(true)?;
        if let Some(device) = socket.device()? {
            socket2::SockRef::from(&probe).bind_device(Some(&device))?;
        } else if let Some(address) = socket.local_addr()?.as_socket() {
            socket2::SockRef::from(&probe).bind(&SocketAddr::new(address.ip(), 0).into())?;
        }
        probe.connect(target)?;
        let mtu = getsockopt(&probe, sockopt::IpMtu)?;
        usize::try_from(mtu).map_err(io::Error::other)
    };
    query().unwrap_or(ETHERNET_MTU)
}
