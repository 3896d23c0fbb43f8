//! Where datagrams go.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Interface, NetError};

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
