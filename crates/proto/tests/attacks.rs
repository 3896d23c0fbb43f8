//! Attacks on both state machines by a host on the network.
//!
//! The host answers a sender with false frames: the sender must neither believe that a file has
//! arrived nor send for ever. Or it announces files to a receiver without sending them: the
//! receiver must still take the files of others.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use siar_proto::wire::{
    Announce, Body, Confirm, DeficitRun, Frame, Join, Poll, ReceiverId, ReceiverState, Refuse,
    RefuseReason, Status, Symbol, TransferId,
};
use siar_proto::{
    BlockLayout, FileDigest, Receiver, ReceiverConfig, ReceiverEvent, Sender, SenderConfig,
    SlowReceivers, TransmitBatch,
};

const TRANSFER: TransferId = TransferId(42);
const SYMBOLS: u64 = 2000;
const PER_BLOCK: u16 = 16;
/// The number of blocks of the file.
const WHOLE: u32 = SYMBOLS as u32 / PER_BLOCK as u32;

fn file() -> Vec<u8> {
    (0..SYMBOLS as usize * 100).map(|index| (index * 7 % 251) as u8).collect()
}

fn sender(now: Instant, file: &[u8]) -> Sender {
    let config = SenderConfig {
        transfer: TRANSFER,
        name: "file".to_owned(),
        digest: FileDigest::of_bytes(file),
        unix_time_ms: 0,
        layout: BlockLayout::new(file.len() as u64, 100, PER_BLOCK).unwrap(),
        servers: None,
        join_wait: Duration::from_millis(300),
        rate: None,
        repair_memory: 1 << 20,
        least_gain: 8_000,
        slow: SlowReceivers::Wait,
    };
    Sender::new(now, config)
}

fn receiver(block_memory: usize) -> Receiver {
    Receiver::new(ReceiverConfig {
        id: ReceiverId(1),
        recv_buffer: 4 << 20,
        block_memory,
        max_transfers: 4096,
        silence: Duration::from_secs(30),
    })
}

fn address(attacker: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, (attacker % 250) as u8], 5005))
}

fn frame(body: Body<'_>) -> Vec<u8> {
    Frame { transfer: TRANSFER, body }.to_datagram()
}

fn join(receiver: u64) -> Vec<u8> {
    let receiver = ReceiverId(receiver);
    frame(Body::Join(Join { receiver, recv_buffer: 4 << 20, window: 500 }))
}

fn status(
    receiver: u64,
    poll: Poll,
    covered: u32,
    runs: Vec<DeficitRun>,
    state: ReceiverState,
) -> Vec<u8> {
    frame(Body::Status(Status {
        receiver: ReceiverId(receiver),
        round: poll.round,
        covered,
        received: u64::from(poll.round) * 10_000,
        overflowed: 0,
        window: 500,
        state,
        runs,
    }))
}

/// The answer of a receiver that loses nothing, and confirms the file when all of it was sent.
fn honest_answer(receiver: u64, poll: Poll, digest: &FileDigest) -> Vec<u8> {
    if poll.horizon < WHOLE {
        return status(receiver, poll, poll.horizon, Vec::new(), ReceiverState::Receiving);
    }
    let receiver = ReceiverId(receiver);
    frame(Body::Confirm(Confirm { receiver, proof: digest.proof(TRANSFER, receiver) }))
}

/// The record of a sender's transfer until its end.
struct Seen {
    symbols: u64,
    took: Duration,
    results: Vec<Result<(), String>>,
}

/// Runs a transfer in which `attack` answers announcements (`None`) and polls. Each answer arrives
/// a millisecond later.
fn play(mut attack: impl FnMut(Duration, Option<Poll>) -> Vec<(SocketAddr, Vec<u8>)>) -> Seen {
    let file = file();
    let start = Instant::now();
    let mut now = start;
    let mut sender = sender(now, &file);
    let mut batch = TransmitBatch::default();
    let mut symbols = 0;
    for _step in 0..5_000_000 {
        let mut answers = Vec::new();
        let mut source = file.as_slice();
        while sender.poll_transmit(now, &mut source, 16, &mut batch).unwrap() {
            for datagram in batch.bytes.chunks(batch.segment_len) {
                match Frame::parse(datagram).unwrap().body {
                    Body::Announce(_) => answers.extend(attack(now - start, None)),
                    Body::Poll(poll) => answers.extend(attack(now - start, Some(poll))),
                    Body::Symbol(_) => symbols += 1,
                    _ => {}
                }
            }
        }
        while sender.poll_event().is_some() {}
        if sender.is_ended() {
            let results = sender.outcomes().into_iter().map(|outcome| outcome.result).collect();
            return Seen { symbols, took: now - start, results };
        }
        now = match answers.is_empty() {
            true => now.max(sender.poll_timeout(now).expect("something is due")),
            false => now + Duration::from_millis(1),
        };
        for (from, bytes) in answers {
            sender.handle_datagram(now, from, &bytes);
        }
        sender.handle_timeout(now);
    }
    panic!("it goes on for ever: {symbols} symbols in {:?}", now - start);
}

