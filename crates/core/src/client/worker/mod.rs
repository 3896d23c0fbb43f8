//! Worker processes: the same binary, started again, doing jobs that it reads from its
//! standard input and telling what happens on its standard output, a JSON line each.

mod child;
mod process;

pub use child::serve_if_worker;
pub use process::{Killer, WorkerError, WorkerProcess};

use std::io::{self, BufRead, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::task::TaskConfig;
use super::urls::Task;
use crate::event::{Event, Observer, Progress, Style};

/// Holds the parent's process id in a worker's environment.
const PARENT_VARIABLE: &str = "SIAR_WORKER_PARENT";
/// A line longer than this is not one of ours.
const MAX_LINE: u64 = 1 << 20;

/// One task for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The client's style.
    pub style: Style,
    /// What to download.
    pub task: Task,
    /// How.
    pub config: TaskConfig,
    /// Whether the parent keeps a record of all that happens.
    pub is_recorded: bool,
    /// How much of what is logged the parent wants.
    pub log_level: log::LevelFilter,
}

impl Job {
    /// A job of this process, whose logger says how much is logged.
    #[must_use]
    pub fn new(style: Style, task: Task, config: TaskConfig, is_recorded: bool) -> Self {
        Self { style, task, config, is_recorded, log_level: log::max_level() }
    }
}

/// What a worker tells its parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Message {
    Event(Event),
    Progress(Progress),
    Log { level: log::Level, target: String, text: String },
    Finished(Duration),
    Failed(String),
}

/// How the messages of one job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// By the task's result.
    Result(Result<Duration, String>),
    /// The worker's end came before.
    Lost {
        /// Whether anything was told of the job.
        has_begun: bool,
    },
}

/// Reads what a worker tells of one job, up to its result; events and progress go to
/// `observer`, log records to this process's logger.
///
/// # Errors
/// A line is no message, or cannot be read.
pub fn follow(messages: &mut impl BufRead, observer: &dyn Observer) -> io::Result<Followed> {
    let mut line = Vec::new();
    let mut has_begun = false;
    while let Some(message) = read_line(messages, &mut line)? {
        has_begun |= !matches!(message, Message::Log { .. });
        match message {
            Message::Event(event) => observer.event(event),
            Message::Progress(progress) => observer.progress(progress),
            Message::Log { level, target, text } => log::log!(target: &target, level, "{text}"),
            Message::Finished(took) => return Ok(Followed::Result(Ok(took))),
            Message::Failed(error) => return Ok(Followed::Result(Err(error))),
        }
    }
    Ok(Followed::Lost { has_begun })
}

/// Reads a worker's next job; `None`: there are no more.
///
/// # Errors
/// A line is no job, or cannot be read.
pub fn read_job(jobs: &mut impl BufRead) -> io::Result<Option<Job>> {
    read_line(jobs, &mut Vec::new())
}

/// Reads the next line into `line`, what is there is lost.
fn read_line<T: DeserializeOwned>(
    lines: &mut impl BufRead,
    line: &mut Vec<u8>,
) -> io::Result<Option<T>> {
    line.clear();
    if lines.take(MAX_LINE).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(line)?))
}
