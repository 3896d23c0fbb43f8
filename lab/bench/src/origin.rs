//! The HTTP server of the measurements. It shares the processor cores with the measured programs
//! and therefore does little work. A version with `sendfile` used more CPU time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use socket2::SockRef;
use stage::StageError;

/// The end of the files' names.
pub const SUFFIX: &str = "-file.bin";
/// The number of connections that are served at the same time; further connections wait.
const THREADS: usize = 64;
const BACKLOG: i32 = 4096;
/// The bytes of one write. Larger buffers are slower, because they do not fit the processor's
/// first cache.
const CHUNK: usize = 8 << 10;
/// The largest file, in bytes, whose answer is kept in memory.
const SMALL: u64 = 64 << 10;
const MAX_HEAD: usize = 4096;
const MAX_HEADERS: usize = 32;
/// The longest wait for a client's next request.
const IDLE: Duration = Duration::from_secs(1);

/// A running HTTP server; dropping the value stops the server.
#[derive(Debug)]
pub struct Origin {
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl Origin {
    /// Serves the files in `dir`. The URL path `/LEN/NAME-file.bin` gives the file of `LEN` bytes,
    /// whatever `NAME` is.
    ///
    /// # Errors
    /// `listener`, which was to be opened at `address`, is an error, or a thread cannot be started.
    pub fn serve(
        listener: io::Result<TcpListener>,
        address: SocketAddr,
        dir: &Path,
    ) -> Result<Self, StageError> {
        let start = || -> io::Result<Self> {
            let listener = Arc::new(listener?);
            let offer = Arc::new(Offer { dir: dir.to_owned(), answers: RwLock::default() });
            // A second `listen` makes the queue of waiting connections longer.
            SockRef::from(&*listener).listen(BACKLOG)?;
            let mut origin = Self { listener, threads: Vec::new() };
            for _ in 0..THREADS {
                let (listener, offer) = (Arc::clone(&origin.listener), Arc::clone(&offer));
                let thread = thread::Builder::new().spawn(move || accept(&listener, &offer))?;
                origin.threads.push(thread);
            }
            Ok(origin)
        };
        start().map_err(|error| StageError::Gateway { address, error: error.to_string() })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // The shutdown makes `accept` fail, which ends the threads.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the origin panicked");
            }
        }
    }
}

type Answer = Arc<[u8]>;

struct Offer {
    dir: PathBuf,
    /// Whole answers with small files, by the file's path and by whether the connection is kept.
    answers: RwLock<HashMap<(PathBuf, bool), Answer>>,
}

fn accept(listener: &TcpListener, offer: &Offer) {
    while let Ok((mut stream, _)) = listener.accept() {
        // A client may end the connection at any time; this is no failure.
        if let Err(error) = serve(&mut stream, offer) {
            log::debug!("origin: {error}");
        }
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(stream: &mut TcpStream, offer: &Offer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    let mut head = [0; MAX_HEAD];
    let mut filled = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&head[..filled]).map_err(io::Error::other)?;
        let httparse::Status::Complete(len) = parsed else {
            match stream.read(&mut head[filled..])? {
                // The client closed the connection, or its request is too long for the buffer.
                0 => return Ok(()),
                read => filled += read,
            }
            continue;
        };
        let keep_alive = request.version == Some(1)
            && !request.headers.iter().any(|header| {
                header.name.eq_ignore_ascii_case("connection")
                    && header.value.eq_ignore_ascii_case(b"close")
            });
        let path = request.path.and_then(|path| file(&offer.dir, path));
        answer(stream, path, keep_alive, offer)?;
        if !keep_alive {
            return Ok(());
        }
        head.copy_within(len..filled, 0);
        filled -= len;
    }
}

fn file(dir: &Path, path: &str) -> Option<PathBuf> {
    let (len, _) = path.strip_suffix(SUFFIX)?.strip_prefix('/')?.split_once('/')?;
    let len: u64 = len.parse().ok()?;
    Some(dir.join(format!("{len}{SUFFIX}")))
}

fn answer(
    stream: &TcpStream,
    path: Option<PathBuf>,
    keep_alive: bool,
    offer: &Offer,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let key = (path.unwrap_or_default(), keep_alive);
    let known = offer.answers.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    if let Some(answer) = known {
        return send_all(stream, &answer, MsgFlags::empty());
    }
    let Ok(mut file) = File::open(&key.0) else {
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n"
        );
        return send_all(stream, head.as_bytes(), MsgFlags::empty());
    };
    let len = file.metadata()?.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: {connection}\r\n\r\n");
    if len <= SMALL {
        let mut answer = head.into_bytes();
        file.read_to_end(&mut answer)?;
        send_all(stream, &answer, MsgFlags::empty())?;
        let mut answers = offer.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.insert(key, answer.into());
        return Ok(());
    }
    // MSG_MORE puts the head and the beginning of the file into one segment.
    send_all(stream, head.as_bytes(), MsgFlags::from_bits_retain(nix::libc::MSG_MORE))?;
    let mut buffer = [0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => send_all(stream, &buffer[..read], MsgFlags::empty())?,
        }
    }
}

fn send_all(stream: &TcpStream, mut bytes: &[u8], flags: MsgFlags) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = send(stream.as_raw_fd(), bytes, flags | MsgFlags::MSG_NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn files_and_errors_come_over_one_connection() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("5-file.bin"), "hello").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address).unwrap();
        let at = listener.local_addr().unwrap();
        let _origin = Origin::serve(Ok(listener), address, dir.path()).unwrap();
        let mut stream = TcpStream::connect(at).unwrap();
        write!(
            stream,
            "GET /5/a-file.bin HTTP/1.1\r\n\r\nGET /7/a-file.bin HTTP/1.1\r\n\r\n\
             GET /5/b-file.bin HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("200 OK").count(), 2);
        assert_eq!(answers.matches("404 Not Found").count(), 1);
        assert!(answers.ends_with("\r\n\r\nhello"), "{answers}");
    }
}