#[test]
fn a_confirmation_without_the_file_is_not_believed() {
    let digest = FileDigest::of_bytes(&file());
    let forged = [
        digest.name(),
        [0; 32],
        // The proofs of another receiver and of another transfer.
        digest.proof(TRANSFER, ReceiverId(8)),
        digest.proof(TransferId(41), ReceiverId(7)),
    ];
    let seen = play(|_, poll| {
        let confirm = |proof| frame(Body::Confirm(Confirm { receiver: ReceiverId(7), proof }));
        match poll {
            None => vec![(address(7), join(7))],
            Some(_) => forged.map(|proof| (address(7), confirm(proof))).into(),
        }
    });
    assert!(seen.results[0].is_err(), "{:?}", seen.results);
    assert!(seen.took < Duration::from_secs(120), "{:?}", seen.took);
}

#[test]
fn forged_confirmations_do_not_spoil_the_true_one() {
    let digest = FileDigest::of_bytes(&file());
    let seen = play(|_, poll| {
        let confirm = |proof| frame(Body::Confirm(Confirm { receiver: ReceiverId(7), proof }));
        match poll {
            None => vec![(address(7), join(7)), (address(7), confirm([1; 32]))],
            Some(_) => vec![
                (address(7), confirm([1; 32])),
                // Another host uses receiver 7's id with its own proof.
                (address(9), confirm(digest.proof(TRANSFER, ReceiverId(9)))),
                (address(7), confirm(digest.proof(TRANSFER, ReceiverId(7)))),
            ],
        }
    });
    assert_eq!(seen.results[0], Ok(()));
}

/// Every answer reports another deficit than the one before, and reports it for all blocks.
#[test]
fn changing_deficits_are_repaired_within_a_bound() {
    let seen = play(|_, poll| match poll {
        None => vec![(address(7), join(7))],
        Some(poll) => {
            let covered = poll.horizon;
            let deficit = 1 + (poll.round % u32::from(PER_BLOCK - 1)) as u16;
            let runs = (covered > 0).then_some(DeficitRun { first: 0, count: covered, deficit });
            let runs = runs.into_iter().collect();
            vec![(address(7), status(7, poll, covered, runs, ReceiverState::Receiving))]
        }
    });
    assert!(seen.results[0].is_err(), "{:?}", seen.results);
    assert!(seen.symbols < 40 * SYMBOLS, "{} symbols", seen.symbols);
    assert!(seen.took < Duration::from_secs(600), "{:?}", seen.took);
}

#[test]
fn a_receiver_that_never_confirms_is_given_up() {
    for (covers_all, alternates) in [(true, false), (false, false), (true, true), (false, true)] {
        let seen = play(|_, poll| match poll {
            None => vec![(address(7), join(7))],
            Some(poll) => {
                let covered = if covers_all { poll.horizon } else { 0 };
                let state = match alternates && poll.round % 2 == 0 {
                    true => ReceiverState::Verifying,
                    false => ReceiverState::Receiving,
                };
                vec![(address(7), status(7, poll, covered, Vec::new(), state))]
            }
        });
        assert!(seen.results[0].is_err(), "{:?}", seen.results);
        assert!(seen.took < Duration::from_secs(600), "{:?}", seen.took);
    }
}

#[test]
fn a_receiver_that_verifies_for_ever_is_given_up() {
    let seen = play(|_, poll| match poll {
        None => vec![(address(7), join(7))],
        Some(poll) => {
            let covered = poll.horizon;
            vec![(address(7), status(7, poll, covered, Vec::new(), ReceiverState::Verifying))]
        }
    });
    assert!(seen.results[0].is_err(), "{:?}", seen.results);
    assert!(seen.took < Duration::from_secs(600), "{:?}", seen.took);
}

