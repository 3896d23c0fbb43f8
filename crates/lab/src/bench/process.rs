//! Processes with what they cost.

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
use wait4::Wait4;

use crate::LabError;
use crate::namespace::Namespace;

/// What a process and the children it waited for have cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// From start to end, in seconds.
    pub wall: f64,
    /// User and system time, in seconds.
    pub cpu: f64,
    /// User time alone, in seconds.
    pub user: f64,
    /// Largest resident set of one process, in bytes.
    pub peak: u64,
}

/// A process whose output goes to a file; it is killed when dropped.
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
    /// The program is not there, or `log` cannot be written.
    pub fn start(
        namespace: &Namespace,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self, LabError> {
        let output = File::create(log).map_err(LabError::file(log))?;
        let errors = output.try_clone().map_err(LabError::file(log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = PathBuf::from(command.get_program());
        let started = Instant::now();
        let child = namespace.enter(|| command.spawn()).map_err(LabError::file(&program))?;
        Ok(Self { child, started, log: log.to_owned(), reaped: false })
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Asks it to end, as a user would.
    pub fn ask_to_end(&self) {
        // It may have ended already.
        let _ = self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(self.pid(), signal)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for its end; `None` if it had to be killed after `limit`.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn finish(mut self, limit: Duration) -> io::Result<(Option<ExitStatus>, Cost)> {
        let (ended, end) = mpsc::channel();
        let pid = self.pid();
        let waiting = thread::spawn(move || {
            // Left unreaped, so that its number stays its own.
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            // Nobody listens after the limit.
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
