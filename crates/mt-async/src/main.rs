//! A pool of threads whose results are futures: the seed's `multi_thread_async.py`.

mod pool;

use std::process::ExitCode;

use pool::ThreadPoolExecutor;
use siar_core::event::Style;
use siar_core::run::{Run, run_client};
use siar_core::task::download_and_broadcast;

fn main() -> ExitCode {
    run_client(Style::MtAsync, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let executor = ThreadPoolExecutor::new(run.worker_count());
    let mut futures = Vec::new();
    for task in run.tasks() {
        let (url, config, voice) = (task.url.clone(), run.config(), run.voice(task));
        let future = executor.submit(move || download_and_broadcast(&url, &config, &voice));
        futures.push((task, future));
    }

    for (task, future) in futures {
        let stalled = run.stalled(task);
        run.collect(task, future.result_unless(stalled));
    }
}
