//! A flood of hostile datagrams: a host sends a million of them to servers that are receiving a
//! file.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use siar_proto::FileDigest;
use siar_proto::wire::{
    Announce, Body, Confirm, DeficitRun, End, EndReason, Frame, Join, Poll, ReceiverId,
    ReceiverState, Status, Symbol, TransferId,
};
use stage::manifest::PORT;
use stage::node::{GATEWAY, SERVERS};
use stage::samples::noise;

use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, names};

/// The network's broadcast address; the gateway has no route to 255.255.255.255.
const NETWORK: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 255);
const DATAGRAMS: u64 = 1_000_000;
/// The memory that a server may use during the flood, in KiB.
const MAX_MEMORY_KIB: u64 = 64 << 10;
const QUOTA: &str = "96MiB";
const QUOTA_BYTES: u64 = 96 << 20;

const NAMES: [&str; 8] = [
    "../../etc/passwd",
    "/abs",
    "CON",
    "nul\0byte",
    "..",
    "\u{202e}gnp.exe",
    "\\\\host\\share",
    "////////////////////////////////////////////////////////////////////////////////////////\
     ////////////////////////////////////////////////////////////////////////////////////////\
     //////////////////////////////////////////////////////////////////////",
];

/// Checks that the file arrives, that memory and disk stay within their limits, and that nothing
/// is written outside the server's folder.
pub(crate) fn flood(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 64 << 20)])?;
    let first = scene.server(SERVERS[0], &["--quota", QUOTA])?;
    let second = scene.server(SERVERS[1], &["--quota", QUOTA])?;
    let sockets = scene.network.on(GATEWAY, || {
        (0..8).map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).collect::<Result<Vec<_>, _>>()
    })?;
    for socket in &sockets {
        socket.set_broadcast(true)?;
    }
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let ended = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let mut hostile = Hostile { state: 1, next: None };
            while sent.load(Ordering::Relaxed) < DATAGRAMS || !over.load(Ordering::Relaxed) {
                let socket = &sockets[hostile.next() as usize % sockets.len()];
                let datagram = hostile.datagram();
                // A datagram that the full queue of the flood drops is not counted.
                let is_sent = socket.send_to(&datagram, (NETWORK, PORT)).is_ok();
                sent.fetch_add(u64::from(is_sent), Ordering::Relaxed);
                if begin.elapsed().as_secs() > 50 {
                    break;
                }
            }
        });
        let client = scene.client("mt", "client", &["--servers", "2", &source.url(0)]);
        let ended = client.map_err(Into::into).and_then(crate::scene::Client::wait);
        let (took, meanwhile) = (begin.elapsed(), sent.load(Ordering::Relaxed));
        over.store(true, Ordering::Relaxed);
        // The thread does not panic.
        let _ = flooding.join();
        ended.map(|ended| (ended, took, meanwhile))
    });
    let (ended, took, meanwhile) = ended?;
    ended.expect(0, &[])?;
    let mut peaks = Vec::new();
    for server in [&first, &second] {
        let status = fs::read_to_string(format!("/proc/{}/status", server.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
        let peak = peak.ok_or("the server's memory is not known")?;
        if peak > MAX_MEMORY_KIB {
            return Err(format!("{} took {peak} KiB of memory", server.node.name).into());
        }
        peaks.push(peak >> 10);
        let bytes = fs::read(server.files().join("large.bin"))?;
        if bytes != source.samples[0].bytes {
            return Err(format!("{} has another large.bin", server.node.name).into());
        }
        let (mut on_disk, mut strange) = (0, Vec::new());
        for entry in fs::read_dir(server.files())?.filter_map(Result::ok) {
            let data = entry.metadata()?;
            on_disk += std::os::unix::fs::MetadataExt::blocks(&data) * 512;
            if !data.is_file() {
                strange.push(entry.file_name());
            }
        }
        if on_disk > QUOTA_BYTES + (16 << 20) || !strange.is_empty() {
            let name = server.node.name;
            return Err(format!("{name}: {on_disk} bytes on disk, strange: {strange:?}").into());
        }
        let beside = names(&server.dir);
        if beside != ["files", "server.events", "server.log"] {
            return Err(format!("{} has {beside:?} beside its folder", server.node.name).into());
        }
    }
    let what = format!(
        "{} hostile datagrams; the file arrived in {:.1} s, amid {meanwhile} of them; peak memory {} and \
         {} MiB",
        sent.load(Ordering::Relaxed),
        took.as_secs_f64(),
        peaks[0],
        peaks[1]
    );
    Ok(Observed::new(what, 2))
}

/// A generator of hostile datagrams, the same in each run (xorshift64).
struct Hostile {
    state: u64,
    /// The datagram that must follow the last one.
    next: Option<Vec<u8>>,
}

impl Hostile {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// The announcement of a file under a forbidden name. Its first symbol follows: a small file
    /// is then whole, a large file is not.
    fn start_of_file(&mut self) -> Vec<u8> {
        let transfer = TransferId(self.next() | 1 << 63);
        let payload = self.bytes(100);
        let is_large = !self.next().is_multiple_of(100);
        let (size, symbol_size) = if is_large { (100 << 20, 100) } else { (100, 100) };
        let announce = Announce {
            size,
            symbol_size,
            block_symbols: 128,
            code: 1,
            blake3: FileDigest::of_bytes(&payload).name(),
            time_ms: 0,
            name: NAMES[self.next() as usize % NAMES.len()],
        };
        let symbol = Symbol { block: self.next() as u32 % 2, symbol: 0, payload: &payload };
        let symbol = if is_large { symbol } else { Symbol { block: 0, ..symbol } };
        self.next = Some(Frame { transfer, body: Body::Symbol(symbol) }.to_datagram());
        Frame { transfer, body: Body::Announce(announce) }.to_datagram()
    }

    fn datagram(&mut self) -> Vec<u8> {
        if let Some(next) = self.next.take() {
            return next;
        }
        if self.next().is_multiple_of(20) {
            return self.start_of_file();
        }
        let transfer = TransferId(self.next() % 20_000);
        let receiver = ReceiverId(self.next());
        let payload = [7; 100];
        let body = match self.next() % 10 {
            // Random bytes are no frame; the server takes them for a file in the raw format.
            0 if self.next().is_multiple_of(100) => {
                let len = 1 + self.next() as usize % 300;
                return self.bytes(len);
            }
            0..4 => Body::Announce(Announce {
                size: match self.next() % 3 {
                    0 => 1 << 40,
                    1 => self.next() % (1 << 30),
                    _ => self.next() % 1000,
                },
                symbol_size: 1 + self.next() as u16 % 1400,
                block_symbols: 1 + self.next() as u16 % 128,
                code: u8::from(!self.next().is_multiple_of(20)),
                blake3: FileDigest::of_bytes(&self.next().to_be_bytes()).name(),
                time_ms: self.next(),
                name: NAMES[self.next() as usize % NAMES.len()],
            }),
            4..6 => Body::Symbol(Symbol {
                block: self.next() as u32 % 1000,
                symbol: self.next() as u16 % 300,
                payload: &payload,
            }),
            6 => Body::Poll(Poll {
                round: self.next() as u32,
                horizon: if self.next().is_multiple_of(2) { u32::MAX } else { 1000 },
                slot_micros: self.next() as u32 % 1000,
            }),
            7 => Body::End(End { reason: EndReason::Cancelled }),
            8 => Body::Confirm(Confirm { receiver, proof: [0; 32] }),
            _ if self.next().is_multiple_of(2) => {
                Body::Join(Join { receiver, recv_buffer: 0, window: 0 })
            }
            _ => Body::Status(Status {
                receiver,
                round: 1,
                covered: 1,
                received: 0,
                overflowed: 0,
                window: 1,
                state: ReceiverState::Receiving,
                runs: vec![DeficitRun { first: 0, count: 1, deficit: 1 }],
            }),
        };
        let mut datagram = Frame { transfer, body }.to_datagram();
        match self.next() % 8 {
            0 => {
                let at = 5 + self.next() as usize % (datagram.len() - 5);
                datagram[at] = self.next() as u8;
            }
            1 => {
                let len = 5 + self.next() as usize % (datagram.len() - 5);
                datagram.truncate(len);
            }
            _ => {}
        }
        datagram
    }
}
