//! Python's `multiprocessing.Pool`, without its flaw: there, a worker that is killed takes its
//! job's result with it and `get` waits for ever (cpython issue 66587). Here every worker has
//! pipes of its own and a thread that knows which job it has; the end of the pipe is the end
//! of that job, the others are not touched, and the worker is replaced for the next one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use siar_core::event::{Event, Observer, Progress};
use siar_core::worker::{Job, Killer, WorkerError, WorkerProcess};

/// At most `processes` workers, started when there is a job for them.
pub(crate) struct Pool {
    jobs: Option<Sender<Submitted>>,
    queue: Receiver<Submitted>,
    processes: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    idle: Arc<AtomicUsize>,
    activity: Arc<Activity>,
    observer: Arc<dyn Observer>,
}

struct Submitted {
    job: Job,
    state: Arc<JobState>,
    result: Sender<Result<Duration, PoolError>>,
}

/// What is known of one job while it is waited for.
#[derive(Default)]
struct JobState {
    phase: Mutex<JobPhase>,
    activity: Activity,
}

#[derive(Default)]
enum JobPhase {
    #[default]
    Queued,
    Running(Killer),
    Done,
    GivenUp,
}

/// When something last advanced.
struct Activity(Mutex<Instant>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Activity {
    fn touch(&self) {
        *lock(&self.0) = Instant::now();
    }

    fn last(&self) -> Instant {
        *lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A job without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// Its worker failed or was lost.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// It did not advance for the time it was given; its worker was killed.
    #[error("given up: no progress for {0:?} (--timeout)")]
    Timeout(Duration),
    /// No thread can be started to look after a worker.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Python's `AsyncResult`.
pub(crate) struct AsyncResult {
    result: Receiver<Result<Duration, PoolError>>,
    state: Arc<JobState>,
    pool_activity: Arc<Activity>,
}

impl Pool {
    /// A pool without workers yet.
    pub(crate) fn new(processes: usize, observer: Arc<dyn Observer>) -> Self {
        let (jobs, queue) = channel::unbounded();
        Self {
            jobs: Some(jobs),
            queue,
            processes,
            threads: Mutex::default(),
            idle: Arc::default(),
            activity: Arc::default(),
            observer,
        }
    }

    /// Queues `job`, and starts a worker for it if all are busy and more are allowed.
    pub(crate) fn apply_async(&self, job: Job) -> AsyncResult {
        let (sender, result) = channel::bounded(1);
        let state = Arc::new(JobState::default());
        let pool_activity = Arc::clone(&self.activity);
        if let Err(error) = self.ensure_worker() {
            // The channel is empty and its receiver is held here.
            let _ = sender.send(Err(error));
            return AsyncResult { result, state, pool_activity };
        }
        let submitted = Submitted { job, state: Arc::clone(&state), result: sender };
        if let Some(jobs) = &self.jobs {
            // The pool holds a receiver of its own.
            let _ = jobs.send(submitted);
        }
        AsyncResult { result, state, pool_activity }
    }

    fn ensure_worker(&self) -> Result<(), PoolError> {
        let mut threads = lock(&self.threads);
        if threads.len() >= self.processes || self.idle.load(Ordering::Acquire) > self.queue.len() {
            return Ok(());
        }
        let attendant = Attendant {
            queue: self.queue.clone(),
            idle: Arc::clone(&self.idle),
            activity: Arc::clone(&self.activity),
            observer: Arc::clone(&self.observer),
        };
        let name = format!("worker-{}", threads.len());
        match thread::Builder::new().name(name).spawn(move || attendant.run()) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => return Err(PoolError::Thread(error)),
            Err(error) => log::warn!("pool goes on with {} workers: {error}", threads.len()),
        }
        Ok(())
    }
}

impl Drop for Pool {
    /// Lets the queued jobs finish and the workers end.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a pool thread panicked");
            }
        }
    }
}

/// The thread that looks after one worker process, and starts another when it is lost.
struct Attendant {
    queue: Receiver<Submitted>,
    idle: Arc<AtomicUsize>,
    activity: Arc<Activity>,
    observer: Arc<dyn Observer>,
}

impl Attendant {
    fn run(self) {
        let mut worker = None;
        loop {
            self.idle.fetch_add(1, Ordering::AcqRel);
            let submitted = self.queue.recv();
            self.idle.fetch_sub(1, Ordering::AcqRel);
            let Ok(submitted) = submitted else { return };
            let result = self.attend(&mut worker, &submitted);
            self.activity.touch();
            // Nobody may be waiting any more.
            let _ = submitted.result.send(result.map_err(PoolError::from));
        }
    }

    fn attend(
        &self,
        slot: &mut Option<WorkerProcess>,
        submitted: &Submitted,
    ) -> Result<Duration, WorkerError> {
        let mut worker = match slot.take() {
            Some(worker) => worker,
            None => WorkerProcess::spawn()?,
        };
        {
            let mut phase = lock(&submitted.state.phase);
            if matches!(*phase, JobPhase::GivenUp) {
                *slot = Some(worker);
                return Err(WorkerError::Task("given up before it was started".to_owned()));
            }
            *phase = JobPhase::Running(worker.killer());
        }
        submitted.state.activity.touch();
        let listener = Listener {
            job: &submitted.state.activity,
            pool: &self.activity,
            observer: self.observer.as_ref(),
        };
        let result = worker.run(&submitted.job, &listener);
        // The worker's next job must not be killed in the name of this one.
        *lock(&submitted.state.phase) = JobPhase::Done;
        if matches!(result, Ok(_) | Err(WorkerError::Task(_))) {
            *slot = Some(worker);
        }
        result
    }
}

/// Passes on what a worker tells and notes that it is alive.
struct Listener<'a> {
    job: &'a Activity,
    pool: &'a Activity,
    observer: &'a dyn Observer,
}

impl Observer for Listener<'_> {
    fn is_recording(&self) -> bool {
        self.observer.is_recording()
    }

    fn event(&self, event: Event) {
        self.job.touch();
        self.pool.touch();
        self.observer.event(event);
    }

    fn progress(&self, progress: Progress) {
        self.job.touch();
        self.pool.touch();
        self.observer.progress(progress);
    }
}

impl AsyncResult {
    /// Waits for the result, and gives up when the job has not advanced for `timeout`: a job
    /// in the queue has advanced when any of the pool's has.
    pub(crate) fn get(self, timeout: Duration) -> Result<Duration, PoolError> {
        loop {
            let queued = matches!(*lock(&self.state.phase), JobPhase::Queued);
            let activity = if queued { &self.pool_activity } else { &self.state.activity };
            let deadline = activity.last() + timeout;
            match self.result.recv_deadline(deadline) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PoolError::Worker(WorkerError::Task("its pool ended".to_owned())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if activity.last() + timeout <= Instant::now() {
                let mut phase = lock(&self.state.phase);
                if matches!(*phase, JobPhase::Done) {
                    // Its result is on the way.
                    drop(phase);
                    self.state.activity.touch();
                    continue;
                }
                if let JobPhase::Running(killer) = &*phase {
                    killer.kill();
                }
                *phase = JobPhase::GivenUp;
                return Err(PoolError::Timeout(timeout));
            }
        }
    }
}
