use super::{ParseError, u32_at};

pub(super) const KIND: u8 = 4;

mod field {
    use std::ops::Range;
    pub(super) const ROUND: Range<usize> = 16..20;
    pub(super) const HORIZON: Range<usize> = 20..24;
    pub(super) const SLOT_MICROS: Range<usize> = 24..28;
}

/// A request to every receiver for a [`Status`](super::Status). It has the role of
/// `NORM_CMD(FLUSH)` with an acknowledgement request (RFC 5740, section 4.2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// The number of this poll, counted from 1.
    pub round: u32,
    /// The number of blocks sent so far, from block 0 on. A receiver reports on these only.
    pub horizon: u32,
    /// The time in microseconds over which the answers are spread at random; 0 for answers at once.
    pub slot_micros: u32,
}

impl Poll {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Self {
            round: u32_at(bytes, field::ROUND)?,
            horizon: u32_at(bytes, field::HORIZON)?,
            slot_micros: u32_at(bytes, field::SLOT_MICROS)?,
        })
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.round.to_be_bytes());
        out.extend_from_slice(&self.horizon.to_be_bytes());
        out.extend_from_slice(&self.slot_micros.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::*;

    #[test]
    fn literal_bytes() {
        let poll = Frame {
            transfer: TransferId(7),
            body: Body::Poll(Poll { round: 3, horizon: 8, slot_micros: 500 }),
        };
        let bytes = poll.to_datagram();
        assert_eq!(bytes[5], 4);
        assert_eq!(bytes[16..], *b"\0\0\0\x03\0\0\0\x08\0\0\x01\xf4");
        assert_eq!(Frame::parse(&bytes), Ok(poll));
    }
}
