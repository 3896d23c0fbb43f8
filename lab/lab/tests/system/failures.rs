//! Tests of failures: the failed part is reported, and everything else is delivered.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::{EventKind, Style};
use stage::events::read_events;
use stage::node::{CLIENT, GATEWAY, SERVERS};
use stage::outcome::compare;
use stage::programs::STYLES;
use stage::samples::{noise, samples};

use crate::lab::{Lab, assert_success, has_event, programs, text, wait_for};

pub(crate) fn killed_server() {
    let lab = Lab::new(vec![noise("large.bin", 64 << 20)]);
    let servers = lab.servers();
    let client = lab.start_client(Style::Mt, &["--servers", "2", "--rate", "400mbit"]);
    let events = servers[1].dir.join("server.events");
    wait_for("the transfer", || has_event(&events, "transfer_started"));
    thread::sleep(Duration::from_millis(300));
    servers[1].signal(Signal::SIGKILL).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("192.168.122.90:5005 confirmed large.bin"), "{stderr}");
    assert!(
        stderr.contains("192.168.122.132:5005 did not confirm large.bin: fell silent"),
        "{stderr}"
    );
    lab.assert_delivered(&servers[0]);
    assert!(!servers[1].files().join("large.bin").exists());
}

pub(crate) fn late_server() {
    let lab = Lab::new(vec![noise("large.bin", 32 << 20)]);
    let first = lab.server(SERVERS[0], &[]);
    let client = lab.start_client(Style::Mt, &["--rate", "200mbit"]);
    wait_for("the transfer", || has_event(&lab.path("client.events"), "server_joined"));
    thread::sleep(Duration::from_millis(200));
    let second = lab.server(SERVERS[1], &[]);
    let output = client.wait_with_output().unwrap();
    assert_success(&output);
    assert!(text(&output.stderr).contains("192.168.122.132:5005 confirmed large.bin"));
    lab.assert_delivered(&first);
    lab.assert_delivered(&second);
}

pub(crate) fn killed_worker(style: Style) {
    let lab = Lab::new(samples().unwrap());
    let servers = lab.servers();
    // The pool has one worker: the pool must replace it after the kill.
    let workers = if style == Style::MpAsync { &["--workers", "1"][..] } else { &[] };
    let arguments = [&["--servers", "2", "--delay", "500ms"], workers].concat();
    let client = lab.start_client(style, &arguments);
    let events = lab.path("client.events");
    wait_for("the download", || has_event(&events, "download_finished"));
    let victim = read_events(&events)
        .unwrap()
        .into_iter()
        .find(|event| matches!(event.kind, EventKind::DownloadFinished { .. }))
        .unwrap();
    kill(Pid::from_raw(victim.pid.cast_signed()), Signal::SIGKILL).unwrap();
    let output = client.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let task = victim.task.unwrap();
    let lost = format!("error: {task}: worker lost: process {} was killed by SIGKILL", victim.pid);
    assert!(stderr.contains(&lost), "{stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
    let events = lab.client_events();
    let finished =
        events.iter().filter(|event| matches!(event.kind, EventKind::TaskFinished { .. })).count();
    assert_eq!(finished, lab.samples.len() - 1);
    if style == Style::MpAsync {
        let results = text(&output.stdout);
        assert!(results.contains(&format!("'{task}': None")), "{results}");
    }
    for server in servers {
        assert_eq!(compare(&server.files(), &lab.samples).len(), 1);
    }
}

/// A source that accepts connections and never answers: `--timeout` ends the wait, and the
/// other tasks finish.
pub(crate) fn stalled_task() {
    let lab = Lab::new(samples().unwrap());
    let servers = lab.servers();
    let address = format!("{}:81", GATEWAY.address);
    let listener = lab.network.on(GATEWAY, || std::net::TcpListener::bind(&address)).unwrap();
    let stalled = format!("http://{address}/stalled.bin");
    let good = format!("{}{}", lab.gateway.origin(), lab.samples[0].path);
    for style in [Style::MpAsync, Style::MtAsync] {
        let started = Instant::now();
        let arguments = ["--servers", "2", "--timeout", "700ms", &stalled, &good];
        let output = lab.client(style, &arguments);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("error: url1: given up: no progress for 700ms"), "{stderr}");
        assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
        let results = text(&output.stdout);
        assert!(results.contains("{'url1': None, 'url2': datetime.timedelta("), "{results}");
    }
    drop((listener, servers));
}

