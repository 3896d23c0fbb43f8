//! The destinations of datagrams.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Interface, NetError};

/// The destinations of every datagram of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Destinations {
    /// The broadcast, multicast or unicast addresses; at least one.
    pub addresses: Vec<IpAddr>,
    /// The UDP port at each address.
    pub port: u16,
    /// The interface to send broadcast and multicast through.
    pub interface: Option<Interface>,
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, socket) in self.sockets().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{socket}")?;
        }
        match &self.interface {
            Some(interface) => write!(f, " through {interface}"),
            None => f.write_str(" through the interface of the route"),
        }
    }
}

impl Destinations {
    /// Returns every address with the port.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|address| SocketAddr::new(*address, self.port))
    }

    /// Opens a socket of the right address family that may broadcast, bound to a free port.
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
