//! The file of `--events`: every event becomes one JSON line, which a thread of its own writes. No
//! event is lost while the process lives. A slow file or pipe does not hold up the threads that
//! report events.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvError, RecvTimeoutError, Sender};

use super::console::ConsoleError;
use crate::event::Event;
use crate::lock::lock;
use crate::visible::escaped_json;

/// The reason why the event file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("event file {path}: {error}")]
pub(crate) struct EventFileError {
    path: PathBuf,
    error: io::Error,
}

/// The event file, and the thread that writes it.
pub(super) struct EventFile {
    path: PathBuf,
    events: Mutex<Option<Sender<Arc<Event>>>>,
    /// The result of writing, which is available once the thread has ended.
    outcome: Receiver<io::Result<()>>,
    written: Arc<AtomicU64>,
}

impl EventFile {
    /// Creates the file at `path`; `-` is standard output.
    ///
    /// # Errors
    /// The file cannot be created, or the thread cannot be started.
    pub(super) fn create(path: &Path) -> Result<Self, ConsoleError> {
        let file: Box<dyn Write + Send> = match path.as_os_str() == "-" {
            true => Box::new(io::stdout()),
            false => Box::new(
                File::create(path)
                    .map_err(|error| EventFileError { path: path.to_owned(), error })?,
            ),
        };
        let (events, queue) = channel::unbounded();
        let (told, outcome) = channel::bounded(1);
        let written = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&written);
        let write = move || {
            // The `EventFile` that holds the receiver lives as long as the thread.
            let _ = told.send(write_all(&queue, BufWriter::new(file), &counted));
        };
        let thread = thread::Builder::new().name("event-file".to_owned());
        thread.spawn(write).map_err(ConsoleError::Thread)?;
        Ok(Self { path: path.to_owned(), events: Mutex::new(Some(events)), outcome, written })
    }

    /// Queues an event for the thread.
    pub(super) fn write(&self, event: &Arc<Event>) {
        if let Some(events) = lock(&self.events).as_ref() {
            // After a write error, which `finish` returns, no more events are written.
            let _ = events.send(Arc::clone(event));
        }
    }

    /// Waits until all events are written. With `patience`, waiting ends when nothing could be
    /// written for that time.
    ///
    /// # Errors
    /// An event could not be written.
    pub(super) fn finish(&self, patience: Option<Duration>) -> Result<(), EventFileError> {
        let Some(events) = lock(&self.events).take() else { return Ok(()) };
        let left = events.len();
        // The thread ends when the last sender is dropped.
        drop(events);
        let written = match wait_while_written(&self.outcome, &self.written, patience) {
            Some(Ok(written)) => written,
            Some(Err(RecvError)) => Err(io::Error::other("the thread that writes it panicked")),
            None => {
                Err(io::Error::other(format!("nobody reads it: {left} events or more are lost")))
            }
        };
        written.map_err(|error| EventFileError { path: self.path.clone(), error })
    }
}

/// Waits for an outcome. With `patience`, waiting ends when `written` has not risen for that time.
pub(super) fn wait_while_written<T>(
    outcome: &Receiver<T>,
    written: &AtomicU64,
    patience: Option<Duration>,
) -> Option<Result<T, RecvError>> {
    let Some(patience) = patience else { return Some(outcome.recv()) };
    loop {
        let before = written.load(Ordering::Relaxed);
        match outcome.recv_timeout(patience) {
            Ok(outcome) => return Some(Ok(outcome)),
            Err(RecvTimeoutError::Disconnected) => return Some(Err(RecvError)),
            Err(RecvTimeoutError::Timeout) if written.load(Ordering::Relaxed) == before => {
                return None;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Writes the queued events; events that arrive together are written together.
fn write_all(
    queue: &Receiver<Arc<Event>>,
    mut file: impl Write,
    written: &AtomicU64,
) -> io::Result<()> {
    while let Ok(first) = queue.recv() {
        for event in std::iter::once(first).chain(queue.try_iter()) {
            let line = serde_json::to_string(&*event)?;
            // The file may be shown on a terminal.
            file.write_all(escaped_json(&line).as_bytes())?;
            file.write_all(b"\n")?;
            written.fetch_add(1, Ordering::Relaxed);
        }
        file.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use crate::visible::is_safe_to_show;

    #[test]
    fn an_event_is_one_line_without_controls_that_keeps_its_values() {
        let name = "a\r\n\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{200b}\u{e0041} ملف".to_owned();
        let (transfer, bytes) = ("1".to_owned(), 1);
        let event = Event::now(EventKind::Resumed { transfer, name, bytes });
        let (events, queue) = channel::unbounded();
        events.send(Arc::new(event.clone())).unwrap();
        drop(events);
        let (mut file, written) = (Vec::new(), AtomicU64::new(0));
        write_all(&queue, &mut file, &written).unwrap();
        let text = String::from_utf8(file).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.chars().all(is_safe_to_show), "{line:?}");
        let read: Event = serde_json::from_str(line).unwrap();
        assert_eq!(read.kind, event.kind);
        assert_eq!(written.into_inner(), 1);
    }
}
