//! `--events`: every event as one JSON line, written by a thread of its own. None is lost while
//! the process lives, and none holds up the thread that tells it, however slowly the file is
//! written or the pipe is read.

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

/// The event file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("event file {path}: {error}")]
pub(crate) struct EventFileError {
    path: PathBuf,
    error: io::Error,
}

/// The file, and the thread that writes it.
pub(super) struct EventFile {
    path: PathBuf,
    events: Mutex<Option<Sender<Arc<Event>>>>,
    /// What became of the file, once the thread has ended.
    outcome: Receiver<io::Result<()>>,
    written: Arc<AtomicU64>,
}

impl EventFile {
    /// Begins the file at `path`; `-` is standard output.
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
            // Whoever waits for it lives as long.
            let _ = told.send(write_all(&queue, BufWriter::new(file), &counted));
        };
        let thread = thread::Builder::new().name("event-file".to_owned());
        thread.spawn(write).map_err(ConsoleError::Thread)?;
        Ok(Self { path: path.to_owned(), events: Mutex::new(Some(events)), outcome, written })
    }

    /// Has an event written.
    pub(super) fn write(&self, event: &Arc<Event>) {
        if let Some(events) = lock(&self.events).as_ref() {
            // After an error, which is told in the end, nothing more is written.
            let _ = events.send(Arc::clone(event));
        }
    }

    /// Waits until all events are written; gives up, if `patience` says so, when nothing could be
    /// written for so long.
    ///
    /// # Errors
    /// An event could not be written.
    pub(super) fn finish(&self, patience: Option<Duration>) -> Result<(), EventFileError> {
        let Some(events) = lock(&self.events).take() else { return Ok(()) };
        let left = events.len();
        // The thread ends with the last sender.
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

/// Waits for an outcome. With `patience`, waiting ends when `written` has not risen for so long.
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

/// Events that come together are written together.
fn write_all(
    queue: &Receiver<Arc<Event>>,
    mut file: impl Write,
    written: &AtomicU64,
) -> io::Result<()> {
    while let Ok(first) = queue.recv() {
        for event in std::iter::once(first).chain(queue.try_iter()) {
            serde_json::to_writer(&mut file, &*event)?;
            file.write_all(b"\n")?;
            written.fetch_add(1, Ordering::Relaxed);
        }
        file.flush()?;
    }
    Ok(())
}
