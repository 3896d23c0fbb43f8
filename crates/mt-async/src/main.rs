//! A pool of threads whose results are futures: `multi_thread_async.py`.

mod pool;

use std::process::ExitCode;

use siar_core::{Run, Style, download_and_broadcast, run_client};

use pool::ThreadPoolExecutor;

fn main() -> ExitCode {
    run_client(Style::MtAsync, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let executor = ThreadPoolExecutor::new(run.worker_count());
    let mut futures = Vec::new();
    for task in run.tasks() {
        run.print_downloading(task);
        let (work, config, voice) = (task.clone(), run.config(), run.voice(task));
        let future = executor.submit(move || download_and_broadcast(&work, &config, &voice));
        futures.push((task, future));
    }

    for (task, future) in futures {
        run.collect(task, future.result(&run.timeout(task)));
    }

    run.print_total();
    run.print_results("hasil task yang dijalankan");
}
