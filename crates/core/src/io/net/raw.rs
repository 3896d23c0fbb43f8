//! The Python scripts' wire format: a file is one datagram.

use super::{Destinations, NetError};

/// The largest payload of a UDP datagram over IPv4, in bytes (RFC 768: a 16-bit length, less
/// headers).
pub const MAX_RAW_BYTES: u64 = 65_507;

/// Sends a file of at most [`MAX_RAW_BYTES`] as one datagram to every destination, as `library.py`,
/// line 53, does. The datagram leaves in IP fragments, which the socket of the reliable format does
/// not allow.
///
/// # Errors
/// The datagram cannot be sent.
pub fn send_raw(file: &[u8], destinations: &Destinations) -> Result<(), NetError> {
    let socket = destinations.open()?;
    for destination in destinations.sockets() {
        socket
            .send_to(file, &destination.into())
            .map_err(|error| NetError::Send { destination, error })?;
    }
    Ok(())
}
