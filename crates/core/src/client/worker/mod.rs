//! Worker processes: the same binary, started again. A worker reads jobs from its standard input
//! and reports events on its standard output, one JSON line for each.

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

/// The environment variable that holds the parent's process id.
const PARENT_VARIABLE: &str = "SIAR_WORKER_PARENT";
/// The longest valid line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// A task for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The client's style.
    pub style: Style,
    /// The task to run.
    pub task: Task,
    /// The configuration of the task.
    pub config: TaskConfig,
    /// Whether the parent keeps a record of all events.
    pub is_recorded: bool,
    /// The most detailed log level that the parent prints.
    pub log_level: log::LevelFilter,
}

impl Job {
    /// Makes a job of this process; its logger sets the log level.
    #[must_use]
    pub fn new(style: Style, task: Task, config: TaskConfig, is_recorded: bool) -> Self {
        Self { style, task, config, is_recorded, log_level: log::max_level() }
    }
}

/// A message from a worker to its parent.
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
    /// The task's result was the last message.
    Result(Result<Duration, String>),
    /// The worker ended before the result.
    Lost {
        /// Whether the worker had sent any message about the job.
        has_begun: bool,
    },
}

/// Reads a worker's messages about one job, up to its result. Events and progress go to `observer`,
/// log records to this process's logger.
///
/// # Errors
/// A line is not a message, or cannot be read.
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

/// Reads a worker's next job; `None` if there are no more.
///
/// # Errors
/// A line is not a job, or cannot be read.
pub fn read_job(jobs: &mut impl BufRead) -> io::Result<Option<Job>> {
    read_line(jobs, &mut Vec::new())
}

/// Reads the next line into `line`, whose content is lost.
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
