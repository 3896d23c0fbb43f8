//! Readers of the packets, processes and threads that the crate `observe` recorded.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;
use stage::StageError;

pub use observe::{SeenProcess, Sighting};

/// Reads the file that a [`ProcessWatch`](observe::ProcessWatch) wrote.
///
/// # Errors
/// The file cannot be read, or one of its lines is no sighting.
pub fn read_sightings(path: &Path) -> Result<Vec<Sighting>, StageError> {
    let text = fs::read_to_string(path).map_err(StageError::file(path))?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect::<Result<_, _>>()
        .map_err(StageError::file(path))
}

const UDP_HEADER_LEN: usize = 8;

/// A UDP datagram in a capture, or a train of datagrams that the kernel had not yet split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedDatagram {
    /// Whether the Ethernet destination is the broadcast address.
    pub is_broadcast: bool,
    /// The UDP destination port.
    pub port: u16,
    /// The length of the UDP payload on the wire, in bytes.
    pub len: usize,
    /// The recorded beginning of the payload.
    pub payload: Vec<u8>,
}

/// Reads the UDP datagrams of a capture.
///
/// # Errors
/// The file cannot be read, or is no capture.
pub fn read_datagrams(path: &Path) -> Result<Vec<CapturedDatagram>, StageError> {
    let file = File::open(path).map_err(StageError::file(path))?;
    let bad = |error: PcapError| io::Error::other(error);
    let mut reader = PcapReader::new(file).map_err(bad).map_err(StageError::file(path))?;
    let mut datagrams = Vec::new();
    // The reader's checked method refuses packets that were recorded in part only.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.map_err(bad).map_err(StageError::file(path))?;
        datagrams.extend(datagram(&packet.data));
    }
    Ok(datagrams)
}

fn datagram(bytes: &[u8]) -> Option<CapturedDatagram> {
    let headers = etherparse::LaxPacketHeaders::from_ethernet(bytes).ok()?;
    let etherparse::LinkHeader::Ethernet2(link) = headers.link? else { return None };
    let etherparse::TransportHeader::Udp(udp) = headers.transport? else { return None };
    Some(CapturedDatagram {
        is_broadcast: link.destination == [0xff; 6],
        port: udp.destination_port,
        len: usize::from(udp.length).saturating_sub(UDP_HEADER_LEN),
        payload: headers.payload.slice().to_vec(),
    })
}
