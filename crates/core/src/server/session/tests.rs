//! Tests of every end of a session: no resources are left then.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use siar_proto::wire::{Announce, Body, End, EndReason, Frame, Symbol, TransferId};

use super::super::{FileNames, ReceiveConfig};
use super::*;
use crate::event::{Event, Observer, Progress};
use crate::io::store::FolderTraits;

const SYMBOL_SIZE: usize = 100;
const SENDER: ([u8; 4], u16) = ([192, 0, 2, 1], 40_000);

#[derive(Default)]
struct Recorder(Mutex<Vec<EventKind>>);

impl Recorder {
    fn failures(&self) -> Vec<String> {
        let reason = |kind: &EventKind| match kind {
            EventKind::TransferFailed { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(reason).collect()
    }
}

impl Observer for Recorder {
    fn is_recording(&self) -> bool {
        true
    }

    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event.kind);
    }

    fn progress(&self, _: Progress) {}
}

fn config(dir: &Path) -> ReceiveConfig {
    ReceiveConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        groups: Vec::new(),
        interface: None,
        dir: dir.to_owned(),
        names: FileNames::Original,
        dotfiles: true,
        max_file: 10_000,
        quota: 100_000,
        accepts: super::super::Accepts { frames: true, raw: false },
        recv_buffer: 1 << 20,
        exit_after: None,
        key_file: None,
    }
}

/// A server without a socket, and the sender's side of its transfers.
struct Bench<'a> {
    server: Server<'a>,
    observer: &'a Recorder,
    now: Instant,
}

impl<'a> Bench<'a> {
    fn new(config: &'a ReceiveConfig, observer: &'a Recorder) -> Self {
        let wake: super::super::Wake = Arc::new(|| ());
        let server =
            Server::start(config, observer, None, 1 << 20, FolderTraits::default(), &wake).unwrap();
        Self { server, observer, now: Instant::now() }
    }

    fn send(&mut self, transfer: u64, body: Body<'_>) {
        let datagram = Frame { transfer: TransferId(transfer), body }.to_datagram();
        self.server.handle_datagram(self.now, SENDER.into(), &datagram);
    }

    fn announce(&mut self, transfer: u64, bytes: &[u8], blake3: [u8; 32]) {
        let announce = Announce {
            size: bytes.len() as u64,
            symbol_size: SYMBOL_SIZE as u16,
            block_symbols: 20,
            code: siar_code::CAUCHY_CODE,
            blake3,
            time_ms: 0,
            name: "file",
        };
        self.send(transfer, Body::Announce(announce));
    }

    fn send_symbols(&mut self, transfer: u64, bytes: &[u8], count: usize) {
        let layout =
            siar_proto::BlockLayout::new(bytes.len() as u64, SYMBOL_SIZE as u16, 20).unwrap();
        let symbols = (0..layout.block_count()).flat_map(|block| {
            let range = layout.byte_range(block);
            let bytes = &bytes[range.start as usize..range.end as usize];
            (0u16..)
                .zip(bytes.chunks(SYMBOL_SIZE))
                .map(move |(symbol, piece)| (block, symbol, piece))
        });
        for (block, symbol, piece) in symbols.take(count) {
            let mut payload = piece.to_vec();
            payload.resize(SYMBOL_SIZE, 0);
            self.send(transfer, Body::Symbol(Symbol { block, symbol, payload: &payload }));
        }
    }

