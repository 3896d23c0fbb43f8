//! One raw thread per URL: `multi_thread.py`.

mod thread;

use std::process::ExitCode;

use siar_core::{Run, Style, Turn, download_and_broadcast_in_turn, run_client};

use thread::Thread;

fn main() -> ExitCode {
    run_client(Style::Mt, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let mut threads = Vec::new();
    for task in run.tasks() {
        run.print_downloading(task);
        let (work, config, voice) = (task.clone(), run.config(), run.voice(task));
        // No counterpart in the script: a thread that was started earlier would only wait.
        let turn = Turn::wait(&task.url);
        threads.push((
            task,
            Thread::start(&task.name, move || {
                download_and_broadcast_in_turn(turn, &work, &config, &voice)
            }),
        ));
    }

    for (task, thread) in threads {
        run.collect(task, thread.join());
    }

    run.print_total();
}
