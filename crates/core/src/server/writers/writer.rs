//! One writer: it decodes, writes, hashes and publishes the files that it is given.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use siar_proto::{AnnouncedFile, ReceivedBlock, TransferKey};

use crate::io::store::{IncomingFile, Naming, PublishedFile, StoreError, sync_dir};
use crate::lock::lock;
use crate::panics::caught;

/// The file of one session, while a writer works on it. When the last reference is dropped, the
/// file is removed, unless it was published or left.
#[derive(Debug, Default)]
pub(super) struct FileSlot {
    file: Mutex<Option<IncomingFile>>,
    /// Whether the session has ended: jobs that are queued already do nothing then.
    is_discarded: AtomicBool,
}

impl FileSlot {
    pub(super) fn put(&self, file: IncomingFile) {
        *lock(&self.file) = Some(file);
    }

    pub(super) fn discard(&self) {
        self.is_discarded.store(true, Ordering::Release);
    }

    fn take(&self) -> Option<IncomingFile> {
        let file = lock(&self.file).take();
        file.filter(|_| !self.is_discarded.load(Ordering::Acquire))
    }
}

/// A job of a writer.
pub(super) enum Job {
    Create {
        key: TransferKey,
        slot: Arc<FileSlot>,
        size: u64,
    },
    Resume {
        key: TransferKey,
        slot: Arc<FileSlot>,
        file: AnnouncedFile,
        /// The blocks that the sender was told of as received.
        promised: Vec<u32>,
    },
    Write {
        key: TransferKey,
        slot: Arc<FileSlot>,
        block: ReceivedBlock,
    },
    Publish {
        key: TransferKey,
        slot: Arc<FileSlot>,
        file: AnnouncedFile,
    },
    /// The slot's file is dropped here, not by the thread that drains the socket.
    Discard {
        slot: Arc<FileSlot>,
    },
    /// The slot's file is closed, and left for a later transfer.
    Leave {
        slot: Arc<FileSlot>,
    },
    Raw {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    #[cfg(test)]
    Panic {
        key: TransferKey,
        slot: Arc<FileSlot>,
    },
}

/// The result of a job.
#[derive(Debug)]
pub(in super::super) enum StoreResult {
    /// The session's file cannot be stored.
    Failed { key: TransferKey, error: StoreError },
    /// A block was written, or could not be written; its buffer can be used again.
    Written { key: TransferKey, buffer: Vec<u8>, result: Result<(), StoreError> },
    /// The session's file was published, or could not be published.
    Published { key: TransferKey, result: Result<PublishedFile, StoreError> },
    /// A raw file was published, or could not be published.
    Raw {
        from: SocketAddr,
        bytes: usize,
        blake3: blake3::Hash,
        result: Result<PathBuf, StoreError>,
    },
}

/// The folder of the files, and how they are named.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) naming: Arc<Naming>,
}

impl Writer {
    /// Does a job. A panic counts as a failure of the job's file. A published file may be reported
    /// once the folder is [synced](Self::sync).
    pub(super) fn perform(&self, job: Job) -> Option<StoreResult> {
        let failure = Failure::of(&job);
        let stored = caught(|| self.store(job)).unwrap_or_else(|said| {
            Err(self.folder_error(io::Error::other(format!("a writer panicked: {said}"))))
        });
        stored.unwrap_or_else(|error| failure.result(error))
    }

    fn store(&self, job: Job) -> Result<Option<StoreResult>, StoreError> {
        Ok(match job {
            Job::Create { slot, size, .. } => {
                slot.put(IncomingFile::create(&self.dir, size)?);
                None
            }
            Job::Resume { slot, file, promised, .. } => {
                slot.put(IncomingFile::resume(&self.dir, &file, &promised)?);
                None
            }
            Job::Write { key, slot, block } => {
                let buffer = self.write(&slot, block)?;
                Some(StoreResult::Written { key, buffer, result: Ok(()) })
            }
            Job::Publish { key, slot, file: announced } => {
                // After a failure, which was reported, no file is left to publish.
                slot.take().map(|file| {
                    let name = Some(announced.name.as_str());
                    let result = file.publish(announced.blake3, name, &self.naming);
                    StoreResult::Published { key, result }
                })
            }
            Job::Discard { slot } => {
                drop(slot.take());
                None
            }
            Job::Leave { slot } => {
                // After a failure, no file is left in the slot.
                slot.take().into_iter().for_each(IncomingFile::leave);
                None
            }
            Job::Raw { from, bytes } => Some(self.publish_raw(from, &bytes)),
            #[cfg(test)]
            Job::Panic { slot, .. } => {
                let _held = slot.file.lock();
                panic!("of a test")
            }
        })
    }