/// A receiver with room for one block says every 15 s that it has gained a symbol, and answers so
/// seldom that it costs few repair symbols. The other one is honest, and must not wait for it.
#[test]
fn a_liar_does_not_hold_the_honest_for_long() {
    let digest = FileDigest::of_bytes(&file());
    let mut confirmed_at = None;
    let mut lied_at = Duration::ZERO;
    let seen = play(|at, poll| match poll {
        None => vec![(address(7), join(7)), (address(8), join(8))],
        Some(poll) => {
            let claimed = (at.as_secs() / 15) as u16;
            let deficit = PER_BLOCK.saturating_sub(claimed).max(1);
            let runs = (poll.horizon > 0).then_some(DeficitRun { first: 0, count: 1, deficit });
            let lie = frame(Body::Status(Status {
                receiver: ReceiverId(7),
                round: poll.round,
                covered: poll.horizon.min(1),
                received: 0,
                overflowed: 0,
                window: 1,
                state: ReceiverState::Receiving,
                runs: runs.into_iter().collect(),
            }));
            if poll.horizon == WHOLE {
                confirmed_at.get_or_insert(at);
            }
            let honest = honest_answer(8, poll, &digest);
            let mut answers = vec![(address(8), honest)];
            if at - lied_at >= Duration::from_millis(900) {
                lied_at = at;
                answers.push((address(7), lie));
            }
            answers
        }
    });
    assert_eq!(seen.results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(confirmed_at.unwrap() < Duration::from_secs(30), "{confirmed_at:?}");
    assert!(seen.took < Duration::from_secs(120), "{:?}", seen.took);
}

/// A receiver goes on talking, but answers no poll.
#[test]
fn a_chatterer_does_not_hold_the_honest_for_long() {
    let digest = FileDigest::of_bytes(&file());
    let mut confirmed_at = None;
    let seen = play(|at, poll| match poll {
        None => vec![(address(7), join(7)), (address(8), join(8))],
        Some(poll) => {
            if poll.horizon == WHOLE {
                confirmed_at.get_or_insert(at);
            }
            let honest = honest_answer(8, poll, &digest);
            vec![(address(7), join(7)), (address(8), honest)]
        }
    });
    assert_eq!(seen.results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(confirmed_at.unwrap() < Duration::from_secs(22), "{confirmed_at:?}");
}

/// A receiver joins with a tiny socket buffer and refuses the file: then its buffer must not count.
#[test]
fn a_buffer_of_one_that_has_left_does_not_slow_the_others() {
    let took = |is_attacked: bool| {
        let digest = FileDigest::of_bytes(&file());
        let seen = play(|_, poll| {
            let Some(poll) = poll else {
                let mut answers = vec![(address(8), join(8))];
                if is_attacked {
                    let receiver = ReceiverId(7);
                    let tiny = Join { receiver, recv_buffer: 0, window: 500 };
                    let reason = RefuseReason::Storage;
                    let refuse = Refuse { receiver, reason, text: "no" };
                    answers.push((address(7), frame(Body::Join(tiny))));
                    answers.push((address(7), frame(Body::Refuse(refuse))));
                }
                return answers;
            };
            vec![(address(8), honest_answer(8, poll, &digest))]
        });
        assert!(seen.results.contains(&Ok(())), "{:?}", seen.results);
        seen.took
    };
    let (alone, attacked) = (took(false), took(true));
    assert!(attacked < alone * 2, "{attacked:?}, {alone:?} alone");
}

/// While a receiver receives a file, a host announces other files, too large ones and too many.
#[test]
fn announcements_do_not_end_a_transfer_in_progress() {
    let now = Instant::now();
    let mut receiver = receiver(1 << 20);
    let announce = |transfer: u64, size: u64, symbol_size: u16, block_symbols: u16| {
        let body = Body::Announce(Announce {
            size,
            symbol_size,
            block_symbols,
            code: 1,
            blake3: [transfer as u8; 32],
            time_ms: 0,
            name: "file",
        });
        Frame { transfer: TransferId(transfer), body }.to_datagram()
    };
    let symbol = |block: u32, symbol: u16| {
        let body = Body::Symbol(Symbol { block, symbol, payload: &[7; 100] });
        Frame { transfer: TransferId(0), body }.to_datagram()
    };
    receiver.handle_datagram(now, address(1), &announce(0, 3200, 100, 16)).unwrap();
    let Some(ReceiverEvent::Announced { key, .. }) = receiver.poll_event() else { panic!() };
    assert!(receiver.accept(key, &[]));
    receiver.handle_datagram(now, address(1), &symbol(0, 0)).unwrap();
    for transfer in 1..10_000 {
        // Each of the first files has as many blocks as a receiver allows for all transfers.
        let frame = match transfer {
            1..20 => announce(transfer, 1 << 33, 1024, 1),
            _ => announce(transfer, 1000, 100, 16),
        };
        receiver.handle_datagram(now, address(2), &frame).unwrap();
        while let Some(event) = receiver.poll_event() {
            match event {
                ReceiverEvent::Announced { key, .. } => {
                    receiver.accept(key, &[]);
                }
                ReceiverEvent::Abandoned { key, .. } => {
                    assert_ne!(key.1, TransferId(0), "after {transfer} announcements");
                }
                _ => {}
            }
        }
    }
    for number in 1..16 {
        receiver.handle_datagram(now, address(1), &symbol(0, number)).unwrap();
    }
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Block { .. })));
}

