//! Simulations with thousands of receivers: only the protocol's state machines run, in a
//! simulated network.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use siar_proto::wire::{ReceiverId, TransferId};
use siar_proto::{
    BlockLayout, FileDigest, Receiver, ReceiverConfig, ReceiverEvent, Sender, SenderConfig,
    SlowReceivers, TransmitBatch,
};

/// Bytes of a symbol: small, so that ten thousand receivers fit in memory.
const SYMBOL_SIZE: u16 = 16;
const SYMBOLS: u64 = 4096;
/// Bytes of frames per second, for the symbol rate that a gigabit link has with symbols of the
/// usual size.
const RATE: u64 = 84_000 * 40;
const LATENCY: Duration = Duration::from_micros(100);
/// The part of the datagrams that each receiver loses, in per cent.
const LOSS: u64 = 1;
const MAX_STEPS: u64 = 50_000_000;

/// The result of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Crowd {
    /// The number of receivers; all of them confirmed the file.
    pub receivers: usize,
    /// Seconds of the simulated clock from the first announcement to the end.
    pub seconds: f64,
    /// The number of datagrams that reached the sender.
    pub reports: u64,
    /// The highest rate of `reports` in any tenth of a second, in datagrams per second.
    pub busiest: f64,
    /// The number of datagrams that the sender sent.
    pub datagrams: u64,
    /// `datagrams` per source datagram.
    pub datagrams_per_source: f64,
}

enum Due {
    AtReceivers(Vec<u8>),
    AtSender(usize, Vec<u8>),
    Timer(usize),
}

struct Scheduled {
    at: Instant,
    sequence: u64,
    due: Due,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[derive(Default)]
struct Schedule {
    heap: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
}

impl Schedule {
    fn push(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.heap.push(Reverse(Scheduled { at, sequence: self.sequence, due }));
    }

    fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(next)| next.at)
    }
}

/// Simulates the transfer of a file to `count` receivers.
///
/// # Errors
/// A state machine failed, or not all receivers confirmed the file.
pub fn simulate(count: usize) -> io::Result<Crowd> {
    let start = Instant::now();
    let mut now = start;
    let file: Vec<u8> = (0..SYMBOLS * u64::from(SYMBOL_SIZE)).map(|at| (at % 251) as u8).collect();
    let digest = FileDigest::of_bytes(&file);
    let layout = BlockLayout::new(file.len() as u64, SYMBOL_SIZE, 128).map_err(io::Error::other)?;
    let config = SenderConfig {
        transfer: TransferId(1),
        name: "file".to_owned(),
        digest,
        unix_time_ms: 0,
        layout,
        servers: Some(count),
        join_wait: Duration::from_secs(10),
        rate: Some(RATE),
        repair_memory: 0,
        slow: SlowReceivers::Wait,
    };
    let mut sender = Sender::new(now, config);
    let address = SocketAddr::from(([10, 0, 0, 1], 40_000));
    let of_receiver = |index: usize| {
        let [_, _, high, low] = (index as u32).to_be_bytes();
        SocketAddr::from(([10, 1, high, low], 5005))
    };
    let mut receivers: Vec<Receiver> = (0..count as u64)
        .map(|id| {
            Receiver::new(ReceiverConfig {
                id: ReceiverId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
                recv_buffer: 16 << 20,
                block_memory: 1 << 20,
                silence: Duration::from_secs(30),
            })
        })
        .collect();
    let (mut schedule, mut batch) = (Schedule::default(), TransmitBatch::default());
    let (mut datagrams, mut reports, mut random) = (0, 0, 1u64);
    let mut per_tenth = vec![0u64; 1];
    for _ in 0..MAX_STEPS {
        while sender.poll_transmit(now, &mut file.as_slice(), 16, &mut batch)? {
            for datagram in batch.bytes.chunks(batch.segment_len) {
                datagrams += 1;
                schedule.push(now + LATENCY, Due::AtReceivers(datagram.to_vec()));
            }
        }
        while sender.poll_event().is_some() {}
        if sender.is_ended() {
            break;
        }
        let next = [sender.poll_timeout(now), schedule.next_at()].into_iter().flatten().min();
        now = now.max(next.unwrap_or(now));
        while schedule.next_at().is_some_and(|at| at <= now) {
            let Some(Reverse(scheduled)) = schedule.heap.pop() else { break };
            match scheduled.due {
                Due::AtSender(from, bytes) => {
                    reports += 1;
                    let tenth = (now - start).as_millis() as usize / 100;
                    per_tenth.resize(per_tenth.len().max(tenth + 1), 0);
                    per_tenth[tenth] += 1;
                    sender.handle_datagram(now, of_receiver(from), &bytes);
                }
                Due::Timer(index) => {
                    receivers[index].handle_timeout(now);
                    serve(&mut receivers[index], index, now, &digest, &mut schedule);
                }
                Due::AtReceivers(bytes) => {
                    for (index, receiver) in receivers.iter_mut().enumerate() {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        if random % 100 >= LOSS {
                            receiver
                                .handle_datagram(now, address, &bytes)
                                .map_err(io::Error::other)?;
                            serve(receiver, index, now, &digest, &mut schedule);
                        }
                    }
                }
            }
        }
        sender.handle_timeout(now);
    }
    let confirmed = sender.outcomes().iter().filter(|outcome| outcome.result.is_ok()).count();
    if confirmed != count {
        return Err(io::Error::other(format!("{confirmed} of {count} receivers confirmed")));
    }
    Ok(Crowd {
        receivers: count,
        seconds: (now - start).as_secs_f64(),
        reports,
        busiest: per_tenth.into_iter().max().unwrap_or(0) as f64 * 10.0,
        datagrams,
        datagrams_per_source: datagrams as f64 / SYMBOLS as f64,
    })
}

/// Handles a receiver's events without delay, and schedules its datagrams and its timer.
fn serve(
    receiver: &mut Receiver,
    index: usize,
    now: Instant,
    digest: &FileDigest,
    schedule: &mut Schedule,
) {
    while let Some(event) = receiver.poll_event() {
        match event {
            ReceiverEvent::Announced { key, .. } => {
                receiver.accept(key, &[]);
            }
            ReceiverEvent::Block { key, block } => {
                if let Ok((buffer, _)) = block.decode() {
                    receiver.handle_block_written(key, buffer);
                }
            }
            ReceiverEvent::Complete { key } => receiver.handle_published(key, digest),
            ReceiverEvent::Abandoned { .. } => {}
        }
    }
    while let Some((_, bytes)) = receiver.poll_transmit() {
        schedule.push(now + LATENCY, Due::AtSender(index, bytes));
    }
    if let Some(at) = receiver.poll_timeout().filter(|at| *at < now + Duration::from_secs(1)) {
        schedule.push(at.max(now + Duration::from_micros(1)), Due::Timer(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_receivers_all_confirm() {
        let crowd = simulate(100).unwrap();
        assert_eq!(crowd.receivers, 100);
        assert!(crowd.datagrams_per_source < 1.3, "{crowd:?}");
    }
}
