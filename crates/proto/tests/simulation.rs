//! A simulation of both state machines and the network, with a virtual clock, reproducible random
//! numbers and a bounded number of steps.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use siar_proto::wire::{ReceiverId, TransferId};
use siar_proto::{
    BlockLayout, FileDigest, Receiver, ReceiverConfig, ReceiverEvent, SendProgress, Sender,
    SenderConfig, SenderEvent, SlowReceivers, TransmitBatch,
};

/// The faults of the network, for each datagram at each receiver. Probabilities are in per cent.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    loss: u64,
    duplicate: u64,
    corrupt: u64,
    /// The largest random delay of a datagram, which also reorders datagrams.
    jitter: Duration,
    /// The link to the first receiver, if it is slow.
    slow_link: Option<Link>,
    slow: Option<SlowReceivers>,
    /// Whether the first receiver gets all frames but symbols, as behind a link with too small an
    /// MTU.
    no_symbols: bool,
}

/// A link with a queue, which holds datagrams for at most the time `queue`.
#[derive(Debug, Clone, Copy)]
struct Link {
    bytes_per_second: u64,
    queue: Duration,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: std::cmp::Reverse<(Instant, u64)>,
    to: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

struct Node {
    receiver: Receiver,
    address: SocketAddr,
    file: Vec<u8>,
    expected: [u8; 32],
    published: Option<Vec<u8>>,
    /// The part of the run in which the node neither receives nor sends.
    down: std::ops::Range<Duration>,
}

struct Outcome {
    /// The confirmed receivers, each with the time of its confirmation.
    confirmed: Vec<(SocketAddr, Duration)>,
    published: Vec<Option<Vec<u8>>>,
    results: Vec<(SocketAddr, Result<(), String>)>,
    progress: SendProgress,
    took: Duration,
}

const SENDER: usize = usize::MAX;

/// With this symbol size, a symbol frame is as long as an announcement, so that a small file is
/// sent together with its announcement.
const SYMBOL_SIZE: u16 = 104;
const BLOCK_LEN: usize = 16 * SYMBOL_SIZE as usize;

fn run(
    file: &[u8],
    receivers: usize,
    faults: Faults,
    seed: u64,
    down: BTreeMap<usize, std::ops::Range<Duration>>,
) -> Outcome {
    run_at_rate(None, file, receivers, faults, seed, down)
}

fn run_at_rate(
    rate: Option<u64>,
    file: &[u8],
    receivers: usize,
    faults: Faults,
    seed: u64,
    down: BTreeMap<usize, std::ops::Range<Duration>>,
) -> Outcome {
    let start = Instant::now();
    let mut now = start;
    let mut random = Random(seed | 1);
    let sender_address: SocketAddr = "10.0.0.1:40000".parse().unwrap();
    let layout = BlockLayout::new(file.len() as u64, SYMBOL_SIZE, 16).unwrap();
    let mut sender = Sender::new(
        now,
        SenderConfig {
            transfer: TransferId(42),
            name: "file".to_owned(),
            digest: FileDigest::of_bytes(file),
            unix_time_ms: 0,
            layout,
            servers: None,
            join_wait: Duration::from_millis(300),
            rate,
            repair_memory: 32 * BLOCK_LEN,
            least_gain: 8_000,
            slow: faults.slow.unwrap_or(SlowReceivers::Wait),
        },
    );
    let mut nodes: Vec<Node> = (0..receivers)
        .map(|index| Node {
            receiver: Receiver::new(ReceiverConfig {
                id: ReceiverId(index as u64 + 1),
                recv_buffer: 4 << 20,
                block_memory: 64 * BLOCK_LEN,
                max_transfers: 4096,
                silence: Duration::from_secs(30),
            }),
            address: SocketAddr::from((
                [10, 0, 1 + (index / 250) as u8, (index % 250) as u8],
                5005,
            )),
            file: Vec::new(),
            expected: [0; 32],
            published: None,
            down: down.get(&index).cloned().unwrap_or(Duration::MAX..Duration::MAX),
        })
        .collect();
    let mut network: BinaryHeap<InFlight> = BinaryHeap::new();
    let mut sequence = 0u64;
    let mut link_free = start;
    let mut confirmed = Vec::new();
    let mut batch = TransmitBatch::default();

    for _step in 0..3_000_000 {
        let mut source = file;
        while sender.poll_transmit(now, &mut source, 16, &mut batch).unwrap() {
            for datagram in batch.bytes.chunks(batch.segment_len) {
                for to in 0..nodes.len() {
                    const SYMBOL: u8 = 3;
                    if to == 0 && faults.no_symbols && datagram[5] == SYMBOL {
                        continue;
                    }
                    let mut at = now;
                    if let (0, Some(link)) = (to, faults.slow_link) {
                        let start = link_free.max(now);
                        if start - now > link.queue {
                            continue;
                        }
                        let takes = datagram.len() as f64 / link.bytes_per_second as f64;
                        link_free = start + Duration::from_secs_f64(takes);
                        at = link_free;
                    }
                    transmit(
                        &mut network,
                        &mut random,
                        faults,
                        &mut sequence,
                        at,
                        to,
                        sender_address,
                        datagram,
                    );
                }
            }
        }
        for node in &mut nodes {
            drive(node, file);
            while let Some((_, bytes)) = node.receiver.poll_transmit() {
                if !node.down.contains(&(now - start)) {
                    transmit(
                        &mut network,
                        &mut random,
                        faults,
                        &mut sequence,
                        now,
                        SENDER,
                        node.address,
                        &bytes,
                    );
                }
            }
        }
        while let Some(event) = sender.poll_event() {
            if let SenderEvent::Confirmed { server, .. } = event {
                confirmed.push((server, now - start));
            }
        }
        if sender.is_ended() {
            return Outcome {
                confirmed,
                published: nodes.into_iter().map(|node| node.published).collect(),
                results: sender
                    .outcomes()
                    .into_iter()
                    .map(|outcome| (outcome.server, outcome.result))
                    .collect(),
                progress: sender.progress(),
                took: now - start,
            };
        }
        let arrival = network.peek().map(|next| next.at.0.0);
        let timers = nodes.iter().filter_map(|node| node.receiver.poll_timeout());
        let next =
            timers.chain(sender.poll_timeout(now)).chain(arrival).min().expect("something is due");
        now = now.max(next);
        while network.peek().is_some_and(|next| next.at.0.0 <= now) {
            let datagram = network.pop().unwrap();
            if datagram.to == SENDER {
                sender.handle_datagram(now, datagram.from, &datagram.bytes);
            } else if !nodes[datagram.to].down.contains(&(now - start)) {
                // A corrupted datagram may be no valid frame.
                let _ = nodes[datagram.to].receiver.handle_datagram(
                    now,
                    datagram.from,
                    &datagram.bytes,
                );
                drive(&mut nodes[datagram.to], file);
            }
        }
        sender.handle_timeout(now);
        for node in &mut nodes {
            node.receiver.handle_timeout(now);
        }
    }
    panic!("the transfer did not end: {:?}", sender.progress());
}

#[allow(clippy::too_many_arguments)]
fn transmit(
    network: &mut BinaryHeap<InFlight>,
    random: &mut Random,
    faults: Faults,
    sequence: &mut u64,
    now: Instant,
    to: usize,
    from: SocketAddr,
    bytes: &[u8],
) {
    if random.percent(faults.loss) {
        return;
    }
    let copies = 1 + u64::from(random.percent(faults.duplicate));
    for _ in 0..copies {
        let mut bytes = bytes.to_vec();
        // UDP's checksum detects flipped bits. The faults that remain are cut datagrams and foreign
        // ones, whose magic or version differs.
        if random.percent(faults.corrupt) {
            if random.percent(50) {
                bytes[random.next() as usize % 5] ^= 1 << (random.next() % 8);
            }
            bytes.truncate(1 + random.next() as usize % bytes.len());
        }
        let jitter = random.next() % (faults.jitter.as_micros() as u64 + 1);
        *sequence += 1;
        let at = now + Duration::from_micros(100 + jitter);
        network.push(InFlight { at: std::cmp::Reverse((at, *sequence)), to, from, bytes });
    }
}

fn drive(node: &mut Node, original: &[u8]) {
    while let Some(event) = node.receiver.poll_event() {
        match event {
            ReceiverEvent::Announced { key, file } => {
                assert_eq!(file.size, original.len() as u64);
                node.file = vec![0; original.len()];
                node.expected = file.blake3;
                node.receiver.accept(key, &[]);
            }
            ReceiverEvent::Block { key, block } => {
                let offset = block.offset as usize;
                let (bytes, len) = block.decode().unwrap();
                node.file[offset..offset + len].copy_from_slice(&bytes[..len]);
                node.receiver.handle_block_written(key, bytes);
            }
            ReceiverEvent::Complete { key } => {
                let digest = FileDigest::of_bytes(&node.file);
                assert_eq!(digest.name(), node.expected);
                assert!(node.published.is_none(), "published twice");
                node.published = Some(std::mem::take(&mut node.file));
                node.receiver.handle_published(key, &digest);
            }
            ReceiverEvent::Abandoned { .. } => {}
        }
    }
}

fn sample(len: usize) -> Vec<u8> {
    let mut random = Random(len as u64 | 1);
    (0..len).map(|_| random.next() as u8).collect()
}

fn assert_delivered(file: &[u8], outcome: &Outcome) {
    for published in &outcome.published {
        assert!(published.as_deref() == Some(file), "a receiver lacks the file");
    }
    for (server, result) in &outcome.results {
        assert_eq!(result, &Ok(()), "{server}");
    }
    assert_eq!(outcome.results.len(), outcome.published.len());
}

#[test]
fn a_clean_network_needs_no_repair() {
    for len in [0, 1, 103, 104, BLOCK_LEN, BLOCK_LEN + 1, 100_000] {
        let file = sample(len);
        let outcome = run(&file, 3, Faults::default(), 7, BTreeMap::new());
        assert_delivered(&file, &outcome);
        assert_eq!(outcome.progress.repair_sent, 0, "{len} bytes");
        assert_eq!(outcome.progress.source_sent, len.div_ceil(SYMBOL_SIZE.into()) as u64);
    }
}

#[test]
fn a_file_of_one_batch_is_confirmed_after_one_round_trip() {
    // `run` allows 16 datagrams in a batch: the announcement and 15 symbols.
    let most = 15 * usize::from(SYMBOL_SIZE);
    for (len, is_small) in [(1, true), (most, true), (most + 1, false)] {
        let file = sample(len);
        let outcome = run(&file, 2, Faults::default(), 7, BTreeMap::new());
        assert_delivered(&file, &outcome);
        for (server, at) in &outcome.confirmed {
            assert_eq!(at.as_micros() == 200, is_small, "{len} bytes, {server}: {at:?}");
        }
    }
}

#[test]
fn the_rate_limit_holds_for_small_files_too() {
    let file = sample(1000);
    let outcome = run_at_rate(Some(10_000), &file, 2, Faults::default(), 7, BTreeMap::new());
    assert_delivered(&file, &outcome);
    assert!(outcome.took > Duration::from_millis(90), "{:?}", outcome.took);
}

#[test]
fn a_transfer_without_receivers_ends_after_the_join_wait() {
    let outcome = run(&sample(1000), 0, Faults::default(), 7, BTreeMap::new());
    assert!(outcome.results.is_empty());
    assert_eq!(outcome.took, Duration::from_millis(300));
}

/// The number of repair symbols depends on the worst receiver, not on the sum of all losses.
#[test]
fn repair_follows_the_worst_receiver() {
    let file = sample(400_000);
    for (receivers, loss, limit) in [(1, 10, 1.25), (2, 10, 1.35), (32, 10, 1.75), (32, 1, 1.25)] {
        let faults = Faults { loss, ..Faults::default() };
        let outcome = run(&file, receivers, faults, 11, BTreeMap::new());
        assert_delivered(&file, &outcome);
        let progress = outcome.progress;
        let ratio = 1.0 + progress.repair_sent as f64 / progress.source_total as f64;
        assert!(ratio < limit, "{receivers} receivers, {loss} %: {ratio}");
    }
}

#[test]
fn a_receiver_that_dies_does_not_hold_up_the_others() {
    let file = sample(2_000_000);
    let down = BTreeMap::from([(1, Duration::from_millis(21)..Duration::MAX)]);
    let outcome = run(&file, 3, Faults::default(), 3, down);
    assert!(outcome.published[0].is_some() && outcome.published[2].is_some());
    assert!(outcome.published[1].is_none());
    let failed: Vec<_> = outcome.results.iter().filter(|(_, result)| result.is_err()).collect();
    assert_eq!(failed, [&("10.0.1.1:5005".parse().unwrap(), Err("fell silent".to_owned()))]);
    assert!(outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
}

#[test]
fn a_receiver_that_pauses_gets_the_rest_afterwards() {
    let file = sample(2_000_000);
    for pause in [500, 3000] {
        let down =
            BTreeMap::from([(1, Duration::from_millis(21)..Duration::from_millis(21 + pause))]);
        let outcome = run(&file, 3, Faults::default(), 3, down);
        assert_delivered(&file, &outcome);
    }
}

#[test]
fn a_receiver_that_joins_late_is_served() {
    let file = sample(3_000_000);
    let down = BTreeMap::from([(1, Duration::ZERO..Duration::from_millis(35))]);
    let outcome =
        run(&file, 2, Faults { jitter: Duration::from_millis(4), ..Faults::default() }, 3, down);
    assert_eq!(outcome.published[0].as_deref(), Some(file.as_slice()));
    assert!(outcome.results.iter().all(|(_, result)| result.is_ok()));
}

/// Under loss, a receiver out of the pass opens blocks for which it gets no repair. Two such
/// receivers, whose memory is full of different blocks, must both get the file in the end.
#[test]
fn memory_full_of_unrepaired_blocks_does_not_block_a_late_receiver() {
    let file = sample(3_000_000);
    let ms = Duration::from_millis;
    for gone in [ms(90), ms(120), Duration::MAX] {
        let down =
            BTreeMap::from([(1, ms(0)..ms(40)), (2, ms(0)..ms(80)), (0, gone..Duration::MAX)]);
        let faults = Faults { loss: 10, ..Faults::default() };
        let outcomes = (5..20).map(|seed| {
            (seed, run_at_rate(Some(15_000_000), &file, 3, faults, seed, down.clone()))
        });
        // A late receiver may lose all announcements.
        let all_joined = outcomes.filter(|(_, outcome)| outcome.progress.joined == 3).take(3);
        let mut runs = 0;
        for (seed, outcome) in all_joined {
            runs += 1;
            for late in [1, 2] {
                let published = outcome.published[late].as_deref();
                assert!(published == Some(file.as_slice()), "receiver {late}, seed {seed}");
            }
            assert!(outcome.took < Duration::from_secs(10), "seed {seed}: {:?}", outcome.took);
        }
        assert_eq!(runs, 3);
    }
}

/// The sender fills a queue, long or short, but does not flood it: most datagrams arrive.
#[test]
fn a_slow_link_is_used_and_not_flooded() {
    let file = sample(1_000_000);
    for (queue, limit) in [(50, 1.05), (10, 1.5), (3, 1.6)] {
        let queue = Duration::from_millis(queue);
        let link = Link { bytes_per_second: 1_000_000, queue };
        let faults = Faults { slow_link: Some(link), ..Faults::default() };
        let outcome = run(&file, 2, faults, 3, BTreeMap::new());
        assert_delivered(&file, &outcome);
        let SendProgress { repair_sent, source_total, .. } = outcome.progress;
        let ratio = 1.0 + repair_sent as f64 / source_total as f64;
        assert!(ratio < limit, "{queue:?}: {ratio} datagrams per source datagram");
        // A datagram has 128 bytes, so that the link needs 1.23 s for the file.
        assert!(outcome.took < Duration::from_millis(1600), "{queue:?}: {:?}", outcome.took);
    }
}

/// The links carry as many frames per second as links of 10 Gbit/s and 100 Mbit/s carry frames of
/// the usual length.
#[test]
fn the_pace_of_a_link_is_found_within_ten_round_trips() {
    const ROUND_TRIP: Duration = Duration::from_micros(200);
    // Sending starts only when no new receiver has joined for 20 ms.
    const JOINING: Duration = Duration::from_millis(21);
    for (frames_per_second, len) in [(873_000, 2_000_000), (8_730, 20_000)] {
        let file = sample(len);
        // A symbol frame has a header of 24 bytes.
        let bytes_per_second = frames_per_second * (u64::from(SYMBOL_SIZE) + 24);
        let link = Link { bytes_per_second, queue: Duration::from_millis(10) };
        let faults = Faults { slow_link: Some(link), ..Faults::default() };
        let outcome = run(&file, 2, faults, 3, BTreeMap::new());
        assert_delivered(&file, &outcome);
        let frames = len as f64 / f64::from(SYMBOL_SIZE);
        let at_full_pace = Duration::from_secs_f64(frames / frames_per_second as f64);
        let lost = outcome.took.saturating_sub(JOINING + at_full_pace);
        assert!(lost < 10 * ROUND_TRIP, "{frames_per_second} frames/s: {lost:?} not used");
    }
}

#[test]
fn a_slow_receiver_holds_up_the_others_only_if_asked_to() {
    let file = sample(1_000_000);
    let link = Link { bytes_per_second: 1_000_000, queue: Duration::from_millis(20) };
    for (slow, limit) in [(SlowReceivers::Wait, 2000), (SlowReceivers::Drop, 600)] {
        let faults = Faults { slow_link: Some(link), slow: Some(slow), ..Faults::default() };
        let outcome = run(&file, 3, faults, 3, BTreeMap::new());
        assert_delivered(&file, &outcome);
        let fast =
            outcome.confirmed.iter().filter(|(server, _)| server.ip().to_string() != "10.0.1.0");
        let last = fast.map(|(_, at)| *at).max().unwrap();
        assert!(last < Duration::from_millis(limit), "{slow:?}: {last:?}");
        let is_held_up = last > Duration::from_millis(1000);
        assert_eq!(is_held_up, slow == SlowReceivers::Wait, "{last:?}");
    }
}

/// The receiver is given up but goes on answering. The others must get the file all the same.
#[test]
fn a_receiver_that_gets_no_symbols_does_not_block_the_others() {
    let file = sample(2_000_000);
    let faults = Faults { no_symbols: true, ..Faults::default() };
    let outcome = run(&file, 3, faults, 3, BTreeMap::new());
    for published in &outcome.published[1..] {
        assert!(published.as_deref() == Some(file.as_slice()));
    }
    let failed: Vec<_> = outcome.results.iter().filter(|(_, result)| result.is_err()).collect();
    assert_eq!(failed, [&("10.0.1.0:5005".parse().unwrap(), Err("made no progress".to_owned()))]);
    // The answers of a receiver that was given up cause no repair.
    let SendProgress { repair_sent, source_total, .. } = outcome.progress;
    assert!(repair_sent < source_total, "{repair_sent} repair symbols");
    assert!(outcome.took < Duration::from_secs(40), "{:?}", outcome.took);
}

/// Both receivers leave the pass and come back with different parts of the file.
#[test]
fn two_receivers_that_stall_under_loss_are_both_served() {
    let file = sample(2_000_000);
    let ms = Duration::from_millis;
    let down = BTreeMap::from([(0, ms(30)..ms(2500)), (1, ms(60)..ms(1900))]);
    let faults = Faults { loss: 10, ..Faults::default() };
    let outcome = run_at_rate(Some(15_000_000), &file, 3, faults, 9, down);
    assert_delivered(&file, &outcome);
    assert!(outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
}

/// A forged status must not make the sender keep blocks that do not exist, or send symbols that no
/// receiver lacks.
#[test]
fn an_implausible_status_changes_nothing() {
    use siar_proto::wire::{Body, DeficitRun, Frame, Join, ReceiverState, Status};
    let now = Instant::now();
    let address: SocketAddr = "10.0.1.0:5005".parse().unwrap();
    let (transfer, receiver) = (TransferId(42), ReceiverId(1));
    let file = sample(10_000);
    let mut sender = Sender::new(
        now,
        SenderConfig {
            transfer,
            name: "file".to_owned(),
            digest: FileDigest::of_bytes(&file),
            unix_time_ms: 0,
            layout: BlockLayout::new(file.len() as u64, SYMBOL_SIZE, 16).unwrap(),
            servers: Some(1),
            join_wait: Duration::from_millis(300),
            rate: None,
            repair_memory: 0,
            least_gain: 8_000,
            slow: SlowReceivers::Wait,
        },
    );
    let join = Join { receiver, recv_buffer: 1 << 20, window: 100 };
    sender.handle_datagram(now, address, &Frame { transfer, body: Body::Join(join) }.to_datagram());
    let mut batch = TransmitBatch::default();
    while sender.poll_transmit(now, &mut file.as_slice(), 16, &mut batch).unwrap() {}
    let sent = sender.progress();
    for run in [
        DeficitRun { first: 0, count: u32::MAX, deficit: 1 },
        DeficitRun { first: 0, count: 1, deficit: 17 },
    ] {
        let status = Status {
            receiver,
            round: 1,
            covered: run.count,
            received: 0,
            overflowed: 0,
            window: 100,
            state: ReceiverState::Receiving,
            runs: vec![run],
        };
        let forged = Frame { transfer, body: Body::Status(status) }.to_datagram();
        sender.handle_datagram(now, address, &forged);
        while sender.poll_transmit(now, &mut file.as_slice(), 16, &mut batch).unwrap() {}
        assert_eq!(sender.progress(), sent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_file_arrives_whatever_the_network_does(
        len in 0usize..120_000,
        receivers in 1usize..6,
        loss in 0u64..30,
        duplicate in 0u64..30,
        corrupt in 0u64..10,
        jitter in 0u64..4000,
        seed in any::<u64>(),
    ) {
        let file = sample(len);
        let jitter = Duration::from_micros(jitter);
        let faults = Faults { loss, duplicate, corrupt, jitter, ..Faults::default() };
        let outcome = run(&file, receivers, faults, seed, BTreeMap::new());
        // The sender does not know a receiver whose frames were all lost.
        for (server, result) in &outcome.results {
            prop_assert_eq!(result, &Ok(()), "{}", server);
        }
        let published = outcome.published.iter().flatten().count();
        prop_assert!(published >= outcome.results.len());
        for published in outcome.published.iter().flatten() {
            prop_assert!(published == &file);
        }
    }
}
