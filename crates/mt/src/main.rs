//! One raw thread per URL: the seed's `multi_thread.py`.

use std::process::ExitCode;
use std::thread;

use siar_core::event::Style;
use siar_core::run::{Run, run_client};
use siar_core::task::download_and_broadcast;
use siar_core::worker::panic_message;

fn main() -> ExitCode {
    run_client(Style::Mt, download_and_broadcast_all)
}

fn download_and_broadcast_all(run: &Run) {
    let mut threads = Vec::new();
    for task in run.tasks() {
        let (url, config, voice) = (task.url.clone(), run.config(), run.voice(task));
        let thread = thread::Builder::new()
            .name(task.name.clone())
            .spawn(move || download_and_broadcast(&url, &config, &voice));
        threads.push((task, thread));
    }

    for (task, thread) in threads {
        match thread.map(thread::JoinHandle::join) {
            Ok(Ok(result)) => run.collect(task, result),
            Ok(Err(panic)) => {
                let message = panic_message(panic.as_ref());
                run.collect(task, Err(format!("its thread panicked: {message}")));
            }
            Err(error) => run.collect(task, Err(format!("cannot start a thread: {error}"))),
        }
    }
}
