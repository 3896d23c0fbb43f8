//! A host begins as many transfers as a server takes, brings each of them one symbol after the
//! other, so that none is stale, and announces files with all the blocks that a server counts. A
//! file of another host must find a place.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stage::manifest::PORT;
use stage::node::{GATEWAY, SERVERS};
use stage::samples::noise;

use super::{amid, announce, dropped, symbol};
use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered, wait_for};

/// The transfers, and the sizes in bytes of their files and of all symbols: a file has 128 symbols.
const TRANSFERS: u64 = 4096;
const SIZE: u64 = 1024;
const SYMBOL_SIZE: u16 = 8;
/// The size in bytes of a file that has 2^23 blocks, and the time between its announcements.
const HUGE: u64 = 8 << 30;
const HUGE_INTERVAL: Duration = Duration::from_secs(1);
/// The time in which all transfers are begun, and the time in which each gets a further symbol.
const BEGINNING: Duration = Duration::from_millis(500);
const ROUND: Duration = Duration::from_secs(3);
/// The rounds before the honest client starts.
const ROUNDS_BEFORE: u64 = 2;
/// The time that the honest client may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A part of the reason for which the server drops announcements of a host that holds too much.
const WITHOUT_ROOM: &str = "a host that has begun too many";

/// Checks that a client with default options is served in time.
pub(crate) fn starver(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("small.bin", 3_000_000)])?;
    let server = scene.server(SERVERS[0], &[])?;
    let socket = scene.network.on(GATEWAY, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    let starver = Starver { socket, sent: AtomicU64::new(0), rounds: AtomicU64::new(0) };
    let url = source.url(0);
    let ((), played) = amid(
        |goes_on| starver.starve(goes_on),
        || -> Result<_, Box<dyn Error>> {
            wait_for("the attack", || {
                // All transfers are begun before the first of these rounds.
                (starver.rounds.load(Ordering::Relaxed) > ROUNDS_BEFORE).then_some(())
            })?;
            let (begin, before) = (Instant::now(), starver.sent.load(Ordering::Relaxed));
            scene.client("mt", "client", &[url.as_str()])?.wait()?.expect(0, &[])?;
            Ok((begin.elapsed(), starver.sent.load(Ordering::Relaxed) - before))
        },
    )?;
    let (took, meanwhile) = played?;
    if took > LIMIT {
        return Err(format!("the client took {took:?}").into());
    }
    let copies = delivered(&server, &source.samples)?;
    let without_room = wait_for("an announcement for which there is no room", || {
        dropped(&server, WITHOUT_ROOM).ok().filter(|count| *count > 0)
    })?;
    let what = format!(
        "the honest file took {:.1} s, amid {meanwhile} of {} hostile datagrams; for \
         {without_room} announcements there was no room",
        took.as_secs_f64(),
        starver.sent.load(Ordering::Relaxed)
    );
    Ok(Observed::new(what, copies))
}

struct Starver {
    socket: UdpSocket,
    /// The number of datagrams sent.
    sent: AtomicU64,
    /// The number of rounds that are over; the first one begins the transfers.
    rounds: AtomicU64,
}

impl Starver {
    /// Sends rounds of an announcement and a symbol for each transfer, spread over the round's
    /// time: a transfer that the server has forgotten is begun again.
    fn starve(&self, goes_on: &dyn Fn() -> bool) {
        let (mut huge, mut next_huge) = (TRANSFERS, Instant::now() + HUGE_INTERVAL);
        for round in 0.. {
            let (began, lasts) = (Instant::now(), if round == 0 { BEGINNING } else { ROUND });
            for transfer in 0..TRANSFERS {
                if !goes_on() {
                    return;
                }
                self.send(&announce(transfer, SIZE, SYMBOL_SIZE, "starver.bin"));
                self.send(&symbol(transfer, round, SYMBOL_SIZE));
                if Instant::now() >= next_huge {
                    self.send(&announce(huge, HUGE, SYMBOL_SIZE, "huge.bin"));
                    (huge, next_huge) = (huge + 1, next_huge + HUGE_INTERVAL);
                }
                let due = began + lasts.mul_f64(transfer as f64 / TRANSFERS as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, datagram: &[u8]) {
        // A datagram that a full queue drops is not counted.
        let is_sent = self.socket.send_to(datagram, (SERVERS[0].address, PORT)).is_ok();
        self.sent.fetch_add(u64::from(is_sent), Ordering::Relaxed);
    }
}
