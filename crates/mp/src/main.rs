//! One child process per URL: `multi_process.py`.

mod process;

use std::process::ExitCode;

use siar_core::{Run, Style, run_client, serve_if_worker};

use process::Process;

fn main() -> ExitCode {
    // No counterpart in the script: a child is this program, started again.
    serve_if_worker();
    run_client(Style::Mp, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let mut processes = Vec::new();
    for task in run.tasks() {
        run.print_downloading(task);
        processes.push((task, Process::start(run.job(task), run.observer())));
    }

    for (task, process) in processes {
        run.collect(task, process.join());
    }

    run.print_total();
}
