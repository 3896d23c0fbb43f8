//! Python's `concurrent.futures.ThreadPoolExecutor`: `submit` gives a future.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crossbeam::queue::SegQueue;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, select};
use siar_core::panics::caught;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs from one queue, first come, first served.
pub(crate) struct ThreadPoolExecutor {
    threads: Result<rayon::ThreadPool, rayon::ThreadPoolBuildError>,
    jobs: Arc<SegQueue<Job>>,
}

/// A job without a result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JobError<E> {
    /// The job's own error.
    #[error("{0}")]
    Failed(E),
    /// It panicked.
    #[error("its thread panicked: {0}")]
    Panicked(String),
    /// It was waited for no longer.
    #[error("{0}")]
    TimedOut(String),
    /// The pool has no threads to run it.
    #[error("cannot start the pool's threads")]
    NoThreads,
}

/// The result of a submitted job, once it is there.
pub(crate) struct JobFuture<T>(oneshot::Receiver<Result<T, String>>);

impl ThreadPoolExecutor {
    /// A pool of `max_workers` threads.
    pub(crate) fn new(max_workers: usize) -> Self {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(max_workers)
            .thread_name(|index| format!("worker-{index}"))
            .build();
        Self { threads, jobs: Arc::default() }
    }

    /// Queues `job`. Its panic becomes its future's error.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JobFuture<T> {
        let (result, future) = oneshot::channel();
        if let Ok(threads) = &self.threads {
            self.jobs.push(Box::new(move || {
                // Nobody may be waiting any more.
                let _ = result.send(caught(job));
            }));
            // rayon promises no order among spawned jobs; the queue does.
            let jobs = Arc::clone(&self.jobs);
            threads.spawn(move || {
                if let Some(job) = jobs.pop() {
                    job();
                }
            });
        }
        JobFuture(future)
    }
}

impl<T> Future for JobFuture<T> {
    type Output = Result<Result<T, String>, oneshot::Canceled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(context)
    }
}

impl<T, E> JobFuture<Result<T, E>> {
    /// Blocks until the result is there, or until `stalled` says why to wait no longer.
    pub(crate) fn result_unless(
        self,
        stalled: impl Future<Output = impl Display> + Unpin,
    ) -> Result<T, JobError<E>> {
        match block_on(select(self, stalled)) {
            Either::Left((Ok(Ok(result)), _)) => result.map_err(JobError::Failed),
            Either::Left((Ok(Err(said)), _)) => Err(JobError::Panicked(said)),
            Either::Left((Err(oneshot::Canceled), _)) => Err(JobError::NoThreads),
            Either::Right((reason, _)) => Err(JobError::TimedOut(reason.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::{pending, ready};
    use std::sync::Mutex;
    use std::time::Duration;

    fn result<T>(future: JobFuture<Result<T, String>>) -> Result<T, JobError<String>> {
        future.result_unless(pending::<String>())
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
        assert_eq!(result(panics), Err(JobError::Panicked("job 7".to_owned())));
        assert_eq!(result(fails), Err(JobError::Failed("no".to_owned())));
        assert_eq!(result(works), Ok(1));
    }

    #[test]
    fn a_job_that_stalls_is_given_up() {
        let pool = ThreadPoolExecutor::new(1);
        let (release, held) = crossbeam::channel::bounded::<()>(0);
        let future = pool.submit(move || Ok::<_, String>(held.recv().is_err()));
        let given_up = future.result_unless(ready("stalled"));
        assert_eq!(given_up, Err(JobError::TimedOut("stalled".to_owned())));
        drop(release);
    }
}
