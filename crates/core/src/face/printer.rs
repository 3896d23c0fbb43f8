//! The printer: it turns events into output (the Python scripts' lines, bars, messages).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::bars::Bars;
use super::screen::Message;
use super::script_lines as lines;
use crate::event::{Event, EventKind};
use crate::visible::escaped;

/// The most output that is gathered before it is written, in bytes.
const MAX_GATHERED: usize = 1 << 16;

thread_local! {
    /// The log record that is being formatted; used in the thread that prints.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Keeps the bytes of a log record if the calling thread is the one that prints.
pub(super) fn capture_log(bytes: &[u8]) -> bool {
    CAPTURED.with_borrow_mut(|captured| {
        captured.as_mut().map(|captured| captured.extend_from_slice(bytes)).is_some()
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

/// The output of one process.
pub(super) struct Printer {
    bars: Bars,
    /// Whether events go to standard output: nothing else is written there then.
    is_stdout_taken: bool,
    is_quiet: bool,
    has_color: bool,
    /// The server's option `--dump`.
    dumps: bool,
    run_started: Option<Timestamp>,
    tasks: HashMap<String, TaskState>,
    gathered: Vec<u8>,
    stream: Stream,
    /// The number of writes; other threads see by it that output advances.
    written: Arc<AtomicU64>,
    /// Whether it was said that standard output takes nothing.
    has_warned: bool,
}

/// The options of a printer.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrinterOptions {
    pub(super) is_stdout_taken: bool,
    pub(super) is_quiet: bool,
    pub(super) has_color: bool,
    pub(super) dumps: bool,
}

#[derive(Default)]
struct TaskState {
    started: Option<Timestamp>,
    name: String,
    servers: Vec<String>,
}

impl Printer {
    pub(super) fn new(bars: Bars, options: PrinterOptions) -> Self {
        let PrinterOptions { is_stdout_taken, is_quiet, has_color, dumps } = options;
        Self {
            bars,
            is_stdout_taken,
            is_quiet,
            has_color,
            dumps,
            run_started: None,
            tasks: HashMap::new(),
            gathered: Vec::new(),
            stream: Stream::Output,
            written: Arc::default(),
            has_warned: false,
        }
    }

    pub(super) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    pub(super) fn shows_progress(&self) -> bool {
        self.bars.is_visible()
    }

    pub(super) fn show(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                self.bars.event(&event);
                match &event.task {
                    Some(task) => self.task_event(task, &event),
                    None => self.process_event(&event),
                }
            }
            Message::Progress(progress) => self.bars.progress(&progress),
            Message::Log(bytes) => self.push(Stream::Error, &bytes),
            Message::Line(text) => self.line(&text),
            Message::Note(text) => self.note(&text),
            Message::Complaint(text) => self.complain(&text),
            Message::Warning(text) => self.warn(&text),
            Message::End => {}
        }
    }

    fn process_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted => self.run_started = Some(event.time),
            EventKind::RunFinished { .. } => {
                let from = self.run_started.unwrap_or(event.time);
                self.line(&lines::total_line(from, event.time));
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

    /// Prints the Python script's line (`udpserver_broadcast.py`, lines 19 to 21).
    fn received(&mut self, from: &str, path: &str, bytes: u64, blake3: &str) {
        let address = from.rsplit_once(':').map_or_else(
            || lines::str_repr(from),
            |(host, port)| format!("({}, {port})", lines::str_repr(host)),
        );
        let from = format!("dikirim oleh  {address}");
        if self.dumps {
            self.line(&address);
            if let Err(error) = self.dump(path) {
                self.complain(&format!("{path}: {error}"));
            }
            self.line(&from);
        } else {
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            self.line(&address);
            self.line(&format!("diterima  {name} {bytes} byte blake3 {blake3}"));
            self.line(&from);
        }
    }

    /// Prints the whole file in Python's notation, in parts: the file may be larger than memory.
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
        let quote = lines::bytes_quote(single, double);
        let mut text = format!("diterima  b{}", char::from(quote));
        let mut file = File::open(path)?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            lines::push_bytes_repr(&buffer[..read], quote, &mut text);
            self.push(Stream::Output, text.as_bytes());
            text.clear();
        }
        text.push(char::from(quote));
        text.push('\n');
        self.push(Stream::Output, text.as_bytes());
        Ok(())
    }

    fn task_event(&mut self, key: &str, event: &Event) {
        let task = self.tasks.entry(key.to_owned()).or_default();
        match &event.kind {
            EventKind::TaskQueued { url } => self.line(&format!("mendownload {url}")),
            EventKind::DownloadStarted => task.started = Some(event.time),
            EventKind::BroadcastStarted { name, .. } => {
                task.name.clone_from(name);
                self.line(&format!("broadcast file {name}"));
            }
            EventKind::DownloadFinished { bytes } => {
                let bytes = bytesize::ByteSize::b(*bytes).display().iec();
                self.note(&format!("{key}: downloaded, {bytes}"));
            }
            EventKind::ServerJoined { server } => {
                let text = format!("{server} joined for {}", task.name);
                self.note(&text);
            }
            EventKind::RepairSent { datagrams, .. } if *datagrams > 0 => {
                let text = format!("{}: {datagrams} repair datagrams sent", task.name);
                self.note(&text);
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
                let (task, from) = (std::mem::take(task), event.time);
                let line = lines::writing_line(&task.name, task.started.unwrap_or(from), from);
                self.log_warning(&line);
                if task.servers.is_empty() {
                    self.note(&format!("{}: sent raw, nothing confirms it", task.name));
                }
                task.servers.iter().for_each(|line| self.note(line));
            }
            EventKind::TaskFailed { error } => {
                let servers = std::mem::take(&mut task.servers);
                servers.iter().for_each(|line| self.note(line));
                self.complain(&format!("{key}: {error}"));
            }
            _ => {}
        }
    }

    /// Prints a line in the format of Python's `logging.warning` (`library.py`, line 58).
    fn log_warning(&mut self, text: &str) {
        CAPTURED.set(Some(Vec::new()));
        log::warn!(target: super::logger::ROOT, "{text}");
        if let Some(record) = CAPTURED.take() {
            self.push(Stream::Error, &record);
        }
    }

    /// Prints one line, whatever the names and reasons in it: they may come from the network.
    fn line(&mut self, text: &str) {
        if !self.is_quiet {
            self.push(Stream::Output, format!("{}\n", escaped(text)).as_bytes());
        }
    }

    fn note(&mut self, text: &str) {
        if !self.is_quiet {
            self.push(Stream::Error, format!("{}\n", escaped(text)).as_bytes());
        }
    }

    fn complain(&mut self, text: &str) {
        self.push_labelled("error:", "\x1b[1;31m", text);
    }

    fn warn(&mut self, text: &str) {
        self.push_labelled("warning:", "\x1b[1;33m", text);
    }

    fn push_labelled(&mut self, label: &str, color: &str, text: &str) {
        let (on, off) = if self.has_color { (color, "\x1b[0m") } else { ("", "") };
        let line = format!("{on}{label}{off} {}\n", escaped(text));
        self.push(Stream::Error, line.as_bytes());
    }

    fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Output && self.is_stdout_taken {
            return;
        }
        if stream != self.stream || self.gathered.len() + bytes.len() > MAX_GATHERED {
            self.flush();
        }
        self.stream = stream;
        self.gathered.extend_from_slice(bytes);
    }

    /// Writes the gathered output.
    pub(super) fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let (bytes, stream) = (&self.gathered, self.stream);
        let written = self.bars.suspend(|| match stream {
            Stream::Output => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Stream::Error => io::stderr().write_all(bytes),
        });
        self.gathered.clear();
        self.written.fetch_add(1, Ordering::Relaxed);
        match written {
            // A reader that closes the pipe is no error, and no reason to stop a transfer.
            Err(error)
                if stream == Stream::Output
                    && error.kind() != io::ErrorKind::BrokenPipe
                    && !self.has_warned =>
            {
                self.has_warned = true;
                self.warn(&format!("standard output takes no lines ({error}): some are lost"));
                self.flush();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed of an event, on either stream.
    fn printed(kind: EventKind, task: Option<&str>) -> String {
        let options = PrinterOptions {
            is_stdout_taken: false,
            is_quiet: false,
            has_color: false,
            dumps: false,
        };
        let mut printer = Printer::new(Bars::new(false), options);
        let task = task.map(str::to_owned);
        printer.show(Message::Event(Arc::new(Event { task, ..Event::now(kind) })));
        String::from_utf8(std::mem::take(&mut printer.gathered)).unwrap()
    }

    #[test]
    fn names_cannot_break_a_line_or_move_the_cursor() {
        const NAME: &str = "a\r\nerror: forged\u{1b}[2J\u{9b}31m\u{202e}\u{200b}.png";
        const SHOWN: &str = r"a\r\nerror: forged\x1b[2J\x9b31m\u202e\u200b.png";
        let name = || NAME.to_owned();
        let text = || "1".to_owned();
        let cases = [
            (EventKind::TaskQueued { url: name() }, Some("a"), format!("mendownload {SHOWN}\n")),
            (
                EventKind::BroadcastStarted {
                    transfer: text(),
                    name: name(),
                    bytes: 1,
                    blake3: text(),
                },
                Some("a"),
                format!("broadcast file {SHOWN}\n"),
            ),
            (EventKind::TaskFailed { error: name() }, Some("a"), format!("error: a: {SHOWN}\n")),
            (
                EventKind::TransferFailed { transfer: text(), from: text(), reason: name() },
                None,
                format!("error: {SHOWN} (from 1)\n"),
            ),
            (
                EventKind::Received {
                    transfer: text(),
                    from: "192.0.2.1:4000".to_owned(),
                    path: format!("/files/{NAME}"),
                    bytes: 1,
                    blake3: text(),
                    seconds: 1.0,
                },
                None,
                format!(
                    "('192.0.2.1', 4000)\nditerima  {SHOWN} 1 byte blake3 1\ndikirim oleh  \
                     ('192.0.2.1', 4000)\n"
                ),
            ),
        ];
        for (kind, task, expected) in cases {
            assert_eq!(printed(kind, task), expected);
        }
    }
}
