//! Turns events into what a process shows: the seed's lines, bars, messages, the event file.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::event::{Event, EventKind, Observer, Progress};
use crate::lock::lock;
use crate::options::{ColorChoice, ConsoleOptions};
use crate::progress::Bars;
use crate::timing;

/// The event file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("event file {path}: {error}")]
pub(crate) struct EventFileError {
    path: PathBuf,
    error: io::Error,
}

/// Turns events into lines, bars and the event file.
pub(crate) struct Console {
    is_recording: bool,
    state: Mutex<State>,
}

pub(crate) struct State {
    bars: Bars,
    events: Option<(PathBuf, BufWriter<Box<dyn Write + Send>>)>,
    /// Events go to standard output, so nothing else does.
    stdout_taken: bool,
    quiet: bool,
    color: bool,
    pub(crate) dump: bool,
    run_started: Option<Timestamp>,
    advanced: Instant,
    tasks: HashMap<String, TaskState>,
    output_error: Option<String>,
}

struct TaskState {
    advanced: Instant,
    started: Option<Timestamp>,
    name: String,
    servers: Vec<String>,
}

impl TaskState {
    fn new() -> Self {
        Self { advanced: Instant::now(), started: None, name: String::new(), servers: Vec::new() }
    }
}

impl Console {
    pub(crate) fn new(options: &ConsoleOptions) -> Result<Self, EventFileError> {
        use std::io::IsTerminal;
        let terminal = io::stderr().is_terminal();
        let bars = Bars::new(terminal && !options.no_progress && !options.quiet);
        let color = match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        init_logger(options, &bars);
        let stdout_taken = options.events.as_deref().is_some_and(|path| path.as_os_str() == "-");
        let events = match &options.events {
            None => None,
            Some(path) if stdout_taken => Some((
                path.clone(),
                BufWriter::new(Box::new(io::stdout()) as Box<dyn Write + Send>),
            )),
            Some(path) => {
                let file = File::create(path)
                    .map_err(|error| EventFileError { path: path.clone(), error })?;
                Some((path.clone(), BufWriter::new(Box::new(file) as Box<dyn Write + Send>)))
            }
        };
        let is_recording = events.is_some();
        let state = Mutex::new(State {
            bars,
            events,
            stdout_taken,
            quiet: options.quiet,
            color,
            dump: false,
            run_started: None,
            advanced: Instant::now(),
            tasks: HashMap::new(),
            output_error: None,
        });
        Ok(Self { is_recording, state })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Observer for Console {
    fn is_recording(&self) -> bool {
        self.is_recording
    }

    fn event(&self, event: Event) {
        let mut state = self.lock();
        state.advance(event.task.as_deref());
        state.event(&event);
    }

    fn progress(&self, progress: Progress) {
        let mut state = self.lock();
        state.advance(Some(&progress.task));
        state.bars.progress(&progress);
    }
}

impl State {
    fn advance(&mut self, task: Option<&str>) {
        self.advanced = Instant::now();
        if let Some(task) = task.and_then(|task| self.tasks.get_mut(task)) {
            task.advanced = self.advanced;
        }
    }

    /// How long `task` has not advanced; until it has started, how long none has.
    pub(crate) fn idle(&self, task: &str) -> Duration {
        let started = self.tasks.get(task).filter(|task| task.started.is_some());
        started.map_or(self.advanced, |task| task.advanced).elapsed()
    }

    fn event(&mut self, event: &Event) {
        self.write_event(event);
        self.bars.event(event);
        match &event.task {
            Some(task) => self.task_event(task, event),
            None => self.process_event(event),
        }
    }

    fn write_event(&mut self, event: &Event) {
        let Some((path, file)) = &mut self.events else { return };
        let written = serde_json::to_writer(&mut *file, event)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.flush());
        if let Err(error) = written {
            let error = format!("event file {}: {error}", path.display());
            self.output_error.get_or_insert(error);
        }
    }

    fn process_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted => self.run_started = Some(event.time),
            EventKind::RunFinished { .. } => {
                let from = self.run_started.unwrap_or(event.time);
                self.line(&timing::total_line(from, event.time));
            }
            EventKind::Listening { address } => self.note(&format!("listening on {address}")),
            EventKind::Resumed { name, bytes, .. } => {
                let bytes = bytesize::ByteSize::b(*bytes).display().iec();
                self.note(&format!("going on with {name}: {bytes} of it are on disk"));
            }
            EventKind::Received { from, path, bytes, blake3, .. } => {
                self.received(from, path, *bytes, blake3);
            }
            EventKind::TransferFailed { from, reason, .. } => {
                self.complain(&format!("{reason} (from {from})"));
            }
            EventKind::Dropped { reason, count } => {
                self.note(&format!("{count} datagrams dropped: {reason}"));
            }
            _ => {}
        }
    }

    /// `udpserver_broadcast.py`, lines 19 to 21.
    fn received(&mut self, from: &str, path: &str, bytes: u64, blake3: &str) {
        let address = from.rsplit_once(':').map_or_else(
            || timing::str_repr(from),
            |(host, port)| format!("({}, {port})", timing::str_repr(host)),
        );
        let from = format!("dikirim oleh  {address}");
        if self.dump {
            self.line(&address);
            if let Err(error) = self.dump(path) {
                self.complain(&format!("{path}: {error}"));
            }
            self.line(&from);
        } else {
            // In one piece: a server may receive thousands.
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            self.line(&format!("{address}\nditerima  {name} {bytes} byte blake3 {blake3}\n{from}"));
        }
    }

    /// The whole file in Python's notation, in pieces: it may be larger than memory.
    fn dump(&mut self, path: &str) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        let (mut single, mut double) = (false, false);
        let mut file = File::open(path)?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            single |= buffer[..read].contains(&b'\'');
            double |= buffer[..read].contains(&b'"');
        }
        let quote = timing::bytes_quote(single, double);
        let mut text = format!("diterima  b{}", char::from(quote));
        let mut file = File::open(path)?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            timing::push_bytes_repr(&buffer[..read], quote, &mut text);
            self.print(&text);
            text.clear();
        }
        text.push(char::from(quote));
        self.line(&text);
        Ok(())
    }

    fn task_event(&mut self, key: &str, event: &Event) {
        let task = self.tasks.entry(key.to_owned()).or_insert_with(TaskState::new);
        match &event.kind {
            EventKind::TaskQueued { url } => self.line(&format!("mendownload {url}")),
            EventKind::DownloadStarted => task.started = Some(event.time),
            EventKind::BroadcastStarted { name, .. } => {
                task.name.clone_from(name);
                self.line(&format!("broadcast file {name}"));
            }
            EventKind::FinishesLater { server } => {
                let name = &task.name;
                let text = format!("{server} is slow: it gets the rest of {name} later (--slow)");
                self.note(&text);
            }
            EventKind::Confirmed { server } => {
                let line = format!("{server} confirmed {}", task.name);
                task.servers.push(line);
            }
            EventKind::Unconfirmed { server, reason } => {
                let line = format!("{server} did not confirm {}: {reason}", task.name);
                task.servers.push(line);
            }
            EventKind::TaskFinished { .. } => {
                let (task, from) = (std::mem::replace(task, TaskState::new()), event.time);
                let line = timing::writing_line(&task.name, task.started.unwrap_or(from), from);
                log::warn!(target: "root", "{line}");
                if task.servers.is_empty() {
                    self.note(&format!("{}: sent raw, nothing confirms it", task.name));
                } else {
                    self.notes(&task.servers);
                }
            }
            EventKind::TaskFailed { error } => {
                let servers = std::mem::take(&mut task.servers);
                self.notes(&servers);
                self.complain(&format!("{key}: {error}"));
            }
            _ => {}
        }
    }

    /// One of the seed's lines.
    pub(crate) fn line(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    fn print(&mut self, text: &str) {
        if self.stdout_taken {
            return;
        }
        let printed = self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        // A reader that has seen enough is no error, and no reason to stop a transfer.
        match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.output_error.get_or_insert(format!("standard output: {error}"));
            }
            _ => {}
        }
    }

    /// Something on standard error that is no failure.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.print_error(&printable(text));
        }
    }

    /// The same, a line each, in one piece.
    fn notes(&self, texts: &[String]) {
        let lines: Vec<String> = texts.iter().map(|text| printable(text)).collect();
        if !self.quiet && !lines.is_empty() {
            self.print_error(&lines.join("\n"));
        }
    }

    pub(crate) fn complain(&self, text: &dyn Display) {
        let (on, off) = if self.color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.print_error(&format!("{on}error:{off} {}", printable(&text.to_string())));
    }

    /// A reader that has gone away is no reason to stop a transfer.
    fn print_error(&self, text: &str) {
        // In one piece: standard error has no buffer.
        let line = format!("{text}\n");
        let _ = self.bars.suspend(|| io::stderr().write_all(line.as_bytes()));
    }

    pub(crate) fn finish(&mut self, success: bool) -> ExitCode {
        if let Some(error) = self.output_error.take() {
            self.complain(&error);
            return ExitCode::FAILURE;
        }
        if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Names and reasons may come from the network: nothing in them moves the cursor or turns
/// the text around (Unicode's bidirectional controls).
fn printable(text: &str) -> String {
    let is_turning = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|&character| !character.is_control() && !is_turning(character)).collect()
}

/// Lines as Python's `logging` prints them: `WARNING:root:…`.
fn init_logger(options: &ConsoleOptions, bars: &Bars) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format(|out, record| {
            let level = match record.level() {
                log::Level::Warn => "WARNING",
                other => other.as_str(),
            };
            writeln!(out, "{level}:{}:{}", record.target(), record.args())
        })
        .target(env_logger::Target::Pipe(bars.writer()))
        .try_init();
    // Only a second console in one process could have set one before.
    debug_assert!(logger.is_ok());
}
