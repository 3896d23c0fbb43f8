//! The real binaries in a network of namespaces that each test makes for itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::binaries::{Binaries, STYLES};
use lab::gateway::Gateway;
use lab::namespace::become_lab_root;
use lab::network::{CLIENT, GATEWAY, Network, Node, SERVERS};
use lab::run::{RunningServer, compare, read_events};
use lab::samples::{Sample, noise, samples};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::{Event, EventKind, Style};
use siar_core::seal::{Key, Opener, Sealer};
use siar_core::wire::{Announce, Body, Frame, TransferId};

fn main() {
    let arguments = Arguments::from_args();
    if !arguments.list {
        BINARIES.set(Binaries::build().unwrap()).unwrap();
        // Before any thread is started.
        if let Err(error) = become_lab_root() {
            println!("no network namespaces here ({error}): system tests are skipped");
            return;
        }
    }
    let mut trials = Vec::new();
    for style in STYLES {
        trials.push(trial(format!("{style}_delivers_every_file"), move || delivers(style, 0)));
        trials.push(
            trial(format!("{style}_delivers_with_10_percent_loss"), move || delivers(style, 10))
                .with_ignored_flag(!has("nft")),
        );
        trials.push(trial(format!("{style}_delivers_200_files_at_once"), move || {
            delivers_200_at_once(style);
        }));
    }
    trials.extend([
        trial("a_large_file_survives_20_percent_loss".into(), large_file_with_loss)
            .with_ignored_flag(!has("nft")),
        trial("a_killed_server_is_named_and_the_other_completes".into(), killed_server),
        trial("a_late_server_is_served".into(), late_server),
        trial("a_killed_child_fails_its_task_only".into(), || killed_worker(Style::Mp)),
        trial("a_killed_pool_worker_is_replaced".into(), || killed_worker(Style::MpAsync)),
        trial("a_stalled_task_is_given_up".into(), stalled_task),
        trial("workers_end_with_their_parent".into(), workers_end_with_parent),
        trial("no_server_ends_soon_with_1".into(), no_server),
        trial("failures_are_one_line_each".into(), failures),
        trial("files_that_are_here_are_sent_from_where_they_stand".into(), files_that_are_here),
        trial("a_file_that_changes_before_it_is_sent_is_told".into(), changing_file),
        trial("two_urls_with_one_name_are_both_delivered".into(), one_name_twice),
        trial("several_servers_on_one_machine".into(), several_servers),
        trial("a_server_stops_on_a_signal_with_a_summary".into(), server_stops),
        trial("sealed_files_arrive_where_the_key_is".into(), sealed),
        trial("a_replayed_announcement_is_refused".into(), replayed),
        trial("a_key_that_others_can_read_is_refused".into(), open_key),
        trial("raw_reaches_a_python_server".into(), raw_to_python)
            .with_ignored_flag(!has("python3")),
        trial("a_python_client_reaches_the_server".into(), raw_from_python)
            .with_ignored_flag(!has("python3")),
    ]);
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}

static BINARIES: OnceLock<Binaries> = OnceLock::new();

fn binaries() -> &'static Binaries {
    BINARIES.get().unwrap()
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let result = thread::spawn(test).join();
        result.map_err(|panic| Failed::from(siar_core::panics::panic_message(panic.as_ref())))
    })
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

