use super::{ParseError, u8_at};

pub(super) const KIND: u8 = 8;

mod field {
    pub(super) const REASON: usize = 16;
}

/// Why a transfer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Every receiver that took part has the file or was given up.
    Finished,
    /// The sender stopped before that.
    Cancelled,
}

/// The transfer is over; nothing more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
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
