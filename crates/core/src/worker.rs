//! Worker processes: the same binary, started again, doing jobs that it reads from its
//! standard input and telling what happens on its standard output, a JSON line each.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Observer, Progress, Style, TaskVoice};
use crate::net::close_idle_sockets;
use crate::task::{TaskConfig, download_and_broadcast};
use crate::urls::Task;

/// Holds the parent's process id in a worker's environment.
const PARENT_VARIABLE: &str = "SIAR_WORKER_PARENT";
/// A line longer than this is not one of ours.
const MAX_LINE: u64 = 1 << 20;
/// How much of a lost worker's standard error its error tells.
const STDERR_TAIL: u64 = 400;

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
    pub recorded: bool,
}

/// What a worker tells its parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Message {
    Event(Event),
    Progress(Progress),
    Finished(Duration),
    Failed(String),
}

/// A job that a worker process did not finish.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process cannot be started.
    #[error("cannot start a worker process: {0}")]
    Spawn(io::Error),
    /// The task itself failed; the worker is well.
    #[error("{0}")]
    Task(String),
    /// The process ended in the middle of the job.
    #[error("worker lost: process {pid} {}{}", describe(.status), tail(.stderr))]
    Lost {
        /// Its process id.
        pid: u32,
        /// How it ended, if that is known.
        status: Option<ExitStatus>,
        /// The end of its standard error.
        stderr: String,
    },
    /// It wrote something that is no message.
    #[error("worker process {pid} sent no valid message: {error}")]
    Protocol {
        /// Its process id.
        pid: u32,
        /// What is wrong.
        error: io::Error,
    },
}

