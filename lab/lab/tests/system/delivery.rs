//! Tests of delivery: files arrive whole and under their names.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::{EventKind, Style};
use stage::node::SERVERS;
use stage::programs::STYLES;
use stage::samples::{Sample, noise, samples};
use stage::server::RunningServer;

use crate::lab::{Lab, assert_success, has_event, programs, text, wait_for};

pub(crate) fn delivers(style: Style, loss: u8) {
    let mut files = samples().unwrap();
    files.push(noise("empty.txt", 0));
    files.push(noise("one.txt", 1));
    let lab = Lab::new(files);
    let servers = lab.servers();
    if loss > 0 {
        lab.lose(loss);
    }
    let output = lab.client(style, &["--servers", "2"]);
    assert_success(&output);
    let stdout = text(&output.stdout);
    for sample in lab.samples.iter() {
        assert!(stdout.contains(&format!("mendownload http://192.168.122.1{}\n", sample.path)));
        assert!(stdout.contains(&format!("broadcast file {}\n", sample.file_name())));
    }
    assert!(stdout.contains("Waktu TOTAL yang dibutuhkan 0:00:"), "{stdout}");
    assert!(text(&output.stderr).contains("WARNING:root:writing logo-its-1.png dalam waktu 0:00:"));
    match style {
        Style::Mp | Style::Mt => {}
        Style::MpAsync => assert!(stdout.contains("status TASK\n{'its': datetime.timedelta(")),
        Style::MtAsync => {
            assert!(stdout.contains("hasil task yang dijalankan\n{'its': datetime.timedelta("));
        }
    }
    let events = lab.client_events();
    let tasks: Vec<_> =
        events.iter().filter(|event| event.kind == EventKind::DownloadStarted).collect();
    let processes: BTreeSet<u32> = tasks.iter().map(|event| event.pid).collect();
    let threads: BTreeSet<i32> = tasks.iter().map(|event| event.tid).collect();
    let confirmed =
        events.iter().filter(|event| matches!(event.kind, EventKind::Confirmed { .. })).count();
    assert_eq!(confirmed, 2 * lab.samples.len());
    match style {
        Style::Mp => assert_eq!(processes.len(), lab.samples.len()),
        Style::MpAsync => assert!(processes.len() > 1),
        Style::Mt => assert_eq!((processes.len(), threads.len()), (1, lab.samples.len())),
        Style::MtAsync => assert!(processes.len() == 1 && (2..=4).contains(&threads.len())),
    }
    for server in servers {
        lab.assert_delivered(&server);
        let log = fs::read_to_string(server.dir.join("server.log")).unwrap();
        assert!(log.contains("\ndikirim oleh  ('192.168.122.103', "), "{log}");
        assert!(log.contains("diterima  logo-its-1.png "), "{log}");
    }
}

pub(crate) fn delivers_200_at_once(style: Style) {
    let lab = Lab::new((0..200).map(|number| noise(&format!("f{number}.png"), 19_320)).collect());
    let servers = lab.servers();
    assert_success(&lab.client(style, &["--servers", "2"]));
    for server in servers {
        lab.assert_delivered(&server);
    }
}

pub(crate) fn large_file_with_loss() {
    let lab = Lab::new(vec![noise("large.bin", 24 << 20)]);
    let servers = lab.servers();
    lab.lose(20);
    assert_success(&lab.client(Style::Mt, &["--servers", "2"]));
    for server in servers {
        lab.assert_delivered(&server);
    }
}

