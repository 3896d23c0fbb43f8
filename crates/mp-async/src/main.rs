//! A pool of worker processes: the seed's `multi_process_async.py`.

mod pool;

use std::process::ExitCode;

use pool::Pool;
use siar_core::event::Style;
use siar_core::run::{Run, run_client};
use siar_core::worker::serve_if_worker;

fn main() -> ExitCode {
    serve_if_worker();
    run_client(Style::MpAsync, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let pool = Pool::new(run.worker_count(), run.observer());
    let mut results = Vec::new();
    for task in run.tasks() {
        results.push((task, pool.apply_async(run.job(task))));
    }

    for (task, result) in results {
        run.collect(task, result.get(run.timeout()));
    }
}
