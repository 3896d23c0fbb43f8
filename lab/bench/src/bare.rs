//! The lower bound for many small tasks: the same downloads, files, datagrams and answers by
//! plain system calls, without protocol, checks of names or repair. [`crate::limit::bare`] runs
//! the two sides as separate processes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use siar_core::io::net::{Destinations, ReceiveSocket, SendSocket};
use siar_proto::TransmitBatch;

use super::blast::BlastError;

const PORT: u16 = 5007;
const DATAGRAM_LEN: usize = 1432;
/// The number of tasks at the same time, as in `mt-async` by default.
const THREADS: usize = 4;
/// The longest wait for a train or an answer; after it the run has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Downloads `count` files of `len` bytes from `origin` (`ADDRESS:PORT`), writes each file,
/// broadcasts it in one train and waits for one answer from each of `servers` receivers.
///
/// # Errors
/// A connection, a file or a socket fails, or an answer was lost.
pub fn send(origin: &str, len: usize, count: usize, servers: usize) -> Result<(), BlastError> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<(), BlastError> {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= count {
                    return Ok(());
                }
                send_one(origin, len, task, servers)?;
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn send_one(origin: &str, len: usize, task: usize, servers: usize) -> Result<(), BlastError> {
    let path = format!("task{task}-file.bin");
    let at = |error| BlastError::File { path: (&path).into(), error };
    let bytes = get(origin, &format!("/{len}/{path}"), len).map_err(at)?;
    let temporary = format!("{path}.part");
    fs::write(&temporary, &bytes).map_err(at)?;
    fs::rename(&temporary, &path).map_err(at)?;

    let destinations =
        Destinations { addresses: vec![Ipv4Addr::BROADCAST.into()], port: PORT, interface: None };
    let mut socket = SendSocket::open(&destinations, true, None)?;
    socket.send(&mut TransmitBatch { bytes, segment_len: DATAGRAM_LEN })?;
    let mut answers = 0;
    while answers < servers {
        let before = answers;
        socket.wait(Some(ANSWER_TIMEOUT)).map_err(at)?;
        socket.receive(|_, _| answers += 1).map_err(at)?;
        if answers == before {
            return Err(at(io::ErrorKind::TimedOut.into()));
        }
    }
    Ok(())
}

fn get(origin: &str, path: &str, len: usize) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(origin)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::with_capacity(len + 1024);
    stream.read_to_end(&mut answer)?;
    // The length of the head varies, so that the body is taken from the end.
    answer.drain(..answer.len().saturating_sub(len));
    Ok(answer)
}

/// Receives `count` trains. Each train is hashed, written to a separate file in the working
/// directory and answered.
///
/// # Errors
/// A file or the socket fails, or a train was lost.
pub fn receive(count: usize) -> Result<(), BlastError> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let at = |error| BlastError::File { path: "a file".into(), error };
    let mut socket = ReceiveSocket::bind(address, &[], None)?;
    println!("ready");
    let mut number = 0;
    while number < count {
        let (mut from, mut failed) = (Vec::new(), None);
        let any = socket
            .receive(|train| {
                number += 1;
                from.push(train.from);
                failed = failed.take().or(store(train.bytes(), number).err());
            })
            .map_err(at)?;
        if let Some(error) = failed {
            return Err(at(error));
        }
        for from in from {
            socket.reply(from, &[0]);
        }
        if !any {
            socket.wait(Some(ANSWER_TIMEOUT), false).map_err(at)?;
        }
    }
    Ok(())
}

fn store(bytes: &[u8], number: usize) -> io::Result<()> {
    let temporary = format!("{number}.part");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    let digest = blake3::hash(bytes);
    log::debug!("{digest}");
    file.sync_data()?;
    fs::rename(&temporary, Path::new(&number.to_string()))
}