    /// Decodes a block, writes it and returns its buffer.
    fn write(&self, slot: &FileSlot, block: ReceivedBlock) -> Result<Vec<u8>, StoreError> {
        let (number, offset) = (block.block, block.offset);
        let decoded = block.decode();
        let (buffer, len) = decoded.map_err(|error| self.folder_error(io::Error::other(error)))?;
        let mut file = lock(&slot.file);
        let is_discarded = slot.is_discarded.load(Ordering::Acquire);
        // If the file is discarded, only the buffer is still needed.
        if let Some(file) = file.as_mut().filter(|_| !is_discarded) {
            file.write_block(number, offset, &buffer[..len])?;
        }
        Ok(buffer)
    }

    /// Makes the names of all published files survive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_dir(&self.dir)
    }

    /// Returns an error of the folder.
    pub(super) fn folder_error(&self, error: io::Error) -> StoreError {
        StoreError::Io { path: self.dir.clone(), error }
    }

    /// Publishes a raw file. It has no name, and is numbered as the Python scripts number files.
    fn publish_raw(&self, from: SocketAddr, bytes: &[u8]) -> StoreResult {
        let blake3 = blake3::hash(bytes);
        let publish = || {
            let mut file = IncomingFile::create(&self.dir, bytes.len() as u64)?;
            file.write_at(0, bytes)?;
            let published = file.publish(*blake3.as_bytes(), None, &self.naming)?;
            self.sync().map_err(|error| self.folder_error(error))?;
            Ok(published.path)
        };
        StoreResult::Raw { from, bytes: bytes.len(), blake3, result: publish() }
    }
}

/// The failure to report if a job fails or panics.
enum Failure {
    File { key: TransferKey, slot: Arc<FileSlot> },
    Block { key: TransferKey, slot: Arc<FileSlot>, buffer_len: usize },
    Raw { from: SocketAddr, bytes: usize, blake3: blake3::Hash },
    Nothing,
}

impl Failure {
    fn of(job: &Job) -> Self {
        match job {
            Job::Create { key, slot, .. }
            | Job::Resume { key, slot, .. }
            | Job::Publish { key, slot, .. } => Self::File { key: *key, slot: Arc::clone(slot) },
            Job::Write { key, slot, block } => {
                let buffer_len = block.buffer_len();
                Self::Block { key: *key, slot: Arc::clone(slot), buffer_len }
            }
            Job::Raw { from, bytes } => Self::Raw {
                from: *from,
                bytes: bytes.len(),
                blake3: blake3::Hash::from_bytes([0; 32]),
            },
            Job::Discard { .. } | Job::Leave { .. } => Self::Nothing,
            #[cfg(test)]
            Job::Panic { key, slot } => Self::File { key: *key, slot: Arc::clone(slot) },
        }
    }

    /// The job that publishes the file may be queued already: it finds no file then.
    fn result(self, error: StoreError) -> Option<StoreResult> {
        match self {
            Self::File { key, slot } => {
                drop(slot.take());
                Some(StoreResult::Failed { key, error })
            }
            Self::Block { key, slot, buffer_len } => {
                drop(slot.take());
                // The block memory is given back in full, even if the buffer was lost.
                let buffer = vec![0; buffer_len];
                Some(StoreResult::Written { key, buffer, result: Err(error) })
            }
            Self::Raw { from, bytes, blake3 } => {
                Some(StoreResult::Raw { from, bytes, blake3, result: Err(error) })
            }
            Self::Nothing => None,
        }
    }
}
