use super::{HEADER_LEN, ParseError, array_at, u8_at, u16_at, u64_at};

pub(super) const KIND: u8 = 1;
/// The shortest announcement in bytes. Shorter ones are padded, so that no answer is larger than
/// the announcement: a receiver must not amplify traffic.
const MIN_LEN: usize = 128;

mod field {
    use std::ops::Range;
    pub(super) const SIZE: Range<usize> = 16..24;
    pub(super) const SYMBOL_SIZE: Range<usize> = 24..26;
    pub(super) const BLOCK_SYMBOLS: Range<usize> = 26..28;
    pub(super) const CODE: usize = 28;
    pub(super) const NAME_LEN: usize = 29;
    pub(super) const BLAKE3: Range<usize> = 32..64;
    pub(super) const TIME: Range<usize> = 64..72;
    pub(super) const NAME: usize = 72;
}

/// The announcement of a file. It tells a receiver all that it needs to receive the file, as the
/// object transmission information of RFC 5052 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce<'a> {
    /// The size of the file in bytes.
    pub size: u64,
    /// The size of each symbol in bytes, not 0.
    pub symbol_size: u16,
    /// The largest number of source symbols in a block, not 0.
    pub block_symbols: u16,
    /// The number of the erasure code; 1 is the Cauchy code of [`siar_code`].
    pub code: u8,
    /// The BLAKE3 digest of the whole file.
    pub blake3: [u8; 32],
    /// The time when this announcement was sent, in milliseconds since 1970 by the sender's clock.
    pub time_ms: u64,
    /// The sender's name for the file. The sender cuts it to 255 bytes; a receiver makes it safe
    /// before use.
    pub name: &'a str,
}

impl<'a> Announce<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let name_len = usize::from(u8_at(bytes, field::NAME_LEN)?);
        let name = bytes.get(field::NAME..field::NAME + name_len).ok_or(ParseError::Truncated)?;
        let announce = Self {
            size: u64_at(bytes, field::SIZE)?,
            symbol_size: u16_at(bytes, field::SYMBOL_SIZE)?,
            block_symbols: u16_at(bytes, field::BLOCK_SYMBOLS)?,
            code: u8_at(bytes, field::CODE)?,
            blake3: array_at(bytes, field::BLAKE3)?,
            time_ms: u64_at(bytes, field::TIME)?,
            name: str::from_utf8(name).map_err(|_| ParseError::Field("name"))?,
        };
        if announce.symbol_size == 0 {
            return Err(ParseError::Field("symbol size"));
        }
        if announce.block_symbols == 0 {
            return Err(ParseError::Field("block symbols"));
        }
        Ok(announce)
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len() - HEADER_LEN;
        let name = &self.name[..self.name.floor_char_boundary(255)];
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.symbol_size.to_be_bytes());
        out.extend_from_slice(&self.block_symbols.to_be_bytes());
        // The name was cut to 255 bytes above.
        out.extend_from_slice(&[self.code, name.len() as u8, 0, 0]);
        out.extend_from_slice(&self.blake3);
        out.extend_from_slice(&self.time_ms.to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        let len = (out.len() - start).max(MIN_LEN);
        out.resize(start + len, 0);
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::*;

    #[test]
    fn literal_bytes() {
        let announce = Frame {
            transfer: TransferId(0x0102_0304_0506_0708),
            body: Body::Announce(Announce {
                size: 19_320,
                symbol_size: 1408,
                block_symbols: 128,
                code: 1,
                blake3: [0xab; 32],
                time_ms: 0x0123_4567_89ab_cdef,
                name: "a.png",
            }),
        };
        let bytes = announce.to_datagram();
        assert_eq!(bytes[..16], *b"SIAR\x01\x01\0\0\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!(bytes[16..32], *b"\0\0\0\0\0\0\x4b\x78\x05\x80\0\x80\x01\x05\0\0");
        assert_eq!(bytes[64..77], *b"\x01\x23\x45\x67\x89\xab\xcd\xefa.png");
        assert_eq!(bytes.len(), 128);
        assert_eq!(Frame::parse(&bytes), Ok(announce));
        assert_eq!(Frame::parse(&bytes[..76]), Err(ParseError::Truncated));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        let mut bytes = b"SIAR\x01\x01".to_vec();
        bytes.resize(128, 0);
        bytes[25] = 1;
        bytes[27] = 1;
        bytes[29] = 1;
        bytes[72] = 0xff;
        assert_eq!(Frame::parse(&bytes), Err(ParseError::Field("name")));
    }
}
