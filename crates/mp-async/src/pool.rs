//! Python's `multiprocessing.Pool` without its flaw: in Python, a worker that is killed takes its
//! job's result with it, and `get` waits for ever (cpython issue 66587). Here every worker has
//! pipes of its own and a thread that knows the worker's job. The end of the pipe ends only that
//! job, and the worker is replaced for the next job.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use siar_core::client::activity::{TaskTimeout, TimedOut};
use siar_core::client::worker::{Job, Killer, WorkerError, WorkerProcess};
use siar_core::event::Observer;
use siar_core::lock::lock;

/// The function that starts a worker process.
type StartWorker = fn() -> Result<WorkerProcess, WorkerError>;

/// A pool of at most `processes` workers, which are started when there is a job for them.
pub(crate) struct Pool {
    jobs: Option<Sender<Submitted>>,
    queue: Receiver<Submitted>,
    processes: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    idle: Arc<AtomicUsize>,
    start_worker: StartWorker,
    observer: Arc<dyn Observer>,
    /// Whether a warning was logged that no more threads can be started.
    has_warned: AtomicBool,
}

struct Submitted {
    job: Job,
    phase: Arc<Mutex<JobPhase>>,
    result: Sender<Result<Duration, PoolError>>,
}

/// The phase of a job whose result is waited for.
#[derive(Default)]
enum JobPhase {
    #[default]
    Queued,
    Running(Killer),
    Done,
    GivenUp,
}

/// The reason why a job has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// The job's worker failed or was lost.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The job did not advance for the timeout; its worker was killed.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// No thread can be started to attend to a worker.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Python's `AsyncResult`.
pub(crate) struct AsyncResult {
    result: Receiver<Result<Duration, PoolError>>,
    phase: Arc<Mutex<JobPhase>>,
}

impl Pool {
    /// Makes a pool without workers.
    pub(crate) fn new(processes: usize, observer: Arc<dyn Observer>) -> Self {
        Self::with_workers(processes, observer, WorkerProcess::spawn)
    }

    fn with_workers(
        processes: usize,
        observer: Arc<dyn Observer>,
        start_worker: StartWorker,
    ) -> Self {
        let (jobs, queue) = channel::unbounded();
        Self {
            jobs: Some(jobs),
            queue,
            processes,
            threads: Mutex::default(),
            idle: Arc::default(),
            start_worker,
            observer,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Queues `job`, and starts a worker for it if all workers are busy and one more is allowed.
    pub(crate) fn apply_async(&self, job: Job) -> AsyncResult {
        let (sender, result) = channel::bounded(1);
        let phase = Arc::default();
        if let Err(error) = self.ensure_worker() {
            // The channel is empty, and its receiver is still held here.
            let _ = sender.send(Err(error));
            return AsyncResult { result, phase };
        }
        let submitted = Submitted { job, phase: Arc::clone(&phase), result: sender };
        if let Some(jobs) = &self.jobs {
            // The pool holds a receiver of its own, so that the queue is open.
            let _ = jobs.send(submitted);
        }
        AsyncResult { result, phase }
    }

    fn ensure_worker(&self) -> Result<(), PoolError> {
        let mut threads = lock(&self.threads);
        if threads.len() >= self.processes || self.idle.load(Ordering::Acquire) > self.queue.len() {
            return Ok(());
        }
        let attendant = Attendant {
            queue: self.queue.clone(),
            idle: Arc::clone(&self.idle),
            start_worker: self.start_worker,
            observer: Arc::clone(&self.observer),
        };
        let name = format!("worker-{}", threads.len());
        match thread::Builder::new().name(name).spawn(move || attendant.run()) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => return Err(PoolError::Thread(error)),
            Err(error) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    log::warn!("pool goes on with {} workers: {error}", threads.len());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Pool {
    /// Waits until the queued jobs are finished and the workers have ended.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a pool thread panicked");
            }
        }
    }
}

/// The thread that attends to one worker process, and replaces the worker when it is lost.
struct Attendant {
    queue: Receiver<Submitted>,
    idle: Arc<AtomicUsize>,
    start_worker: StartWorker,
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
            // The caller may no longer wait for the result.
            let _ = submitted.result.send(result.map_err(PoolError::from));
        }
    }

    /// Runs the job on the present worker or on a new one. A worker that died while it was idle
    /// costs no job.
    fn attend(
        &self,
        slot: &mut Option<WorkerProcess>,
        submitted: &Submitted,
    ) -> Result<Duration, WorkerError> {
        let was_idle = slot.is_some();
        let result = match self.attempt(slot, submitted) {
            Err(WorkerError::Lost { has_begun: false, .. }) if was_idle => {
                self.attempt(slot, submitted)
            }
            result => result,
        };
        let mut phase = lock(&submitted.phase);
        if !matches!(*phase, JobPhase::GivenUp) {
            *phase = JobPhase::Done;
        }
        drop(phase);
        result
    }

    fn attempt(
        &self,
        slot: &mut Option<WorkerProcess>,
        submitted: &Submitted,
    ) -> Result<Duration, WorkerError> {
        let mut worker = match slot.take() {
            Some(worker) => worker,
            None => (self.start_worker)()?,
        };
        {
            let mut phase = lock(&submitted.phase);
            if matches!(*phase, JobPhase::GivenUp) {
                *slot = Some(worker);
                return Err(WorkerError::Task("given up before it was started".to_owned()));
            }
            *phase = JobPhase::Running(worker.killer());
        }
        let result = worker.run(&submitted.job, self.observer.as_ref());
        if matches!(result, Ok(_) | Err(WorkerError::Task(_))) {
            *slot = Some(worker);
        }
        result
    }
}

