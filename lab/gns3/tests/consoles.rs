//! Tests of runs over telnet consoles; each console leads to a real shell on a node of the lab.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evidence::judge::Item;
use gns3::console::{Console, ConsoleError};
use gns3::run::ConsoleRun;
use gns3::topology::alpines;
use grade::grade;
use libtest_mimic::{Arguments, Trial};
use siar_core::event::Style;
use stage::gateway::Gateway;
use stage::namespace::become_lab_root;
use stage::network::Network;
use stage::node::Node;
use stage::programs::Programs;
use stage::samples::samples;

fn main() {
    let arguments = Arguments::from_args();
    let mut missing = None;
    let mut programs = None;
    if !arguments.list {
        programs = Some(Programs::build().unwrap());
        // A user namespace can be entered only before any thread is started.
        if let Err(error) = become_lab_root() {
            println!("no network namespaces here ({error}): consoles are not tested");
            missing = Some(error);
        } else {
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
        }
    }
    let trials = vec![
        Trial::test("styles_run_over_consoles_and_are_graded", move || {
            run_and_grade(&programs.unwrap());
            Ok(())
        }),
        Trial::test("a_refused_console_is_reported", || {
            failures();
            Ok(())
        }),
    ];
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(missing.is_some()));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Serves a console: GNS3's greeting, then a shell on the node in a new pseudoterminal.
fn serve_console(network: Arc<Network>, node: Node) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            stream
                .write_all(b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00\xff\xfd\x1f")
                .unwrap();
            write!(
                stream,
                "{} console is now available... Press RETURN to get started.\r\n",
                node.name
            )
            .unwrap();
            let mut command = Command::new("script");
            command.args(["--quiet", "--command", "sh", "/dev/null"]);
            command.env("PS1", format!("{}:~# ", node.name));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut shell = network.spawn(node, &mut command).unwrap();
            let (mut keys, mut screen) =
                (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
            let typed = stream.try_clone().unwrap();
            thread::spawn(move || {
                // The shell ends with its input.
                let _ = std::io::copy(&mut WithoutTelnet(typed), &mut keys);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut screen, &mut stream);
                shell.wait().unwrap();
            });
        }
    });
    port
}

/// A filter that removes telnet's answers to the greeting; each has three bytes and begins with
/// 255.
struct WithoutTelnet(TcpStream);

impl Read for WithoutTelnet {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut taken = vec![0; buffer.len()];
        let len = self.0.read(&mut taken)?;
        let mut text = Vec::new();
        let mut bytes = taken[..len].iter();
        while let Some(byte) = bytes.next() {
            match byte {
                255 => drop(bytes.nth(1)),
                byte => text.push(*byte),
            }
        }
        buffer[..text.len()].copy_from_slice(&text);
        if text.is_empty() && len > 0 {
            return self.read(buffer);
        }
        Ok(text.len())
    }
}

fn run_and_grade(programs: &Programs) {
    let home = tempfile::tempdir().unwrap();
    let network = Arc::new(Network::namespaces().unwrap());
    let samples = Arc::new(samples().unwrap());
    let gateway = Gateway::start(&network, Arc::clone(&samples)).unwrap();
    let list = home.path().join("urls.toml");
    fs::write(&list, gateway.url_list(&samples)).unwrap();
    let tasks = siar_core::client::urls::read(&list).unwrap();
    let consoles =
        alpines().map(|node| ("127.0.0.1".to_owned(), serve_console(Arc::clone(&network), node)));
    let mut run = ConsoleRun::new(consoles, "consoles of a test".to_owned(), tasks);
    run.home = programs.dir().display().to_string();
    // All nodes share this machine's file system.
    run.dir = home.path().join("nodes").display().to_string();
    run.delay = Duration::from_millis(300);
    run.arguments = vec!["--join-wait".to_owned(), "5s".to_owned()];
    run.out = home.path().join("out");
    // Students run the styles one by one; each run must keep the results of the others.
    for styles in [&[Style::Mp][..], &[Style::Mt, Style::MpAsync], &[Style::MtAsync]] {
        let (_, results) = run.run(styles).unwrap();
        for result in results {
            assert!(result.is_complete(), "{result:?}");
            assert_eq!(result.delivered, [4, 4], "{result:?}");
        }
    }
    let grade = grade(&run.out);
    for verdict in &grade.verdicts {
        assert!(verdict.passed || verdict.item == Item::Report, "{verdict:?}");
    }
    let log = fs::read_to_string(run.out.join("mt-async/alpine-1/client.log")).unwrap();
    assert!(log.starts_with("mendownload "), "{log}");
    assert!(log.contains("hasil task yang dijalankan"), "{log}");
    assert!(!log.contains("SIAR-"), "{log}");
    let log = fs::read_to_string(run.out.join("mt-async/alpine-2/server.log")).unwrap();
    assert!(log.contains("listening on"), "{log}");
}

fn failures() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Console::open("alpine-1", "127.0.0.1", refused).unwrap_err();
    assert!(matches!(error, ConsoleError::Io { .. }), "{error}");
    assert!(error.to_string().contains("is the node started"), "{error}");
}
