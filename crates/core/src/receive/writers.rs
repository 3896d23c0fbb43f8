//! Threads that decode, write, hash and publish, so that the socket is always drained.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};

use crate::net::{ReceiveSocket, Wakeup};
use crate::protocol::{AnnouncedFile, ReceivedBlock, TransferKey};
use crate::store::{IncomingFile, Naming, PublishedFile, StoreError, sync_dir};

/// One file's pieces are all handled by one thread; more threads serve more files at once.
const MAX_THREADS: usize = 4;
/// What takes no longer is not worth the changes of context that a thread costs.
const AT_ONCE: Duration = Duration::from_micros(200);

pub(super) enum StoreJob {
    Open { key: TransferKey, file: IncomingFile },
    Create { key: TransferKey, size: u64 },
    Block { key: TransferKey, block: ReceivedBlock },
    Finish { key: TransferKey, file: AnnouncedFile },
    Discard { key: TransferKey },
}

pub(super) enum StoreResult {
    Failed {
        key: TransferKey,
        error: StoreError,
    },
    Written {
        key: TransferKey,
        buffer: Vec<u8>,
        result: Result<(), StoreError>,
    },
    Published {
        key: TransferKey,
        result: Result<PublishedFile, StoreError>,
    },
    Raw {
        from: SocketAddr,
        bytes: usize,
        blake3: blake3::Hash,
        result: Result<PathBuf, StoreError>,
    },
}

enum Job {
    Store(StoreJob),
    Raw { from: SocketAddr, bytes: Vec<u8> },
}

/// The threads' jobs; they end when this is dropped. Where the file system has just published a
/// file at once, a small one is not handed to a thread.
pub(super) struct Writers {
    own: Writer,
    /// What the own writer has published since the folder was synced.
    unsynced: Vec<(TransferKey, PublishedFile)>,
    jobs: Vec<Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    results: Sender<StoreResult>,
}

struct Writer {
    dir: PathBuf,
    naming: Arc<Naming>,
    files: HashMap<TransferKey, IncomingFile>,
    /// Set by a thread whose latest file was; cleared by whatever took longer.
    is_published_at_once: Arc<AtomicBool>,
}

impl Writers {
    pub(super) fn start(
        dir: &Path,
        naming: Naming,
        socket: &ReceiveSocket,
        results: Sender<StoreResult>,
    ) -> io::Result<Self> {
        let (naming, is_published_at_once) = (Arc::new(naming), Arc::default());
        let writer = || Writer {
            dir: dir.to_owned(),
            naming: Arc::clone(&naming),
            files: HashMap::new(),
            is_published_at_once: Arc::clone(&is_published_at_once),
        };
        let count = thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_THREADS);
        let mut writers = Self {
            own: writer(),
            unsynced: Vec::new(),
            jobs: Vec::new(),
            threads: Vec::new(),
            results: results.clone(),
        };
        for number in 0..count {
            // Unbounded, but what is in it is bounded by the receiver's block memory.
            let (jobs, queue) = channel::unbounded();
            let (writer, results, wakeup) = (writer(), results.clone(), socket.wakeup()?);
            let thread = thread::Builder::new()
                .name(format!("writer-{number}"))
                .spawn(move || writer.run(&queue, &results, &wakeup))?;
            writers.jobs.push(jobs);
            writers.threads.push(thread);
        }
        Ok(writers)
    }

    /// The result of what is done at once can be received after [`Self::sync`].
    pub(super) fn submit(&mut self, job: StoreJob) {
        let (StoreJob::Open { key, .. }
        | StoreJob::Create { key, .. }
        | StoreJob::Block { key, .. }
        | StoreJob::Finish { key, .. }
        | StoreJob::Discard { key }) = &job;
        let is_small = matches!(job, StoreJob::Create { .. });
        if is_small && self.own.is_published_at_once.load(Ordering::Relaxed)
            || self.own.files.contains_key(key)
        {
            match self.own.store(job) {
                Some(StoreResult::Published { key, result: Ok(published) }) => {
                    self.unsynced.push((key, published));
                }
                Some(result) => self.tell(result),
                None => {}
            }
        } else {
            self.send(&key.clone(), Job::Store(job));
        }
    }

    /// Completes what was done at once since the last call: files that came together share one
    /// sync of their folder.
    pub(super) fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        let synced = self.own.sync();
        for (key, published) in std::mem::take(&mut self.unsynced) {
            let result = match &synced {
                Ok(()) => Ok(published),
                // To sync again would not tell: the kernel tells of an error once.
                Err(error) => {
                    let error = io::Error::new(error.kind(), error.to_string());
                    Err(StoreError::Io { path: self.own.dir.clone(), error })
                }
            };
            self.tell(StoreResult::Published { key, result });
        }
    }

    fn tell(&self, result: StoreResult) {
        // Who receives it lives as long as this.
        let _ = self.results.send(result);
    }

    pub(super) fn submit_raw(&self, from: SocketAddr, bytes: Vec<u8>) {
        self.send(&from, Job::Raw { from, bytes });
    }

    fn send(&self, to: &impl Hash, job: Job) {
        let mut hasher = DefaultHasher::new();
        to.hash(&mut hasher);
        let index = hasher.finish() as usize % self.jobs.len().max(1);
        if let Some(jobs) = self.jobs.get(index) {
            // A writer ends only when this is stopped.
            let _ = jobs.send(job);
        }
    }
}

