//! One raw thread per URL: the seed's `multi_thread.py`.

use std::process::ExitCode;
use std::thread;

use siar_core::event::Style;
use siar_core::run::{Run, run_client};
use siar_core::task::download_and_broadcast;

fn main() -> ExitCode {
    run_client(Style::Mt, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let config = &run.config();
    // Its end joins every thread. One that has ended before has given its stack back; each whose
    // handle is kept until then would keep its stack as well.
    thread::scope(|scope| {
        for task in run.tasks() {
            let voice = run.voice(task);
            let work = move || run.collect(task, download_and_broadcast(&task.url, config, &voice));
            let thread = thread::Builder::new().name(task.name.clone()).spawn_scoped(scope, work);
            if let Err(error) = thread {
                run.collect_not_started(task, &error);
            }
        }
    });
}
