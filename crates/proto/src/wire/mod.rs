//! The frames of the protocol: parsing and emitting bytes.
//!
//! Each datagram is one frame. Every frame begins with a header of sixteen bytes; numbers are
//! big-endian. The `field` modules here hold the offsets of `docs/PROTOCOL.md`, section "Frames".
//!
//! ```text
//!  0      4  5  6     8               16
//! +------+--+--+-----+---------------+-------- - -
//! | SIAR | v| k|  0  |  transfer id  |  body of kind k
//! +------+--+--+-----+---------------+-------- - -
//! ```

mod announce;
mod end;
mod poll;
mod reply;
mod status;
mod symbol;

pub use announce::Announce;
pub use end::{End, EndReason};
pub use poll::Poll;
pub use reply::{Confirm, Join, Refuse, RefuseReason};
pub use status::{DeficitRun, MAX_RUNS, ReceiverState, Status};
pub use symbol::{SYMBOL_HEADER_LEN, Symbol};

use std::ops::Range;

/// The first bytes of every frame. A datagram without them may be a file in the Python scripts'
/// format, which has no header (`library.py`, line 53).
pub const MAGIC: [u8; 4] = *b"SIAR";
/// The protocol version, in byte 4 of every frame.
pub const VERSION: u8 = 1;
/// The length in bytes of the header before a frame's body.
pub const HEADER_LEN: usize = 16;

mod field {
    use std::ops::Range;
    pub(super) const MAGIC: Range<usize> = 0..4;
    pub(super) const VERSION: usize = 4;
    pub(super) const KIND: usize = 5;
    pub(super) const RESERVED: Range<usize> = 6..8;
    pub(super) const TRANSFER: Range<usize> = 8..16;
}

/// The reason why a datagram is not a valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The datagram does not begin with [`MAGIC`]; it may be in the Python scripts' format.
    #[error("not a frame")]
    NotAFrame,
    /// The frame has this protocol version instead of [`VERSION`].
    #[error("frame of protocol version {0}, this is version {VERSION}")]
    Version(u8),
    /// No kind of frame has this number.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The datagram ends before the frame does.
    #[error("frame cut short")]
    Truncated,
    /// The field with this name holds a value that no correct sender or receiver gives it.
    #[error("impossible value in field {0}")]
    Field(&'static str),
}

/// The id of a transfer: 64 random bits that its sender chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId(pub u64);

impl std::fmt::Display for TransferId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The id of a receiver process: 64 random bits that it chooses when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiverId(pub u64);

/// The body of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// From the sender to all receivers: the file and its layout.
    Announce(Announce<'a>),
    /// From a receiver to the sender: the receiver takes part.
    Join(Join),
    /// From the sender to all receivers: one source or repair symbol.
    Symbol(Symbol<'a>),
    /// From the sender to all receivers: a request for a status.
    Poll(Poll),
    /// From a receiver to the sender: the symbols that the receiver lacks.
    Status(Status),
    /// From a receiver to the sender: the receiver does not take the file.
    Refuse(Refuse<'a>),
    /// From a receiver to the sender: the file is verified and published.
    Confirm(Confirm),
    /// From the sender to all receivers: the transfer is over.
    End(End),
}

/// One frame of the protocol, which is one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The transfer to which the frame belongs.
    pub transfer: TransferId,
    /// The frame's body.
    pub body: Body<'a>,
}

impl<'a> Frame<'a> {
    /// Parses the frame in `bytes`, the payload of one UDP datagram. It never panics.
    ///
    /// # Errors
    /// The datagram is not a valid frame; the error tells which rule it breaks.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.get(field::MAGIC) != Some(&MAGIC[..]) {
            return Err(ParseError::NotAFrame);
        }
        if bytes.len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        match bytes[field::VERSION] {
            VERSION => {}
            other => return Err(ParseError::Version(other)),
        }
        let body = match bytes[field::KIND] {
            announce::KIND => Body::Announce(Announce::parse(bytes)?),
            reply::KIND_JOIN => Body::Join(Join::parse(bytes)?),
            symbol::KIND => Body::Symbol(Symbol::parse(bytes)?),
            poll::KIND => Body::Poll(Poll::parse(bytes)?),
            status::KIND => Body::Status(Status::parse(bytes)?),
            reply::KIND_REFUSE => Body::Refuse(Refuse::parse(bytes)?),
            reply::KIND_CONFIRM => Body::Confirm(Confirm::parse(bytes)?),
            end::KIND => Body::End(End::parse(bytes)?),
            other => return Err(ParseError::Kind(other)),
        };
        Ok(Self { transfer: TransferId(u64_at(bytes, field::TRANSFER)?), body })
    }

    /// Appends the frame to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let kind = match &self.body {
            Body::Announce(_) => announce::KIND,
            Body::Join(_) => reply::KIND_JOIN,
            Body::Symbol(_) => symbol::KIND,
            Body::Poll(_) => poll::KIND,
            Body::Status(_) => status::KIND,
            Body::Refuse(_) => reply::KIND_REFUSE,
            Body::Confirm(_) => reply::KIND_CONFIRM,
            Body::End(_) => end::KIND,
        };
        emit_header(out, kind, self.transfer);
        match &self.body {
            Body::Announce(body) => body.emit(out),
            Body::Join(body) => body.emit(out),
            Body::Symbol(body) => body.emit(out),
            Body::Poll(body) => body.emit(out),
            Body::Status(body) => body.emit(out),
            Body::Refuse(body) => body.emit(out),
            Body::Confirm(body) => body.emit(out),
            Body::End(body) => body.emit(out),
        }
    }

    /// The frame as a datagram of its own.
    #[must_use]
    pub fn to_datagram(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.emit(&mut out);
        out
    }
}

