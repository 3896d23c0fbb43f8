//! A host announces a file as large as a server's quota, and sends a datagram of it now and then.
//! It must hold nothing of the quota; nor must a file that is there already and comes again.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use siar_core::event::EventKind;
use stage::manifest::PORT;
use stage::node::{GATEWAY, Node, SERVERS};
use stage::samples::noise;
use stage::server::RunningServer;

use super::{amid, announce, symbol};
use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered, wait_for};

/// The servers, each with its quota as an option and in bytes. The second one has no room for the
/// honest file four times.
const QUOTAS: [(Node, &str, u64); 2] =
    [(SERVERS[0], "20MB", 20_000_000), (SERVERS[1], "10MB", 10_000_000)];
const HONEST: usize = 3_000_000;
const TIMES: usize = 4;
const NAME: &str = "squatter.bin";
const SYMBOL_SIZE: u16 = 1000;
const INTERVAL: Duration = Duration::from_secs(1);
/// The datagrams that the squatter has sent when it has kept its files open for an interval: to
/// each server an announcement and two symbols.
const HELD: u64 = 6;

/// Checks that a file is accepted by both servers and confirmed each time that it comes.
pub(crate) fn squatter(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("small.bin", HONEST)])?;
    let mut servers = Vec::new();
    for (node, quota, _) in QUOTAS {
        servers.push(scene.server(node, &["--quota", quota])?);
    }
    let socket = scene.network.on(GATEWAY, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    let sent = AtomicU64::new(0);
    let ((), played) = amid(
        |goes_on| squat(&socket, &sent, goes_on),
        || -> Result<_, Box<dyn Error>> {
            wait_for("the squatter's second symbol", || {
                (sent.load(Ordering::Relaxed) >= HELD).then_some(())
            })?;
            for server in &servers {
                is_squatted(server)?;
            }
            let arguments = ["--servers", "2", &source.url(0)];
            let mut took = Vec::new();
            for time in 1..=TIMES {
                let begin = Instant::now();
                let ended = scene.client("mt", "client", &arguments)?.wait()?;
                ended.expect(0, &[]).map_err(|fault| format!("time {time}: {fault}"))?;
                took.push(begin.elapsed().as_secs_f64());
            }
            Ok(took)
        },
    )?;
    let took: Vec<f64> = played?;
    let mut copies = 0;
    for server in &servers {
        copies += delivered(server, &source.samples)?;
    }
    let what = format!(
        "the honest file was confirmed {} times, after {:.1} s at first and {:.1} s at most, \
         beside files as large as the quotas that {} datagrams kept open",
        took.len(),
        took[0],
        took.iter().copied().fold(0.0, f64::max),
        sent.load(Ordering::Relaxed)
    );
    Ok(Observed::new(what, copies))
}

/// Checks that the server has heard of the squatter's file and has not refused it.
fn is_squatted(server: &RunningServer) -> Result<(), Box<dyn Error>> {
    let (events, name) = (server.events()?, server.node.name);
    let failed = events.iter().find_map(|event| match &event.kind {
        EventKind::TransferFailed { reason, .. } => Some(reason),
        _ => None,
    });
    if let Some(reason) = failed {
        return Err(format!("{name} did not take the squatter's file: {reason}").into());
    }
    let has_begun = events.iter().any(
        |event| matches!(&event.kind, EventKind::TransferStarted { name, .. } if name == NAME),
    );
    if has_begun { Ok(()) } else { Err(format!("{name} did not hear the squatter").into()) }
}

/// Announces to each server a file of its quota's size, and sends a symbol of the file's first
/// block each second. An attack is too short to complete that block.
fn squat(socket: &UdpSocket, sent: &AtomicU64, goes_on: &dyn Fn() -> bool) {
    let send = |node: Node, datagram: &[u8]| {
        let is_sent = socket.send_to(datagram, (node.address, PORT)).is_ok();
        sent.fetch_add(u64::from(is_sent), Ordering::Relaxed);
    };
    for (node, _, size) in QUOTAS {
        send(node, &announce(size, size, SYMBOL_SIZE, NAME));
    }
    for number in 0.. {
        for (node, _, size) in QUOTAS {
            // The size serves as the transfer's id, too.
            send(node, &symbol(size, number, SYMBOL_SIZE));
        }
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next {
            if !goes_on() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
