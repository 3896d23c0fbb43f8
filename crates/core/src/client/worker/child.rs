//! The inner side of a worker process: it does jobs and reports events to its parent.

use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::{Message, PARENT_VARIABLE, read_job};
use crate::client::task::download_and_broadcast;
use crate::event::{Event, EventKind, Observer, Progress, TaskVoice};
use crate::io::net::close_idle_sockets;
use crate::lock::lock;

/// Does jobs until there are no more, and exits, if this process was started by
/// [`WorkerProcess::spawn`](super::WorkerProcess::spawn); returns at once in other processes.
/// `main` must call it first.
pub fn serve_if_worker() {
    let Some(parent) = std::env::var(PARENT_VARIABLE).ok() else { return };
    // If the parent has ended already, the worker ends here.
    let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
    if !tied || parent != getppid().to_string() {
        std::process::exit(1);
    }
    // This process has no logger yet.
    let _ = log::set_logger(&LogToParent);
    std::process::exit(match serve(&mut io::stdin().lock()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("worker: {error}");
            1
        }
    });
}

fn serve(jobs: &mut impl BufRead) -> io::Result<()> {
    while let Some(job) = read_job(jobs)? {
        log::set_max_level(job.log_level);
        let parent = Arc::new(ToParent { is_recorded: job.is_recorded });
        let voice = TaskVoice::new(job.style, &job.task.name, Arc::clone(&parent) as _);
        ToParent::send(&match download_and_broadcast(&job.task, &job.config, &voice) {
            Ok(took) => Message::Finished(took),
            Err(error) => Message::Failed(error.to_string()),
        });
    }
    close_idle_sockets();
    Ok(())
}

/// The channel to the parent. It makes few writes: a message that can wait is sent with the next
/// one that cannot, at the latest with the next progress.
struct ToParent {
    is_recorded: bool,
}

/// The size at which waiting messages are written, in bytes: a pipe takes this much at once.
const MAX_UNSENT: usize = 4096;
/// The messages that wait for the next one that cannot wait.
static UNSENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl ToParent {
    fn send(message: &Message) {
        let mut unsent = lock(&UNSENT);
        let is_complete = serde_json::to_writer(&mut *unsent, message).is_ok();
        unsent.push(b'\n');
        if is_complete && can_wait(message) && unsent.len() < MAX_UNSENT {
            return;
        }
        let sent = is_complete && io::stdout().lock().write_all(&unsent).is_ok();
        if !sent {
            // The parent has closed the pipe.
            std::process::exit(1);
        }
        unsent.clear();
    }
}

/// The logger of a worker: records go to the parent, which prints them if its own logger would.
struct LogToParent;

impl log::Log for LogToParent {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        ToParent::send(&Message::Log {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        });
    }

    fn flush(&self) {}
}

fn can_wait(message: &Message) -> bool {
    let Message::Event(event) = message else { return false };
    !matches!(
        event.kind,
        EventKind::DownloadStarted
            | EventKind::BroadcastStarted { .. }
            | EventKind::FinishesLater { .. }
    )
}

impl Observer for ToParent {
    fn is_recording(&self) -> bool {
        self.is_recorded
    }

    fn event(&self, event: Event) {
        Self::send(&Message::Event(event));
    }

    fn progress(&self, progress: Progress) {
        Self::send(&Message::Progress(progress));
    }
}