/// The transfer of the frame that begins with the bytes `header`; `None` if these do not begin with
/// [`MAGIC`] or end before the transfer id does.
#[must_use]
pub fn transfer_of(header: &[u8]) -> Option<TransferId> {
    let is_frame = header.get(field::MAGIC) == Some(&MAGIC[..]);
    u64_at(header, field::TRANSFER).ok().filter(|_| is_frame).map(TransferId)
}

fn emit_header(out: &mut Vec<u8>, kind: u8, transfer: TransferId) {
    let mut header = [0; HEADER_LEN];
    header[field::MAGIC].copy_from_slice(&MAGIC);
    header[field::VERSION] = VERSION;
    header[field::KIND] = kind;
    header[field::RESERVED].copy_from_slice(&[0; 2]);
    header[field::TRANSFER].copy_from_slice(&transfer.0.to_be_bytes());
    out.extend_from_slice(&header);
}

fn array_at<const N: usize>(bytes: &[u8], range: Range<usize>) -> Result<[u8; N], ParseError> {
    bytes.get(range).and_then(|slice| slice.try_into().ok()).ok_or(ParseError::Truncated)
}

fn u8_at(bytes: &[u8], at: usize) -> Result<u8, ParseError> {
    bytes.get(at).copied().ok_or(ParseError::Truncated)
}

fn u16_at(bytes: &[u8], range: Range<usize>) -> Result<u16, ParseError> {
    array_at(bytes, range).map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], range: Range<usize>) -> Result<u32, ParseError> {
    array_at(bytes, range).map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], range: Range<usize>) -> Result<u64, ParseError> {
    array_at(bytes, range).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_without_magic_is_raw() {
        assert_eq!(Frame::parse(b"\x89PNG"), Err(ParseError::NotAFrame));
        assert_eq!(Frame::parse(b""), Err(ParseError::NotAFrame));
    }

    #[test]
    fn version_and_kind_are_checked() {
        let end =
            Frame { transfer: TransferId(1), body: Body::End(End { reason: EndReason::Finished }) };
        let mut bytes = end.to_datagram();
        bytes[4] = 9;
        assert_eq!(Frame::parse(&bytes), Err(ParseError::Version(9)));
        bytes[4] = VERSION;
        bytes[5] = 200;
        assert_eq!(Frame::parse(&bytes), Err(ParseError::Kind(200)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            kind in 0u8..12,
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = b"SIAR\x01".to_vec();
            bytes.push(kind);
            bytes.extend_from_slice(&body);
            if let Ok(frame) = Frame::parse(&bytes) {
                let again = frame.to_datagram();
                prop_assert_eq!(Frame::parse(&again), Ok(frame));
            }
        }
    }
}
