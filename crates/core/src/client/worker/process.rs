//! The parent's side of a worker process.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Followed, Job, PARENT_VARIABLE, follow};
use crate::event::Observer;
use crate::lock::lock;

/// How much of a lost worker's standard error an error message shows, in bytes.
const STDERR_TAIL: u64 = 400;

/// The reason why a worker process did not finish a job.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process cannot be started.
    #[error("cannot start a worker process: {0}")]
    Spawn(io::Error),
    /// The task itself failed; the worker continues.
    #[error("{0}")]
    Task(String),
    /// The process ended during the job or before it.
    #[error("worker lost: process {pid} {}{}", describe(.status), tail(.stderr))]
    Lost {
        /// Whether the worker had sent any message about the job.
        has_begun: bool,
        /// The id of the process.
        pid: u32,
        /// The exit status, if it is known.
        status: Option<ExitStatus>,
        /// The end of the worker's standard error.
        stderr: String,
    },
    /// The process wrote something that is not a message.
    #[error("worker process {pid} sent no valid message: {error}")]
    Protocol {
        /// The id of the process.
        pid: u32,
        /// The reason.
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

/// Returns the path of this program: from `/proc`, or where that is masked, as it was started.
fn this_program() -> Result<OsString, WorkerError> {
    std::env::current_exe().map(OsString::from).or_else(|error| {
        let started_as = std::env::args_os().next().filter(|name| !name.is_empty());
        started_as.ok_or_else(|| {
            let advice = format!("{error}: mount /proc, or start this program by its path");
            WorkerError::Spawn(io::Error::new(error.kind(), advice))
        })
    })
}

/// A handle that kills the worker process during a job, from another thread.
#[derive(Debug, Clone)]
pub struct Killer(Arc<Mutex<Option<Pid>>>);

impl Killer {
    /// Sends SIGKILL, unless the process has been waited for already.
    pub fn kill(&self) {
        if let Some(pid) = *lock(&self.0) {
            // The process may have just ended by itself.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
    }
}

/// The parent's side of a worker process. Dropping it waits for the process, and kills the process
/// if it is in the middle of a job.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    /// The pipe for jobs. `None` once it is closed: the worker then ends after its job.
    jobs: Option<ChildStdin>,
    messages: BufReader<ChildStdout>,
    stderr: File,
    killer: Killer,
    busy: bool,
}

impl WorkerProcess {
    /// Starts this program again as a worker. The calling thread must outlive the worker: the
    /// worker is killed when that thread, or the parent, ends.
    ///
    /// # Errors
    /// The system has no room for another process, or for its pipes.
    pub fn spawn() -> Result<Self, WorkerError> {
        Self::spawn_command(Command::new(this_program()?))
    }

    /// Starts `command` as a worker; it must read and write the same lines.
    ///
    /// # Errors
    /// The errors are those of [`Self::spawn`].
    pub fn spawn_command(mut command: Command) -> Result<Self, WorkerError> {
        let mut start = || -> io::Result<Self> {
            let stderr = File::from(memfd_create("stderr", MFdFlags::MFD_CLOEXEC)?);
            let mut child = command
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

    /// Returns the id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a handle that kills the process from another thread.
    #[must_use]
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Hands over a job and waits for its result; events during the job go to `observer`.
    ///
    /// # Errors
    /// The task failed, or the worker ended.
    pub fn run(&mut self, job: &Job, observer: &dyn Observer) -> Result<Duration, WorkerError> {
        let mut line = serde_json::to_vec(job)
            .map_err(|error| WorkerError::Protocol { pid: self.pid(), error: error.into() })?;
        line.push(b'\n');
        self.busy = true;
        // The failure of a dead worker's pipe is noticed below, with the reason of its death.
        let _ = self.jobs.as_ref().map(|mut jobs| jobs.write_all(&line));
        let pid = self.pid();
        let followed = follow(&mut self.messages, observer)
            .map_err(|error| WorkerError::Protocol { pid, error })?;
        match followed {
            Followed::Result(result) => {
                self.busy = false;
                result.map_err(WorkerError::Task)
            }
            Followed::Lost { has_begun } => Err(self.lost(has_begun)),
        }
    }

    fn lost(&mut self, has_begun: bool) -> WorkerError {
        let pid = self.pid();
        let status = self.reap().ok();
        let mut stderr = Vec::new();
        let end = self.stderr.seek(SeekFrom::End(0)).unwrap_or(0);
        let start = SeekFrom::Start(end.saturating_sub(STDERR_TAIL));
        // Without this text the error is only less detailed.
        let _ = self.stderr.seek(start).and_then(|_| self.stderr.read_to_end(&mut stderr));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        WorkerError::Lost { has_begun, pid, status, stderr }
    }

    /// Lets the worker end after its last job, and waits for its end.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        drop(self.jobs.take());
        // From now on the system may give this process id to another process.
        *lock(&self.killer.0) = None;
        self.child.wait()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if self.busy {
            self.killer.kill();
        }
        if lock(&self.killer.0).is_some() {
            // An idle worker ends at the end of its input; its exit status does not matter.
            let _ = self.reap();
        }
    }
}
