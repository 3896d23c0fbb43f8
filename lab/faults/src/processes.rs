//! Faults of processes: servers, clients and workers that are killed or stopped.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use siar_core::event::EventKind;
use stage::node::{CLIENT, SERVERS};
use stage::outcome::compare;
use stage::samples::{noise, samples};

use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered, names, signal};

const LARGE: usize = 64 << 20;
/// The clients' rate, at which a transfer of the large file takes `TRANSFER_SECONDS`.
const RATE: &str = "268mbit";
const TRANSFER_SECONDS: f64 = 2.0;

/// A server is killed after the part `part` of the transfer and restarted. The new server must
/// go on with the blocks on disk.
pub(crate) fn server_killed(scene: &Scene, part: f64) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", LARGE)])?;
    let [first, second] = scene.servers()?;
    let client =
        scene.client("mt", "client", &["--servers", "2", "--rate", RATE, &source.url(0)])?;
    client.wait_for("the broadcast", |event| {
        matches!(event.kind, EventKind::BroadcastStarted { .. })
    })?;
    std::thread::sleep(Duration::from_secs_f64(TRANSFER_SECONDS * part));
    second.signal(Signal::SIGKILL)?;
    let left = names(&second.files());
    if left.contains(&"large.bin".to_owned()) {
        return Err("a half file stood under its final name".into());
    }
    drop(second);
    let since = Instant::now();
    let second = scene.server(SERVERS[1], &[])?;
    let ended = client.wait()?;
    ended.expect(0, &["192.168.122.132:5005#", "confirmed large.bin"])?;
    let copies = delivered(&first, &source.samples)? + delivered(&second, &source.samples)?;
    let kept = second.events()?.iter().find_map(|event| match event.kind {
        EventKind::Resumed { bytes, .. } => Some(bytes),
        _ => None,
    });
    let kept = kept.ok_or("it began anew instead of going on")?;
    let (of_source, again) = ended.datagrams();
    let what = format!(
        "went on from {:.0} MiB; {again} datagrams sent again ({of_source} of the source)",
        kept as f64 / f64::from(1 << 20)
    );
    Ok(Observed::new(what, copies).recovered(since))
}

