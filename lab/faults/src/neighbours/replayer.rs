//! A host without the key hears sealed datagrams, and sends the latest to a server that starts
//! late, again and again. The server must take the datagrams of the true sender.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use siar_core::io::seal::Key;
use stage::manifest::PORT;
use stage::node::{GATEWAY, SERVERS};
use stage::samples::noise;

use super::amid;
use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered};

/// The time between two repeats: there are 500 a second.
const REPEAT_INTERVAL: Duration = Duration::from_millis(2);
/// The time by which the server starts later than the client.
const LATE: Duration = Duration::from_millis(700);
/// The least number of repeats that is an attack.
const LEAST_REPEATS: u64 = 100;

/// Checks that the late server gets the file.
pub(crate) fn replayer(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 3_000_000)])?;
    let path = scene.dir.join("key");
    Key::create(&path)?;
    let key = path.display().to_string();
    let (ears, mouth) = scene.network.on(GATEWAY, || {
        let bind = |port: u16| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
        Ok((bind(PORT)?, bind(0)?))
    })?;
    ears.set_nonblocking(true)?;
    let (repeats, played) = amid(
        |goes_on| repeat(&ears, &mouth, goes_on),
        || -> Result<_, Box<dyn Error>> {
            let arguments = ["--servers", "1", "--key-file", &key, &source.url(0)];
            let client = scene.client("mt", "client", &arguments)?;
            thread::sleep(LATE);
            let begin = Instant::now();
            let server = scene.server(SERVERS[0], &["--key-file", &key])?;
            client.wait()?.expect(0, &[])?;
            Ok((server, begin.elapsed()))
        },
    )?;
    let (server, took) = played?;
    if repeats < LEAST_REPEATS {
        return Err(format!("{repeats} repeats only").into());
    }
    let copies = delivered(&server, &source.samples)?;
    let what = format!(
        "delivered {:.1} s after the late server's start, amid {repeats} repeats",
        took.as_secs_f64()
    );
    Ok(Observed::new(what, copies))
}

/// Sends from `mouth` the latest datagram that `ears` have heard. Returns the number of repeats.
fn repeat(ears: &UdpSocket, mouth: &UdpSocket, goes_on: &dyn Fn() -> bool) -> u64 {
    let (mut latest, mut buffer, mut repeats) = (Vec::new(), [0; 2000], 0);
    while goes_on() {
        while let Ok(len) = ears.recv(&mut buffer) {
            latest.clear();
            latest.extend_from_slice(&buffer[..len]);
        }
        if !latest.is_empty() {
            let sent = mouth.send_to(&latest, (SERVERS[0].address, PORT));
            repeats += u64::from(sent.is_ok());
        }
        thread::sleep(REPEAT_INTERVAL);
    }
    repeats
}
