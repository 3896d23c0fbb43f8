//! Python's `multiprocessing.Process` for a [`Job`]: start and join.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use siar_core::client::worker::{Job, WorkerError, WorkerProcess};
use siar_core::event::Observer;

/// A child process that does one job, and the thread that reads its messages.
pub(crate) struct Process(Result<JoinHandle<Result<Duration, WorkerError>>, WorkerError>);

impl Process {
    /// Starts the child from the calling thread, which it does not outlive.
    pub(crate) fn start(job: Job, observer: Arc<dyn Observer>) -> Self {
        Self(WorkerProcess::spawn().and_then(|mut worker| {
            thread::Builder::new()
                .name(job.task.name.clone())
                .spawn(move || worker.run(&job, observer.as_ref()))
                .map_err(WorkerError::Spawn)
        }))
    }

    /// Waits for the end of the child; returns how long the job took, or the error.
    pub(crate) fn join(self) -> Result<Duration, WorkerError> {
        // The reading thread has no panics of its own.
        self.0?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
