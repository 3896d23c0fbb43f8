use super::{ParseError, ReceiverId, array_at, u8_at, u16_at, u32_at, u64_at};

pub(super) const KIND_JOIN: u8 = 2;
pub(super) const KIND_REFUSE: u8 = 6;
pub(super) const KIND_CONFIRM: u8 = 7;
/// The longest text of a refusal in bytes: the frame is then smaller than any announcement.
const MAX_TEXT_LEN: usize = 100;

mod field {
    use std::ops::Range;
    pub(super) const RECEIVER: Range<usize> = 16..24;
    pub(super) mod join {
        use std::ops::Range;
        pub(crate) const RECV_BUFFER: Range<usize> = 24..28;
        pub(crate) const WINDOW: Range<usize> = 28..30;
    }
    pub(super) mod refuse {
        pub(crate) const REASON: usize = 24;
        pub(crate) const TEXT_LEN: usize = 25;
        pub(crate) const TEXT: usize = 26;
    }
    pub(super) mod confirm {
        use std::ops::Range;
        pub(crate) const PROOF: Range<usize> = 24..56;
    }
}

/// The answer of a receiver that takes part in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// The receiver.
    pub receiver: ReceiverId,
    /// The real size in bytes of the receive buffer of the receiver's socket, as the kernel counts.
    pub recv_buffer: u32,
    /// The receive window: the number of unfinished blocks of the transfer that the receiver can
    /// hold.
    pub window: u16,
}

impl Join {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Self {
            receiver: ReceiverId(u64_at(bytes, field::RECEIVER)?),
            recv_buffer: u32_at(bytes, field::join::RECV_BUFFER)?,
            window: u16_at(bytes, field::join::WINDOW)?,
        })
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.receiver.0.to_be_bytes());
        out.extend_from_slice(&self.recv_buffer.to_be_bytes());
        out.extend_from_slice(&self.window.to_be_bytes());
    }
}

/// The reason why a receiver does not take a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RefuseReason {
    /// The file is larger than the receiver's limit for one file.
    TooLarge = 1,
    /// The receiver's quota or its disk has no room.
    NoSpace = 2,
    /// The receiver cannot write the file.
    Storage = 3,
    /// The received bytes do not match the announced BLAKE3 digest.
    Corrupt = 4,
    /// The receiver does not support the announced block layout or erasure code.
    Unsupported = 5,
    /// The receiver is shutting down.
    Stopping = 6,
}

/// The answer of a receiver that does not take the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refuse<'a> {
    /// The receiver.
    pub receiver: ReceiverId,
    /// The reason as a number.
    pub reason: RefuseReason,
    /// The reason in words, at most 100 bytes.
    pub text: &'a str,
}

impl<'a> Refuse<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let reason = match u8_at(bytes, field::refuse::REASON)? {
            1 => RefuseReason::TooLarge,
            2 => RefuseReason::NoSpace,
            3 => RefuseReason::Storage,
            4 => RefuseReason::Corrupt,
            5 => RefuseReason::Unsupported,
            6 => RefuseReason::Stopping,
            _ => return Err(ParseError::Field("refuse reason")),
        };
        let len = usize::from(u8_at(bytes, field::refuse::TEXT_LEN)?);
        if len > MAX_TEXT_LEN {
            return Err(ParseError::Field("refuse text"));
        }
        let text = bytes
            .get(field::refuse::TEXT..field::refuse::TEXT + len)
            .ok_or(ParseError::Truncated)?;
        Ok(Self {
            receiver: ReceiverId(u64_at(bytes, field::RECEIVER)?),
            reason,
            text: str::from_utf8(text).map_err(|_| ParseError::Field("refuse text"))?,
        })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let text = &self.text[..self.text.floor_char_boundary(MAX_TEXT_LEN)];
        out.extend_from_slice(&self.receiver.0.to_be_bytes());
        // The text was cut to 100 bytes above.
        out.extend_from_slice(&[self.reason as u8, text.len() as u8]);
        out.extend_from_slice(text.as_bytes());
    }
}

/// The answer of a receiver that has verified the file and given it its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// The receiver.
    pub receiver: ReceiverId,
    /// The proof that the receiver has the file; see [`crate::FileDigest::proof`].
    pub proof: [u8; 32],
}

impl Confirm {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Self {
            receiver: ReceiverId(u64_at(bytes, field::RECEIVER)?),
            proof: array_at(bytes, field::confirm::PROOF)?,
        })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.receiver.0.to_be_bytes());
        out.extend_from_slice(&self.proof);
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::*;

    #[test]
    fn literal_bytes() {
        let receiver = ReceiverId(0x1122_3344_5566_7788);
        let join = Frame {
            transfer: TransferId(7),
            body: Body::Join(Join { receiver, recv_buffer: 0x0040_0000, window: 64 }),
        };
        let bytes = join.to_datagram();
        assert_eq!(bytes[16..], *b"\x11\x22\x33\x44\x55\x66\x77\x88\0\x40\0\0\0\x40");
        assert_eq!(Frame::parse(&bytes), Ok(join));

        let refuse = Frame {
            transfer: TransferId(7),
            body: Body::Refuse(Refuse { receiver, reason: RefuseReason::NoSpace, text: "full" }),
        };
        let bytes = refuse.to_datagram();
        assert_eq!(bytes[24..], *b"\x02\x04full");
        assert_eq!(Frame::parse(&bytes), Ok(refuse));

        let confirm = Frame {
            transfer: TransferId(7),
            body: Body::Confirm(Confirm { receiver, proof: [9; 32] }),
        };
        let bytes = confirm.to_datagram();
        assert_eq!(bytes.len(), 56);
        assert_eq!(Frame::parse(&bytes), Ok(confirm));
    }
}