/// A host starts many transfers and continues none of them: the memory of their blocks must become
/// free for other transfers.
#[test]
fn abandoned_blocks_do_not_keep_other_transfers_out() {
    const BLOCK: usize = 1600;
    let mut now = Instant::now();
    let mut receiver = receiver(100 * BLOCK);
    let announce = |transfer: u64| {
        let body = Body::Announce(Announce {
            size: 100 * BLOCK as u64,
            symbol_size: 100,
            block_symbols: PER_BLOCK,
            code: 1,
            blake3: [transfer as u8; 32],
            time_ms: 0,
            name: "file",
        });
        Frame { transfer: TransferId(transfer), body }.to_datagram()
    };
    let symbol = |transfer: u64, block: u32, symbol: u16| {
        let body = Body::Symbol(Symbol { block, symbol, payload: &[7; 100] });
        Frame { transfer: TransferId(transfer), body }.to_datagram()
    };
    let accept_all = |receiver: &mut Receiver| {
        let mut blocks = 0;
        while let Some(event) = receiver.poll_event() {
            match event {
                ReceiverEvent::Announced { key, .. } => assert!(receiver.accept(key, &[])),
                ReceiverEvent::Block { .. } => blocks += 1,
                _ => {}
            }
        }
        blocks
    };
    for transfer in 1..=200 {
        receiver.handle_datagram(now, address(2), &announce(transfer)).unwrap();
        accept_all(&mut receiver);
        receiver.handle_datagram(now, address(2), &symbol(transfer, 0, 0)).unwrap();
    }
    receiver.handle_datagram(now, address(1), &announce(0)).unwrap();
    accept_all(&mut receiver);
    let mut blocks = 0;
    for _round in 0..20 {
        now += Duration::from_millis(95);
        // A repeated symbol is not useful: the blocks become stale all the same.
        for transfer in 1..=200 {
            receiver.handle_datagram(now, address(2), &symbol(transfer, 0, 0)).unwrap();
        }
        now += Duration::from_millis(5);
        for number in 0..PER_BLOCK {
            receiver.handle_datagram(now, address(1), &symbol(0, 0, number)).unwrap();
        }
        blocks += accept_all(&mut receiver);
    }
    assert_eq!(blocks, 1);
}

fn announce_of(transfer: u64, size: u64, symbol_size: u16, block_symbols: u16) -> Vec<u8> {
    let body = Body::Announce(Announce {
        size,
        symbol_size,
        block_symbols,
        code: 1,
        blake3: [0; 32],
        time_ms: 0,
        name: "file",
    });
    Frame { transfer: TransferId(transfer), body }.to_datagram()
}

fn symbol_of(transfer: u64, block: u32, symbol: u16, payload: &[u8]) -> Vec<u8> {
    let body = Body::Symbol(Symbol { block, symbol, payload });
    Frame { transfer: TransferId(transfer), body }.to_datagram()
}

/// Accepts what is announced; returns the transfers of the blocks that came.
fn accept_all(receiver: &mut Receiver) -> Vec<TransferId> {
    let mut blocks = Vec::new();
    while let Some(event) = receiver.poll_event() {
        match event {
            ReceiverEvent::Announced { key, .. } => assert!(receiver.accept(key, &[])),
            ReceiverEvent::Block { key, .. } => blocks.push(key.1),
            _ => {}
        }
    }
    blocks
}

/// Sends the 16 symbols of a transfer's only block from the honest host; returns the transfers of the
/// blocks that came.
fn blocks_after_symbols(receiver: &mut Receiver, now: Instant, transfer: u64) -> Vec<TransferId> {
    let mut whole = Vec::new();
    for symbol in 0..16 {
        let datagram = symbol_of(transfer, 0, symbol, &[7; 100]);
        receiver.handle_datagram(now, address(1), &datagram).unwrap();
        whole.extend(accept_all(receiver));
    }
    whole
}

