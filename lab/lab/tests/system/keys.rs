//! Tests of sealed transfers: servers with the key, without it, and a replay attack.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use siar_core::event::Style;
use siar_core::io::seal::{Key, Opener, Sealer};
use siar_proto::wire::{Announce, Body, Frame, TransferId};
use stage::node::{CLIENT, SERVERS};
use stage::samples::samples;
use stage::server::RunningServer;

use crate::lab::{Lab, assert_success, programs, text, wait_for};

/// Three servers: one has the key, one has another key, and one has no key.
pub(crate) fn sealed() {
    let lab = Lab::new(samples().unwrap());
    let (key, other) = (lab.path("key"), lab.path("other"));
    Key::create(&key).unwrap();
    Key::create(&other).unwrap();
    let (key, other) = (key.to_str().unwrap(), other.to_str().unwrap());
    let good = lab.server(SERVERS[0], &["--key-file", key]);
    let wrong = lab.server(SERVERS[1], &["--key-file", other]);
    let dir = lab.path("plain");
    let plain = RunningServer::start(&lab.network, programs(), SERVERS[1], &dir, &[]).unwrap();
    for style in [Style::Mp, Style::MtAsync] {
        assert_success(&lab.client(style, &["--servers", "1", "--key-file", key]));
        lab.assert_delivered(&good);
    }
    assert_eq!(fs::read_dir(wrong.files()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(plain.files()).unwrap().count(), 0);
    // The server with the key drops an unsealed transfer too.
    let output =
        lab.client(Style::Mt, &[&format!("{}{}", lab.gateway.origin(), lab.samples[0].path)]);
    assert!(text(&output.stderr).contains("192.168.122.132:5005 confirmed"), "the plain one");
    assert!(!text(&output.stderr).contains("192.168.122.90"), "{}", text(&output.stderr));
    for (server, says) in [(&good, "not sealed"), (&wrong, "sealed with another key")] {
        wait_for("the count", || {
            let log = fs::read_to_string(server.dir.join("server.log")).unwrap();
            log.contains("datagrams dropped") && log.contains(says)
        });
        let log = fs::read_to_string(server.dir.join("server.log")).unwrap();
        assert_eq!(log.matches("WARNING").count(), 1, "{log}");
    }
}

/// Announcements that are sealed with the right key: a fresh one, an old one and a replay.
pub(crate) fn replayed() {
    let lab = Lab::new(samples().unwrap());
    let path = lab.path("key");
    let key = Key::create(&path).unwrap();
    let server = lab.server(SERVERS[0], &["--key-file", path.to_str().unwrap()]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let (mut sealer, mut opener) = (Sealer::new(&key), Opener::new(&key));
    let client = || UdpSocket::bind((CLIENT.address, 0));
    let socket = lab.network.on(CLIENT, client).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let elsewhere = lab.network.on(CLIENT, client).unwrap();
    elsewhere.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let server_address = (SERVERS[0].address, 5005).into();
    let hour = 3_600_000;
    let mut other_sealer = Sealer::new(&key);
    // A transfer, one from an hour ago, and the first one by another session.
    let cases =
        [(1, now, &socket, true), (2, now - hour, &socket, false), (1, now, &elsewhere, false)];
    let mut recorded = Vec::new();
    for (transfer, time_ms, from, is_answered) in cases {
        let announce = Announce {
            size: 5,
            symbol_size: 5,
            block_symbols: 1,
            code: 1,
            blake3: [0; 32],
            time_ms,
            name: "old.txt",
        };
        let frame = Frame { transfer: TransferId(transfer), body: Body::Announce(announce) };
        let mut datagram = Vec::new();
        let sealer = if recorded.len() < 2 { &mut sealer } else { &mut other_sealer };
        sealer.seal(&frame.to_datagram(), &mut datagram);
        recorded.push(datagram.clone());
        from.send_to(&datagram, (SERVERS[0].address, 5005)).unwrap();
        let mut buffer = [0; 2000];
        let Ok(len) = from.recv(&mut buffer) else {
            assert!(!is_answered, "transfer {transfer} got no answer");
            continue;
        };
        // The answer is no longer than the question, so that the server amplifies no attack.
        assert!(is_answered && len <= datagram.len());
        let answer =
            Frame::parse(opener.open(server_address, &buffer[..len]).unwrap().frame).unwrap();
        assert!(matches!(answer.body, Body::Join(_)), "{answer:?}");
    }
    // The same datagram from elsewhere does not draw the answers away.
    elsewhere.send_to(&recorded[0], (SERVERS[0].address, 5005)).unwrap();
    assert!(socket.recv(&mut [0; 2000]).is_ok());
    let log = fs::read_to_string(server.dir.join("server.log")).unwrap();
    assert!(
        log.contains("a replay, or a wrong clock") && log.contains("before: a replay"),
        "{log}"
    );
}

pub(crate) fn open_key() {
    let lab = Lab::new(samples().unwrap());
    let path = lab.path("key");
    Key::create(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let output = lab.client(Style::Mp, &["--key-file", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("mode 0644") && stderr.contains("chmod 600"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