/// A client is killed. No server may publish an incomplete file, and the next client must be
/// served at once.
pub(crate) fn client_killed(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", LARGE)])?;
    let servers = scene.servers()?;
    let arguments = ["--servers", "2", "--rate", RATE, &source.url(0)];
    let client = scene.client("mp", "killed", &arguments)?;
    client.wait_for("the broadcast", |event| {
        matches!(event.kind, EventKind::BroadcastStarted { .. })
    })?;
    std::thread::sleep(Duration::from_millis(700));
    client.kill()?;
    let killed = Instant::now();
    for server in &servers {
        if names(&server.files()).contains(&"large.bin".to_owned()) {
            return Err("a half file stood under its final name".into());
        }
    }
    let small = scene.client("mt", "next", &["--servers", "2", &source.url(0)])?;
    small.wait()?.expect(0, &[])?;
    let next = killed.elapsed();
    let limit = Duration::from_secs(45);
    loop {
        let left: Vec<String> = servers.iter().flat_map(|server| names(&server.files())).collect();
        if left == ["large.bin", "large.bin"] {
            break;
        }
        if killed.elapsed() > limit {
            return Err(format!("after {limit:?} there still is {left:?}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let copies =
        delivered(&servers[0], &source.samples)? + delivered(&servers[1], &source.samples)?;
    let what = format!(
        "next client served within {:.1} s; nothing temporary left after {:.0} s",
        next.as_secs_f64(),
        killed.elapsed().as_secs_f64()
    );
    Ok(Observed::new(what, copies))
}

pub(crate) fn server_stopped(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", LARGE)])?;
    let servers = scene.servers()?;
    let client =
        scene.client("mt", "client", &["--servers", "2", "--rate", RATE, &source.url(0)])?;
    client.wait_for("the broadcast", |event| {
        matches!(event.kind, EventKind::BroadcastStarted { .. })
    })?;
    std::thread::sleep(Duration::from_millis(500));
    servers[1].signal(Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_secs(5));
    let is_received = |kind: &EventKind| matches!(kind, EventKind::Received { .. });
    if !servers[0].events()?.iter().any(|event| is_received(&event.kind)) {
        return Err("the other server had to wait".into());
    }
    servers[1].signal(Signal::SIGCONT)?;
    let since = Instant::now();
    client.wait()?.expect(0, &[])?;
    let copies =
        delivered(&servers[0], &source.samples)? + delivered(&servers[1], &source.samples)?;
    Ok(Observed::new("the other one did not wait, both have it", copies).recovered(since))
}

pub(crate) fn some_of_many_die(scene: &Scene) -> CaseResult {
    const MANY: usize = 32;
    const DYING: usize = 4;
    let source = scene.serve(vec![noise("large.bin", 8 << 20)])?;
    let mut servers = Vec::new();
    for number in 0..MANY {
        let node = SERVERS[number % 2];
        let dir = scene.dir.join(format!("server{number}"));
        servers.push(scene.server_in(node, &dir, &[])?);
    }
    let many = MANY.to_string();
    let arguments = ["--servers", &many, "--rate", "64mbit", &source.url(0)];
    let client = scene.client("mt", "client", &arguments)?;
    client.wait_for("the broadcast", |event| {
        matches!(event.kind, EventKind::SourceSent { .. } | EventKind::ServerJoined { .. })
    })?;
    std::thread::sleep(Duration::from_millis(400));
    for server in &servers[..DYING] {
        server.signal(Signal::SIGKILL)?;
    }
    let since = Instant::now();
    let ended = client.wait()?;
    ended.expect(1, &["did not confirm large.bin: fell silent"])?;
    let silent = ended.text.matches("did not confirm large.bin").count();
    if silent != DYING {
        return Err(format!("{silent} servers are named instead of {DYING}").into());
    }
    let mut copies = 0;
    for server in &servers[DYING..] {
        copies += delivered(server, &source.samples)?;
    }
    let what = format!("{DYING} are named, {} have it", MANY - DYING);
    Ok(Observed::new(what, copies).recovered(since))
}

/// A worker is killed in a phase: 0 while downloading, 1 in the delay, 2 while broadcasting.
/// Only the worker's task may fail, and the error must give the reason.
pub(crate) fn worker_killed(scene: &Scene, style: &str, phase: usize) -> CaseResult {
    let mut files = samples()?;
    files.push(noise("large.bin", 16 << 20));
    let source = scene.serve(files)?;
    let servers = scene.servers()?;
    let slow = scene.slow_source()?;
    let mut arguments = vec!["--servers".to_owned(), "2".to_owned()];
    let is_in_phase: fn(&EventKind) -> bool = match phase {
        0 => {
            arguments.push(slow);
            |kind| matches!(kind, EventKind::DownloadStarted)
        }
        1 => {
            arguments.extend(["--delay".to_owned(), "700ms".to_owned(), source.url(4)]);
            |kind| matches!(kind, EventKind::DownloadFinished { .. })
        }
        _ => {
            arguments.extend(["--rate".to_owned(), "128mbit".to_owned(), source.url(4)]);
            |kind| matches!(kind, EventKind::ServerJoined { .. })
        }
    };
    arguments.extend((0..4).map(|index| source.url(index)));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = scene.client(style, "client", &arguments)?;
    let event = client.wait_for("the phase", |event| {
        event.task.as_deref() == Some("url1") && is_in_phase(&event.kind)
    })?;
    std::thread::sleep(Duration::from_millis(100));
    signal(event.pid, Signal::SIGKILL)?;
    let dir = client.dir.clone();
    let ended = client.wait()?;
    let lost = format!("url1: worker lost: process {} was killed by SIGKILL", event.pid);
    ended.expect(1, &[&lost])?;
    if ended.text.matches("error:").count() != 1 {
        return Err(format!("other tasks failed too: {}", ended.errors()).into());
    }
    let mut copies = 0;
    for server in &servers {
        let faults = compare(&server.files(), &source.samples);
        if faults.len() != 1 || !faults[0].contains("large.bin") {
            return Err(format!("{}: {faults:?}", server.node.name).into());
        }
        copies += source.samples.len() - 1;
    }
    // The next client in the folder must remove the files of the killed one, which by then are
    // old enough.
    std::thread::sleep(Duration::from_millis(2100));
    let next = scene.client(style, "client", &["--servers", "2", &source.url(0)])?;
    next.wait()?.expect(0, &[])?;
    let left: Vec<String> =
        names(&dir).into_iter().filter(|name| name.ends_with(".part")).collect();
    match left.is_empty() {
        true => Ok(Observed::new("named, alone; the other four arrived at both", copies)),
        false => Err(format!("{} has {left:?}", CLIENT.name).into()),
    }
}