impl Writers {
    /// Waits until every job is done; further ones are dropped.
    pub(super) fn stop(&mut self) {
        self.sync();
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a writer thread panicked");
            }
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Writer {
    fn run(mut self, queue: &Receiver<Job>, results: &Sender<StoreResult>, wakeup: &Wakeup) {
        for job in queue {
            let result = match job {
                Job::Store(job) => self.store_durably(job),
                Job::Raw { from, bytes } => Some(self.publish_raw(from, &bytes)),
            };
            if let Some(result) = result {
                if results.send(result).is_err() {
                    return;
                }
                wakeup.wake();
            }
        }
    }

    fn store_durably(&mut self, job: StoreJob) -> Option<StoreResult> {
        let started = Instant::now();
        match self.store(job) {
            Some(StoreResult::Published { key, result }) => {
                let result = result.and_then(|published| self.synced(published));
                self.is_published_at_once.store(started.elapsed() < AT_ONCE, Ordering::Relaxed);
                Some(StoreResult::Published { key, result })
            }
            result => result,
        }
    }

    /// That a file is published may be told once the folder is synced.
    fn store(&mut self, job: StoreJob) -> Option<StoreResult> {
        match job {
            StoreJob::Open { key, file } => {
                self.files.insert(key, file);
                None
            }
            StoreJob::Create { key, size } => match IncomingFile::create(&self.dir, size) {
                Ok(file) => {
                    self.files.insert(key, file);
                    None
                }
                Err(error) => Some(StoreResult::Failed { key, error }),
            },
            StoreJob::Block { key, block } => {
                let (number, offset) = (block.block, block.offset);
                let (buffer, len) = match block.decode() {
                    Ok(decoded) => decoded,
                    Err(error) => {
                        self.files.remove(&key);
                        let error = io::Error::other(error);
                        let result = Err(StoreError::Io { path: self.dir.clone(), error });
                        return Some(StoreResult::Written { key, buffer: Vec::new(), result });
                    }
                };
                // Of a discarded file only the buffer is of interest.
                let file = self.files.get_mut(&key);
                let result =
                    file.map_or(Ok(()), |file| file.write_block(number, offset, &buffer[..len]));
                if result.is_err() {
                    // Its end may be queued already: it must not be published.
                    self.files.remove(&key);
                }
                Some(StoreResult::Written { key, buffer, result })
            }
            StoreJob::Finish { key, file: announced } => {
                let file = self.files.remove(&key)?;
                let started = Instant::now();
                let result = file.publish(announced.blake3, Some(&announced.name), &self.naming);
                self.note_time_since(started);
                Some(StoreResult::Published { key, result })
            }
            StoreJob::Discard { key } => {
                self.files.remove(&key);
                None
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let started = Instant::now();
        let result = sync_dir(&self.dir);
        self.note_time_since(started);
        result
    }

    fn note_time_since(&self, started: Instant) {
        if started.elapsed() >= AT_ONCE {
            self.is_published_at_once.store(false, Ordering::Relaxed);
        }
    }

    fn synced(&self, published: PublishedFile) -> Result<PublishedFile, StoreError> {
        let synced = self.sync().map(|()| published);
        synced.map_err(|error| StoreError::Io { path: self.dir.clone(), error })
    }

    /// The seed's format has no names: such files are numbered as the seed numbers them.
    fn publish_raw(&self, from: SocketAddr, bytes: &[u8]) -> StoreResult {
        let blake3 = blake3::hash(bytes);
        let publish = || {
            let mut file = IncomingFile::create(&self.dir, bytes.len() as u64)?;
            file.write_at(0, bytes)?;
            let published = file.publish(*blake3.as_bytes(), None, &self.naming)?;
            Ok(self.synced(published)?.path)
        };
        StoreResult::Raw { from, bytes: bytes.len(), blake3, result: publish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::BlockLayout;
    use crate::wire::TransferId;

    fn empty_file() -> AnnouncedFile {
        AnnouncedFile {
            name: "empty".to_owned(),
            size: 0,
            blake3: *blake3::hash(b"").as_bytes(),
            announced_ms: 0,
            layout: BlockLayout::new(0, 64, 16).unwrap(),
        }
    }

    fn writers(dir: &Path) -> (Writers, Receiver<StoreResult>) {
        let socket = ReceiveSocket::bind("127.0.0.1:0".parse().unwrap(), &[], None).unwrap();
        let (results, finished) = channel::unbounded();
        (Writers::start(dir, Naming::original(), &socket, results).unwrap(), finished)
    }

    fn submit(writers: &mut Writers, number: u64) -> TransferKey {
        let key = ("127.0.0.1:1".parse().unwrap(), TransferId(number));
        writers.submit(StoreJob::Create { key, size: 0 });
        writers.submit(StoreJob::Finish { key, file: empty_file() });
        key
    }

    fn store(writers: &mut Writers) -> TransferKey {
        let key = submit(writers, 1);
        writers.sync();
        key
    }

    #[test]
    fn files_that_are_published_at_once_are_told_of_when_their_folder_is_synced() {
        for is_there in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            let keys = [1, 2, 3].map(|number| {
                // However long the one before took.
                writers.own.is_published_at_once.store(true, Ordering::Relaxed);
                submit(&mut writers, number)
            });
            assert!(finished.try_recv().is_err());
            if !is_there {
                dir.close().unwrap();
            }
            writers.sync();
            for expected in keys {
                let StoreResult::Published { key, result } = finished.try_recv().unwrap() else {
                    panic!("not published");
                };
                assert_eq!((key, result.is_ok()), (expected, is_there));
            }
            assert!(finished.try_recv().is_err());
        }
    }

    #[test]
    fn a_small_file_is_published_by_a_thread_or_at_once() {
        for at_once in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            writers.own.is_published_at_once.store(at_once, Ordering::Relaxed);
            let key = submit(&mut writers, 1);
            assert_eq!(writers.unsynced.len(), usize::from(at_once));
            writers.stop();
            let StoreResult::Published { key: of, result } = finished.try_recv().unwrap() else {
                panic!("not published");
            };
            assert_eq!((of, result.unwrap().path), (key, dir.path().join("empty")));
            assert!(finished.try_recv().is_err());
        }
    }

    #[test]
    fn a_small_file_that_cannot_be_created_fails_once_wherever_it_is_stored() {
        for at_once in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            dir.close().unwrap();
            writers.own.is_published_at_once.store(at_once, Ordering::Relaxed);
            let key = store(&mut writers);
            writers.stop();
            let StoreResult::Failed { key: of, error } = finished.try_recv().unwrap() else {
                panic!("did not fail");
            };
            assert_eq!(of, key);
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
            assert!(finished.try_recv().is_err());
        }
    }
}
