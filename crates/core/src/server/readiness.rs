//! The question whether a server on this machine answers, for those who start and watch servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use siar_proto::wire::{Announce, Body, Frame, TransferId};

use crate::io::clock::unix_time_ms;
use crate::io::net::Interface;
use crate::io::seal::{Key, KeyError, Sealing};

/// How long an answer is waited for, and how often the question is asked in this time.
const PATIENCE: Duration = Duration::from_secs(2);
const QUESTIONS: u32 = 4;
/// The number of no erasure code: a server refuses a file in it, and takes nothing.
const NO_CODE: u8 = 0;

/// The reason why a server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nothing came back.
    #[error(
        "no server answers at {address} within {} s: is it running, with the same --bind, \
         --interface and --key-file?",
        PATIENCE.as_secs()
    )]
    Silent {
        /// The address that was asked.
        address: SocketAddr,
    },
    /// The question cannot be sent.
    #[error("{address}: {error}")]
    Socket {
        /// The address that was asked.
        address: SocketAddr,
        /// The reason.
        error: io::Error,
    },
    /// The interface has no address by which to ask.
    #[error("interface {interface}: {error}")]
    Interface {
        /// The interface as it was given.
        interface: Interface,
        /// The reason.
        error: io::Error,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Asks the server that is bound to `bind` and receives through `interface` on this machine whether it answers. It is offered a file
/// that no server can take, and answers that it refuses it. Returns its address.
///
/// # Errors
/// The server does not answer, or cannot be asked.
pub fn ask_if_ready(
    bind: SocketAddr,
    interface: Option<&Interface>,
    key_file: Option<&Path>,
) -> Result<SocketAddr, NotReady> {
    let ip = match interface.filter(|_| bind.ip().is_unspecified()) {
        Some(interface) => interface
            .address(bind.ip())
            .map_err(|error| NotReady::Interface { interface: interface.clone(), error })?,
        None => reachable(bind.ip()),
    };
    let address = SocketAddr::new(ip, bind.port());
    let key = key_file.map(Key::load).transpose()?;
    let mut sealing = key.as_ref().map(Sealing::new);
    let failed = |error| NotReady::Socket { address, error };
    let here = if address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((here, 0)).map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    for _ in 0..QUESTIONS {
        let transfer = TransferId(rand::random());
        let question = sealed(question(transfer), sealing.as_mut());
        // A port without a server is an error of the next call: the server may be starting.
        let _ = socket.send(&question);
        if is_answered(&socket, address, transfer, sealing.as_mut()).map_err(failed)? {
            return Ok(address);
        }
    }
    Err(NotReady::Silent { address })
}

/// Returns an address of this machine by which a server that listens on `bound` hears.
fn reachable(bound: IpAddr) -> IpAddr {
    match bound {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

fn question(transfer: TransferId) -> Vec<u8> {
    let announce = Announce {
        size: 0,
        symbol_size: 1,
        block_symbols: 1,
        code: NO_CODE,
        blake3: [0; 32],
        time_ms: unix_time_ms(),
        name: "",
    };
    Frame { transfer, body: Body::Announce(announce) }.to_datagram()
}

fn sealed(frame: Vec<u8>, sealing: Option<&mut Sealing>) -> Vec<u8> {
    let Some(sealing) = sealing else { return frame };
    let mut out = Vec::new();
    sealing.sealer.seal(&frame, &mut out);
    out
}

/// Waits for the refusal of `transfer`, for its part of the time.
fn is_answered(
    socket: &UdpSocket,
    address: SocketAddr,
    transfer: TransferId,
    mut sealing: Option<&mut Sealing>,
) -> io::Result<bool> {
    let until = Instant::now() + PATIENCE / QUESTIONS;
    let mut datagram = [0; 2048];
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|it| !it.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let Ok(len) = socket.recv(&mut datagram) else {
            // A refused port fails at once: ask again when the rest of the time is over.
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            break;
        };
        let bytes = &datagram[..len];
        let frame = match &mut sealing {
            None => bytes,
            Some(sealing) => {
                sealing.opener.open(address, bytes).map_or(&[][..], |opened| opened.frame)
            }
        };
        let is_refusal = Frame::parse(frame)
            .is_ok_and(|it| it.transfer == transfer && matches!(it.body, Body::Refuse(_)));
        if is_refusal {
            return Ok(true);
        }
    }
    Ok(false)
}
