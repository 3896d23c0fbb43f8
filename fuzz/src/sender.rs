//! A sending state machine that gets arbitrary answers.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use siar_proto::wire::{Body, Confirm, Frame, ReceiverId, TransferId};
use siar_proto::{
    BlockLayout, FileDigest, Sender, SenderConfig, SenderEvent, SlowReceivers, TransmitBatch,
};

use crate::choice::{datagram, host};

const TRANSFER: TransferId = TransferId(42);
const SIZE: usize = 3100;
const SYMBOLS: u64 = 31;
/// The bounds for three receivers at four hosts, each as costly as possible.
const MAX_SYMBOLS: u64 = 500_000;
const MAX_TIME: Duration = Duration::from_secs(30 * 60);

/// The sender never panics, ends within bounds, and counts a file as confirmed only by a receiver
/// that has it.
pub fn sender(bytes: &[u8]) {
    let _ = play(&mut Unstructured::new(bytes));
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let file: Vec<u8> = (0..SIZE).map(|index| (index * 7 % 251) as u8).collect();
    let digest = FileDigest::of_bytes(&file);
    let start = Instant::now();
    let mut now = start;
    let mut sender = Sender::new(
        now,
        SenderConfig {
            transfer: TRANSFER,
            name: "file".to_owned(),
            digest,
            unix_time_ms: 0,
            layout: BlockLayout::new(SIZE as u64, 100, 4).expect("it fits"),
            servers: u.arbitrary::<Option<u8>>()?.map(|servers| usize::from(servers % 4)),
            join_wait: Duration::from_millis(300),
            rate: None,
            repair_memory: 1000,
            least_gain: 8_000,
            slow: if u.arbitrary()? { SlowReceivers::Wait } else { SlowReceivers::Drop },
        },
    );
    let mut holders = HashSet::new();
    let mut batch = TransmitBatch::default();
    let mut symbols = 0;
    // When the bytes are used up, nobody answers any more: the sender must end by itself.
    while !sender.is_ended() {
        match u.is_empty() {
            true => now = now.max(sender.poll_timeout(now).expect("something is due")),
            false => match u.int_in_range(0..=9)? {
                0 => now += Duration::from_millis(u.int_in_range(0..=10_000)?),
                1..4 => now = now.max(sender.poll_timeout(now).expect("something is due")),
                4 => {
                    let (from, receiver) = (host(u)?, ReceiverId(u.int_in_range(1..=3)?));
                    let proof = digest.proof(TRANSFER, receiver);
                    let body = Body::Confirm(Confirm { receiver, proof });
                    holders.insert((from, receiver));
                    let datagram = Frame { transfer: TRANSFER, body }.to_datagram();
                    sender.handle_datagram(now, from, &datagram);
                }
                _ => {
                    let (from, datagram) = (host(u)?, datagram(u)?);
                    sender.handle_datagram(now, from, &datagram);
                }
            },
        }
        sender.handle_timeout(now);
        let mut source = file.as_slice();
        while sender.poll_transmit(now, &mut source, 16, &mut batch).expect("bytes in memory") {
            assert!(batch.segment_len > 0 && batch.bytes.len() <= 16 * batch.segment_len);
            symbols += (batch.bytes.len() / batch.segment_len) as u64;
            assert!(symbols < MAX_SYMBOLS, "{symbols} datagrams for {SYMBOLS} symbols");
        }
        while let Some(event) = sender.poll_event() {
            if let SenderEvent::Confirmed { receiver, server } = event {
                assert!(holders.contains(&(server, receiver)), "{server} has it not");
            }
        }
        assert!(now - start < MAX_TIME || !u.is_empty(), "it goes on for ever");
    }
    for outcome in sender.outcomes() {
        if outcome.result.is_ok() {
            assert!(holders.contains(&(outcome.server, outcome.receiver)));
        }
    }
    Ok(())
}