pub(crate) fn workers_end_with_parent() {
    for style in [Style::Mp, Style::MpAsync] {
        let lab = Lab::new(samples().unwrap());
        let mut client = lab.start_client(style, &["--delay", "60s", "--timeout", "100s"]);
        let events = lab.path("client.events");
        wait_for("four downloads", || {
            fs::read_to_string(&events)
                .is_ok_and(|text| text.matches("\"download_finished\"").count() == 4)
        });
        let workers: BTreeSet<u32> = lab
            .client_events()
            .iter()
            .filter(|event| event.kind == EventKind::DownloadStarted)
            .map(|event| event.pid)
            .collect();
        assert!(!workers.contains(&client.id()));
        client.kill().unwrap();
        client.wait().unwrap();
        for worker in workers {
            wait_for("a worker's end", || {
                // A zombie has ended; its new parent has not reaped it yet.
                fs::read_to_string(format!("/proc/{worker}/stat"))
                    .map_or(true, |stat| stat.contains(") Z "))
            });
        }
    }
}

pub(crate) fn no_server() {
    let lab = Lab::new(samples().unwrap());
    for style in STYLES {
        let started = Instant::now();
        let output = lab.client(style, &[]);
        assert!(started.elapsed() < Duration::from_millis(1300), "{:?}", started.elapsed());
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert_eq!(stderr.matches("nobody confirmed").count(), lab.samples.len(), "{stderr}");
    }
}

pub(crate) fn one_line_each() {
    let lab = Lab::new(samples().unwrap());
    let _servers = lab.servers();
    let origin = lab.gateway.origin();
    let good = format!("{origin}{}", lab.samples[0].path);
    let (missing, dead) = (format!("{origin}/missing.zip"), "http://192.168.122.77:81/x.zip");
    let unspoken = format!("https://192.168.122.1:80{}", lab.samples[0].path);
    for (urls, says) in [
        ([good.as_str(), missing.as_str()], "http status: 404"),
        ([good.as_str(), dead], "192.168.122.77"),
        ([good.as_str(), unspoken.as_str()], "https://192.168.122.1:80"),
    ] {
        let output = lab.client(Style::Mt, &[&urls[..], &["--servers", "2"]].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert!(errors.len() == 1 && errors[0].contains(says), "{stderr}");
        assert!(text(&output.stdout).contains("broadcast file logo-its-1.png"));
        assert!(stderr.contains("192.168.122.90:5005 confirmed logo-its-1.png"), "{stderr}");
    }
    for (arguments, code, says) in [
        (&["--dir", "/proc/nonexistent"][..], 1, "/proc/nonexistent"),
        (&["--interface", "eth7"], 1, "interface eth7"),
        (&["--nonsense"], 2, "--nonsense"),
        (&["--delay", "soon"], 2, "expected a duration"),
        (&["--wire", "raw"], 1, "as one datagram of at most 65507 bytes"),
    ] {
        let output = lab.client(Style::Mt, arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    // This socket does not share its port, because it lacks `SO_REUSEADDR`.
    lab.network
        .on(CLIENT, || {
            let _taken = std::net::UdpSocket::bind("0.0.0.0:5005")?;
            let output = Command::new(programs().server()).output()?;
            assert_eq!(output.status.code(), Some(1));
            let stderr = text(&output.stderr);
            assert!(stderr.contains("cannot listen on 0.0.0.0:5005"), "{stderr}");
            Ok(())
        })
        .unwrap();
}
