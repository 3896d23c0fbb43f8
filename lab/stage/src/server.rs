//! A server on a node, started and stopped as a user starts and stops it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::Event;

use crate::StageError;
use crate::events::read_events;
use crate::network::Network;
use crate::node::Node;
use crate::programs::Programs;

/// The longest wait for a server to listen; usually it takes milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The longest wait for a server to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A server on a node; dropping the value kills the server.
#[derive(Debug)]
pub struct RunningServer {
    /// The server's node.
    pub node: Node,
    /// The server's process.
    pub child: Child,
    /// The server's folder: `files` with the received files, `server.log` and `server.events`.
    pub dir: PathBuf,
}

impl RunningServer {
    /// Starts a server on `node` that writes below `dir`, and waits at most 10 s until the server
    /// listens.
    ///
    /// # Errors
    /// The server cannot be started, or does not listen in time; the error has the server's log.
    pub fn start(
        network: &Network,
        programs: &Programs,
        node: Node,
        dir: &Path,
        arguments: &[&str],
    ) -> Result<Self, StageError> {
        let files = dir.join("files");
        fs::create_dir_all(&files).map_err(StageError::file(&files))?;
        let (log, events) = (dir.join("server.log"), dir.join("server.events"));
        let output = File::create(&log).map_err(StageError::file(&log))?;
        let program = programs.server();
        let mut command = Command::new(&program);
        command
            .args(["--bind", &format!("{}:5005", network.listen_address())])
            .arg("--dir")
            .arg(&files)
            .arg("--events")
            .arg(&events)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(StageError::file(&log))?)
            .stdout(output);
        let child = network.spawn(node, &mut command).map_err(StageError::file(&program))?;
        let mut server = Self { node, child, dir: dir.to_owned() };
        let limit = Instant::now() + START_LIMIT;
        while !fs::read_to_string(&events).is_ok_and(|text| text.contains("\"listening\"")) {
            let ended = server.child.try_wait().map_err(StageError::file(&program))?.is_some();
            if ended || Instant::now() > limit {
                let output = fs::read_to_string(&log).unwrap_or_default().trim().to_owned();
                return Err(StageError::ServerStart { node: node.name.to_owned(), output });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// The folder of the received files.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// The server's events so far.
    ///
    /// # Errors
    /// The event file cannot be read.
    pub fn events(&self) -> Result<Vec<Event>, StageError> {
        read_events(&self.dir.join("server.events"))
    }

    /// Sends a signal to the server.
    ///
    /// # Errors
    /// The process does not exist any more.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Ends the server with SIGTERM and waits for its end; kills the server after 5 s.
    ///
    /// # Errors
    /// The wait or the kill fails.
    pub fn stop(mut self) -> std::io::Result<ExitStatus> {
        // The server may have ended already.
        let _ = self.signal(Signal::SIGTERM);
        let limit = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > limit {
                self.child.kill()?;
                return self.child.wait();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // A server that was stopped has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
