//! The seed's wire format: a file is one datagram.

use std::path::Path;

use super::{Destinations, NetError};

/// The largest payload of a UDP datagram over IPv4 (RFC 768: a 16-bit length, less headers).
pub const MAX_RAW_BYTES: u64 = 65_507;

/// Sends `path` as one datagram to every destination, as `library.py`, line 53, does. It
/// leaves in IP fragments, for which the reliable socket is not fit.
///
/// # Errors
/// The file cannot be read, is larger than [`MAX_RAW_BYTES`], or cannot be sent.
pub fn send_raw(path: &Path, destinations: &Destinations) -> Result<(), NetError> {
    let bytes =
        std::fs::read(path).map_err(|error| NetError::Source { path: path.to_owned(), error })?;
    let socket = destinations.open()?;
    for destination in destinations.sockets() {
        socket
            .send_to(&bytes, &destination.into())
            .map_err(|error| NetError::Send { destination, error })?;
    }
    Ok(())
}
