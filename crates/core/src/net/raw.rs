//! The seed's wire format: a file is one datagram.

use super::{BroadcastFile, Destinations, NetError};

/// The largest payload of a UDP datagram over IPv4 (RFC 768: a 16-bit length, less headers).
pub const MAX_RAW_BYTES: u64 = 65_507;

/// Sends the file as one datagram to every destination, as `library.py`, line 53, does. It
/// leaves in IP fragments, for which the reliable socket is not fit.
///
/// # Errors
/// The file cannot be read, is larger than [`MAX_RAW_BYTES`], or cannot be sent.
pub fn send_raw(source: &BroadcastFile, destinations: &Destinations) -> Result<(), NetError> {
    let read = || {
        let len = source.content.size()?;
        if len > MAX_RAW_BYTES {
            return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        }
        // At most 65,507.
        let mut bytes = vec![0; len as usize];
        source.content.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| NetError::Source { path: source.path.clone(), error })?;
    let socket = destinations.open()?;
    for destination in destinations.sockets() {
        socket
            .send_to(&bytes, &destination.into())
            .map_err(|error| NetError::Send { destination, error })?;
    }
    Ok(())
}
