//! A pool of worker processes: `multi_process_async.py`.

mod pool;

use std::process::ExitCode;

use siar_core::{Run, Style, run_client, serve_if_worker};

use pool::Pool;

fn main() -> ExitCode {
    // No counterpart in the script: a worker is this program, started again.
    serve_if_worker();
    run_client(Style::MpAsync, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let pool = Pool::new(run.worker_count(), run.observer());
    let mut results = Vec::new();
    for task in run.tasks() {
        run.print_downloading(task);
        results.push((task, pool.apply_async(run.job(task))));
    }

    for (task, result) in results {
        run.collect(task, result.get(&run.timeout(task)));
    }

    run.print_total();
    run.print_results("status TASK");
}
