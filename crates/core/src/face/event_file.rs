//! `--events`: every event as one JSON line, written by a thread of its own. None is lost while
//! the process lives, and none holds up the thread that tells it, however slowly the file is
//! written or the pipe is read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Receiver, Sender};

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
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl EventFile {
    /// Begins the file at `path`; `-` is standard output.
    ///
    /// # Errors
    /// The file cannot be created, or the thread not be started.
    pub(super) fn create(path: &Path) -> Result<Self, EventFileError> {
        let create = || -> io::Result<_> {
            let file: Box<dyn Write + Send> = match path.as_os_str() == "-" {
                true => Box::new(io::stdout()),
                false => Box::new(File::create(path)?),
            };
            let (events, queue) = channel::unbounded();
            let write = move || write_all(&queue, BufWriter::new(file));
            let thread = thread::Builder::new().name("event-file".to_owned()).spawn(write)?;
            Ok((events, thread))
        };
        let (events, thread) =
            create().map_err(|error| EventFileError { path: path.to_owned(), error })?;
        let (events, thread) = (Mutex::new(Some(events)), Mutex::new(Some(thread)));
        Ok(Self { path: path.to_owned(), events, thread })
    }

    /// Has an event written.
    pub(super) fn write(&self, event: &Arc<Event>) {
        if let Some(events) = lock(&self.events).as_ref() {
            // After an error, which is told in the end, nothing more is written.
            let _ = events.send(Arc::clone(event));
        }
    }

    /// Waits until all events are written.
    ///
    /// # Errors
    /// An event could not be written.
    pub(super) fn finish(&self) -> Result<(), EventFileError> {
        drop(lock(&self.events).take());
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        let panicked = |_| Err(io::Error::other("the thread that writes it panicked"));
        let written = thread.join().unwrap_or_else(panicked);
        written.map_err(|error| EventFileError { path: self.path.clone(), error })
    }
}

/// Events that come together are written together.
fn write_all(queue: &Receiver<Arc<Event>>, mut file: impl Write) -> io::Result<()> {
    while let Ok(first) = queue.recv() {
        for event in std::iter::once(first).chain(queue.try_iter()) {
            serde_json::to_writer(&mut file, &*event)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
    }
    Ok(())
}
