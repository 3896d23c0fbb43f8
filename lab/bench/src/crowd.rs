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
    let file: Vec<u8> = (0..SYMBOLS * u64::from(SYMBOL_SIZE)).map(|at| (at % 251) as u8).collect();
    let start = Instant::now();
    let mut simulation = Simulation::new(start, &file, count)?;
    for _ in 0..MAX_STEPS {
        simulation.transmit(&file)?;
        if simulation.sender.is_ended() {
            break;
        }
        simulation.deliver_due()?;
        simulation.sender.handle_timeout(simulation.now);
    }
    let outcomes = simulation.sender.outcomes();
    let confirmed = outcomes.iter().filter(|outcome| outcome.result.is_ok()).count();
    if confirmed != count {
        return Err(io::Error::other(format!("{confirmed} of {count} receivers confirmed")));
    }
    let busiest = simulation.reports_per_tenth.iter().max().copied().unwrap_or(0);
    Ok(Crowd {
        receivers: count,
        seconds: (simulation.now - start).as_secs_f64(),
        reports: simulation.reports_per_tenth.iter().sum(),
        busiest: busiest as f64 * 10.0,
        datagrams: simulation.datagrams,
        datagrams_per_source: simulation.datagrams as f64 / SYMBOLS as f64,
    })
}

/// The address of the sender.
fn sender_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 40_000))
}

/// The address of the receiver `index`.
fn receiver_address(index: usize) -> SocketAddr {
    let [_, _, high, low] = (index as u32).to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 5005))
}

/// A sender, its receivers and what is under way between them.
struct Simulation {
    start: Instant,
    now: Instant,
    digest: FileDigest,
    sender: Sender,
    receivers: Vec<Receiver>,
    schedule: Schedule,
    batch: TransmitBatch,
    datagrams: u64,
    reports_per_tenth: Vec<u64>,
    random: u64,
}

impl Simulation {
    fn new(start: Instant, file: &[u8], count: usize) -> io::Result<Self> {
        let digest = FileDigest::of_bytes(file);
        let layout =
            BlockLayout::new(file.len() as u64, SYMBOL_SIZE, 128).map_err(io::Error::other)?;
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
            least_gain: 8_000,
            slow: SlowReceivers::Wait,
        };
        let receiver = |id: u64| {
            Receiver::new(ReceiverConfig {
                id: ReceiverId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
                recv_buffer: 16 << 20,
                block_memory: 1 << 20,
                max_transfers: 4096,
                silence: Duration::from_secs(30),
            })
        };
        Ok(Self {
            start,
            now: start,
            digest,
            sender: Sender::new(start, config),
            receivers: (0..count as u64).map(receiver).collect(),
            schedule: Schedule::default(),
            batch: TransmitBatch::default(),
            datagrams: 0,
            reports_per_tenth: Vec::new(),
            random: 1,
        })
    }

    /// Sends what the sender has to send now.
    fn transmit(&mut self, mut file: &[u8]) -> io::Result<()> {
        while self.sender.poll_transmit(self.now, &mut file, 16, &mut self.batch)? {
            for datagram in self.batch.bytes.chunks(self.batch.segment_len) {
                self.datagrams += 1;
                self.schedule.push(self.now + LATENCY, Due::AtReceivers(datagram.to_vec()));
            }
        }
        while self.sender.poll_event().is_some() {}
        Ok(())
    }

    /// Sets the clock to the next deadline, and does what is due.
    fn deliver_due(&mut self) -> io::Result<()> {
        let deadlines = [self.sender.poll_timeout(self.now), self.schedule.next_at()];
        let next = deadlines.into_iter().flatten().min();
        self.now = self.now.max(next.unwrap_or(self.now));
        while self.schedule.next_at().is_some_and(|at| at <= self.now) {
            let Some(Reverse(scheduled)) = self.schedule.heap.pop() else { break };
            match scheduled.due {
                Due::AtSender(from, bytes) => {
                    let tenth = (self.now - self.start).as_millis() as usize / 100;
                    let tenths = self.reports_per_tenth.len().max(tenth + 1);
                    self.reports_per_tenth.resize(tenths, 0);
                    self.reports_per_tenth[tenth] += 1;
                    self.sender.handle_datagram(self.now, receiver_address(from), &bytes);
                }
                Due::Timer(index) => {
                    self.receivers[index].handle_timeout(self.now);
                    self.serve(index);
                }
                Due::AtReceivers(bytes) => self.deliver_to_receivers(&bytes)?,
            }
        }
        Ok(())
    }

    /// Gives a datagram to the receivers that do not lose it.
    fn deliver_to_receivers(&mut self, bytes: &[u8]) -> io::Result<()> {
        for index in 0..self.receivers.len() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            if self.random % 100 >= LOSS {
                self.receivers[index]
                    .handle_datagram(self.now, sender_address(), bytes)
                    .map_err(io::Error::other)?;
                self.serve(index);
            }
        }
        Ok(())
    }

    /// Handles a receiver's events without delay, and schedules its datagrams and its timer.
    fn serve(&mut self, index: usize) {
        let receiver = &mut self.receivers[index];
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
                ReceiverEvent::Complete { key } => receiver.handle_published(key, &self.digest),
                ReceiverEvent::Abandoned { .. } => {}
            }
        }
        while let Some((_, bytes)) = receiver.poll_transmit() {
            self.schedule.push(self.now + LATENCY, Due::AtSender(index, bytes));
        }
        let soon = self.now + Duration::from_secs(1);
        if let Some(at) = receiver.poll_timeout().filter(|at| *at < soon) {
            let at = at.max(self.now + Duration::from_micros(1));
            self.schedule.push(at, Due::Timer(index));
        }
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
