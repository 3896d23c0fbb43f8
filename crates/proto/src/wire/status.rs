use super::{ParseError, ReceiverId, u8_at, u16_at, u32_at, u64_at};

pub(super) const KIND: u8 = 5;
/// The largest number of runs in one status, so that it fits an Ethernet frame.
pub const MAX_RUNS: usize = 130;
const RUN_LEN: usize = 10;

mod field {
    use std::ops::Range;
    pub(super) const RECEIVER: Range<usize> = 16..24;
    pub(super) const ROUND: Range<usize> = 24..28;
    pub(super) const COVERED: Range<usize> = 28..32;
    pub(super) const RECEIVED: Range<usize> = 32..40;
    pub(super) const OVERFLOWED: Range<usize> = 40..48;
    pub(super) const WINDOW: Range<usize> = 48..50;
    pub(super) const STATE: usize = 50;
    pub(super) const RUN_COUNT: usize = 51;
    pub(super) const RUNS: usize = 52;
}

/// The progress of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReceiverState {
    /// Symbols are missing.
    Receiving = 0,
    /// The receiver has every block and writes, hashes or publishes the file.
    Verifying = 1,
}

/// A run of neighbouring blocks, each of which lacks the same number of symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeficitRun {
    /// The first block of the run.
    pub first: u32,
    /// The number of blocks, at least 1.
    pub count: u32,
    /// The number of symbols that each block lacks, at least 1.
    pub deficit: u16,
}

/// A receiver's answer to a poll: how many symbols it lacks of which blocks.
///
/// The status counts the lacking symbols and does not list them, since one repair symbol serves
/// receivers that lost different symbols (as `NORM_NACK_ERASURES`, RFC 5740, section 4.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The receiver.
    pub receiver: ReceiverId,
    /// The number of the poll that the status answers.
    pub round: u32,
    /// The number of blocks on which the status reports, from block 0 on. Of these, a block in no
    /// run is complete.
    pub covered: u32,
    /// The number of symbol frames of this transfer received so far, duplicates included.
    pub received: u64,
    /// The number of datagrams that the kernel has dropped so far at the receiver's full socket
    /// buffer.
    pub overflowed: u64,
    /// The receive window: the number of unfinished blocks of the transfer that the receiver can
    /// hold, open ones included.
    pub window: u16,
    /// The receiver's progress.
    pub state: ReceiverState,
    /// The runs of blocks that lack symbols: ascending, disjoint, below `covered`, at most
    /// [`MAX_RUNS`].
    pub runs: Vec<DeficitRun>,
}

impl Status {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let state = match u8_at(bytes, field::STATE)? {
            0 => ReceiverState::Receiving,
            1 => ReceiverState::Verifying,
            _ => return Err(ParseError::Field("receiver state")),
        };
        let covered = u32_at(bytes, field::COVERED)?;
        let run_count = usize::from(u8_at(bytes, field::RUN_COUNT)?);
        if run_count > MAX_RUNS {
            return Err(ParseError::Field("run count"));
        }
        let mut runs = Vec::with_capacity(run_count);
        let mut next = 0u32;
        for index in 0..run_count {
            let at = field::RUNS + index * RUN_LEN;
            let run = DeficitRun {
                first: u32_at(bytes, at..at + 4)?,
                count: u32_at(bytes, at + 4..at + 8)?,
                deficit: u16_at(bytes, at + 8..at + 10)?,
            };
            let end = run.first.checked_add(run.count).ok_or(ParseError::Field("run"))?;
            if run.count == 0 || run.deficit == 0 || run.first < next || end > covered {
                return Err(ParseError::Field("run"));
            }
            next = end;
            runs.push(run);
        }
        Ok(Self {
            receiver: ReceiverId(u64_at(bytes, field::RECEIVER)?),
            round: u32_at(bytes, field::ROUND)?,
            covered,
            received: u64_at(bytes, field::RECEIVED)?,
            overflowed: u64_at(bytes, field::OVERFLOWED)?,
            window: u16_at(bytes, field::WINDOW)?,
            state,
            runs,
        })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.receiver.0.to_be_bytes());
        out.extend_from_slice(&self.round.to_be_bytes());
        out.extend_from_slice(&self.covered.to_be_bytes());
        out.extend_from_slice(&self.received.to_be_bytes());
        out.extend_from_slice(&self.overflowed.to_be_bytes());
        out.extend_from_slice(&self.window.to_be_bytes());
        let runs = &self.runs[..self.runs.len().min(MAX_RUNS)];
        // MAX_RUNS fits a byte, so that the cast is exact.
        out.extend_from_slice(&[self.state as u8, runs.len() as u8]);
        for run in runs {
            out.extend_from_slice(&run.first.to_be_bytes());
            out.extend_from_slice(&run.count.to_be_bytes());
            out.extend_from_slice(&run.deficit.to_be_bytes());
        }
    }

    /// The largest number of runs of a status frame of at most `bytes` bytes; `None` if the frame is
    /// longer without any.
    pub(crate) fn runs_within(bytes: u64) -> Option<usize> {
        let runs = bytes.checked_sub(field::RUNS as u64)? / RUN_LEN as u64;
        Some(usize::try_from(runs).unwrap_or(MAX_RUNS).min(MAX_RUNS))
    }

    /// The number of symbols that `block` lacks at this receiver; `None` if the status does not
    /// report on the block.
    #[must_use]
    pub fn deficit(&self, block: u32) -> Option<u16> {
        if block >= self.covered {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= block);
        let run = after.checked_sub(1).map(|index| self.runs[index]);
        Some(run.filter(|run| block - run.first < run.count).map_or(0, |run| run.deficit))
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::*;

    fn status() -> Frame<'static> {
        Frame {
            transfer: TransferId(7),
            body: Body::Status(Status {
                receiver: ReceiverId(1),
                round: 2,
                covered: 10,
                received: 3,
                overflowed: 4,
                window: 5,
                state: ReceiverState::Receiving,
                runs: vec![
                    DeficitRun { first: 1, count: 2, deficit: 7 },
                    DeficitRun { first: 9, count: 1, deficit: 128 },
                ],
            }),
        }
    }

    #[test]
    fn literal_bytes() {
        let bytes = status().to_datagram();
        assert_eq!(bytes[24..32], *b"\0\0\0\x02\0\0\0\x0a");
        assert_eq!(
            bytes[48..],
            *b"\0\x05\0\x02\0\0\0\x01\0\0\0\x02\0\x07\0\0\0\x09\0\0\0\x01\0\x80"
        );
        assert_eq!(Frame::parse(&bytes), Ok(status()));
    }

    #[test]
    fn overlapping_runs_are_refused() {
        let mut bytes = status().to_datagram();
        bytes[62 + 3] = 2;
        assert_eq!(Frame::parse(&bytes), Err(ParseError::Field("run")));
    }

    #[test]
    fn deficit_of_a_block() {
        let Body::Status(status) = status().body else { unreachable!() };
        let deficits: Vec<_> = [0, 1, 2, 3, 9, 10].map(|block| status.deficit(block)).into();
        assert_eq!(deficits, [Some(0), Some(7), Some(7), Some(0), Some(128), None]);
    }
}
