use super::{ParseError, u8_at};

pub(super) const KIND: u8 = 8;

mod field {
    pub(super) const REASON: usize = 16;
}

/// The reason why a transfer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Every receiver that joined has the file or was given up.
    Finished,
    /// The sender stopped earlier, or no receiver joined in time.
    Cancelled,
}

/// The last frame of a transfer: the sender sends nothing more. It is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The reason.
    pub reason: EndReason,
}

impl End {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let reason = match u8_at(bytes, field::REASON)? {
            0 => EndReason::Finished,
            1 => EndReason::Cancelled,
            _ => return Err(ParseError::Field("end reason")),
        };
        Ok(Self { reason })
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.push(match self.reason {
            EndReason::Finished => 0,
            EndReason::Cancelled => 1,
        });
    }
}
