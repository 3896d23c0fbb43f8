//! A shell behind a node's telnet console: commands are typed, and their output is read.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::telnet::Telnet;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest wait for a shell: a virtual machine may need so long to boot.
const READY: Duration = Duration::from_secs(90);
/// The time between two attempts to wake a shell.
const WAKE_INTERVAL: Duration = Duration::from_secs(2);
/// The character of Ctrl-C.
const INTERRUPT: u8 = 3;
/// The most bytes of a typed argument: the shell of busybox takes lines of up to 1,023 bytes.
const MAX_TYPED: usize = 700;
const MAX_OUTPUT: usize = 256 << 20;

/// A failure of a console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The console refuses the connection, or the connection broke.
    #[error("console of {node}: {error}; is the node started, and its console not shut?")]
    Io {
        /// The node's name.
        node: String,
        /// The cause.
        error: io::Error,
    },
    /// No shell answers.
    #[error("console of {node}: no shell answers after {} s; it last said {said:?}", after.as_secs())]
    Silent {
        /// The node's name.
        node: String,
        /// The time limit that has passed.
        after: Duration,
        /// The last line of the output.
        said: String,
    },
    /// A command failed.
    #[error("{node}: `{command}` ended with {status}: {said}")]
    Command {
        /// The node's name.
        node: String,
        /// The command, as typed.
        command: String,
        /// The exit code.
        status: i32,
        /// The last line of the output.
        said: String,
    },
    /// A fetched folder is damaged.
    #[error("{node}: {what} did not come whole: {error}")]
    Fetch {
        /// The node's name.
        node: String,
        /// The path of the folder.
        what: String,
        /// The decoding error.
        error: base64::DecodeError,
    },
}

/// A shell on a node, reached over the node's console.
#[derive(Debug)]
pub struct Console {
    node: String,
    stream: TcpStream,
    telnet: Telnet,
    /// Received text that is not processed yet.
    pending: Vec<u8>,
    commands: u32,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub status: i32,
    /// Standard output and standard error, with LF as the end of each line.
    pub output: String,
}

