//! HTTP servers that misbehave. Beside each, a good file must arrive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::stage::{Source, Stage, names};
use super::{CaseResult, Observed};
use crate::network::GATEWAY;
use crate::run::{RunningServer, compare};
use crate::samples::noise;

const PORT: u16 = 81;

impl Stage {
    /// The URL of a file that never comes to its end.
    ///
    /// # Errors
    /// The port is taken.
    pub fn slow_source(&self) -> Result<String, std::io::Error> {
        self.misbehave(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nslow");
            thread::sleep(Duration::from_secs(60));
        })
    }

    /// The URL of a file that `answer` answers for, once the request is read. The thread
    /// ends with the lab.
    fn misbehave(&self, answer: fn(TcpStream)) -> Result<String, std::io::Error> {
        let address = (GATEWAY.address, PORT);
        let listener = self.network.on(GATEWAY, || TcpListener::bind(address))?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut stream = stream;
                    // A request is short and comes in one piece.
                    let _ = stream.read(&mut [0; 4096]);
                    answer(stream);
                });
            }
        });
        Ok(format!("http://{}:{PORT}/bad.bin", GATEWAY.address))
    }
}

/// The bad task alone fails, within `limit`, and `says` so; nothing of it is left.
fn fails_alone(
    stage: &Stage,
    answer: fn(TcpStream),
    arguments: &[&str],
    says: &str,
    limit: Duration,
) -> CaseResult {
    let source = stage.serve(vec![noise("good.bin", 1 << 20)])?;
    let servers = stage.servers()?;
    let bad = stage.misbehave(answer)?;
    let (good, begin) = (source.url(0), Instant::now());
    let arguments = [arguments, &["--servers", "2", &bad, &good]].concat();
    let client = stage.client("mt-async", "client", &arguments)?;
    let dir = client.dir.clone();
    let ended = client.wait()?;
    ended.expect(1, &["url1: ", says])?;
    if begin.elapsed() > limit {
        return Err(format!("it took {:?}", begin.elapsed()).into());
    }
    only_good_left(&dir)?;
    good_arrived(&servers, &source)?;
    let took = begin.elapsed().as_secs_f64();
    Ok(Observed::new(format!("its task alone fails, after {took:.1} s, and says why"), 2))
}

/// The good file is at both servers.
fn good_arrived(servers: &[RunningServer], source: &Source) -> Result<(), String> {
    let faults = |server: &RunningServer| {
        let fault = compare(&server.files(), &source.samples).into_iter().next()?;
        Some(format!("{}: {fault}", server.node.name))
    };
    servers.iter().find_map(faults).map_or(Ok(()), Err)
}

fn only_good_left(dir: &Path) -> Result<(), String> {
    let left = names(dir);
    if left == ["good.bin"] { Ok(()) } else { Err(format!("the client's folder has {left:?}")) }
}

const SOON: Duration = Duration::from_secs(5);

pub(super) fn stalls(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        thread::sleep(Duration::from_secs(60));
    };
    fails_alone_but_left(stage, answer)
}

/// A stalled download is given up while its thread still waits: its temporary file stays
/// until the process ends, and the next one removes it.
fn fails_alone_but_left(stage: &Stage, answer: fn(TcpStream)) -> CaseResult {
    let source = stage.serve(vec![noise("good.bin", 1 << 20)])?;
    let servers = stage.servers()?;
    let (bad, good) = (stage.misbehave(answer)?, source.url(0));
    let begin = Instant::now();
    let arguments = ["--servers", "2", "--timeout", "2s", &bad, &good];
    let client = stage.client("mt-async", "client", &arguments)?;
    let dir = client.dir.clone();
    client.wait()?.expect(1, &["url1: given up: no progress for 2s"])?;
    let took = begin.elapsed();
    if took > SOON {
        return Err(format!("it took {took:?}").into());
    }
    thread::sleep(Duration::from_millis(2100));
    stage.client("mt-async", "client", &["--servers", "2", &good])?.wait()?.expect(0, &[])?;
    only_good_left(&dir)?;
    good_arrived(&servers, &source)?;
    let what = format!(
        "given up after {:.1} s; what it left is gone at the next start",
        took.as_secs_f64()
    );
    Ok(Observed::new(what, 2))
}

pub(super) fn resets(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        thread::sleep(Duration::from_millis(100));
        // With no time to linger, closing resets.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    };
    fails_alone(stage, answer, &[], "broke off after 4 bytes", SOON)
}

pub(super) fn sends_less(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        let _ = stream.shutdown(Shutdown::Both);
    };
    fails_alone(stage, answer, &[], "broke off after 4 bytes", SOON)
}

/// What was announced is the file; the rest is nobody's.
pub(super) fn sends_more(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile and more");
    };
    let servers = stage.servers()?;
    let bad = stage.misbehave(answer)?;
    stage.client("mt", "client", &["--servers", "2", &bad])?.wait()?.expect(0, &[])?;
    for server in &servers {
        let bytes = std::fs::read(server.files().join("bad.bin"))?;
        if bytes != b"file" {
            return Err(format!("{} has {} bytes", server.node.name, bytes.len()).into());
        }
    }
    Ok(Observed::new("the announced bytes are the file", 2))
}

pub(super) fn redirects(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /bad.bin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    };
    fails_alone(stage, answer, &[], "redirect", SOON)
}

pub(super) fn sends_too_much(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
        let _ = stream.write_all(head);
        while stream.write_all(&[0; 1 << 16]).is_ok() {}
    };
    let limit = ["--max-file", "1GiB"];
    fails_alone(stage, answer, &limit, "more than 1073741824 bytes", SOON)
}

pub(super) fn sends_without_end(stage: &Stage) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for _ in 0..10 << 14 {
            if stream.write_all(&[0; 1 << 16]).is_err() {
                return;
            }
        }
    };
    let limit = ["--max-file", "1GiB"];
    let long = Duration::from_secs(30);
    fails_alone(stage, answer, &limit, "more than 1073741824 bytes", long)
}
