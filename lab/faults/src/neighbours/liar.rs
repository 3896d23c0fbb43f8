//! A host takes part in a transfer as a receiver with room for one block, and says now and then
//! that it has gained a symbol. A server that takes part too must not wait for it.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use siar_core::event::EventKind;
use siar_proto::BlockLayout;
use siar_proto::wire::{
    Announce, Body, DeficitRun, Frame, Join, Poll, ReceiverId, ReceiverState, Status, TransferId,
};
use stage::manifest::PORT;
use stage::node::{GATEWAY, SERVERS};
use stage::outcome::compare;
use stage::samples::noise;

use super::amid;
use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered, wait_at_most};

const LIAR: ReceiverId = ReceiverId(7);
/// The liar answers this seldom, and is never silent for so long that nobody waits for it.
const ANSWER_INTERVAL: Duration = Duration::from_millis(900);
/// The seconds after which the liar says that it has gained another symbol.
const SECONDS_PER_SYMBOL: u64 = 15;
/// The longest wait for a datagram, so that an answer is not much later than it is due.
const LISTEN: Duration = Duration::from_millis(10);
/// The time within which the server must have the file.
const COPY_LIMIT: Duration = Duration::from_secs(30);
/// The time that the client may take in all, as an option and with the start and the end.
const MAX_TIME: &str = "60s";
const CLIENT_LIMIT: Duration = Duration::from_secs(65);

/// Checks that the server has the file in time although the liar lies on, and that the client ends
/// in time and names the liar alone.
pub(crate) fn liar(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 16 << 20)])?;
    let server = scene.server(SERVERS[0], &[])?;
    let socket = scene.network.on(GATEWAY, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
    socket.set_read_timeout(Some(LISTEN))?;
    let (lies, played) = amid(
        |goes_on| lie(&socket, goes_on),
        || -> Result<_, Box<dyn Error>> {
            let begin = Instant::now();
            let arguments = ["--servers", "2", "--max-time", MAX_TIME, &source.url(0)];
            let client = scene.client("mt", "client", &arguments)?;
            let copy = server.files().join("large.bin");
            wait_at_most(COPY_LIMIT, "the honest copy", || copy.exists().then_some(()))?;
            let copied = begin.elapsed();
            if let Some(fault) = compare(&server.files(), &source.samples).first() {
                return Err(format!("{}: {fault}", server.node.name).into());
            }
            let ended = client.wait()?;
            Ok((copied, ended, begin.elapsed()))
        },
    )?;
    let (copied, ended, took) = played?;
    if lies == 0 {
        return Err("the liar was not asked".into());
    }
    if took > CLIENT_LIMIT {
        return Err(format!("the client ended after {took:?}").into());
    }
    let address = format!("{}:{PORT}", GATEWAY.address);
    ended.expect(1, &[&format!("{address} did not confirm large.bin")])?;
    let unconfirmed = ended.events.iter().filter_map(|event| match &event.kind {
        EventKind::Unconfirmed { server, reason } => Some((server.as_str(), reason.as_str())),
        _ => None,
    });
    let unconfirmed: Vec<(&str, &str)> = unconfirmed.collect();
    let reason = match unconfirmed[..] {
        [(named, reason)] if named == address => reason,
        _ => return Err(format!("these are named: {unconfirmed:?}").into()),
    };
    let copies = delivered(&server, &source.samples)?;
    let what = format!(
        "the honest copy after {:.1} s, amid {lies} lies; the client ended after {:.1} s with 1: \
         the liar {reason}",
        copied.as_secs_f64(),
        took.as_secs_f64()
    );
    Ok(Observed::new(what, copies))
}

/// Answers announcements at once and the latest poll when an answer is due. Returns the number of
/// answers to polls.
fn lie(socket: &UdpSocket, goes_on: &dyn Fn() -> bool) -> u64 {
    let (mut buffer, mut lies, began) = ([0; 2000], 0, Instant::now());
    let mut block_symbols = 0;
    let mut asked: Option<(SocketAddr, TransferId, Poll)> = None;
    let mut answered_at: Option<Instant> = None;
    while goes_on() {
        if let Ok((len, client)) = socket.recv_from(&mut buffer)
            && let Ok(Frame { transfer, body }) = Frame::parse(&buffer[..len])
        {
            match body {
                Body::Announce(announce) => {
                    block_symbols = first_block_symbols(&announce);
                    let join = Join { receiver: LIAR, recv_buffer: 4 << 20, window: 1 };
                    let frame = Frame { transfer, body: Body::Join(join) };
                    // If this Join is lost, another one follows the next announcement.
                    let _ = socket.send_to(&frame.to_datagram(), client);
                }
                Body::Poll(poll) => asked = Some((client, transfer, poll)),
                _ => {}
            }
        }
        let is_due = answered_at.is_none_or(|at| at.elapsed() >= ANSWER_INTERVAL);
        if let Some((client, transfer, poll)) = asked.take_if(|_| is_due) {
            // An attack is so short that the gain is a small number.
            let gained = (began.elapsed().as_secs() / SECONDS_PER_SYMBOL) as u16;
            let deficit = block_symbols.saturating_sub(gained).max(1);
            let run = DeficitRun { first: 0, count: 1, deficit };
            let status = Status {
                receiver: LIAR,
                round: poll.round,
                covered: poll.horizon.min(1),
                received: 0,
                overflowed: 0,
                window: 1,
                state: ReceiverState::Receiving,
                runs: (poll.horizon > 0).then_some(run).into_iter().collect(),
            };
            let frame = Frame { transfer, body: Body::Status(status) };
            answered_at = Some(Instant::now());
            lies += u64::from(socket.send_to(&frame.to_datagram(), client).is_ok());
        }
    }
    lies
}

/// The number of source symbols of an announced file's first block; a status that lacks more of it
/// is dropped.
fn first_block_symbols(announce: &Announce<'_>) -> u16 {
    let layout = BlockLayout::new(announce.size, announce.symbol_size, announce.block_symbols);
    layout.ok().filter(|layout| layout.block_count() > 0).map_or(0, |layout| layout.symbols_in(0))
}
