//! The screen: the thread that prints. Printing cannot hold up a task or a reply, even if nobody
//! reads the output.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, SendTimeoutError, Sender, TrySendError};

use super::event_file::wait_while_written;
use super::printer::{Printer, capture_log};
use crate::event::{Event, Progress};

/// The largest number of messages that wait to be printed.
const QUEUE_LEN: usize = 1 << 14;
/// Messages of this time are printed together, so that the thread is not woken for each of them.
const GATHER: Duration = Duration::from_millis(1);

/// A message to print.
#[derive(Debug)]
pub(super) enum Message {
    /// An event.
    Event(Arc<Event>),
    /// The progress of a task.
    Progress(Progress),
    /// A log record, as it is printed.
    Log(Vec<u8>),
    /// One of the Python scripts' lines, for standard output.
    Line(String),
    /// A note on standard error that is not an error.
    Note(String),
    /// An error message.
    Complaint(String),
    /// A message about something that is lost, but fails nothing.
    Warning(String),
    /// The end: no more messages follow.
    End,
}

/// The reason why messages were not printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScreenError {
    /// Nobody reads the output.
    #[error("nobody reads what is printed: {0} messages were not shown")]
    Unread(u64),
    /// The thread that prints has a defect.
    #[error("the thread that prints has panicked")]
    Panicked,
}

/// The queue to the thread that prints.
pub(super) struct Screen {
    queue: Sender<Message>,
    lost: Arc<AtomicU64>,
    thread: Thread,
    /// Told when the thread has ended.
    ended: Receiver<()>,
    written: Arc<AtomicU64>,
    shows_progress: bool,
}

impl Screen {
    /// Starts the thread, which prints through `printer`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(printer: Printer) -> io::Result<Self> {
        let (queue, messages) = channel::bounded(QUEUE_LEN);
        let (end, ended) = channel::bounded(1);
        let (lost, written) = (Arc::new(AtomicU64::new(0)), printer.written());
        let (counted, shows_progress) = (Arc::clone(&lost), printer.shows_progress());
        let thread = thread::Builder::new().name("screen".to_owned()).spawn(move || {
            // The `Screen` that holds the receiver lives as long as the thread.
            show(&messages, &counted, printer);
            let _ = end.send(());
        })?;
        let thread = thread.thread().clone();
        Ok(Self { queue, lost, thread, ended, written, shows_progress })
    }

    /// Queues a message. If too many wait, the message is lost, and counted unless it is progress.
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

    /// Returns a writer for log records.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter { queue: self.queue.clone(), lost: Arc::clone(&self.lost) }
    }

    /// Waits until all messages are printed. With `patience`, waiting ends when nothing could be
    /// written for that time.
    ///
    /// # Errors
    /// Messages were not printed.
    pub(super) fn finish(&self, patience: Option<Duration>) -> Result<(), ScreenError> {
        let unread = || {
            Err(ScreenError::Unread(self.queue.len() as u64 + self.lost.load(Ordering::Relaxed)))
        };
        let end = self.queue.send_timeout(Message::End, patience.unwrap_or(Duration::MAX));
        self.thread.unpark();
        if matches!(end, Err(SendTimeoutError::Timeout(_))) {
            return unread();
        }
        match wait_while_written(&self.ended, &self.written, patience) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(ScreenError::Panicked),
            None => unread(),
        }
    }
}

fn show(messages: &Receiver<Message>, lost: &AtomicU64, mut printer: Printer) {
    while let Ok(first) = messages.recv() {
        thread::park_timeout(GATHER);
        let mut is_end = false;
        for message in std::iter::once(first).chain(messages.try_iter()) {
            is_end |= matches!(message, Message::End);
            printer.show(message);
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            printer.show(Message::Warning(format!(
                "{lost} messages were not shown: what is printed is read too slowly"
            )));
        }
        printer.flush();
        if is_end {
            break;
        }
    }
}

/// A writer that queues log records among the other messages, in the order of their creation.
pub(super) struct LogWriter {
    queue: Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A record of the printing thread itself is captured, and so is in its place already.
        if !capture_log(bytes) {
            match self.queue.try_send(Message::Log(bytes.to_vec())) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => _ = self.lost.fetch_add(1, Ordering::Relaxed),
                // The thread has ended: all other messages are printed already.
                Err(TrySendError::Disconnected(_)) => return io::stderr().write(bytes),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
