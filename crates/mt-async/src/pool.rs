//! Python's `concurrent.futures.ThreadPoolExecutor`: `submit` returns a future.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Instant;

use crossbeam::queue::SegQueue;
use futures::FutureExt;
use futures::channel::oneshot;
use siar_core::client::activity::{TaskTimeout, TimedOut};
use siar_core::panics::caught;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs from one queue, first come, first served.
pub(crate) struct ThreadPoolExecutor {
    threads: Result<rayon::ThreadPool, Arc<rayon::ThreadPoolBuildError>>,
    jobs: Arc<SegQueue<Job>>,
}

/// The reason why a job has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError<E> {
    /// The job returned an error.
    #[error("{0}")]
    Failed(E),
    /// The job panicked.
    #[error("its thread panicked: {0}")]
    Panicked(String),
    /// The job did not advance for the timeout.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The pool's threads could not be started.
    #[error("cannot start the pool's threads: {0}")]
    NoThreads(#[source] Arc<rayon::ThreadPoolBuildError>),
    /// The pool ended before the job began.
    #[error("its pool ended")]
    Cancelled,
}

/// Python's `Future`: the result of a submitted job, once it is available.
pub(crate) struct JobFuture<T>(Result<Submitted<T>, Arc<rayon::ThreadPoolBuildError>>);

/// The receiver of a job's result, or of the message of its panic.
type Submitted<T> = oneshot::Receiver<Result<T, String>>;

impl ThreadPoolExecutor {
    /// Makes a pool of `max_workers` threads.
    pub(crate) fn new(max_workers: usize) -> Self {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(max_workers)
            .thread_name(|index| format!("worker-{index}"))
            .build()
            .map_err(Arc::new);
        Self { threads, jobs: Arc::default() }
    }

    /// Queues `job`. A panic of the job becomes the error of its future.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JobFuture<T> {
        let threads = match &self.threads {
            Ok(threads) => threads,
            Err(error) => return JobFuture(Err(Arc::clone(error))),
        };
        let (result, submitted) = oneshot::channel();
        self.jobs.push(Box::new(move || {
            // The caller may no longer wait for the result.
            let _ = result.send(caught(job));
        }));
        // rayon does not start spawned jobs in order; the queue does.
        let jobs = Arc::clone(&self.jobs);
        threads.spawn(move || {
            if let Some(job) = jobs.pop() {
                job();
            }
        });
        JobFuture(Ok(submitted))
    }
}

impl<T, E> JobFuture<Result<T, E>> {
    /// Waits until the result is available, or until the job has not advanced for the timeout.
    pub(crate) fn result(self, timeout: &TaskTimeout) -> Result<T, JobError<E>> {
        let mut submitted = self.0.map_err(JobError::NoThreads)?;
        match timeout.wait(|deadline| block_on_until(&mut submitted, deadline))? {
            Ok(Ok(result)) => result.map_err(JobError::Failed),
            Ok(Err(said)) => Err(JobError::Panicked(said)),
            Err(oneshot::Canceled) => Err(JobError::Cancelled),
        }
    }
}

/// Does the same as `futures::executor::block_on`, but stops at `deadline`.
fn block_on_until<F: Future + Unpin>(future: &mut F, deadline: Instant) -> Option<F::Output> {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll_unpin(&mut context) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siar_core::client::activity::Activity;
    use std::sync::Mutex;
    use std::time::Duration;

    fn timeout(timeout: Duration) -> TaskTimeout {
        TaskTimeout::new(Arc::new(Activity::default()), "a task", timeout)
    }

    fn result<T>(future: JobFuture<Result<T, String>>) -> Result<T, JobError<String>> {
        future.result(&timeout(Duration::from_secs(60)))
    }

    #[test]
    fn results_come_in_submission_order_whatever_the_jobs_order() {
        for workers in [1, 2, 5, 13] {
            let pool = ThreadPoolExecutor::new(workers);
            let futures: Vec<_> = (0..20u64)
                .map(|number| {
                    pool.submit(move || {
                        std::thread::sleep(Duration::from_millis(20 - number));
                        Ok(number)
                    })
                })
                .collect();
            let results: Vec<_> =
                futures.into_iter().map(|future| result(future).unwrap()).collect();
            assert_eq!(results, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn jobs_start_in_submission_order() {
        let pool = ThreadPoolExecutor::new(1);
        let started = Arc::new(Mutex::new(Vec::new()));
        let futures: Vec<_> = (0..50)
            .map(|number| {
                let started = Arc::clone(&started);
                pool.submit(move || {
                    started.lock().unwrap().push(number);
                    Ok(())
                })
            })
            .collect();
        futures.into_iter().for_each(|future| result(future).unwrap());
        assert_eq!(*started.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_or_an_error_costs_only_its_own_job() {
        let pool = ThreadPoolExecutor::new(1);
        let panics = pool.submit(|| -> Result<(), String> { panic!("job {}", 7) });
        let fails = pool.submit(|| Err::<(), _>("no".to_owned()));
        let works = pool.submit(|| Ok(1));
        assert!(matches!(result(panics), Err(JobError::Panicked(said)) if said == "job 7"));
        assert!(matches!(result(fails), Err(JobError::Failed(error)) if error == "no"));
        assert_eq!(result(works).unwrap(), 1);
    }

    #[test]
    fn a_job_that_stalls_is_given_up() {
        let pool = ThreadPoolExecutor::new(1);
        let (release, held) = crossbeam::channel::bounded::<()>(0);
        let future = pool.submit(move || Ok::<_, String>(held.recv().is_err()));
        let given_up = future.result(&timeout(Duration::from_millis(20)));
        assert!(matches!(given_up, Err(JobError::TimedOut(_))));
        drop(release);
    }

    #[test]
    fn a_pool_without_threads_says_why() {
        // The system cannot provide a stack of half the address space.
        let builder = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(1 << 46);
        let threads = builder.build().map_err(Arc::new);
        let pool = ThreadPoolExecutor { threads, jobs: Arc::default() };
        let error = result(pool.submit(|| Ok(()))).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot start the pool's threads: ") && error.len() > 40,
            "{error}"
        );
    }
}
