//! What is shown goes to a thread of its own: nothing that prints can hold up a task or a reply,
//! even if nobody reads what is printed.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, SendTimeoutError, Sender, TrySendError};

use super::event_file::wait_while_written;
use super::printer::{Printer, capture_log};
use crate::event::{Event, Progress};
use crate::lock::lock;

/// What waits to be shown is no more than this.
const QUEUE_LEN: usize = 1 << 14;
/// What is told within this time is printed together. The thread is not woken for each of it.
const GATHER: Duration = Duration::from_millis(1);

/// Something to show.
#[derive(Debug)]
pub(super) enum Message {
    /// What happened.
    Event(Arc<Event>),
    /// How far a task is.
    Progress(Progress),
    /// A log record, as it is printed.
    Log(Vec<u8>),
    /// One of the scripts' lines, for standard output.
    Line(String),
    /// Something on standard error that is no failure.
    Note(String),
    /// What went wrong.
    Complaint(String),
    /// Nothing more comes.
    End,
}

/// The thread that shows what it is sent.
pub(super) struct Screen {
    queue: Sender<Message>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What kept it from being shown, once all is.
    outcome: Receiver<Option<String>>,
    written: Arc<AtomicU64>,
    shows_progress: bool,
}

impl Screen {
    /// Starts the thread, which prints by `printer`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(printer: Printer) -> io::Result<Self> {
        let (queue, messages) = channel::bounded(QUEUE_LEN);
        let (told, outcome) = channel::bounded(1);
        let (lost, written) = (Arc::new(AtomicU64::new(0)), printer.written());
        let (counted, shows_progress) = (Arc::clone(&lost), printer.shows_progress());
        let thread = thread::Builder::new().name("screen".to_owned()).spawn(move || {
            // Whoever waits for it lives as long.
            let _ = told.send(show(&messages, &counted, printer));
        })?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { queue, lost, thread, outcome, written, shows_progress })
    }

    /// Has a message shown. If too many wait, it is lost, and counted unless it is of progress.
    pub(super) fn show(&self, message: Message) {
        let is_progress = matches!(message, Message::Progress(_));
        if is_progress && !self.shows_progress {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.queue.try_send(message)
            && !is_progress
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where log records go.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter { queue: self.queue.clone(), lost: Arc::clone(&self.lost) }
    }

    /// Waits until all is shown; gives up, if `patience` says so, when nothing could be written
    /// for so long.
    ///
    /// # Errors
    /// Something could not be shown.
    pub(super) fn finish(&self, patience: Option<Duration>) -> Result<(), String> {
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        let unread = || {
            let lost = self.queue.len() as u64 + self.lost.load(Ordering::Relaxed);
            Err(format!("nobody reads what is printed: {lost} messages were not shown"))
        };
        let end = self.queue.send_timeout(Message::End, patience.unwrap_or(Duration::MAX));
        thread.thread().unpark();
        if matches!(end, Err(SendTimeoutError::Timeout(_))) {
            return unread();
        }
        match wait_while_written(&self.outcome, &self.written, patience) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(error))) => Err(error),
            Some(Err(_)) => Err("the thread that prints has panicked".to_owned()),
            None => unread(),
        }
    }
}

fn show(messages: &Receiver<Message>, lost: &AtomicU64, mut printer: Printer) -> Option<String> {
    while let Ok(first) = messages.recv() {
        thread::park_timeout(GATHER);
        let mut is_end = false;
        for message in std::iter::once(first).chain(messages.try_iter()) {
            is_end |= matches!(message, Message::End);
            printer.show(message);
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            printer.show(Message::Complaint(format!(
                "{lost} messages were not shown: what is printed is read too slowly"
            )));
        }
        printer.flush();
        if is_end {
            break;
        }
    }
    printer.into_error()
}

/// Has log records shown with everything else, in the order in which they are told.
pub(super) struct LogWriter {
    queue: Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What the printing thread logs itself is in its place already.
        if !capture_log(bytes) {
            match self.queue.try_send(Message::Log(bytes.to_vec())) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => _ = self.lost.fetch_add(1, Ordering::Relaxed),
                // All else is shown already.
                Err(TrySendError::Disconnected(_)) => return io::stderr().write(bytes),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