fn describe(status: &Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Some(status) = status else { return "ended".to_owned() };
    match (status.signal(), status.code()) {
        (Some(signal), _) => match Signal::try_from(signal) {
            Ok(name) => format!("was killed by {name}"),
            Err(_) => format!("was killed by signal {signal}"),
        },
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn tail(stderr: &str) -> String {
    let last = stderr.trim().lines().last().unwrap_or_default();
    if last.is_empty() { String::new() } else { format!(" ({last})") }
}

/// Kills the process that is doing a job, from another thread.
#[derive(Debug, Clone)]
pub struct Killer(Arc<Mutex<Option<Pid>>>);

impl Killer {
    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends SIGKILL, unless the process has been waited for already.
    pub fn kill(&self) {
        if let Some(pid) = *self.lock() {
            // It may have ended by itself a moment ago.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
    }
}

/// A worker process as its parent holds it. When dropped it is waited for,
/// and killed if it is in the middle of a job.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    /// `None` once closed: the worker then ends after its job.
    jobs: Option<ChildStdin>,
    messages: BufReader<ChildStdout>,
    stderr: File,
    killer: Killer,
    busy: bool,
}

impl WorkerProcess {
    /// Starts this program again as a worker. The thread that calls this must outlive the
    /// worker: it dies with that thread, and so with its parent.
    ///
    /// # Errors
    /// The system has no room for another process, or for its pipes.
    pub fn spawn() -> Result<Self, WorkerError> {
        let start = || -> io::Result<Self> {
            let stderr = File::from(memfd_create("stderr", MFdFlags::MFD_CLOEXEC)?);
            let mut child = Command::new(std::env::current_exe()?)
                .env(PARENT_VARIABLE, std::process::id().to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(stderr.try_clone()?)
                .spawn()?;
            let jobs = child.stdin.take();
            let messages = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let pid = Pid::from_raw(child.id().cast_signed());
            let killer = Killer(Arc::new(Mutex::new(Some(pid))));
            Ok(Self {
                child,
                jobs,
                messages: BufReader::new(messages),
                stderr,
                killer,
                busy: false,
            })
        };
        start().map_err(WorkerError::Spawn)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What kills it from another thread.
    #[must_use]
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Hands over a job and waits for its result; what happens meanwhile goes to `observer`.
    ///
    /// # Errors
    /// The task failed, or the worker ended.
    pub fn run(&mut self, job: &Job, observer: &dyn Observer) -> Result<Duration, WorkerError> {
        let mut line = serde_json::to_vec(job)
            .map_err(|error| WorkerError::Protocol { pid: self.pid(), error: error.into() })?;
        line.push(b'\n');
        self.busy = true;
        // A dead worker's pipe is noticed below, with the reason of its death.
        let _ = self.jobs.as_ref().map(|mut jobs| jobs.write_all(&line));
        let pid = self.pid();
        let ended = follow(&mut self.messages, observer)
            .map_err(|error| WorkerError::Protocol { pid, error })?;
        let Some(result) = ended else { return Err(self.lost()) };
        self.busy = false;
        result.map_err(WorkerError::Task)
    }

    fn lost(&mut self) -> WorkerError {
        let pid = self.pid();
        let status = self.reap().ok();
        let mut stderr = Vec::new();
        let end = self.stderr.seek(SeekFrom::End(0)).unwrap_or(0);
        let start = SeekFrom::Start(end.saturating_sub(STDERR_TAIL));
        // Without it the error just says less.
        let _ = self.stderr.seek(start).and_then(|_| self.stderr.read_to_end(&mut stderr));
        WorkerError::Lost { pid, status, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// Lets it end after its last job and waits for that.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        drop(self.jobs.take());
        // From here on its process id may be given to another process.
        *self.killer.lock() = None;
        self.child.wait()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if self.busy {
            self.killer.kill();
        }
        if self.killer.lock().is_some() {
            // An idle worker ends at the end of its input. How, is of no more interest.
            let _ = self.reap();
        }
    }
}

/// Reads what a worker tells of one job, up to its result; events and progress go to
/// `observer`. `None`: the messages ended before the job did.
///
/// # Errors
/// A line is no message, or cannot be read.
pub fn follow(
    messages: &mut impl BufRead,
    observer: &dyn Observer,
) -> io::Result<Option<Result<Duration, String>>> {
    let mut line = Vec::new();
    while let Some(message) = read_line(messages, &mut line)? {
        match message {
            Message::Event(event) => observer.event(event),
            Message::Progress(progress) => observer.progress(progress),
            Message::Finished(took) => return Ok(Some(Ok(took))),
            Message::Failed(error) => return Ok(Some(Err(error))),
        }
    }
    Ok(None)
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

/// In a process that was started by [`WorkerProcess::spawn`]: does jobs until there are no
/// more, and exits. Elsewhere: returns at once. To be called first in `main`.
pub fn serve_if_worker() {
    let Some(parent) = std::env::var(PARENT_VARIABLE).ok() else { return };
    // Should the parent be gone already, this ends here.
    let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
    if !tied || parent != getppid().to_string() {
        std::process::exit(1);
    }
    env_logger::init();
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
        let parent = Arc::new(ToParent { recorded: job.recorded, unsent: Mutex::default() });
        let voice = TaskVoice::new(job.style, &job.task.name, Arc::clone(&parent) as _);
        parent.send(&match download_and_broadcast(&job.task.url, &job.config, &voice) {
            Ok(took) => Message::Finished(took),
            Err(error) => Message::Failed(error.to_string()),
        });
    }
    close_idle_sockets();
    Ok(())
}

/// Tells the parent, in as few writes as keep it up to date: what only adds to a phase goes
/// out with the next message that does not, at the latest with the next progress.
struct ToParent {
    recorded: bool,
    unsent: Mutex<Vec<u8>>,
}

/// Messages of more bytes than a pipe takes at once do not wait for others.
const MAX_UNSENT: usize = 4096;

impl ToParent {
    fn send(&self, message: &Message) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_complete = serde_json::to_writer(&mut *unsent, message).is_ok();
        unsent.push(b'\n');
        if is_complete && can_wait(message) && unsent.len() < MAX_UNSENT {
            return;
        }
        let sent = is_complete && io::stdout().lock().write_all(&unsent).is_ok();
        if !sent {
            // Nobody listens any more.
            std::process::exit(1);
        }
        unsent.clear();
    }
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
        self.recorded
    }

    fn event(&self, event: Event) {
        self.send(&Message::Event(event));
    }

    fn progress(&self, progress: Progress) {
        self.send(&Message::Progress(progress));
    }
}
