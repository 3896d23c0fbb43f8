//! Hosts of the same network that mean harm. Each sends valid frames, and not many of them.
//!
//! | module | the host |
//! |---|---|
//! | `liar` | takes part in a transfer and lies about what it has received |
//! | `starver` | begins as many transfers as a server takes, and keeps them alive |
//! | `replayer` | sends again what others have sealed |
//! | `squatter` | announces a file as large as the quota, and keeps it open |

mod liar;
mod replayer;
mod squatter;
mod starver;

pub(crate) use liar::liar;
pub(crate) use replayer::replayer;
pub(crate) use squatter::squatter;
pub(crate) use starver::starver;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use siar_core::event::EventKind;
use siar_proto::FileDigest;
use siar_proto::wire::{Announce, Body, Frame, Symbol, TransferId};
use stage::StageError;
use stage::server::RunningServer;

/// The longest time for which an attack goes on, should the case not end it.
const LONGEST_ATTACK: Duration = Duration::from_secs(120);

/// Does `work` while `attack` goes on in another thread, and returns the results of both. The
/// attack ends when the function that it is given says that it does not go on.
fn amid<A: Send, W>(
    attack: impl FnOnce(&dyn Fn() -> bool) -> A + Send,
    work: impl FnOnce() -> W,
) -> Result<(A, W), &'static str> {
    let (is_over, began) = (AtomicBool::new(false), Instant::now());
    let goes_on = || !is_over.load(Ordering::Relaxed) && began.elapsed() < LONGEST_ATTACK;
    thread::scope(|scope| {
        let attacking = scope.spawn(|| attack(&goes_on));
        let worked = work();
        is_over.store(true, Ordering::Relaxed);
        let attacked = attacking.join().map_err(|_| "the attack panicked")?;
        Ok((attacked, worked))
    })
}

/// The announcement of a file that nobody has.
fn announce(transfer: u64, size: u64, symbol_size: u16, name: &str) -> Vec<u8> {
    let announce = Announce {
        size,
        symbol_size,
        block_symbols: 128,
        code: 1,
        blake3: FileDigest::of_bytes(&transfer.to_be_bytes()).name(),
        time_ms: 0,
        name,
    };
    Frame { transfer: TransferId(transfer), body: Body::Announce(announce) }.to_datagram()
}

/// A symbol of the first block of such a file.
fn symbol(transfer: u64, number: u16, symbol_size: u16) -> Vec<u8> {
    let payload = vec![7; usize::from(symbol_size)];
    let symbol = Symbol { block: 0, symbol: number, payload: &payload };
    Frame { transfer: TransferId(transfer), body: Body::Symbol(symbol) }.to_datagram()
}

/// The number of datagrams that the server has dropped so far for a reason that contains `part`.
fn dropped(server: &RunningServer, part: &str) -> Result<u64, StageError> {
    let events = server.events()?;
    let counts = events.iter().filter_map(|event| match &event.kind {
        EventKind::Dropped { reason, count } if reason.contains(part) => Some(*count),
        _ => None,
    });
    Ok(counts.sum())
}
