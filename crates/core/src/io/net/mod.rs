//! UDP sockets, and the trains of datagrams that they send and receive.

mod coalescing;
mod destinations;
mod idle_socket;
mod interface;
mod poll;
mod raw;
mod receive_socket;
mod send_socket;
mod train;

pub use destinations::Destinations;
pub(crate) use idle_socket::close_idle_sockets;
pub use interface::{Interface, path_mtu};
pub use raw::{MAX_RAW_BYTES, send_raw};
pub use receive_socket::{Datagrams, RECEIVE_BUFFER, ReceiveSocket, Wakeup};
pub use send_socket::SendSocket;

use std::io;
use std::net::SocketAddr;

/// A socket cannot do what it must.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No such interface, or it cannot be used.
    #[error("interface {interface}: {error}")]
    Interface {
        /// As given.
        interface: String,
        /// Why.
        error: io::Error,
    },
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The group cannot be joined.
    #[error("cannot join multicast group {group}: {error}")]
    Group {
        /// The group.
        group: std::net::IpAddr,
        /// Why.
        error: io::Error,
    },
    /// A datagram cannot be sent.
    #[error("cannot send to {destination}: {error}{}", hint(.error))]
    Send {
        /// Where to.
        destination: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Any other call on a socket.
    #[error("UDP socket: {0}")]
    Socket(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable => {
            " (no route: name the network's own broadcast address with --target, or --interface)"
        }
        _ => "",
    }
}
