//! Tests of what ordinary machines have: containers, a masked `/proc`, full disks, odd files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::Style;
use stage::node::{CLIENT, SERVERS};
use stage::programs::STYLES;
use stage::samples::noise;

use crate::lab::{Lab, assert_success, has_event, programs, text, wait_for};

/// Runs a command on the client's node, with the options that every client of these tests has.
fn run(lab: &Lab, command: &mut Command) -> Output {
    command.env("SIAR_DELAY", "0s").env("SIAR_DIR", lab.path("downloads"));
    lab.run_on(CLIENT, command)
}

/// The first process of a container ends at SIGTERM and SIGINT, though the system would ignore
/// them.
pub(crate) fn first_process() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    for (style, signal) in STYLES.into_iter().zip([Signal::SIGTERM, Signal::SIGINT].repeat(2)) {
        let events = lab.path(&format!("{style}.events"));
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).arg(programs().client(style));
        command.args(["--delay", "60s", "--events"]).arg(&events).arg("--dir").arg(lab.path("d"));
        command.arg("--urls").arg(lab.path("urls.toml")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut container = lab.network.spawn(CLIENT, &mut command).unwrap();
        wait_for("the delay", || has_event(&events, "download_finished"));
        let pid = container.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        kill(Pid::from_raw(children.trim().parse().unwrap()), signal).unwrap();
        wait_for("the end", || container.try_wait().unwrap().is_some());
        let status = container.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal as i32), "{style}");
    }
}

/// Where `/proc` is masked, workers are started by the name that the client was started by.
pub(crate) fn masked_proc() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let _servers = lab.servers();
    for style in [Style::Mp, Style::MpAsync] {
        let program = programs().client(style);
        let by_name = Path::new(program.file_name().unwrap());
        for started_as in [&program, by_name] {
            let mut command = Command::new("unshare");
            let script = "mount -t tmpfs none /proc && exec \"$@\"";
            command.args(["--mount", "sh", "-c", script, "sh"]).arg(started_as);
            command.args(["--servers", "2", "--urls"]).arg(lab.path("urls.toml"));
            let path = std::env::var("PATH").unwrap();
            let programs = program.parent().unwrap().display();
            command.env("PATH", format!("{programs}:{path}")).stdout(Stdio::piped());
            assert_success(&run(&lab, &mut command));
        }
    }
}

/// Standard output that takes nothing is one warning; the exit code tells of the files.
pub(crate) fn full_standard_output() {
    let lab = Lab::new(vec![noise("a.bin", 1000), noise("b.bin", 1000)]);
    let _servers = lab.servers();
    for style in STYLES {
        let full = fs::File::create("/dev/full").unwrap();
        let mut command = Command::new(programs().client(style));
        command.args(["--servers", "2", "--urls"]).arg(lab.path("urls.toml")).stdout(full);
        let output = run(&lab, &mut command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{style}: {stderr}");
        assert_eq!(stderr.matches("warning: standard output").count(), 1, "{style}: {stderr}");
        assert_eq!(stderr.matches("confirmed").count(), 4, "{style}: {stderr}");
    }
}

/// Hidden files, files that tell no size, and names given on the command line arrive as they are.
pub(crate) fn odd_files() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let [hidden, shown] = [lab.server(SERVERS[0], &[]), lab.server(SERVERS[1], &["--no-dotfiles"])];
    let dotfile = lab.path(".env");
    fs::write(&dotfile, "A=1\n").unwrap();
    let mut command = Command::new(programs().client(Style::MpAsync));
    command.args(["--servers", "2"]).arg(&dotfile).arg("/proc/version");
    command.arg(format!("named=http://192.168.122.1{}", lab.samples[0].path));
    command.arg(format!(".a b={}", dotfile.display())).stdout(Stdio::piped());
    let output = run(&lab, &mut command);
    assert_success(&output);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("'named': datetime") && stdout.contains("'url1': "), "{stdout}");
    for (server, names) in [
        (&hidden, [".env", "version", "named", ".a b"]),
        (&shown, ["env", "version", "named", "a b"]),
    ] {
        let expected = [
            fs::read(&dotfile).unwrap(),
            fs::read("/proc/version").unwrap(),
            lab.samples[0].bytes.clone(),
            fs::read(&dotfile).unwrap(),
        ];
        for (name, bytes) in names.into_iter().zip(expected) {
            assert_eq!(fs::read(server.files().join(name)).unwrap(), bytes, "{name}");
        }
    }
}

/// `--is-ready` is answered by a server that works, with its key, and by no other; `--check` says
/// what could be received, and what keeps a server from running.
pub(crate) fn readiness_and_check() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let key = lab.path("key");
    siar_core::io::seal::Key::create(&key).unwrap();
    let key = key.to_str().unwrap();
    let server = lab.server(SERVERS[0], &["--key-file", key]);
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(programs().server());
        lab.run_on(SERVERS[0], command.args(arguments).stdout(Stdio::piped()))
    };
    assert_success(&ask(&["--is-ready", "--key-file", key]));
    assert_success(&ask(&["--is-ready", "--key-file", key, "--interface", "eth0"]));
    for arguments in
        [&["--is-ready"][..], &["--is-ready", "--key-file", key, "--bind", "0.0.0.0:7"]]
    {
        let output = ask(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("no server answers at"), "{output:?}");
    }
    // What is asked leaves nothing at the server.
    assert_eq!(fs::read_dir(server.files()).unwrap().count(), 0);
    assert!(!has_event(&server.dir.join("server.events"), "transfer_started"));
    let dir = lab.path("checked");
    let output = ask(&["--check", "--dir", dir.to_str().unwrap(), "--group", "239.1.2.3"]);
    assert_success(&output);
    for said in ["listens at  0.0.0.0:5005", "address     eth0 192.168.122.90, broadcast", "joined"]
    {
        assert!(text(&output.stdout).contains(said), "{said}: {output:?}");
    }
    let output = ask(&["--check", "--bind", "192.0.2.9:5005", "--dir", "/proc/no"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