    /// Waits for the writers, and asserts that nothing but `published` files is left.
    #[track_caller]
    fn assert_nothing_left(&mut self, published: u64) {
        let limit = Instant::now() + Duration::from_secs(10);
        while (!self.server.sessions.is_empty() || self.server.machine.block_memory_used() > 0)
            && Instant::now() < limit
        {
            self.server.handle_store_results();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(self.server.sessions.len(), 0);
        assert_eq!(self.server.machine.active_transfers(), 0);
        assert_eq!(self.server.machine.block_memory_used(), 0);
        // An empty or small file counts as 4,096 bytes.
        assert_eq!(self.server.limits.used(), (published * 4096, 0));
        assert_eq!(self.server.summary.files, published);
        self.server.writers.stop();
        let dir = std::fs::read_dir(&self.server.config.dir);
        let files = dir.map_or(0, |dir| dir.count() as u64);
        assert_eq!(files, published);
    }
}

fn content() -> (Vec<u8>, [u8; 32]) {
    let bytes: Vec<u8> = (0..3_000u32).map(|at| (at % 251) as u8).collect();
    let blake3 = *blake3::hash(&bytes).as_bytes();
    (bytes, blake3)
}

/// Plays a transfer to its end. Asserts that nothing but `published` files is left, and that a
/// failure was reported as `told`.
#[track_caller]
fn assert_end(published: u64, told: &str, play: impl FnOnce(&mut Bench<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let (config, observer) = (config(dir.path()), Recorder::default());
    let mut bench = Bench::new(&config, &observer);
    play(&mut bench);
    bench.assert_nothing_left(published);
    let failures = bench.observer.failures();
    if told.is_empty() {
        assert!(failures.is_empty(), "{failures:?}");
    } else {
        assert!(failures.iter().all(|failure| failure.contains(told)), "{failures:?}");
        assert!(!failures.is_empty());
    }
}

#[test]
fn a_published_file_keeps_its_part_of_the_quota_alone() {
    let (bytes, blake3) = content();
    assert_end(1, "", |bench| {
        bench.announce(1, &bytes, blake3);
        bench.send_symbols(1, &bytes, usize::MAX);
    });
    let small = b"small".to_vec();
    assert_end(1, "", |bench| {
        bench.announce(1, &small, *blake3::hash(&small).as_bytes());
        bench.send_symbols(1, &small, usize::MAX);
    });
}

#[test]
fn a_name_that_is_not_the_sent_one_is_told() {
    let stored = Path::new("/files/_rf.txt");
    assert_eq!(other_name("-rf.txt", stored).as_deref(), Some("_rf.txt"));
    assert_eq!(other_name("_rf.txt", stored), None);
}

#[test]
fn nothing_is_left_of_a_refused_file() {
    let bytes = vec![0; 20_000];
    assert_end(0, "the limit for one file", |bench| {
        bench.announce(1, &bytes, [0; 32]);
        bench.send_symbols(1, &bytes, usize::MAX);
    });
}

#[test]
fn nothing_is_left_of_a_file_that_differs_or_cannot_be_written() {
    let (bytes, blake3) = content();
    assert_end(0, "announced was", |bench| {
        bench.announce(1, &bytes, [7; 32]);
        bench.send_symbols(1, &bytes, usize::MAX);
    });
    assert_end(0, "No such file", |bench| {
        bench.announce(1, &bytes, blake3);
        std::fs::remove_dir(&bench.server.config.dir).unwrap();
        bench.send_symbols(1, &bytes, usize::MAX);
    });
}

#[test]
fn nothing_is_left_of_a_file_whose_sender_ends_it_or_falls_silent() {
    let (bytes, blake3) = content();
    for symbols in [0, 5] {
        assert_end(0, "the sender ended the transfer", |bench| {
            bench.announce(1, &bytes, blake3);
            bench.send_symbols(1, &bytes, symbols);
            bench.send(1, Body::End(End { reason: EndReason::Cancelled }));
        });
        assert_end(0, "the sender fell silent", |bench| {
            bench.announce(1, &bytes, blake3);
            bench.send_symbols(1, &bytes, symbols);
            bench.server.handle_timeout(bench.now + Duration::from_secs(60));
        });
    }
}

#[test]
fn nothing_is_left_of_a_file_that_makes_room_for_others_or_of_a_stopped_server() {
    let (bytes, blake3) = content();
    assert_end(0, "", |bench| bench.server.stop());
    assert_end(0, "the server is stopping", |bench| {
        for transfer in 0..3 {
            bench.announce(transfer, &bytes, blake3);
            bench.send_symbols(transfer, &bytes, 5 * transfer as usize);
        }
        bench.server.stop();
    });
    let dir = tempfile::tempdir().unwrap();
    let (config, observer) = (config(dir.path()), Recorder::default());
    let mut bench = Bench::new(&config, &observer);
    for transfer in 0..5_000 {
        bench.announce(transfer, &bytes, blake3);
        bench.now += Duration::from_micros(1);
    }
    assert_eq!(bench.server.sessions.len(), bench.server.machine.active_transfers());
    assert!(bench.server.sessions.len() <= 4096);
    assert!(bench.server.machine.take_announcements_without_room() > 0);
    bench.server.stop();
    bench.assert_nothing_left(0);
}

#[test]
fn what_another_process_has_left_is_left_again_if_no_block_comes() {
    let (bytes, blake3) = content();
    let dir = tempfile::tempdir().unwrap();
    let (config, observer) = (config(dir.path()), Recorder::default());
    let mut bench = Bench::new(&config, &observer);
    let announced = AnnouncedFile {
        from: std::net::SocketAddr::from(([192, 0, 2, 1], 40_000)).into(),
        name: "file".to_owned(),
        size: bytes.len() as u64,
        blake3,
        announced_ms: 0,
        layout: siar_proto::BlockLayout::new(3_000, SYMBOL_SIZE as u16, 20).unwrap(),
    };
    let mut partial = IncomingFile::resume(dir.path(), &announced, &[]).unwrap();
    partial.write_block(0, 0, &bytes[..1500]).unwrap();
    partial.leave();
    bench.announce(1, &bytes, blake3);
    // The announcement may be a stranger's: it locks nothing.
    let locked = IncomingFile::resume(dir.path(), &announced, &[0]).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    locked.leave();
    bench.send(1, Body::End(End { reason: EndReason::Cancelled }));
    assert_eq!(bench.server.sessions.len(), 0);
    assert_eq!(IncomingFile::find(dir.path(), &announced).unwrap(), [0]);
}

#[test]
fn a_part_is_kept_when_its_sender_or_the_server_stops_and_the_next_transfer_continues_it() {
    type Stop = fn(&mut Bench<'_>);
    let (bytes, blake3) = content();
    let stops: [(&str, Stop); 3] = [
        ("the sender ended the transfer", |bench| {
            bench.send(1, Body::End(End { reason: EndReason::Cancelled }));
        }),
        ("the sender fell silent", |bench| {
            bench.server.handle_timeout(bench.now + Duration::from_secs(60));
        }),
        ("the server is stopping", |bench| bench.server.stop()),
    ];
    for (told, stop) in stops {
        let dir = tempfile::tempdir().unwrap();
        let (config, first, second) =
            (config(dir.path()), Recorder::default(), Recorder::default());
        let mut bench = Bench::new(&config, &first);
        bench.announce(1, &bytes, blake3);
        // The first of two blocks, and a part of the other.
        bench.send_symbols(1, &bytes, 25);
        stop(&mut bench);
        assert_eq!(bench.server.sessions.len(), 0);
        // What is kept counts against the quota.
        assert_eq!(bench.server.limits.used(), (4096, 0));
        bench.server.finish();
        let expected = format!("file: {told}; what has come is kept for 10 minutes");
        assert_eq!(first.failures(), [expected]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        let mut next = Bench::new(&config, &second);
        next.announce(2, &bytes, blake3);
        let is_resumed = |kind: &EventKind| matches!(kind, EventKind::Resumed { bytes: 1500, .. });
        assert!(second.0.lock().unwrap().iter().any(is_resumed), "{told}");
        next.send_symbols(2, &bytes, usize::MAX);
        next.assert_nothing_left(1);
    }
}
