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
pub(crate) use interface::ip;
pub use interface::{Interface, path_mtu};
pub use raw::{MAX_RAW_BYTES, send_raw};
pub use receive_socket::{Datagrams, RECEIVE_BUFFER, ReceiveSocket, Wakeup};
pub use send_socket::SendSocket;

use std::io;
use std::net::SocketAddr;

/// The reason why a socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The interface does not exist or cannot be used.
    #[error("interface {interface}: {error}")]
    Interface {
        /// The interface as it was given.
        interface: String,
        /// The reason.
        error: io::Error,
    },
    /// The address is in use, or belongs to another machine.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The local address.
        address: SocketAddr,
        /// The reason.
        error: io::Error,
    },
    /// The multicast group cannot be joined.
    #[error("cannot join multicast group {group}: {error}")]
    Group {
        /// The address of the group.
        group: std::net::IpAddr,
        /// The reason.
        error: io::Error,
    },
    /// A datagram cannot be sent.
    #[error("cannot send to {destination}: {error}{}", hint(.error))]
    Send {
        /// The address of the destination.
        destination: SocketAddr,
        /// The reason.
        error: io::Error,
    },
    /// Another call on a socket failed.
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
