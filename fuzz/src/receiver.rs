//! A receiving state machine that gets arbitrary datagrams.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use siar_proto::wire::{ReceiverId, RefuseReason};
use siar_proto::{FileDigest, Peer, Receiver, ReceiverConfig, ReceiverEvent, TransferKey};

use crate::choice::{datagram, host};

const MAX_FILE: u64 = 1 << 20;
const BLOCK_MEMORY: usize = 4000;

/// The receiver never panics, never sends more bytes to a host than it received from it, and asks
/// for a file to be published only once, in whatever order its blocks are written.
pub fn receiver(bytes: &[u8]) {
    // The run ends when the bytes are used up.
    let _ = play(&mut Unstructured::new(bytes));
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let mut now = Instant::now();
    let mut receiver = Receiver::new(ReceiverConfig {
        id: ReceiverId(1),
        recv_buffer: 4 << 20,
        block_memory: BLOCK_MEMORY,
        max_transfers: 4096,
        silence: Duration::from_secs(30),
    });
    let mut balance: HashMap<Peer, usize> = HashMap::new();
    let mut files: HashMap<TransferKey, Vec<u8>> = HashMap::new();
    let mut unwritten = VecDeque::new();
    while !u.is_empty() {
        match u.int_in_range(0..=11)? {
            2 | 3 => {
                if let Some((key, bytes)) = unwritten.pop_front() {
                    receiver.handle_block_written(key, bytes);
                }
            }
            0 => now += Duration::from_millis(u.int_in_range(0..=40_000)?),
            1 => receiver.handle_overflow(u.arbitrary()?),
            _ => {
                let (from, datagram) = (host(u)?, datagram(u)?);
                *balance.entry(Peer::Address(from)).or_default() += datagram.len();
                // Not every datagram is a frame.
                let _ = receiver.handle_datagram(now, from, &datagram);
            }
        }
        receiver.handle_timeout(now);
        while let Some(event) = receiver.poll_event() {
            match event {
                ReceiverEvent::Announced { key, file } if file.size > MAX_FILE => {
                    receiver.refuse(key, RefuseReason::TooLarge, "too large");
                }
                ReceiverEvent::Announced { key, file } => {
                    let whole: Vec<u32> = match u.ratio(1, 8)? {
                        true => vec![u.arbitrary()?, u.int_in_range(0..=12)?],
                        false => Vec::new(),
                    };
                    files.insert(key, vec![0; file.size as usize]);
                    assert!(receiver.accept(key, &whole));
                }
                ReceiverEvent::Block { key, block } => {
                    let offset = block.offset as usize;
                    let (bytes, len) = block.decode().expect("the machine counted right");
                    if let Some(file) = files.get_mut(&key) {
                        file[offset..offset + len].copy_from_slice(&bytes[..len]);
                    }
                    unwritten.push_back((key, bytes));
                }
                ReceiverEvent::Complete { key } => {
                    let file = files.remove(&key).expect("only one end");
                    match u.ratio(1, 2)? {
                        true => receiver.handle_published(key, &FileDigest::of_bytes(&file)),
                        false => receiver.refuse(key, RefuseReason::Corrupt, "corrupt"),
                    }
                }
                ReceiverEvent::Abandoned { key, .. } => {
                    files.remove(&key);
                }
            }
        }
        while let Some((to, bytes)) = receiver.poll_transmit() {
            let left = balance.get_mut(&to).expect("it only answers");
            *left = left.checked_sub(bytes.len()).expect("no more than it got");
        }
    }
    Ok(())
}