/// Local files: one is given by its path, the other by its `file://` URL.
pub(crate) fn local_files() {
    let lab = Lab::new(vec![noise("a b.img", 5_000_000), noise("small.txt", 7)]);
    let servers = lab.servers();
    let paths = ["a b.img", "small.txt"].map(|name| lab.path(name));
    for (path, sample) in paths.iter().zip(lab.samples.iter()) {
        fs::write(path, &sample.bytes).unwrap();
    }
    let (path, url) = (paths[0].to_str().unwrap(), format!("file://{}", paths[1].display()));
    for style in STYLES {
        for server in &servers {
            for sample in lab.samples.iter() {
                let _ = fs::remove_file(server.files().join(sample.file_name()));
            }
        }
        let output = lab.client(style, &[path, &url, "--servers", "2"]);
        assert_success(&output);
        assert!(text(&output.stdout).contains("broadcast file a b.img\n"));
        for server in &servers {
            lab.assert_delivered(server);
        }
    }
    assert_eq!(fs::read_dir(lab.path("downloads")).unwrap().count(), 0, "nothing was copied");

    let folder = format!("file://{}", lab.path("downloads").display());
    let missing = lab.path("missing.img");
    for (arguments, code, says) in [
        (&[url.as_str(), missing.to_str().unwrap()][..], 2, "missing.img"),
        (&[url.as_str(), "--max-file", "6"], 1, "more than 6 bytes"),
        (&[folder.as_str()], 1, "downloads: is not a regular file"),
    ] {
        let output = lab.client(Style::Mt, arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert!(errors.len() == 1 && errors[0].contains(says), "{stderr}");
    }
}

/// A local file that changes after the client has hashed it.
pub(crate) fn changing_file() {
    let lab = Lab::new(vec![noise("log.txt", 2_000_000)]);
    let server = lab.server(SERVERS[0], &[]);
    let path = lab.path("log.txt");
    for (change, says) in [(2_000_000, "changed"), (1_000_000, "shorter")] {
        fs::write(&path, &lab.samples[0].bytes).unwrap();
        let url = format!("file://{}", path.display());
        let client = lab.start_client(Style::Mt, &[&url, "--servers", "1", "--delay", "1s"]);
        wait_for("hashing", || has_event(&lab.path("client.events"), "download_finished"));
        fs::write(&path, noise("other", change).bytes).unwrap();
        let output = client.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let error = stderr.lines().find(|line| line.starts_with("error:")).unwrap();
        assert!(error.contains("log.txt") && error.contains(says), "{stderr}");
        assert!(!server.files().join("log.txt").exists());
        fs::remove_file(lab.path("client.events")).unwrap();
    }
}

/// Two downloads with one file name: the second begins while the first waits for its broadcast.
pub(crate) fn one_name_twice() {
    let one = Sample { path: "/x/logo.png", ..noise("one.png", 30_000) };
    let two = Sample { path: "/y/logo.png", ..noise("two.png", 40_000) };
    let lab = Lab::new(vec![one, two]);
    let server = lab.server(SERVERS[0], &[]);
    assert_success(&lab.client(Style::Mt, &["--servers", "1", "--delay", "300ms"]));
    let mut sizes: Vec<u64> = ["logo.png", "logo-1.png"]
        .map(|name| fs::metadata(server.files().join(name)).unwrap().len())
        .into();
    sizes.sort_unstable();
    assert_eq!(sizes, [30_000, 40_000]);
}

pub(crate) fn several_servers() {
    let lab = Lab::new(samples().unwrap());
    let servers: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let dir = lab.path(name);
            RunningServer::start(&lab.network, programs(), SERVERS[0], &dir, &[]).unwrap()
        })
        .into();
    assert_success(&lab.client(Style::MtAsync, &["--servers", "3"]));
    for server in servers {
        lab.assert_delivered(&server);
    }
}

pub(crate) fn server_stops() {
    let lab = Lab::new(samples().unwrap());
    let server = lab.server(SERVERS[0], &[]);
    assert_success(&lab.client(Style::Mt, &["--servers", "1"]));
    let log = server.dir.join("server.log");
    assert!(server.stop().unwrap().success());
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("4 files received, 1."), "{log}");

    // `timeout` and terminals may send a signal twice.
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        // The start of a server is seen by its first event.
        fs::remove_file(lab.path(SERVERS[0].name).join("server.events")).unwrap();
        let mut twice = lab.server(SERVERS[0], &[]);
        let pid = Pid::from_raw(twice.child.id().cast_signed());
        kill(pid, signal).unwrap();
        kill(pid, signal).unwrap();
        assert!(twice.child.wait().unwrap().success(), "{signal}");
        let log = fs::read_to_string(twice.dir.join("server.log")).unwrap();
        assert!(log.contains("files received, "), "{log}");
    }

    let mut counted = lab.server(SERVERS[1], &["--exit-after", "4", "--names", "img"]);
    assert_success(&lab.client(Style::Mp, &["--servers", "1"]));
    assert!(counted.child.wait().unwrap().success());
    let mut names: Vec<String> = fs::read_dir(counted.files())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let extensions: BTreeSet<&str> =
        names.iter().map(|name| name.rsplit_once('.').unwrap().1).collect();
    assert_eq!(extensions, BTreeSet::from(["gif", "mov", "png", "zip"]), "{names:?}");
    assert!(names[0].starts_with("img1.") && names[3].starts_with("img4."), "{names:?}");
}
