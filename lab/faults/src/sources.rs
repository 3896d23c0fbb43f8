//! Faults of HTTP servers. A good file from another server must still arrive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use stage::node::GATEWAY;
use stage::outcome::compare;
use stage::samples::noise;
use stage::server::RunningServer;

use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, Source, names};

const PORT: u16 = 81;

impl Scene {
    /// Starts a server whose file never ends, and returns the file's URL.
    ///
    /// # Errors
    /// The port is in use.
    pub(crate) fn slow_source(&self) -> Result<String, std::io::Error> {
        self.misbehave(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nslow");
            thread::sleep(Duration::from_secs(60));
        })
    }

    /// Starts a server that reads a request and then calls `answer`; returns the URL of its file.
    /// The server's threads end with the lab.
    fn misbehave(&self, answer: fn(TcpStream)) -> Result<String, std::io::Error> {
        let address = (GATEWAY.address, PORT);
        let listener = self.network.on(GATEWAY, || TcpListener::bind(address))?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut stream = stream;
                    // A request is short, so that one read gets all of it.
                    let _ = stream.read(&mut [0; 4096]);
                    answer(stream);
                });
            }
        });
        Ok(format!("http://{}:{PORT}/bad.bin", GATEWAY.address))
    }
}

/// Checks that only the bad task fails, within `limit` and with the error `says`, and that it
/// leaves no file.
fn fails_alone(
    scene: &Scene,
    answer: fn(TcpStream),
    arguments: &[&str],
    says: &str,
    limit: Duration,
) -> CaseResult {
    let source = scene.serve(vec![noise("good.bin", 1 << 20)])?;
    let servers = scene.servers()?;
    let bad = scene.misbehave(answer)?;
    let (good, begin) = (source.url(0), Instant::now());
    let arguments = [arguments, &["--servers", "2", &bad, &good]].concat();
    let client = scene.client("mt-async", "client", &arguments)?;
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

/// Checks that both servers have the good file.
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

pub(crate) fn stalls(scene: &Scene) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        thread::sleep(Duration::from_secs(60));
    };
    stalled_download_fails_alone(scene, answer)
}

/// Checks a stalled download. The task is given up while its thread still waits, so that the
/// temporary file stays until the next client in the folder removes it.
fn stalled_download_fails_alone(scene: &Scene, answer: fn(TcpStream)) -> CaseResult {
    let source = scene.serve(vec![noise("good.bin", 1 << 20)])?;
    let servers = scene.servers()?;
    let (bad, good) = (scene.misbehave(answer)?, source.url(0));
    let begin = Instant::now();
    let arguments = ["--servers", "2", "--timeout", "2s", &bad, &good];
    let client = scene.client("mt-async", "client", &arguments)?;
    let dir = client.dir.clone();
    client.wait()?.expect(1, &["url1: given up: no progress for 2s"])?;
    let took = begin.elapsed();
    if took > SOON {
        return Err(format!("it took {took:?}").into());
    }
    thread::sleep(Duration::from_millis(2100));
    scene.client("mt-async", "client", &["--servers", "2", &good])?.wait()?.expect(0, &[])?;
    only_good_left(&dir)?;
    good_arrived(&servers, &source)?;
    let what = format!(
        "given up after {:.1} s; what it left is gone at the next start",
        took.as_secs_f64()
    );
    Ok(Observed::new(what, 2))
}

pub(crate) fn resets(scene: &Scene) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        thread::sleep(Duration::from_millis(100));
        // With a linger time of zero, closing the socket resets the connection.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    };
    fails_alone(scene, answer, &[], "broke off after 4 bytes", SOON)
}

pub(crate) fn sends_less(scene: &Scene) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        let _ = stream.shutdown(Shutdown::Both);
    };
    fails_alone(scene, answer, &[], "broke off after 4 bytes", SOON)
}

/// The file must be the announced bytes, without the bytes after them.
pub(crate) fn sends_more(scene: &Scene) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile and more");
    };
    let servers = scene.servers()?;
    let bad = scene.misbehave(answer)?;
    scene.client("mt", "client", &["--servers", "2", &bad])?.wait()?.expect(0, &[])?;
    for server in &servers {
        let bytes = std::fs::read(server.files().join("bad.bin"))?;
        if bytes != b"file" {
            return Err(format!("{} has {} bytes", server.node.name, bytes.len()).into());
        }
    }
    Ok(Observed::new("the announced bytes are the file", 2))
}

pub(crate) fn redirects(scene: &Scene) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let _ = stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /bad.bin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    };
    fails_alone(scene, answer, &[], "redirect", SOON)
}

pub(crate) fn sends_too_much(scene: &Scene) -> CaseResult {
    let answer = |mut stream: TcpStream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
        let _ = stream.write_all(head);
        while stream.write_all(&[0; 1 << 16]).is_ok() {}
    };
    let limit = ["--max-file", "1GiB"];
    fails_alone(scene, answer, &limit, "more than 1073741824 bytes", SOON)
}

pub(crate) fn sends_without_end(scene: &Scene) -> CaseResult {
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
    fails_alone(scene, answer, &limit, "more than 1073741824 bytes", long)
}
