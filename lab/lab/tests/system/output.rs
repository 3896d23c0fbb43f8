//! Tests of the printed lines and of the log, also when nobody reads them.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::{EventKind, Style};
use stage::events::read_events;
use stage::node::SERVERS;
use stage::samples::{noise, samples};

use crate::lab::{Lab, assert_success, has_event, programs, text, wait_for};

/// A server whose standard output is a pipe that nobody reads: the server still answers, and
/// ends on a signal.
pub(crate) fn unread_dump() {
    let lab = Lab::new(vec![noise("large.bin", 3 << 20), noise("small.bin", 1000)]);
    let files = lab.path("files");
    fs::create_dir(&files).unwrap();
    let events = lab.path("server.events");
    let mut command = Command::new(programs().server());
    command.arg("--dump").arg("--dir").arg(&files).arg("--events").arg(&events);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = lab.network.spawn(SERVERS[0], &mut command).unwrap();
    wait_for("the server", || has_event(&events, "listening"));
    for _ in 0..2 {
        assert_success(&lab.client(Style::Mt, &["--servers", "1"]));
    }
    // The event file has all four events.
    wait_for("the events", || {
        let events = read_events(&events).unwrap_or_default();
        let is_received = |kind: &EventKind| matches!(kind, EventKind::Received { .. });
        events.iter().filter(|event| is_received(&event.kind)).count() == 4
    });
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
    wait_for("the server's end", || server.try_wait().unwrap().is_some());
    let output = server.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("warning: nobody reads what is printed"), "{stderr}");
    for sample in lab.samples.iter() {
        assert_eq!(
            fs::read(files.join(sample.file_name())).unwrap(),
            sample.bytes,
            "{}",
            sample.file_name()
        );
    }
}

/// The Python scripts' line about a written file appears whatever `RUST_LOG` says.
pub(crate) fn writing_line_with_rust_log() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let _servers = lab.servers();
    for filter in ["siar_core=debug", "error", "off"] {
        let mut command = Command::new(programs().client(Style::Mt));
        command.arg("--urls").arg(lab.path("urls.toml")).arg("--dir").arg(lab.path("downloads"));
        command.args(["--delay", "0s", "--servers", "2"]).env("RUST_LOG", filter);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let client = lab.network.spawn(stage::node::CLIENT, &mut command).unwrap();
        let output = client.wait_with_output().unwrap();
        assert_success(&output);
        let stderr = text(&output.stderr);
        let line = "WARNING:root:writing small.bin dalam waktu ";
        assert_eq!(stderr.matches(line).count(), 1, "{filter}: {stderr}");
    }
}

/// The log of worker processes is shown like the log of threads.
pub(crate) fn workers_log() {
    let lab = Lab::new(samples().unwrap());
    let _servers = lab.servers();
    for style in [Style::Mp, Style::MpAsync, Style::Mt] {
        let output = lab.client(style, &["-vv", "--servers", "2"]);
        assert_success(&output);
        let stderr = text(&output.stderr);
        assert!(stderr.contains("DEBUG:ureq"), "{style}: {stderr}");
    }
    let output = lab.client(Style::Mp, &["--servers", "2"]);
    assert!(!text(&output.stderr).contains("DEBUG"));
}

/// Each task's lines appear in the order of the Python scripts' lines.
pub(crate) fn order_of_lines() {
    let lab = Lab::new(samples().unwrap());
    let _servers = lab.servers();
    for style in stage::programs::STYLES {
        let output = lab.client(style, &["--servers", "2"]);
        assert_success(&output);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let total = stdout.find("Waktu TOTAL yang dibutuhkan ").expect(&stdout);
        for sample in lab.samples.iter() {
            let place = |text: &str, line: &str| {
                text.find(line).unwrap_or_else(|| panic!("{style}: no {line:?} in {text}"))
            };
            let begun =
                place(&stdout, &format!("mendownload {}{}", lab.gateway.origin(), sample.path));
            let broadcast = place(&stdout, &format!("broadcast file {}", sample.file_name()));
            assert!(begun < broadcast && broadcast < total, "{style}: {stdout}");
            let written = place(&stderr, &format!("WARNING:root:writing {} ", sample.file_name()));
            let confirmed = place(&stderr, &format!(":5005 confirmed {}", sample.file_name()));
            assert!(written < confirmed, "{style}: {stderr}");
        }
        let results = match style {
            Style::Mp | Style::Mt => None,
            Style::MpAsync => Some("status TASK\n{'"),
            Style::MtAsync => Some("hasil task yang dijalankan\n{'"),
        };
        if let Some(results) = results {
            assert!(stdout.find(results).is_some_and(|at| at > total), "{style}: {stdout}");
        } else {
            assert_eq!(stdout[total..].lines().count(), 1, "{style}: {stdout}");
        }
    }
}
