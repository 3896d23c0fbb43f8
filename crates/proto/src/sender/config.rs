//! A sender's configuration, events and results.

use std::net::SocketAddr;
use std::time::Duration;

use crate::digest::FileDigest;
use crate::layout::BlockLayout;
use crate::wire::{Frame, ReceiverId, TransferId};

/// The configuration of a [`Sender`](super::Sender).
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// The id of the transfer on the wire.
    pub transfer: TransferId,
    /// The file name for the announcement, of which at most 255 bytes are sent.
    pub name: String,
    /// The digest of the file.
    pub digest: FileDigest,
    /// The time at which the sender is created, in milliseconds since 1970.
    pub unix_time_ms: u64,
    /// The division of the file into blocks.
    pub layout: BlockLayout,
    /// The number of receivers that must join before sending starts. `None`: sending starts when no
    /// new receiver has joined for 20 ms.
    pub servers: Option<usize>,
    /// The longest time to wait for joins.
    pub join_wait: Duration,
    /// The largest rate in bytes of symbol frames per second; `None` for no limit.
    pub rate: Option<u64>,
    /// The largest number of bytes of sent blocks that are kept in memory for repair.
    pub repair_memory: usize,
    /// The bytes that a receiver has to gain in each second for which the sender waits for it,
    /// beyond the first 30.
    pub least_gain: u64,
    /// The treatment of a receiver that is much slower than the others.
    pub slow: SlowReceivers,
}

/// The treatment of a receiver that is much slower than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SlowReceivers {
    /// The others wait for the slow receiver, but for no longer than about half of the time.
    Wait,
    /// The slow receiver gets the symbols that it lacks after the others have the file.
    Drop,
}

/// A batch of datagrams of equal length, one after the other, as UDP segmentation offload takes
/// them. The last one may be shorter.
#[derive(Debug, Default)]
pub struct TransmitBatch {
    /// The bytes of the datagrams.
    pub bytes: Vec<u8>,
    /// The length in bytes of each datagram.
    pub segment_len: usize,
}

impl TransmitBatch {
    /// Makes the batch one datagram with `frame`.
    pub(super) fn single(&mut self, frame: &Frame<'_>) {
        self.bytes.clear();
        frame.emit(&mut self.bytes);
        self.segment_len = self.bytes.len();
    }
}

/// An event of a [`Sender`](super::Sender) for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEvent {
    /// A receiver takes part.
    Joined {
        /// The receiver.
        receiver: ReceiverId,
        /// The address from which the receiver answers.
        server: SocketAddr,
    },
    /// A receiver has verified and published the file.
    Confirmed {
        /// The receiver.
        receiver: ReceiverId,
        /// The address from which the receiver answers.
        server: SocketAddr,
    },
    /// A receiver is so slow that the others no longer wait for it; see [`SlowReceivers`].
    FinishesLater {
        /// The receiver.
        receiver: ReceiverId,
        /// The address from which the receiver answers.
        server: SocketAddr,
    },
}

/// The outcome of a transfer for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The receiver.
    pub receiver: ReceiverId,
    /// The address from which the receiver answered.
    pub server: SocketAddr,
    /// Whether the receiver has ever answered a poll. One that has not may never have been there:
    /// any host can send a Join.
    pub has_answered: bool,
    /// `Ok` if the receiver has confirmed the file, else the reason in words.
    pub result: Result<(), String>,
}

/// The progress of a transfer at its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendProgress {
    /// The number of source symbols that have been sent once.
    pub source_sent: u64,
    /// The number of source symbols of the file.
    pub source_total: u64,
    /// The number of repair symbols sent. It includes source symbols that were sent again.
    pub repair_sent: u64,
    /// The number of receivers that joined.
    pub joined: usize,
    /// The number of receivers that confirmed the file.
    pub confirmed: usize,
    /// Whether the sender still waits for receivers to join.
    pub is_announcing: bool,
    /// The number of symbols that all receivers together have gained, by what they say.
    pub gained: u64,
    /// The number of receivers that verify the file.
    pub verifying: usize,
}
