//! Reliable broadcast of files to any number of receivers, as state machines without I/O.
//!
//! The crate opens no socket and no file, reads no clock and starts no thread. A [`Sender`] carries
//! one file to any number of receivers; a [`Receiver`] takes any number of files from any number of
//! senders. `docs/PROTOCOL.md` specifies the protocol. The caller drives both in this order:
//!
//! 1. Call `handle_datagram(now, from, bytes)` for each datagram that arrives, and
//!    `handle_timeout(now)` when the time that `poll_timeout()` gave has passed.
//! 2. After each of these calls, call `poll_event()` until it gives `None`, and do what the events
//!    ask for.
//! 3. Call `poll_transmit(now, …)` until it has nothing, and send the datagrams that it gives.
//! 4. Wait for a datagram or for the time that `poll_timeout()` gives.
//!
//! ```text
//! sender:    Announcing ──joined──> Transferring ──all confirmed or given up──> Ended
//! receiver:  Offered ──accept──> Receiving ──all blocks──> Verifying ──published──> Confirmed
//!                └──refuse──> Refused <──────failed────────────┘
//! ```
//!
//! An example of a transfer in one process, which delivers every datagram at once:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::{Duration, Instant};
//!
//! use siar_proto::wire::{ReceiverId, TransferId};
//! use siar_proto::{
//!     BlockLayout, FileDigest, Receiver, ReceiverConfig, ReceiverEvent, Sender, SenderConfig,
//!     SlowReceivers, TransmitBatch,
//! };
//!
//! let file = b"every server gets these bytes".repeat(100);
//! let (client, server): (SocketAddr, SocketAddr) =
//!     ("192.0.2.1:40000".parse()?, "192.0.2.2:5005".parse()?);
//! let mut now = Instant::now();
//! let mut sender = Sender::new(now, SenderConfig {
//!     transfer: TransferId(1),
//!     name: "greeting.txt".to_owned(),
//!     digest: FileDigest::of_bytes(&file),
//!     unix_time_ms: 0,
//!     layout: BlockLayout::new(file.len() as u64, 128, 16)?,
//!     servers: Some(1),
//!     join_wait: Duration::from_secs(1),
//!     rate: None,
//!     repair_memory: 1 << 20,
//!     least_gain: 8_000,
//!     slow: SlowReceivers::Wait,
//! });
//! let mut receiver = Receiver::new(ReceiverConfig {
//!     id: ReceiverId(7),
//!     recv_buffer: 1 << 20,
//!     block_memory: 1 << 20,
//!     max_transfers: 4096,
//!     silence: Duration::from_secs(30),
//! });
//!
//! let mut received = vec![0; file.len()];
//! let mut batch = TransmitBatch::default();
//! while !sender.is_ended() {
//!     while sender.poll_transmit(now, &mut &file[..], 64, &mut batch)? {
//!         for datagram in batch.bytes.chunks(batch.segment_len) {
//!             receiver.handle_datagram(now, client, datagram)?;
//!             while let Some(event) = receiver.poll_event() {
//!                 match event {
//!                     ReceiverEvent::Announced { key, .. } => _ = receiver.accept(key, &[]),
//!                     ReceiverEvent::Block { key, block } => {
//!                         let offset = block.offset as usize;
//!                         let (bytes, len) = block.decode()?;
//!                         received[offset..offset + len].copy_from_slice(&bytes[..len]);
//!                         receiver.handle_block_written(key, bytes);
//!                     }
//!                     ReceiverEvent::Complete { key } => {
//!                         receiver.handle_published(key, &FileDigest::of_bytes(&received));
//!                     }
//!                     ReceiverEvent::Abandoned { .. } => unreachable!(),
//!                 }
//!             }
//!         }
//!     }
//!     while let Some((_, answer)) = receiver.poll_transmit() {
//!         sender.handle_datagram(now, server, &answer);
//!     }
//!     now += Duration::from_millis(1);
//!     sender.handle_timeout(now);
//! }
//! assert_eq!(received, file);
//! assert!(sender.outcomes().iter().all(|outcome| outcome.result.is_ok()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`wire`] | the frames: parsing and emitting bytes |
//! | `layout` | the division of a file into blocks of symbols |
//! | `digest` | a file's BLAKE3, and the proof that a receiver has the file |
//! | `sender` | the sending side: one file to any number of receivers |
//! | `receiver` | the receiving side: any number of files from any number of senders |
//! | `units` | counts of symbols and of blocks as types |

mod digest;
mod layout;
mod receiver;
mod sender;
mod units;
pub mod wire;

pub use digest::FileDigest;
pub use layout::{BlockLayout, LayoutError};
pub use receiver::{
    Abandonment, AnnouncedFile, Peer, ReceivedBlock, Receiver, ReceiverConfig, ReceiverEvent,
    TransferKey,
};
pub use sender::{
    BlockSource, Outcome, SendProgress, Sender, SenderConfig, SenderEvent, SlowReceivers,
    TransmitBatch,
};
