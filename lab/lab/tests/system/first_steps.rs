//! Tests of what newcomers do: a missing folder, no internet, fewer or more messages.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

/// What is started in the lab's shell ends with it, even in a session of its own.
pub(crate) fn shell_ends_its_programs() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new(env!("CARGO_BIN_EXE_lab"));
    shell.arg("--out").arg(dir.path()).args(["shell", "alpine-2"]).env("SHELL", "/bin/sh");
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut shell = shell.spawn().unwrap();
    let commands = "setsid server --dir two >/dev/null 2>&1 &\n\
                    lab on alpine-1 sh -c 'setsid sleep 60 >/dev/null 2>&1 & echo sleeps in $!'\n\
                    for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; [ -d two ] && break; done\n\
                    echo serves as $!\n";
    shell.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(dir.path().join("shell/alpine-2/two").is_dir(), "the server did not start: {said}");
    for words in ["sleeps in ", "serves as "] {
        let id = said.lines().find_map(|line| line.strip_prefix(words)).unwrap();
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "{words}{id}: {}", text(&command));
    }
}

/// `lab serve` goes on without standard input, and ends at a signal.
pub(crate) fn serve_without_input() {
    let is_up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(is_up.success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["serve", "--port", "0"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut serve = command.spawn().unwrap();
    let lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let url = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("\"http")?.1.split_once('"')?.0.to_owned()))
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(serve.try_wait().unwrap().is_none(), "it has ended");
    let (host, path) = url.trim_start_matches("://").split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).unwrap();
    assert!(status.contains(" 200 "), "{status}");
    kill(Pid::from_raw(serve.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(!serve.wait().unwrap().success());
}