impl Console {
    /// Connects to a console and waits for a shell, for at most 90 s. At a login prompt it logs in
    /// as root.
    ///
    /// # Errors
    /// The connection fails, or no shell answers.
    pub fn open(node: &str, host: &str, port: u16) -> Result<Self, ConsoleError> {
        let connect = || {
            let addresses = (host, port).to_socket_addrs()?;
            let none = Err(io::ErrorKind::NotFound.into());
            let connected = |last: io::Result<TcpStream>, address| {
                last.or_else(|_| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT))
            };
            let stream = addresses.fold(none, connected)?;
            stream.set_read_timeout(Some(READ_TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream =
            connect().map_err(|error| ConsoleError::Io { node: node.to_owned(), error })?;
        let mut console = Self {
            node: node.to_owned(),
            stream,
            telnet: Telnet::default(),
            pending: Vec::new(),
            commands: 0,
        };
        console.wake()?;
        Ok(console)
    }

    fn wake(&mut self) -> Result<(), ConsoleError> {
        let limit = Instant::now() + READY;
        let mut next_attempt = Instant::now();
        let (mut attempts, mut said) = (0, String::new());
        loop {
            if said.trim_end().ends_with("login:") {
                said.clear();
                self.send(b"root\r")?;
                next_attempt = Instant::now() + WAKE_INTERVAL;
            } else if Instant::now() >= next_attempt {
                next_attempt = Instant::now() + WAKE_INTERVAL;
                attempts += 1;
                // Another program may own the terminal.
                if attempts == 3 {
                    log::warn!("{}: interrupting what runs on its console", self.node);
                    self.send(&[INTERRUPT])?;
                }
                // The typed text differs from the printed one, so that an echo is no answer.
                self.send(b"\recho SIAR'-'READY\r")?;
            }
            self.read_some()?;
            said.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.pending)));
            if said.contains("SIAR-READY") {
                break;
            }
            if Instant::now() > limit {
                let said = last_line(&said);
                return Err(ConsoleError::Silent { node: self.node.clone(), after: READY, said });
            }
        }
        // Prompts, echoes and messages about jobs would disturb the output; a shell that keeps
        // them does no harm.
        let quiet = "SIAR_STTY=$(stty -g 2>/dev/null); SIAR_PS1=$PS1; \
                     stty -echo -onlcr cols 2000 2>/dev/null; PS1= PS2=; set +m";
        self.run(quiet, READY, |_| ())?;
        Ok(())
    }

    /// Types a command and waits for its end, for at most `limit`. Each whole line of the output is
    /// passed to `line` at once.
    ///
    /// # Errors
    /// The connection breaks, the command does not end in time, or its output has more than
    /// 256 MiB.
    pub fn run(
        &mut self,
        command: &str,
        limit: Duration,
        mut line: impl FnMut(&str),
    ) -> Result<Ended, ConsoleError> {
        self.commands += 1;
        let number = self.commands;
        let typed = format!("echo SIAR'-'BEGIN-{number}; {command}; echo SIAR'-'END-{number}-$?\r");
        self.send(typed.as_bytes())?;
        let deadline = Instant::now() + limit;
        let (begin, end) = (format!("SIAR-BEGIN-{number}"), format!("SIAR-END-{number}-"));
        let (mut output, mut has_begun) = (String::new(), false);
        loop {
            while let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
                let bytes: Vec<u8> = self.pending.drain(..=at).collect();
                let text = String::from_utf8_lossy(&bytes);
                let text = text.trim_end_matches(['\n', '\r']);
                // The last line of a program may lack a line feed.
                if let Some((before, status)) = text.split_once(&end)
                    && has_begun
                    && let Ok(status) = status.trim().parse()
                {
                    if !before.is_empty() {
                        line(before);
                        output.push_str(before);
                    }
                    return Ok(Ended { status, output });
                }
                if has_begun {
                    line(text);
                    output.push_str(text);
                    output.push('\n');
                }
                has_begun |= text.ends_with(&begin);
            }
            if Instant::now() > deadline || output.len() + self.pending.len() > MAX_OUTPUT {
                let said = last_line(&output);
                return Err(ConsoleError::Silent { node: self.node.clone(), after: limit, said });
            }
            self.read_some()?;
        }
    }

    /// Runs a command as [`Self::run`] does, and returns its output. An exit code other than zero
    /// is an error.
    ///
    /// # Errors
    /// The command fails or does not end in time, or the connection breaks.
    pub fn run_well(&mut self, command: &str, limit: Duration) -> Result<String, ConsoleError> {
        let Ended { status, output } = self.run(command, limit, |_| ())?;
        if status == 0 {
            return Ok(output);
        }
        let (node, command) = (self.node.clone(), command.to_owned());
        Err(ConsoleError::Command { node, command, status, said: last_line(&output) })
    }

    /// Writes a small file on the node.
    ///
    /// # Errors
    /// A command on the node fails.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), ConsoleError> {
        let limit = Duration::from_secs(10);
        self.run_well(&format!(": > {path}.b64"), limit)?;
        let text = STANDARD.encode(bytes);
        for piece in text.as_bytes().chunks(MAX_TYPED) {
            let piece = String::from_utf8_lossy(piece);
            self.run_well(&format!("printf %s {piece} >> {path}.b64"), limit)?;
        }
        self.run_well(&format!("base64 -d {path}.b64 > {path} && rm {path}.b64"), limit).map(drop)
    }

    /// Fetches a folder of the node as a TAR file with gzip compression.
    ///
    /// # Errors
    /// A command on the node fails, or the fetched data is damaged.
    pub fn fetch_folder(&mut self, dir: &str, limit: Duration) -> Result<Vec<u8>, ConsoleError> {
        // No pipe is used, because a shell reports only the status of a pipe's last program.
        self.run_well(&format!("tar -C {dir} -czf {dir}.tgz . 2>&1"), limit)?;
        let text = self.run_well(&format!("base64 {dir}.tgz && rm {dir}.tgz"), limit)?;
        let digits: String = text.split_ascii_whitespace().collect();
        STANDARD.decode(digits).map_err(|error| {
            let (node, what) = (self.node.clone(), dir.to_owned());
            ConsoleError::Fetch { node, what, error }
        })
    }

    /// Types Ctrl-C, which ends the program that owns the terminal.
    ///
    /// # Errors
    /// The connection broke.
    pub fn interrupt(&mut self) -> Result<(), ConsoleError> {
        self.send(&[INTERRUPT])
    }

    fn send(&mut self, text: &[u8]) -> Result<(), ConsoleError> {
        let bytes = Telnet::escaped(text);
        self.stream.write_all(&bytes).map_err(|error| self.io_error(error))
    }

    /// Reads the bytes that have arrived; after 200 ms without bytes it returns.
    fn read_some(&mut self) -> Result<(), ConsoleError> {
        let mut buffer = [0; 1 << 14];
        let len = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(self.io_error(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => len,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(self.io_error(error)),
        };
        let mut reply = Vec::new();
        self.telnet.receive(&buffer[..len], &mut self.pending, &mut reply);
        if reply.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&reply).map_err(|error| self.io_error(error))
    }

    fn io_error(&self, error: io::Error) -> ConsoleError {
        ConsoleError::Io { node: self.node.clone(), error }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The next user of the shell needs prompt and echo; a broken connection does not matter.
        let _ = self.send(b"stty $SIAR_STTY 2>/dev/null; PS1=$SIAR_PS1; set -m\r");
    }
}

fn last_line(said: &str) -> String {
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().chars().take(200).collect()
}