impl AsyncResult {
    /// Waits for the result. If the job does not advance for the timeout, gives up and kills the
    /// worker.
    pub(crate) fn get(self, timeout: &TaskTimeout) -> Result<Duration, PoolError> {
        let ended = || Err(PoolError::Worker(WorkerError::Task("its pool ended".to_owned())));
        let received = timeout.wait(|deadline| match self.result.recv_deadline(deadline) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Disconnected) => Some(ended()),
            Err(RecvTimeoutError::Timeout) => None,
        });
        let timed_out = match received {
            Ok(result) => return result,
            Err(timed_out) => timed_out,
        };
        let mut phase = lock(&self.phase);
        match &*phase {
            JobPhase::Done => {
                // The result is on the way, from a thread that may need the phase.
                drop(phase);
                return self.result.recv().unwrap_or_else(|_| ended());
            }
            JobPhase::Running(killer) => killer.kill(),
            JobPhase::Queued | JobPhase::GivenUp => {}
        }
        *phase = JobPhase::GivenUp;
        Err(timed_out.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Instant;

    use siar_core::client::activity::Activity;
    use siar_core::client::task::TaskConfig;
    use siar_core::client::urls::Task;
    use siar_core::event::{Event, Progress, Style};
    use siar_core::face::options::ClientOptions;

    use super::*;

    /// A worker in shell script: the URL of a task says how its job ends.
    const WORKER: &str = r#"
begin() { printf '{"Progress":{"task":"t","phase":"waiting","done":1,"total":1}}\n'; }
while read -r job; do
    case $job in
    # Without the pipes, which would outlive this shell.
    *'"sleep'*) begin; number=${job#*'"sleep'}; number=${number%%'"'*}
        sleep "$number" </dev/null >/dev/null 2>&1 & wait $!;;
    *'"fail"'*) printf '{"Failed":"no such file"}\n'; continue;;
    *'"die"'*) begin; echo 'out of memory' >&2; kill -9 $$;;
    *'"die later"'*) printf '{"Finished":{"secs":0,"nanos":0}}\n'; kill -9 $$;;
    *'"nonsense"'*) echo nonsense; continue;;
    esac
    printf '{"Finished":{"secs":%d,"nanos":0}}\n' "$$"
