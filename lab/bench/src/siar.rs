//! Runs of Siar: one client with any number of files, or several clients at the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use siar_core::event::{Event, EventKind, Style};
use siar_core::io::seal::Key;
use stage::events::read_events;

use crate::BenchError;
use crate::origin::SUFFIX;
use crate::process::Process;
use crate::run::{LIMIT, ORIGIN, Place, Run, Source, end_receivers, fault, is_everywhere};

/// The task of a client of Siar.
#[derive(Debug, Clone)]
pub struct Siar {
    /// The client's style.
    pub style: Style,
    /// The number of files.
    pub tasks: usize,
    /// Further options of the client.
    pub arguments: &'static [&'static str],
    /// Whether a key seals all frames.
    pub sealed: bool,
    /// Whether the client sends the local source file instead of a download; `tasks` must be 1.
    pub at_hand: bool,
    /// Whether the client writes events, which [`Run`]'s `transfer`, `datagrams` and `rates` need.
    pub events: bool,
}

impl Siar {
    /// A client with `tasks` downloads and with events, but without key and further options.
    #[must_use]
    pub fn new(style: Style, tasks: usize) -> Self {
        Self { style, tasks, arguments: &[], sealed: false, at_hand: false, events: true }
    }
}

fn server(place: &Place<'_>, dir: &Path) -> Command {
    let mut command = Command::new(place.programs.server());
    command.arg("--no-progress").arg("--dir").arg(dir);
    command
}

/// The command of a client that waits for all servers and keeps its downloads in `dir`.
fn client(place: &Place<'_>, style: Style, dir: &Path) -> Command {
    let mut command = Command::new(place.programs.client(style));
    command
        .args(["--delay", "0s", "--no-progress", "--timeout", "60s", "--servers"])
        .arg(place.arena.servers.len().to_string())
        .arg("--dir")
        .arg(dir);
    command
}

/// Runs a client of Siar against its servers.
///
/// # Errors
/// The lab itself fails; a client that fails is a run with a fault.
pub fn run(place: &Place<'_>, source: &Source, what: &Siar) -> Result<Run, BenchError> {
    let key = place.dir.join("key");
    if what.sealed {
        Key::create(&key)?;
    }
    let seal = |command: &mut Command| {
        if what.sealed {
            command.env("SIAR_KEY_FILE", &key);
        }
    };
    let receivers = place.start_receivers("listening", |dir| {
        let mut command = server(place, dir);
        seal(&mut command);
        command
    })?;
    let events = place.dir.join("client.events");
    let downloads = place.dir.join("downloads");
    fs::create_dir_all(&downloads).map_err(BenchError::file(&downloads))?;
    let names = task_names(what.tasks);
    let list = place.dir.join("urls.toml");
    let origin = format!("http://{ORIGIN}/{}", source.len);
    let line = |name: &String| format!("\"{name}\" = \"{origin}/{name}{SUFFIX}\"\n");
    let text: String = names.iter().map(line).collect();
    fs::write(&list, text).map_err(BenchError::file(&list))?;
    let mut command = client(place, what.style, &downloads);
    seal(&mut command);
    command.args(what.arguments);
    let files: Vec<PathBuf> = if what.at_hand {
        command.arg(&source.path);
        vec![source.path.file_name().unwrap_or_default().into()]
    } else {
        command.arg("--urls").arg(&list);
        names.iter().map(|name| format!("{name}{SUFFIX}").into()).collect()
    };
    if what.events {
        command.arg("--events").arg(&events);
    }
    let (status, sender) = place.run_client(&mut command, source)?;
    let costs = end_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        let output = place.client_output();
        let error = output.lines().find(|line| line.starts_with("error"));
        return Ok(Run::fault(error.filter(|_| status.is_some()).unwrap_or(fault)));
    }
    for file in &files {
        if !is_everywhere(place, source, file)? {
            return Ok(Run::fault("a file differs at a server"));
        }
    }
    let events = if what.events { read_events(&events)? } else { Vec::new() };
    let source_len = source.len as f64;
    let rates = names.iter().filter_map(|name| task_seconds(&events, name));
    Ok(Run {
        wall: sender.wall,
        transfer: span(&events, |_| true),
        sender: Some(sender),
        receivers: costs,
        datagrams: datagrams(&events),
        rates: rates.map(|seconds| source_len / seconds).collect(),
        fault: None,
    })
}

/// Runs `count` clients at the same time, each with one file, against the same servers.
///
/// # Errors
/// The lab itself fails; a client that fails is a run with a fault.
pub fn clients(place: &Place<'_>, source: &Source, count: usize) -> Result<Run, BenchError> {
    let receivers = place.start_receivers("listening", |dir| server(place, dir))?;
    let names = task_names(count);
    let start = |name: &String| -> Result<_, BenchError> {
        let dir = place.dir.join(name);
        fs::create_dir_all(&dir).map_err(BenchError::file(&dir))?;
        let (events, log) = (dir.join("events"), dir.join("log"));
        let mut command = client(place, Style::Mt, &dir);
        command
            .arg("--events")
            .arg(&events)
            .arg(format!("http://{ORIGIN}/{}/{name}{SUFFIX}", source.len));
        Ok((Process::start(&place.arena.client, &mut command, &log)?, events, log))
    };
    let started = names.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let mut run = Run::default();
    for ((client, events, log), name) in started.into_iter().zip(&names) {
        let (status, cost) = client.finish(LIMIT).map_err(BenchError::file(&log))?;
        if let Some(fault) = fault(status) {
            return Ok(Run::fault(format!("{name}: {fault}")));
        }
        if !is_everywhere(place, source, format!("{name}{SUFFIX}").as_ref())? {
            return Ok(Run::fault("a file differs at a server"));
        }
        run.wall = run.wall.max(cost.wall);
        run.rates.extend(span(&read_events(&events)?, |_| true).map(|s| source.len as f64 / s));
    }
    run.receivers = end_receivers(receivers)?;
    Ok(run)
}

fn task_names(tasks: usize) -> Vec<String> {
    (0..tasks).map(|index| format!("task{index}")).collect()
}

/// Seconds from the first start of a broadcast to the last confirmation, over the events that
/// `of` selects.
fn span(events: &[Event], of: impl Fn(&Event) -> bool) -> Option<f64> {
    let events: Vec<&Event> = events.iter().filter(|event| of(event)).collect();
    let begin = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::BroadcastStarted { .. }))
        .map(|event| event.time)
        .min()?;
    let end = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Confirmed { .. }))
        .map(|event| event.time)
        .max()?;
    Some(end.duration_since(begin).as_secs_f64())
}

fn task_seconds(events: &[Event], task: &str) -> Option<f64> {
    span(events, |event| event.task.as_deref() == Some(task))
}

fn datagrams(events: &[Event]) -> Option<f64> {
    let (mut source, mut all) = (0, 0);
    for event in events {
        match event.kind {
            EventKind::SourceSent { datagrams } => {
                source += datagrams;
                all += datagrams;
            }
            EventKind::RepairSent { datagrams, .. } => all += datagrams,
            _ => {}
        }
    }
    (source > 0).then(|| all as f64 / source as f64)
}
