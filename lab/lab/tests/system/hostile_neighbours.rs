//! Tests of hosts on the network that mean harm: the real programs, and the attacker's datagrams.

use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use siar_core::event::Style;
use siar_core::io::seal::Key;
use stage::node::{GATEWAY, SERVERS};
use stage::samples::noise;

use crate::lab::{Lab, assert_success, text, wait_for};

/// A host without the key hears sealed announcements, and sends the latest to a server that starts
/// late, five hundred times a second.
pub(crate) fn repeater() {
    let lab = Lab::new(vec![noise("large.bin", 3_000_000)]);
    let path = lab.path("key");
    Key::create(&path).unwrap();
    let key = path.to_str().unwrap().to_owned();
    let (ears, mouth) = lab
        .network
        .on(GATEWAY, || Ok((UdpSocket::bind("0.0.0.0:5005")?, UdpSocket::bind("0.0.0.0:0")?)))
        .unwrap();
    ears.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let attacker = thread::spawn(move || {
        let (mut latest, mut buffer, mut sent) = (Vec::new(), [0; 2000], 0);
        let until = Instant::now() + Duration::from_secs(30);
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            if let Ok(len) = ears.recv(&mut buffer) {
                latest = buffer[..len].to_vec();
            }
            if !latest.is_empty() {
                sent += usize::from(mouth.send_to(&latest, (SERVERS[0].address, 5005)).is_ok());
                thread::sleep(Duration::from_millis(2));
            }
        }
        sent
    });
    let server = thread::scope(|scope| {
        let client = scope.spawn(|| lab.client(Style::Mt, &["--servers", "1", "--key-file", &key]));
        thread::sleep(Duration::from_millis(700));
        let server = lab.server(SERVERS[0], &["--key-file", &key]);
        assert_success(&client.join().unwrap());
        server
    });
    is_over.store(true, Ordering::Relaxed);
    assert!(attacker.join().unwrap() > 100, "the attack did not happen");
    lab.assert_delivered(&server);
}

/// A datagram that is no frame ends no server, and a server that has enough finishes what it began.
pub(crate) fn exit_after() {
    let lab = Lab::new(vec![noise("large.bin", 6_000_000)]);
    let other = lab.path("small.bin");
    fs::write(&other, [1; 1000]).unwrap();
    let server = lab.server(SERVERS[0], &["--exit-after", "1"]);
    let (stranger, small) = (
        lab.network.on(GATEWAY, || UdpSocket::bind("0.0.0.0:0")).unwrap(),
        format!("file://{}", other.display()),
    );
    thread::scope(|scope| {
        let large = scope.spawn(|| lab.client(Style::Mt, &["--servers", "1", "--rate", "16mbit"]));
        thread::sleep(Duration::from_millis(1000));
        for bytes in [&b""[..], b"a whole file in the scripts' format"] {
            stranger.send_to(bytes, (SERVERS[0].address, 5005)).unwrap();
        }
        assert_success(&lab.client(Style::Mp, &["--servers", "1", &small]));
        assert_success(&large.join().unwrap());
    });
    assert!(server.files().join("small.bin").exists());
    assert!(fs::read(server.files().join("large.bin")).unwrap() == lab.samples[0].bytes);
    assert_eq!(fs::read_dir(server.files()).unwrap().count(), 2);
    let log = server.dir.join("server.log");
    wait_for("the server's end", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("2 files received"))
    });
}

/// A host joins and is never heard again. The number of servers that was asked for has the file.
pub(crate) fn phantom_receiver() {
    use siar_proto::wire::{Body, Frame, Join, ReceiverId};
    let lab = Lab::new(vec![noise("small.bin", 100_000)]);
    let ears = lab.network.on(GATEWAY, || UdpSocket::bind("0.0.0.0:5005")).unwrap();
    ears.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let attacker = thread::spawn(move || {
        let mut buffer = [0; 2000];
        let (len, client) = ears.recv_from(&mut buffer).unwrap();
        let transfer = Frame::parse(&buffer[..len]).unwrap().transfer;
        let receiver = ReceiverId(1);
        let join = Join { receiver, recv_buffer: 1 << 20, window: 100 };
        let frame = Frame { transfer, body: Body::Join(join) };
        ears.send_to(&frame.to_datagram(), client).unwrap();
    });
    let server = lab.server(SERVERS[0], &[]);
    let _other = lab.server(SERVERS[1], &[]);
    let output = lab.client(Style::Mt, &["--servers", "2"]);
    attacker.join().unwrap();
    lab.assert_delivered(&server);
    let stderr = text(&output.stderr);
    // If the phantom came first, sending began without one of the servers, which joined then.
    assert_success(&output);
    assert!(stderr.contains("joined and never answered"), "{stderr}");
}