done
"#;

    struct Quiet;

    impl Observer for Quiet {
        fn is_recording(&self) -> bool {
            false
        }

        fn event(&self, _: Event) {}

        fn progress(&self, _: Progress) {}
    }

    fn start_worker() -> Result<WorkerProcess, WorkerError> {
        let mut command = Command::new("sh");
        command.args(["-c", WORKER]);
        WorkerProcess::spawn_command(command)
    }

    fn pool(processes: usize) -> Pool {
        Pool::with_workers(processes, Arc::new(Quiet), start_worker)
    }

    fn config() -> TaskConfig {
        use clap::Parser;
        ClientOptions::parse_from(["mp-async"]).task_config(1, false)
    }

    fn job(url: &str) -> Job {
        let task = Task::new("t", url);
        Job::new(Style::MpAsync, task, config(), false)
    }

    fn timeout(millis: u64) -> TaskTimeout {
        TaskTimeout::new(Arc::new(Activity::default()), "t", Duration::from_millis(millis))
    }

    const LONG: u64 = 60_000;

    /// Returns the id of the process that did the job; this worker returns it as the job's time.
    fn process(result: AsyncResult) -> u64 {
        result.get(&timeout(LONG)).unwrap().as_secs()
    }

    #[test]
    fn results_belong_to_their_jobs_whatever_the_order_of_their_ends() {
        for processes in [1, 2, 5, 13] {
            let pool = pool(processes);
            let urls = ["sleep0.2", "works", "fail", "sleep0.1", "works"];
            let results = urls.map(|url| (url, pool.apply_async(job(url))));
            for (url, result) in results {
                let result = result.get(&timeout(LONG));
                assert_eq!(result.is_err(), url == "fail", "{url}: {result:?}");
            }
        }
    }

    #[test]
    fn a_worker_does_one_job_after_the_other_and_its_failure_costs_one() {
        let pool = pool(1);
        let first = process(pool.apply_async(job("works")));
        let error = pool.apply_async(job("fail")).get(&timeout(LONG)).unwrap_err();
        assert_eq!(error.to_string(), "no such file");
        assert_eq!(process(pool.apply_async(job("works"))), first);
        let error = pool.apply_async(job("nonsense")).get(&timeout(LONG)).unwrap_err();
        assert!(matches!(error, PoolError::Worker(WorkerError::Protocol { .. })), "{error}");
        assert_ne!(process(pool.apply_async(job("works"))), first);
    }

    #[test]
    fn a_worker_that_is_killed_in_a_job_costs_that_job_alone() {
        for processes in [1, 2, 5, 13] {
            let pool = pool(processes);
            let killed = pool.apply_async(job("die"));
            let others: Vec<_> = (0..5).map(|_| pool.apply_async(job("works"))).collect();
            let error = killed.get(&timeout(LONG)).unwrap_err().to_string();
            assert!(
                error.contains("killed by SIGKILL") && error.contains("out of memory"),
                "{error}"
            );
            others.into_iter().for_each(|other| _ = process(other));
        }
    }

    #[test]
    fn a_worker_that_dies_while_it_is_idle_costs_no_job() {
        let pool = pool(1);
        for _ in 0..5 {
            process(pool.apply_async(job("works")));
            process(pool.apply_async(job("die later")));
            // One job follows at once on a death, another one after the death can be noticed.
            process(pool.apply_async(job("works")));
            process(pool.apply_async(job("die later")));
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_job_that_stands_still_is_given_up_and_its_worker_killed() {
        let pool = pool(1);
        let started = Instant::now();
        let stands_still = pool.apply_async(job("sleep5"));
        let queued = pool.apply_async(job("works"));
        thread::sleep(Duration::from_millis(100));
        let error = stands_still.get(&timeout(50)).unwrap_err();
        assert!(matches!(error, PoolError::TimedOut(_)), "{error}");
        process(queued);
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn a_job_that_is_given_up_in_the_queue_is_not_done() {
        let pool = pool(1);
        let busy = pool.apply_async(job("sleep0.5"));
        let queued = pool.apply_async(job("die"));
        assert!(matches!(queued.get(&timeout(50)), Err(PoolError::TimedOut(_))));
        let worker = process(busy);
        assert_eq!(process(pool.apply_async(job("works"))), worker);
    }

    #[test]
    fn a_job_can_be_given_up_while_its_dead_worker_is_replaced() {
        fn start_slowly() -> Result<WorkerProcess, WorkerError> {
            thread::sleep(Duration::from_millis(200));
            start_worker()
        }
        let (done, ended) = channel::bounded(1);
        thread::spawn(move || {
            let pool = Pool::with_workers(1, Arc::new(Quiet), start_slowly);
            for _ in 0..3 {
                process(pool.apply_async(job("die later")));
                thread::sleep(Duration::from_millis(50));
                let given_up = pool.apply_async(job("works")).get(&timeout(50));
                assert!(matches!(given_up, Err(PoolError::TimedOut(_))), "{given_up:?}");
                process(pool.apply_async(job("works")));
            }
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    #[test]
    fn no_worker_outlives_its_pool() {
        let pool = pool(3);
        let results = [(); 3].map(|()| pool.apply_async(job("sleep0.1")));
        let workers = results.map(process);
        drop(pool);
        for worker in workers {
            assert!(!Path::new(&format!("/proc/{worker}")).exists());
        }
    }
}
