//! The reliable broadcast as state machines: no socket, no file, no clock.
//!
//! [`Sender`] carries one file to any number of receivers; [`Receiver`] takes any number of
//! files from any number of senders. Both have the same shape, and are driven in this order:
//!
//! 1. `handle_datagram(now, from, bytes)` for what came in, `handle_timeout(now)` when
//!    `poll_timeout()` has passed;
//! 2. after each of these, `poll_event()` until `None`, and do what the events ask for;
//! 3. `poll_transmit(now, …)` until it has nothing, and send what it gives;
//! 4. wait for a datagram or for `poll_timeout()`.
//!
//! ```text
//! sender:    Announcing ──joined──> Transferring ──all have it or were given up──> Ended
//! receiver:  Offered ──accept──> Receiving ──all blocks──> Verifying ──published──> Confirmed
//!                └──refuse──> Refused <──────failed────────────┘
//! ```

mod block;
mod code;
mod digest;
mod flow;
mod gf256;
mod incoming;
mod members;
mod outgoing;
mod path;
mod polls;
mod receiver;
mod sender;
mod transfers;

pub use block::{BlockLayout, LayoutError, MAX_BLOCK_SYMBOLS, MAX_REPAIR_SYMBOLS};
pub use code::{CAUCHY_CODE, CauchyCode, DecodeError, ErasureCode};
pub use digest::FileDigest;
pub use incoming::ReceivedBlock;
pub use outgoing::BlockSource;
pub use receiver::{AnnouncedFile, Receiver, ReceiverConfig, ReceiverEvent, TransferKey};
pub use sender::{
    Outcome, SendProgress, Sender, SenderConfig, SenderEvent, SlowReceivers, TransmitBatch,
};
