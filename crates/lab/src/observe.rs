//! What was seen of a run from outside, read back; `crates/observe` records it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;

use crate::LabError;

pub use ::observe::{SeenProcess, Sighting};

/// Reads what a [`ProcessWatch`](::observe::ProcessWatch) wrote.
///
/// # Errors
/// The file is not there, or a line is not a sighting.
pub fn read_sightings(path: &Path) -> Result<Vec<Sighting>, LabError> {
    let text = fs::read_to_string(path).map_err(LabError::file(path))?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect::<Result<_, _>>()
        .map_err(LabError::file(path))
}

const UDP_HEADER_LEN: usize = 8;

/// A UDP datagram, or a train of them, in a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedDatagram {
    /// Whether it went to all stations of the network.
    pub is_broadcast: bool,
    /// Its destination port.
    pub port: u16,
    /// Bytes of UDP payload on the wire.
    pub len: usize,
    /// How its payload begins.
    pub payload: Vec<u8>,
}

/// The UDP datagrams over IPv4 of a capture.
///
/// # Errors
/// The file is not there or no capture.
pub fn read_datagrams(path: &Path) -> Result<Vec<CapturedDatagram>, LabError> {
    let file = File::open(path).map_err(LabError::file(path))?;
    let bad = |error: PcapError| io::Error::other(error);
    let mut reader = PcapReader::new(file).map_err(bad).map_err(LabError::file(path))?;
    let mut datagrams = Vec::new();
    // The checked reader refuses packets longer than what was recorded of them.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.map_err(bad).map_err(LabError::file(path))?;
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