/// A host holds as many transfers as a receiver takes, and keeps each alive with a useful symbol now
/// and then.
#[test]
fn many_live_transfers_of_one_host_do_not_keep_others_out() {
    let mut now = Instant::now();
    let mut receiver = receiver(1 << 20);
    for transfer in 1..=4096 {
        receiver.handle_datagram(now, address(2), &announce_of(transfer, 1000, 8, 128)).unwrap();
        accept_all(&mut receiver);
    }
    for symbol in 0..4 {
        now += Duration::from_secs(8);
        for transfer in 1..=4096 {
            let datagram = symbol_of(transfer, 0, symbol, &[7; 8]);
            receiver.handle_datagram(now, address(2), &datagram).unwrap();
        }
        receiver.handle_timeout(now);
    }
    receiver.handle_datagram(now, address(1), &announce_of(0, 1600, 100, 16)).unwrap();
    accept_all(&mut receiver);
    // The host's next announcements must not win the place back.
    for transfer in 5000..10_000 {
        receiver.handle_datagram(now, address(2), &announce_of(transfer, 1000, 8, 128)).unwrap();
        accept_all(&mut receiver);
    }
    assert_eq!(blocks_after_symbols(&mut receiver, now, 0), [TransferId(0)]);
    assert!(receiver.take_announcements_without_room() > 0);
}

/// One announcement claims all blocks that a receiver counts.
#[test]
fn one_announcement_does_not_refuse_everybody() {
    let now = Instant::now();
    let mut receiver = receiver(1 << 20);
    for transfer in 1..=20 {
        let all = announce_of(transfer, 1 << 33, 8, 128);
        receiver.handle_datagram(now, address(2), &all).unwrap();
        accept_all(&mut receiver);
        let honest = transfer + 100;
        receiver.handle_datagram(now, address(1), &announce_of(honest, 1600, 100, 16)).unwrap();
        accept_all(&mut receiver);
        assert_eq!(blocks_after_symbols(&mut receiver, now, honest), [TransferId(honest)]);
    }
}

/// A host fills the memory with blocks and keeps each of them fresh by another useful symbol.
#[test]
fn fresh_blocks_of_one_host_do_not_keep_others_out() {
    const BLOCK: usize = 1600;
    let mut now = Instant::now();
    let mut receiver = receiver(100 * BLOCK);
    for transfer in 1..=400 {
        let datagram = announce_of(transfer, 100 * BLOCK as u64, 100, PER_BLOCK);
        receiver.handle_datagram(now, address(2), &datagram).unwrap();
    }
    accept_all(&mut receiver);
    let datagram = announce_of(0, 100 * BLOCK as u64, 100, PER_BLOCK);
    receiver.handle_datagram(now, address(1), &datagram).unwrap();
    accept_all(&mut receiver);
    let mut whole = 0;
    for round in 0..PER_BLOCK - 1 {
        now += Duration::from_millis(300);
        for transfer in 1..=400 {
            let datagram = symbol_of(transfer, 0, round, &[7; 100]);
            receiver.handle_datagram(now, address(2), &datagram).unwrap();
        }
        for symbol in 0..PER_BLOCK {
            let datagram = symbol_of(0, u32::from(round), symbol, &[7; 100]);
            receiver.handle_datagram(now, address(1), &datagram).unwrap();
        }
        while let Some(event) = receiver.poll_event() {
            if let ReceiverEvent::Block { key, block } = event {
                whole += u16::from(key.1 == TransferId(0));
                receiver.handle_block_written(key, block.into_buffer());
            }
        }
    }
    assert_eq!(whole, PER_BLOCK - 1);
}

/// Hosts with forged addresses hold one transfer each: a new one gets the place of the one that has
/// brought least.
#[test]
fn many_hosts_with_one_transfer_each_do_not_keep_others_out() {
    let mut now = Instant::now();
    let mut receiver = receiver(1 << 20);
    let forged = |host: u64| SocketAddr::from(([10, 1, (host >> 8) as u8, host as u8], 9));
    for host in 1..=4096 {
        receiver.handle_datagram(now, forged(host), &announce_of(host, 1000, 8, 128)).unwrap();
        accept_all(&mut receiver);
        let datagram = symbol_of(host, 0, 0, &[7; 8]);
        receiver.handle_datagram(now, forged(host), &datagram).unwrap();
    }
    now += Duration::from_millis(10);
    receiver.handle_datagram(now, address(1), &announce_of(0, 1600, 100, 16)).unwrap();
    accept_all(&mut receiver);
    assert_eq!(blocks_after_symbols(&mut receiver, now, 0), [TransferId(0)]);
}

