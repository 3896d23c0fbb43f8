//! A receiver's configuration and its events.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ReceivedBlock;
use crate::layout::BlockLayout;
use crate::wire::{EndReason, ReceiverId, TransferId};

/// A sender, as its receivers tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The address that its datagrams come from, which any host can forge.
    Address(SocketAddr),
    /// The id of its sealing session, which only a holder of the key can begin. A session has one
    /// address after another, which the owner of the [`Receiver`](super::Receiver) knows.
    Session([u8; 12]),
}

impl Peer {
    /// The source that is charged for the peer's transfers. One host has many ports.
    pub(super) fn source(self) -> Source {
        match self {
            Self::Address(address) => Source::Host(address.ip()),
            Self::Session(_) => Source::KeyHolders,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Session(id) => {
                f.write_str("session ")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Who is charged for what transfers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Host(IpAddr),
    /// All who have the key: they trust each other.
    KeyHolders,
}

/// The key of a transfer, which is the way of one file from one sender to its receivers: the
/// sender and the id that it chose.
pub type TransferKey = (Peer, TransferId);

/// The configuration of a [`Receiver`](super::Receiver).
#[derive(Debug, Clone, Copy)]
pub struct ReceiverConfig {
    /// The id of this receiver on the wire.
    pub id: ReceiverId,
    /// The real size in bytes of the socket's receive buffer, as the kernel counts.
    pub recv_buffer: u32,
    /// The budget in bytes for unfinished and unwritten blocks of all transfers. The first few
    /// blocks of a transfer may exceed it by half. Repair symbols are not counted.
    pub block_memory: usize,
    /// The largest number of transfers that are known at once, ended ones included.
    pub max_transfers: usize,
    /// The time after which a silent sender is given up. Ended transfers are forgotten after an
    /// equal time of silence.
    pub silence: Duration,
}

/// A file as its sender announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedFile {
    /// The sender.
    pub from: Peer,
    /// The sender's name for the file. It is not safe to use as a path.
    pub name: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// The BLAKE3 digest of the whole file.
    pub blake3: [u8; 32],
    /// The time when the announcement was sent, in milliseconds since 1970 by the sender's clock.
    pub announced_ms: u64,
    /// The division of the file into blocks.
    pub layout: BlockLayout,
}

/// A task for the owner of a [`Receiver`](super::Receiver).
#[derive(Debug)]
pub enum ReceiverEvent {
    /// A sender has announced a file. The owner answers with
    /// [`Receiver::accept`](super::Receiver::accept), [`Receiver::refuse`](super::Receiver::refuse)
    /// or [`Receiver::ignore`](super::Receiver::ignore).
    Announced {
        /// The transfer.
        key: TransferKey,
        /// The announced file.
        file: AnnouncedFile,
    },
    /// A block can be restored. The owner decodes and writes it, then calls
    /// [`Receiver::handle_block_written`](super::Receiver::handle_block_written).
    Block {
        /// The transfer.
        key: TransferKey,
        /// The block, with enough symbols for decoding.
        block: ReceivedBlock,
    },
    /// The transfer has no more blocks. Once all are written, the owner verifies and publishes the
    /// file, then calls [`Receiver::handle_published`](super::Receiver::handle_published) or
    /// [`Receiver::refuse`](super::Receiver::refuse).
    Complete {
        /// The transfer.
        key: TransferKey,
    },
    /// The receiver has given up a transfer before its file was published. The owner can delete
    /// what it has written of the file.
    Abandoned {
        /// The transfer.
        key: TransferKey,
        /// The reason.
        why: Abandonment,
    },
}

/// The reason why a receiver has given up a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandonment {
    /// The sender ended the transfer, with this reason.
    Ended(EndReason),
    /// The sender has been silent for [`ReceiverConfig::silence`].
    Silent,
    /// The transfer made room for others: its source held most, and it had brought least.
    Replaced,
}
