use super::{HEADER_LEN, ParseError, TransferId, emit_header, u16_at, u32_at};

pub(super) const KIND: u8 = 3;
/// The length in bytes of a symbol frame before the payload.
pub const SYMBOL_HEADER_LEN: usize = 24;

mod field {
    use std::ops::Range;
    pub(super) const BLOCK: Range<usize> = 16..20;
    pub(super) const SYMBOL: Range<usize> = 20..22;
    pub(super) const PAYLOAD: usize = 24;
}

/// One encoding symbol of a block, with its encoding symbol id (RFC 5052). A symbol with an id
/// below the block's number of source symbols is a source symbol, the others are repair symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The number of the block, counted from 0.
    pub block: u32,
    /// The encoding symbol id within the block.
    pub symbol: u16,
    /// The bytes of the symbol, always a whole one: the file's last symbol is padded with zeros.
    pub payload: &'a [u8],
}

impl<'a> Symbol<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self {
            block: u32_at(bytes, field::BLOCK)?,
            symbol: u16_at(bytes, field::SYMBOL)?,
            payload: bytes.get(field::PAYLOAD..).ok_or(ParseError::Truncated)?,
        })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.block.to_be_bytes());
        out.extend_from_slice(&self.symbol.to_be_bytes());
        out.extend_from_slice(&[0; SYMBOL_HEADER_LEN - HEADER_LEN - 6]);
        out.extend_from_slice(self.payload);
    }

    /// Appends the frame without its payload to `out`. The caller appends the payload, and may
    /// compute it in place.
    pub fn emit_header(out: &mut Vec<u8>, transfer: TransferId, block: u32, symbol: u16) {
        emit_header(out, KIND, transfer);
        Symbol { block, symbol, payload: &[] }.emit(out);
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::*;

    #[test]
    fn literal_bytes() {
        let symbol = Frame {
            transfer: TransferId(7),
            body: Body::Symbol(Symbol { block: 2, symbol: 130, payload: b"abc" }),
        };
        let bytes = symbol.to_datagram();
        assert_eq!(bytes[5], 3);
        assert_eq!(bytes[16..], *b"\0\0\0\x02\0\x82\0\0abc");
        assert_eq!(Frame::parse(&bytes), Ok(symbol));
    }
}
