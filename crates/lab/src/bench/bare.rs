//! What many small tasks cost at least: the same downloads, files, datagrams and answers by
//! plain system calls, without any protocol, verification of names, or repair. Run as
//! processes of their own by [`super::programs::bare`].

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use siar_core::net::{Broadcaster, Destinations, ReceiveSocket};
use siar_core::protocol::TransmitBatch;

use super::blast::BlastError;

const PORT: u16 = 5007;
const DATAGRAM_LEN: usize = 1432;
/// As many tasks at once as `mt-async` has by default.
const THREADS: usize = 4;
/// A train or an answer that does not come within this was lost: the run has failed.
const LOST: Duration = Duration::from_secs(3);

/// Downloads `count` files of `len` bytes from `origin` (an address, a colon and a port),
/// writes each, broadcasts each in one train, and waits for an answer of each of `servers`
/// receivers.
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
    let mut socket = Broadcaster::open(&destinations, true, None)?;
    socket.send(&mut TransmitBatch { bytes, segment_len: DATAGRAM_LEN })?;
    let mut answers = 0;
    while answers < servers {
        let before = answers;
        socket.wait(Some(LOST)).map_err(at)?;
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
    // The head's length varies; the body is what is last.
    answer.drain(..answer.len().saturating_sub(len));
    Ok(answer)
}

/// Hashes each train, writes it to a file of its own in the working directory and answers,
/// `count` times.
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
            socket.wait(Some(LOST), false).map_err(at)?;
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
