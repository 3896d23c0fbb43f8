//! Files of one block, written by the thread that drains the socket where this is faster than a
//! context switch. Files that arrive together share one sync of their folder.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use siar_proto::TransferKey;

use super::writer::{Job, StoreResult, Writer};
use crate::io::store::PublishedFile;

/// A file that is published within this time does not need a thread: context switches cost more.
const QUICK: Duration = Duration::from_micros(200);

/// Whether the file system publishes small files quickly.
#[derive(Debug, Default, Clone)]
pub(super) struct Quickness(Arc<AtomicBool>);

impl Quickness {
    /// Notes that a thread published a file within `took`.
    pub(super) fn note(&self, took: Duration) {
        self.0.store(took < QUICK, Ordering::Relaxed);
    }

    fn note_slow(&self, took: Duration) {
        if took >= QUICK {
            self.0.store(false, Ordering::Relaxed);
        }
    }
}

/// The writer of the thread that drains the socket.
#[derive(Debug)]
pub(super) struct Inline {
    writer: Writer,
    quickness: Quickness,
    /// The files that were published since the folder was last synced.
    unsynced: Vec<(TransferKey, PublishedFile)>,
}

impl Inline {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, quickness: Quickness::default(), unsynced: Vec::new() }
    }

    pub(super) fn quickness(&self) -> Quickness {
        self.quickness.clone()
    }

    /// Whether a thread published its latest file quickly, and no job has been slow since.
    pub(super) fn is_worth_while(&self) -> bool {
        self.quickness.0.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn set_worth_while(&self, is_quick: bool) {
        self.quickness.0.store(is_quick, Ordering::Relaxed);
    }

    /// Does a job. [`Self::sync`] reports a published file.
    pub(super) fn perform(&mut self, job: Job) -> Option<StoreResult> {
        let started = Instant::now();
        match self.writer.perform(job) {
            Some(StoreResult::Published { key, result: Ok(published) }) => {
                self.quickness.note_slow(started.elapsed());
                self.unsynced.push((key, published));
                None
            }
            result => result,
        }
    }

    /// Syncs the folder, and returns the results of all files published since the last call.
    pub(super) fn sync(&mut self) -> Vec<StoreResult> {
        if self.unsynced.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let synced = self.writer.sync();
        self.quickness.note_slow(started.elapsed());
        let told = self.unsynced.drain(..).map(|(key, published)| {
            let result = match &synced {
                Ok(()) => Ok(published),
                // A second sync would not show the error: the kernel reports an error once.
                Err(error) => {
                    let error = io::Error::new(error.kind(), error.to_string());
                    Err(self.writer.folder_error(error))
                }
            };
            StoreResult::Published { key, result }
        });
        told.collect()
    }
}
