//! The writers: threads that decode, write, hash and publish, so that the socket is always drained.

mod inline;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam::channel::{self, Receiver, Sender};
use siar_proto::{AnnouncedFile, ReceivedBlock, TransferKey};

use crate::io::store::Naming;
use inline::{Inline, Quickness};
pub(super) use writer::StoreResult;
use writer::{FileSlot, Job, Writer};

/// The largest number of writers. One writer handles all blocks of a file; more serve more files.
const MAX_THREADS: usize = 4;

/// The function that wakes the thread that takes results.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A session's file, and the writer that has it.
#[derive(Debug)]
pub(super) struct FileHandle {
    key: TransferKey,
    slot: Arc<FileSlot>,
    writer: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Inline,
    Thread(usize),
}

/// The writers' threads; they end when this value is dropped.
pub(super) struct Writers {
    inline: Inline,
    jobs: Vec<Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    results: Sender<StoreResult>,
}

impl Writers {
    /// Starts the threads; `wake` is called after each result.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(
        dir: &Path,
        naming: Naming,
        results: Sender<StoreResult>,
        wake: &Wake,
    ) -> io::Result<Self> {
        let writer = Writer { dir: dir.to_owned(), naming: Arc::new(naming) };
        let count = thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_THREADS);
        let inline = Inline::new(writer.clone());
        let mut writers =
            Self { inline, jobs: Vec::new(), threads: Vec::new(), results: results.clone() };
        for number in 0..count {
            // The channel is unbounded, but the receiver's block memory bounds its content.
            let (jobs, queue) = channel::unbounded();
            let (writer, results, wake) = (writer.clone(), results.clone(), Arc::clone(wake));
            let quickness = writers.inline.quickness();
            let thread = thread::Builder::new()
                .name(format!("writer-{number}"))
                .spawn(move || run(&writer, &queue, &results, &wake, &quickness))?;
            writers.jobs.push(jobs);
            writers.threads.push(thread);
        }
        Ok(writers)
    }

    /// Creates a file of several blocks, or continues it from what is on disk, where `promised`
    /// blocks were found.
    pub(super) fn resume(
        &mut self,
        key: TransferKey,
        file: AnnouncedFile,
        promised: Vec<u32>,
    ) -> FileHandle {
        let slot = Arc::new(FileSlot::default());
        let handle = FileHandle { key, slot: Arc::clone(&slot), writer: self.thread_of(&key) };
        self.submit(&handle, Job::Resume { key, slot, file, promised });
        handle
    }

    /// Creates a file of one block, of `size` bytes.
    pub(super) fn create(&mut self, key: TransferKey, size: u64) -> FileHandle {
        let slot = Arc::new(FileSlot::default());
        let writer =
            if self.inline.is_worth_while() { Place::Inline } else { self.thread_of(&key) };
        let handle = FileHandle { key, slot: Arc::clone(&slot), writer };
        self.submit(&handle, Job::Create { key, slot, size });
        handle
    }

    /// Decodes and writes a block of the file.
    pub(super) fn write(&mut self, file: &FileHandle, block: ReceivedBlock) {
        self.submit(file, Job::Write { key: file.key, slot: Arc::clone(&file.slot), block });
    }

    /// Verifies and publishes the file.
    pub(super) fn publish(&mut self, file: &FileHandle, announced: AnnouncedFile) {
        let slot = Arc::clone(&file.slot);
        self.submit(file, Job::Publish { key: file.key, slot, file: announced });
    }

    /// Removes the file. Jobs that are queued for it do nothing any more.
    pub(super) fn discard(&mut self, file: FileHandle) {
        file.slot.discard();
        self.submit(&file, Job::Discard { slot: Arc::clone(&file.slot) });
    }

    /// Leaves what has come of the file on disk, after the jobs that are queued for it, so that a
    /// later transfer can continue it. A file that cannot be continued is removed.
    pub(super) fn leave(&mut self, file: FileHandle) {
        self.submit(&file, Job::Leave { slot: Arc::clone(&file.slot) });
    }

    /// Writes and publishes a raw file.
    pub(super) fn publish_raw(&self, from: SocketAddr, bytes: Vec<u8>) {
        self.send(self.thread_of(&from), Job::Raw { from, bytes });
    }

    /// Completes the jobs that were done inline since the last call; their results are available
    /// then.
    pub(super) fn sync(&mut self) {
        for result in self.inline.sync() {
            self.tell(result);
        }
    }

    /// Waits until every job is done; later jobs are dropped.
    pub(super) fn stop(&mut self) {
        self.sync();
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a writer thread panicked");
            }
        }
    }

    fn submit(&mut self, file: &FileHandle, job: Job) {
        match file.writer {
            Place::Inline => {
                if let Some(result) = self.inline.perform(job) {
                    self.tell(result);
                }
            }
            place @ Place::Thread(_) => self.send(place, job),
        }
    }

    fn thread_of(&self, key: &impl Hash) -> Place {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Place::Thread(hasher.finish() as usize % self.jobs.len().max(1))
    }

    fn send(&self, place: Place, job: Job) {
        if let Place::Thread(index) = place
            && let Some(jobs) = self.jobs.get(index)
        {
            // A writer ends only when `Writers` is stopped.
            let _ = jobs.send(job);
        }
    }

    fn tell(&self, result: StoreResult) {
        // The receiver of the results lives as long as the writers.
        let _ = self.results.send(result);
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(
    writer: &Writer,
    queue: &Receiver<Job>,
    results: &Sender<StoreResult>,
    wake: &Wake,
    quickness: &Quickness,
) {
    for job in queue {
        let started = Instant::now();
        let result = match writer.perform(job) {
            Some(StoreResult::Published { key, result }) => {
                let synced = |published| match writer.sync() {
                    Ok(()) => Ok(published),
                    Err(error) => Err(writer.folder_error(error)),
                };
                let result = result.and_then(synced);
                quickness.note(started.elapsed());
                Some(StoreResult::Published { key, result })
            }
            result => result,
        };
        if let Some(result) = result {
            if results.send(result).is_err() {
                return;
            }
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use siar_proto::BlockLayout;
    use siar_proto::wire::TransferId;

    use super::*;

    fn empty_file() -> AnnouncedFile {
        AnnouncedFile {
            from: std::net::SocketAddr::from(([192, 0, 2, 1], 40_000)).into(),
            name: "empty".to_owned(),
            size: 0,
            blake3: *blake3::hash(b"").as_bytes(),
            announced_ms: 0,
            layout: BlockLayout::new(0, 64, 16).unwrap(),
        }
    }

    fn writers(dir: &Path) -> (Writers, Receiver<StoreResult>) {
        let (results, finished) = channel::unbounded();
        let wake: Wake = Arc::new(|| ());
        (Writers::start(dir, Naming::original(), results, &wake).unwrap(), finished)
    }

    fn key(number: u64) -> TransferKey {
        (SocketAddr::from(([127, 0, 0, 1], 1)).into(), TransferId(number))
    }

    fn store(writers: &mut Writers, number: u64) -> TransferKey {
        let file = writers.create(key(number), 0);
        writers.publish(&file, empty_file());
        key(number)
    }

    #[test]
    fn files_that_are_published_inline_are_told_of_when_their_folder_is_synced() {
        for is_there in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            let keys = [1, 2, 3].map(|number| {
                // The file before may have been slow.
                writers.inline.set_worth_while(true);
                store(&mut writers, number)
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
    fn a_small_file_is_published_by_a_thread_or_inline() {
        for inline in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            writers.inline.set_worth_while(inline);
            let key = store(&mut writers, 1);
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
        for inline in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            dir.close().unwrap();
            writers.inline.set_worth_while(inline);
            let key = store(&mut writers, 1);
            writers.stop();
            let StoreResult::Failed { key: of, error } = finished.try_recv().unwrap() else {
                panic!("did not fail");
            };
            assert_eq!(of, key);
            assert!(matches!(error, crate::io::store::StoreError::Io { .. }), "{error}");
            assert!(finished.try_recv().is_err());
        }
    }

    #[test]
    fn a_panic_in_a_writer_fails_its_file_and_no_other() {
        for inline in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writers, finished) = writers(dir.path());
            writers.inline.set_worth_while(inline);
            let file = writers.create(key(1), 0);
            writers.submit(&file, Job::Panic { key: key(1), slot: Arc::clone(&file.slot) });
            writers.publish(&file, empty_file());
            let other = store(&mut writers, 2);
            writers.stop();
            let mut published = Vec::new();
            for result in finished.try_iter() {
                match result {
                    StoreResult::Failed { key: of, error } => {
                        assert_eq!(of, key(1));
                        assert!(error.to_string().contains("panicked: of a test"), "{error}");
                    }
                    StoreResult::Published { key, .. } => published.push(key),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(published, [other]);
        }
    }

    #[test]
    fn nothing_is_left_of_a_discarded_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writers, finished) = writers(dir.path());
        let file = writers.create(key(1), 0);
        let slot = Arc::clone(&file.slot);
        writers.publish(&file, empty_file());
        writers.discard(file);
        writers.stop();
        drop(finished);
        assert_eq!(Arc::strong_count(&slot), 1);
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        // The name may have been published before.
        assert!(names.iter().all(|name| name.as_ref().unwrap().file_name() == "empty"));
    }
}