struct Lab {
    network: Network,
    gateway: Gateway,
    samples: Arc<Vec<Sample>>,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(samples: Vec<Sample>) -> Self {
        let network = Network::namespaces().unwrap();
        let samples = Arc::new(samples);
        let gateway = Gateway::start(&network, Arc::clone(&samples)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("urls.toml"), gateway.url_list(&samples)).unwrap();
        fs::create_dir(dir.path().join("downloads")).unwrap();
        Self { network, gateway, samples, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self, node: Node, arguments: &[&str]) -> RunningServer {
        let dir = self.path(node.name);
        RunningServer::start(&self.network, binaries(), node, &dir, arguments).unwrap()
    }

    fn servers(&self) -> Vec<RunningServer> {
        SERVERS.map(|node| self.server(node, &[])).into()
    }

    fn lose(&self, percent: u8) {
        for node in SERVERS {
            self.network.drop_datagrams(node, percent).unwrap();
        }
    }

    /// The client on its node, with the lab's URL list and no delay unless `arguments` say else.
    fn start_client(&self, style: Style, arguments: &[&str]) -> Child {
        let mut command = Command::new(binaries().client(style));
        command
            .env("SIAR_DELAY", "0s")
            .env("SIAR_DIR", self.path("downloads"))
            .env("SIAR_EVENTS", self.path("client.events"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let is_url =
            |argument: &&str| argument.starts_with("http") || argument.starts_with("file:");
        if !arguments.iter().any(is_url) {
            command.arg("--urls").arg(self.path("urls.toml"));
        }
        self.network.spawn(CLIENT, &mut command).unwrap()
    }

    fn client(&self, style: Style, arguments: &[&str]) -> Output {
        let child = self.start_client(style, arguments);
        let pid = Pid::from_raw(child.id().cast_signed());
        let (done, waited) = std::sync::mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if waited.recv_timeout(Duration::from_secs(120)).is_err() {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        // The watchdog may have given up.
        let _ = done.send(());
        watchdog.join().unwrap();
        output
    }

    fn client_events(&self) -> Vec<Event> {
        read_events(&self.path("client.events")).unwrap()
    }

    fn assert_delivered(&self, server: &RunningServer) {
        assert_eq!(
            compare(&server.files(), &self.samples),
            Vec::<String>::new(),
            "{}",
            server.node.name
        );
        let leftovers = fs::read_dir(server.files()).unwrap().count();
        assert_eq!(leftovers, self.samples.len(), "only the files stand in the folder");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn delivers(style: Style, loss: u8) {
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

fn delivers_200_at_once(style: Style) {
    let lab = Lab::new((0..200).map(|number| noise(&format!("f{number}.png"), 19_320)).collect());
    let servers = lab.servers();
    assert_success(&lab.client(style, &["--servers", "2"]));
    for server in servers {
        lab.assert_delivered(&server);
    }
}

fn large_file_with_loss() {
    let lab = Lab::new(vec![noise("large.bin", 24 << 20)]);
    let servers = lab.servers();
    lab.lose(20);
    assert_success(&lab.client(Style::Mt, &["--servers", "2"]));
    for server in servers {
        lab.assert_delivered(&server);
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

fn has_event(path: &Path, name: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"event\":\"{name}\"")))
}

fn killed_server() {
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

fn late_server() {
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

fn killed_worker(style: Style) {
    let lab = Lab::new(samples().unwrap());
    let servers = lab.servers();
    // One worker at a time in the pool: the one that is killed must be replaced.
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

/// A source that accepts and never answers: `--timeout` ends the wait, the others finish.
fn stalled_task() {
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

fn workers_end_with_parent() {
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
                // A zombie that its new parent has yet to reap has ended.
                fs::read_to_string(format!("/proc/{worker}/stat"))
                    .map_or(true, |stat| stat.contains(") Z "))
            });
        }
    }
}

fn no_server() {
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

fn failures() {
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
        (&["--dir", "/nonexistent"][..], 1, "/nonexistent"),
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
    // A socket that does not share its port.
    lab.network
        .on(CLIENT, || {
            let _taken = std::net::UdpSocket::bind("0.0.0.0:5005")?;
            let output = Command::new(binaries().server()).output()?;
            assert_eq!(output.status.code(), Some(1));
            let stderr = text(&output.stderr);
            assert!(stderr.contains("cannot listen on 0.0.0.0:5005"), "{stderr}");
            Ok(())
        })
        .unwrap();
}

/// One by its path, one by its URL.
fn files_that_are_here() {
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

/// It changes after it was hashed.
fn changing_file() {
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

/// The second download takes the first one's name while that waits to be broadcast.
fn one_name_twice() {
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

/// Of three servers one has the key, one another, and one none. Four processes at once.
fn sealed() {
    let lab = Lab::new(samples().unwrap());
    let (key, other) = (lab.path("key"), lab.path("other"));
    Key::create(&key).unwrap();
    Key::create(&other).unwrap();
    let (key, other) = (key.to_str().unwrap(), other.to_str().unwrap());
    let good = lab.server(SERVERS[0], &["--key-file", key]);
    let wrong = lab.server(SERVERS[1], &["--key-file", other]);
    let dir = lab.path("plain");
    let plain = RunningServer::start(&lab.network, binaries(), SERVERS[1], &dir, &[]).unwrap();
    for style in [Style::Mp, Style::MtAsync] {
        assert_success(&lab.client(style, &["--servers", "1", "--key-file", key]));
        lab.assert_delivered(&good);
    }
    assert_eq!(fs::read_dir(wrong.files()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(plain.files()).unwrap().count(), 0);
    // What is not sealed is not taken either.
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

/// Made with the key, but long ago.
fn replayed() {
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
    let hour = 3_600_000;
    let cases =
        [(1, now, &socket, true), (2, now - hour, &socket, false), (1, now, &elsewhere, false)];
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
        sealer.seal(&frame.to_datagram(), &mut datagram);
        from.send_to(&datagram, (SERVERS[0].address, 5005)).unwrap();
        let mut buffer = [0; 2000];
        let Ok(len) = from.recv(&mut buffer) else {
            assert!(!is_answered, "transfer {transfer} got no answer");
            continue;
        };
        // It answers less than it was asked with.
        assert!(is_answered && len <= datagram.len());
        let answer = Frame::parse(opener.open(&buffer[..len]).unwrap()).unwrap();
        assert!(matches!(answer.body, Body::Join(_)), "{answer:?}");
    }
    let log = fs::read_to_string(server.dir.join("server.log")).unwrap();
    assert!(
        log.contains("a replay, or a wrong clock") && log.contains("before: a replay"),
        "{log}"
    );
}

fn open_key() {
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

fn several_servers() {
    let lab = Lab::new(samples().unwrap());
    let servers: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let dir = lab.path(name);
            RunningServer::start(&lab.network, binaries(), SERVERS[0], &dir, &[]).unwrap()
        })
        .into();
    assert_success(&lab.client(Style::MtAsync, &["--servers", "3"]));
    for server in servers {
        lab.assert_delivered(&server);
    }
}

fn server_stops() {
    let lab = Lab::new(samples().unwrap());
    let server = lab.server(SERVERS[0], &[]);
    assert_success(&lab.client(Style::Mt, &["--servers", "1"]));
    let log = server.dir.join("server.log");
    assert!(server.stop().unwrap().success());
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("4 files received, 1."), "{log}");

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

const PYTHON_SERVER: &str = "
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('', 5005))
print('ready', flush=True)
data, addr = sock.recvfrom(65535)
open(sys.argv[1], 'wb').write(data)
";

const PYTHON_CLIENT: &str = "
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.sendto(open(sys.argv[1], 'rb').read(), ('255.255.255.255', 5005))
";

fn raw_to_python() {
    let lab = Lab::new(vec![noise("photo.png", 48_000)]);
    let received = lab.path("received");
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_SERVER]).arg(&received).stdout(Stdio::piped());
    let mut server = lab.network.spawn(SERVERS[0], &mut python).unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let output = lab.client(Style::Mt, &["--wire", "raw"]);
    assert_success(&output);
    assert!(text(&output.stderr).contains("nothing confirms it"));
    wait_for("the Python server's end", || server.try_wait().unwrap().is_some());
    assert!(fs::read(received).unwrap() == lab.samples[0].bytes);
}

fn raw_from_python() {
    let lab = Lab::new(vec![noise("photo.png", 60_000)]);
    let server = lab.server(SERVERS[0], &["--dump"]);
    let source = lab.path("source.png");
    let mut picture = b"\x89PNG\r\n\x1a\n'".to_vec();
    picture.extend_from_slice(&lab.samples[0].bytes);
    fs::write(&source, &picture).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_CLIENT]).arg(&source);
    assert!(lab.network.spawn(CLIENT, &mut python).unwrap().wait().unwrap().success());
    let received = server.files().join("img1.png");
    wait_for("the file", || received.exists());
    assert!(fs::read(received).unwrap() == picture);
    let log = server.dir.join("server.log");
    wait_for("the seed's lines", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("dikirim oleh"))
    });
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("diterima  b'\\x89PNG\\r\\n\\x1a\\n\\'"), "{}", &log[..200]);
}
