//! Tests of what newcomers do: a missing folder, no internet, fewer or more messages.

use std::process::{Command, Stdio};

use siar_core::event::Style;
use stage::node::{CLIENT, SERVERS};
use stage::samples::noise;

use crate::lab::{Lab, assert_success, has_event, programs, text, wait_for};

/// Server and client make the folder of `--dir` with its parents, and say so once.
pub(crate) fn missing_folders() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let (received, sent) = (lab.path("new/received"), lab.path("new/sent"));
    let events = lab.path("server.events");
    let mut command = Command::new(programs().server());
    command.arg("--dir").arg(&received).arg("--events").arg(&events).args(["--exit-after", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = lab.network.spawn(SERVERS[0], &mut command).unwrap();
    wait_for("the server", || has_event(&events, "listening"));
    let output = lab.client(Style::Mp, &["--servers", "1", "--dir", sent.to_str().unwrap()]);
    assert_success(&output);
    let made = |dir: &std::path::Path| format!("made the folder {}\n", dir.display());
    assert_eq!(text(&output.stderr).matches(&made(&sent)).count(), 1, "{output:?}");
    let output = server.wait_with_output().unwrap();
    assert_success(&output);
    assert_eq!(text(&output.stderr).matches(&made(&received)).count(), 1, "{output:?}");
    assert!(received.join("small.bin").exists() && sent.join("small.bin").exists());
}

/// Without a name server every style says what is wrong and, once, what to do.
pub(crate) fn no_internet() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    for style in [Style::Mt, Style::MpAsync] {
        let urls = ["http://a.invalid/a", "https://b.invalid/b"];
        let output = lab.client(style, &urls);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.matches("the host's name cannot be looked up").count(), 2, "{stderr}");
        assert_eq!(stderr.matches("cargo lab serve").count(), 1, "{stderr}");
    }
}

/// `-q` prints nothing unless something goes wrong; `-v` tells who joins, and where to.
pub(crate) fn quiet_and_verbose() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let _servers = lab.servers();
    for style in [Style::Mp, Style::MtAsync] {
        let output = lab.client(style, &["-q", "--servers", "2"]);
        assert_success(&output);
        assert_eq!(text(&output.stdout) + &text(&output.stderr), "", "{style}");
        let output = lab.client(style, &["-v", "--servers", "2"]);
        let stderr = text(&output.stderr);
        for said in
            ["192.168.122.90:5005 joined for small.bin", "sending to 255.255.255.255:5005 through"]
        {
            assert!(stderr.contains(said), "{style}: {said}: {stderr}");
        }
    }
    let output = lab.client(Style::Mt, &["-q", "http://192.168.122.1:9/x"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
}

/// Values that people type by mistake bring a hint.
pub(crate) fn hints() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let run = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = lab.run_on(CLIENT, command.args(arguments).stdout(Stdio::piped()));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr)
    };
    let said = run(&programs().server(), &["--bind", "5005"]);
    assert!(said.contains("did you mean 0.0.0.0:5005?"), "{said}");
    let said = run(&programs().client(Style::Mt), &["www.its.ac.id"]);
    assert!(said.contains("did you mean https://www.its.ac.id?"), "{said}");
}