/// A sender that keeps to the receive window must get one that lets it continue.
#[test]
fn stale_blocks_do_not_shrink_the_receive_window_for_ever() {
    const BLOCK: usize = 1600;
    let mut now = Instant::now();
    let mut receiver = receiver(100 * BLOCK);
    let frame = |transfer, body| Frame { transfer: TransferId(transfer), body }.to_datagram();
    let announce = Announce {
        size: 200 * BLOCK as u64,
        symbol_size: 100,
        block_symbols: PER_BLOCK,
        code: 1,
        blake3: [0; 32],
        time_ms: 0,
        name: "file",
    };
    for (host, transfer) in [(2, 1), (1, 0)] {
        let datagram = frame(transfer, Body::Announce(announce));
        receiver.handle_datagram(now, address(host), &datagram).unwrap();
        let Some(ReceiverEvent::Announced { key, .. }) = receiver.poll_event() else { panic!() };
        assert!(receiver.accept(key, &[]));
        for block in (0..100).filter(|_| transfer == 1) {
            let symbol = Symbol { block, symbol: 0, payload: &[7; 100] };
            let datagram = frame(transfer, Body::Symbol(symbol));
            receiver.handle_datagram(now, address(host), &datagram).unwrap();
        }
    }
    let mut window = |now| {
        while receiver.poll_transmit().is_some() {}
        let poll = frame(0, Body::Poll(Poll { round: 1, horizon: 0, slot_micros: 0 }));
        // Answers may not have more bytes than the sender's datagrams: these make room for one.
        for _ in 0..4 {
            let datagram = frame(0, Body::Announce(announce));
            receiver.handle_datagram(now, address(1), &datagram).unwrap();
        }
        receiver.handle_datagram(now, address(1), &poll).unwrap();
        let mut told = None;
        while let Some((_, bytes)) = receiver.poll_transmit() {
            if let Body::Status(status) = Frame::parse(&bytes).unwrap().body {
                told = Some(status.window);
            }
        }
        told.expect("an answer")
    };
    assert_eq!(window(now), 2);
    now += Duration::from_secs(1);
    assert!(window(now) > 2);
}

/// The receiver sends Joins, but too seldom for the sender to wait for it, and answers no poll.
#[test]
fn repeated_joins_are_no_progress() {
    let file = file();
    let mut now = Instant::now();
    let mut sender = sender(now, &file);
    let mut batch = TransmitBatch::default();
    for tick in 0..6000 {
        if tick % 15 == 0 {
            sender.handle_datagram(now, address(7), &join(7));
        }
        now += Duration::from_millis(100);
        sender.handle_timeout(now);
        let mut source = file.as_slice();
        while sender.poll_transmit(now, &mut source, 16, &mut batch).unwrap() {}
        if sender.is_ended() {
            assert!(sender.outcomes()[0].result.is_err());
            return;
        }
    }
    panic!("it goes on for ever");
}

/// Two receivers fall silent in turn, and each comes back before the other is given up.
#[test]
fn repeated_returns_are_no_progress() {
    let seen = play(|at, poll| match poll {
        None => vec![(address(7), join(7)), (address(8), join(8))],
        Some(poll) => {
            let who = 7 + at.as_secs() / 7 % 2;
            let runs = vec![DeficitRun { first: 0, count: 1, deficit: 1 }];
            let runs = if poll.horizon > 0 { runs } else { Vec::new() };
            vec![(address(who), status(who, poll, poll.horizon, runs, ReceiverState::Receiving))]
        }
    });
    assert!(seen.results.iter().all(Result::is_err), "{:?}", seen.results);
    assert!(seen.took < Duration::from_secs(600), "{:?}", seen.took);
}

/// A new receiver joins whenever the one before is about to be given up.
#[test]
fn a_chain_of_joins_has_an_end() {
    let seen = play(|at, poll| {
        let attacker = at.as_secs() / 4 + 1;
        match poll {
            None => vec![(address(attacker), join(attacker))],
            Some(_) => Vec::new(),
        }
    });
    assert!(seen.results.iter().all(Result::is_err));
    assert!(seen.took < Duration::from_secs(600), "{:?}", seen.took);
}
