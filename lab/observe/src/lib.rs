//! Records of a run that do not depend on the programs' own events: the packets that reach a
//! server, and the processes and threads of the client.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use pcap_file::PcapError;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

/// The recorded bytes of each packet: its headers and the beginning of Siar's frame.
const SNAP_LEN: usize = 96;
const CAPTURE_BUFFER: usize = 32 << 20;
/// The protocol number for all Ethernet packets, see packet(7).
const ETH_P_ALL: u16 = 3;
const READ_TIMEOUT: Duration = Duration::from_millis(20);

/// A running capture of a node's packets in pcap format, with 96 bytes per packet.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), PcapError>>>,
}

/// Opens a socket that receives all packets of the calling thread's network namespace.
///
/// # Errors
/// The process lacks the capability CAP_NET_RAW.
pub fn packet_socket() -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    // For root the system's limit does not apply.
    if setsockopt(&socket, RcvBufForce, &CAPTURE_BUFFER).is_err() {
        socket.set_recv_buffer_size(CAPTURE_BUFFER)?;
    }
    Ok(socket)
}

impl Capture {
    /// Starts a capture from a [`packet_socket`] into the file `path`.
    ///
    /// # Errors
    /// `path` cannot be written, or the thread cannot be started.
    pub fn start(socket: Socket, path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || record(&socket, file, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the capture after all waiting packets are recorded.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map_err(io::Error::other)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn record(socket: &Socket, file: BufWriter<File>, stopped: &AtomicBool) -> Result<(), PcapError> {
    let header = PcapHeader { snaplen: SNAP_LEN as u32, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header)?;
    let mut buffer = [0; SNAP_LEN];
    loop {
        // With MSG_TRUNC, `recv` returns the whole length of the packet.
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC).map_err(io::Error::from) {
            Ok(len) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let len_on_wire = u32::try_from(len).unwrap_or(u32::MAX);
                let packet = PcapPacket::new(now, len_on_wire, &buffer[..len.min(SNAP_LEN)]);
                writer.write_packet(&packet)?;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                if stopped.load(Ordering::Relaxed) {
                    return writer.into_writer().flush().map_err(PcapError::IoError);
                }
            }
            Err(error) => return Err(PcapError::IoError(error)),
        }
    }
}

/// A process at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenProcess {
    /// The process id.
    pub pid: u32,
    /// The parent's process id; of the watched process, that of the watching process.
    pub parent: u32,
    /// The ids of the process's threads.
    pub threads: BTreeSet<i32>,
}

/// The client and its descendants at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The moment.
    pub time: Timestamp,
    /// The processes; the client comes first.
    pub processes: Vec<SeenProcess>,
}

const SIGHTING_INTERVAL: Duration = Duration::from_millis(10);

/// A running watch on a process and its descendants.
#[derive(Debug)]
pub struct ProcessWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl ProcessWatch {
    /// Starts a watch on the process `pid`. The watch looks every 10 ms and writes a [`Sighting`]
    /// as a JSON line into `path` whenever processes or threads have changed.
    ///
    /// # Errors
    /// `path` cannot be written, or the thread cannot be started.
    pub fn start(pid: u32, path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("process-watch".to_owned())
            .spawn(move || watch(pid, file, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn watch(pid: u32, mut file: BufWriter<File>, stopped: &AtomicBool) -> io::Result<()> {
    let mut last = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        let mut processes = Vec::new();
        collect(pid, std::process::id(), &mut processes);
        if processes != last && !processes.is_empty() {
            let sighting = Sighting { time: Timestamp::now(), processes: processes.clone() };
            serde_json::to_writer(&mut file, &sighting)?;
            file.write_all(b"\n")?;
            last = processes;
        }
        thread::sleep(SIGHTING_INTERVAL);
    }
    file.flush()
}

/// Collects a process and its descendants; processes that have just ended are left out.
fn collect(pid: u32, parent: u32, into: &mut Vec<SeenProcess>) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    let (mut threads, mut children) = (BTreeSet::new(), Vec::new());
    for task in tasks.filter_map(Result::ok) {
        let Ok(tid) = task.file_name().to_string_lossy().parse::<i32>() else { continue };
        threads.insert(tid);
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    into.push(SeenProcess { pid, parent, threads });
    children.sort_unstable();
    for child in children {
        collect(child, pid, into);
    }
}
