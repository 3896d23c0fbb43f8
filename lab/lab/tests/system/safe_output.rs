//! Tests of names that attack a terminal, a log or a shell, and of what a service manager is told.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::EventKind;
use siar_core::io::seal::{Key, Sealer};
use siar_core::visible::is_safe_to_show;
use siar_proto::FileDigest;
use siar_proto::wire::{Announce, Body, Frame, Symbol, TransferId};
use stage::node::{CLIENT, SERVERS};
use stage::samples::samples;

use crate::lab::{Lab, has_event, programs, text, wait_for};

const HOSTILE: &str =
    "-a\r\nWARNING:root:forged\u{1b}[31m\u{9b}31m\u{202e}gnp\u{200b}\u{e0041}.exe";
const PRINTED: &str = r"-a\r\nWARNING:root:forged\x1b[31m\x9b31m\u202egnp\u200b\U000e0041.exe";
const STORED: &str = "_a WARNING_root_forged_[31m_31m_gnp_.exe";

/// A holder of the key sends a hostile name twice: in an old announcement, which is logged, and
/// with a file, which is stored.
pub(crate) fn hostile_names() {
    let lab = Lab::new(samples().unwrap());
    let path = lab.path("key");
    let key = Key::create(&path).unwrap();
    let server = lab.server(SERVERS[0], &["--key-file", path.to_str().unwrap()]);
    let socket = lab.network.on(CLIENT, || UdpSocket::bind((CLIENT.address, 0))).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let content = [7u8; 100];
    let announce = |time_ms| {
        Body::Announce(Announce {
            size: 100,
            symbol_size: 100,
            block_symbols: 1,
            code: 1,
            blake3: FileDigest::of_bytes(&content).name(),
            time_ms,
            name: HOSTILE,
        })
    };
    let symbol = Body::Symbol(Symbol { block: 0, symbol: 0, payload: &content });
    let mut sealer = Sealer::new(&key);
    for (transfer, body) in [(1, announce(now - 3_600_000)), (2, announce(now)), (2, symbol)] {
        let frame = Frame { transfer: TransferId(transfer), body };
        let mut datagram = Vec::new();
        sealer.seal(&frame.to_datagram(), &mut datagram);
        socket.send_to(&datagram, (SERVERS[0].address, 5005)).unwrap();
    }
    let events = server.dir.join("server.events");
    wait_for("the file", || has_event(&events, "received"));
    let names = fs::read_dir(server.files()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [STORED]);

    let log = server.dir.join("server.log");
    let log = || fs::read_to_string(&log).unwrap();
    wait_for("the line of the file", || log().contains(&format!("diterima  {STORED} 100 byte")));
    let log = log();
    assert!(log.chars().all(|c| c == '\n' || is_safe_to_show(c)), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("WARNING:root:forged")), "{log}");
    assert!(log.contains(&format!("{PRINTED}: sent at a time 3600 s from here")), "{log}");
    assert_eq!(log.matches(&format!("{PRINTED} is stored as {STORED}\n")).count(), 1, "{log}");

    let written = fs::read_to_string(&events).unwrap();
    assert!(written.chars().all(|c| c == '\n' || is_safe_to_show(c)), "{written:?}");
    let started = server.events().unwrap().into_iter().find_map(|event| match event.kind {
        EventKind::TransferStarted { name, .. } => Some(name),
        _ => None,
    });
    assert_eq!(started.as_deref(), Some(HOSTILE));
}

/// A service manager's socket gets a message when the server listens, and one when it ends.
pub(crate) fn service_manager() {
    let lab = Lab::new(samples().unwrap());
    let address = lab.path("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut buffer = [0; 100];
        let len = manager.recv(&mut buffer).unwrap();
        text(&buffer[..len])
    };
    let mut command = Command::new(programs().server());
    command.arg("--dir").arg(lab.path("files")).env("NOTIFY_SOCKET", &address);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let server = lab.network.spawn(SERVERS[0], &mut command).unwrap();
    assert_eq!(told(), "READY=1");
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    let output = server.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!text(&output.stderr).contains("WARNING"), "{}", text(&output.stderr));

    // A service manager that is gone costs one warning for each message, and not the server.
    drop(manager);
    let events = lab.path("alone.events");
    command.arg("--events").arg(&events);
    let server = lab.network.spawn(SERVERS[0], &mut command).unwrap();
    wait_for("the server", || has_event(&events, "listening"));
    // The server has the signals' handlers by then.
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
    let output = server.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("takes no READY=1: ").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("WARNING").count(), 2, "{stderr}");
}
