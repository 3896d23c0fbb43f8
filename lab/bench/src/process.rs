//! Processes and their costs: time and memory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde::Serialize;
use stage::StageError;
use stage::namespace::Namespace;
use wait4::Wait4;

/// The costs of a process and of the children that it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: f64,
    /// User and system CPU time, in seconds.
    pub cpu: f64,
    /// User CPU time, in seconds.
    pub user: f64,
    /// The largest resident set of one process, in bytes.
    pub peak: u64,
}

/// A process whose output goes to a file; dropping the value kills the process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    started: Instant,
    log: PathBuf,
    reaped: bool,
}

impl Process {
    /// Starts `command` in a namespace.
    ///
    /// # Errors
    /// The program cannot be started, or `log` cannot be written.
    pub fn start(
        namespace: &Namespace,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self, StageError> {
        let output = File::create(log).map_err(StageError::file(log))?;
        let errors = output.try_clone().map_err(StageError::file(log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = PathBuf::from(command.get_program());
        let started = Instant::now();
        let child = namespace.enter(|| command.spawn()).map_err(StageError::file(&program))?;
        Ok(Self { child, started, log: log.to_owned(), reaped: false })
    }

    /// The output so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Sends SIGTERM to the process.
    pub fn ask_to_end(&self) {
        // The process may have ended already.
        let _ = self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(self.pid(), signal)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the process's end. The status is `None` if the process was killed after `limit`.
    ///
    /// # Errors
    /// The wait or the kill fails.
    pub fn finish(mut self, limit: Duration) -> io::Result<(Option<ExitStatus>, Cost)> {
        let (ended, end) = mpsc::channel();
        let pid = self.pid();
        let waiting = thread::spawn(move || {
            // The process stays a zombie, so that its id is not used again before `wait4`.
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            // After the limit nobody receives the message.
            let _ = ended.send(Instant::now());
        });
        let in_time = end.recv_timeout(limit).ok();
        if in_time.is_none() {
            self.child.kill()?;
        }
        if waiting.join().is_err() {
            log::error!("the thread that waits for a process panicked");
        }
        let used = self.child.wait4()?;
        self.reaped = true;
        let wall = in_time.unwrap_or_else(Instant::now).duration_since(self.started);
        let cost = Cost {
            wall: wall.as_secs_f64(),
            cpu: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
            user: used.rusage.utime.as_secs_f64(),
            peak: used.rusage.maxrss,
        };
        Ok((in_time.map(|_| used.status), cost))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
