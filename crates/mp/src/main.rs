//! One child process per URL: the seed's `multi_process.py`.

mod process;

use std::process::ExitCode;

use process::Process;
use siar_core::event::Style;
use siar_core::run::{Run, run_client};
use siar_core::worker::serve_if_worker;

fn main() -> ExitCode {
    serve_if_worker();
    run_client(Style::Mp, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let mut processes = Vec::new();
    for task in run.tasks() {
        let process = Process::start(run.job(task), run.observer());
        processes.push((task, process));
    }

    for (task, process) in processes {
        run.collect(task, process.join());
    }
}
