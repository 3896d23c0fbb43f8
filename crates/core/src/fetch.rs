//! URL to file: HTTP and HTTPS, streamed; what is already here is used where it stands.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ureq::config::{Config, ConfigBuilder};
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, Proxy, ProxyProtocol};
use url::Position;

use crate::connections::{Connections, Keeping, Lease};
use crate::local;
use crate::protocol::FileDigest;
use crate::store::{Content, safe_file_name, temporary_file};
use crate::urls::local_path;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_LEN: usize = 64 << 10;
/// A request's head fits; a larger buffer would only cost page faults.
const REQUEST_LEN: usize = 16 << 10;
const MAX_REDIRECTS: u32 = 10;
/// Over a connection that has served before, a server that sends head and body apart waits for
/// the head's acknowledgement, and Linux delays that by 40 ms: a new connection is faster.
const DELAYED: Duration = Duration::from_millis(30);
/// One may be late because this machine is busy. With the second, no connection is kept any more.
static DELAYED_BODIES: AtomicUsize = AtomicUsize::new(0);

/// A downloaded file, or one that was already here.
#[derive(Debug, Clone)]
pub struct Download {
    /// Where it stands.
    pub path: PathBuf,
    /// Its bytes.
    pub content: Arc<Content>,
    /// Its name, from the URL's path.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Of its bytes.
    pub digest: FileDigest,
}

/// A URL could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server is not there, refuses, or breaks off.
    #[error("{url}: {error}")]
    Http {
        /// The URL.
        url: String,
        /// Why.
        error: Box<ureq::Error>,
    },
    /// The body ended too early or stalled.
    #[error("{url}: broke off after {bytes} bytes: {error}")]
    Body {
        /// The URL.
        url: String,
        /// Bytes received before.
        bytes: u64,
        /// Why.
        error: io::Error,
    },
    /// There is more than is wanted.
    #[error("{url}: more than {limit} bytes, the limit for one file")]
    TooLarge {
        /// The URL.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// A file that is already here cannot be read.
    #[error("{path}: cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A folder or a pipe is there instead of a file.
    #[error("{path}: is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The certificates to trust cannot be used.
    #[error("{0}")]
    Trust(String),
    /// The file cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Names a PEM file of the certificates to trust instead of those compiled in, as for OpenSSL
/// and curl.
pub const CERTIFICATES_VARIABLE: &str = "SSL_CERT_FILE";

/// Without certificates, which cost more to read than a small file; so no redirection is
/// followed: that may lead to HTTPS.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    config(|config| config.max_redirects(0).max_redirects_will_error(false).max_idle_connections(1))
});

/// For small files one after the other; see [`Connections`].
const KEEPING: Keeping =
    Keeping { idle_timeout: Duration::from_millis(20), max_lifetime: Duration::from_millis(100) };

/// An agent for each connection: what drops the agent closes the connection.
static CONNECTIONS: LazyLock<Arc<Connections<Agent>>> =
    LazyLock::new(|| Connections::new(KEEPING, plain_agent));

fn plain_agent() -> Agent {
    Agent::new_with_config(CONFIG.clone())
}

/// For HTTPS as well, for all tasks of a process.
static TRUSTING_AGENT: LazyLock<Result<Agent, String>> = LazyLock::new(|| {
    let root_certs = match std::env::var_os(CERTIFICATES_VARIABLE) {
        Some(path) if !path.is_empty() => certificates(Path::new(&path))
            .map_err(|error| format!("{CERTIFICATES_VARIABLE} {}: {error}", path.display()))?,
        _ => RootCerts::WebPki,
    };
    let tls = TlsConfig::builder().root_certs(root_certs).build();
    // What is left open would stay open.
    Ok(Agent::new_with_config(config(|config| config.tls_config(tls).max_idle_connections(0))))
});

fn config(set: impl FnOnce(ConfigBuilder<AgentScope>) -> ConfigBuilder<AgentScope>) -> Config {
    let config = Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(STALL_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
        .input_buffer_size(BUFFER_LEN)
        .output_buffer_size(REQUEST_LEN)
        // A file is kept as it is sent: its size is known before, and an archive stays packed.
        .accept_encoding("identity")
        .user_agent(concat!("siar/", env!("CARGO_PKG_VERSION")));
    set(config).build()
}

fn get(url: &str, lease: &mut Lease<Agent>) -> Result<Response<Body>, FetchError> {
    let http = |error| FetchError::Http { url: url.to_owned(), error: Box::new(error) };
    let parsed = url::Url::parse(url);
    let origin = parsed.as_ref().map_or("", |parsed| &parsed[..Position::BeforePath]).to_owned();
    // As browsers read it: spaces and the like are encoded.
    let mut requested = parsed.map_or_else(|_| url.to_owned(), String::from);
    let mut redirects = MAX_REDIRECTS;
    if !needs_certificates(&requested, CONFIG.proxy()) {
        let response = get_plainly(&requested, &origin, lease).map_err(http)?;
        let Some(elsewhere) = redirected(&requested, &response) else { return Ok(response) };
        drop(response);
        lease.close();
        requested = elsewhere;
        redirects -= 1;
    }
    let agent = TRUSTING_AGENT.as_ref().map_err(|error| FetchError::Trust(error.clone()))?;
    let request = agent.get(requested).config().max_redirects(redirects).build();
    request.call().map_err(http)
}

/// A server may close a connection at any time once it has answered: what was asked over one
/// that has served before is asked again over a new one (RFC 9112, section 9.3.1).
fn get_plainly(
    url: &str,
    origin: &str,
    lease: &mut Lease<Agent>,
) -> Result<Response<Body>, ureq::Error> {
    match lease.connection(origin).get(url).call() {
        Err(ureq::Error::Io(_)) if lease.has_served() => {
            lease.close();
            lease.connection(origin).get(url).call()
        }
        result => result,
    }
}

/// Whether anybody on the way to `url` has to prove who he is.
fn needs_certificates(url: &str, proxy: Option<&Proxy>) -> bool {
    !url.starts_with("http:") || proxy.is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https)
}

/// Where a response sends those who ask for `url`. One that does not say where is asked for
/// again, by an agent that follows, and tells what is wrong.
fn redirected(url: &str, response: &Response<Body>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    let elsewhere = location.and_then(|to| url::Url::parse(url).ok()?.join(to).ok());
    Some(elsewhere.map_or_else(|| url.to_owned(), String::from))
}

fn certificates(path: &Path) -> Result<RootCerts, Box<dyn std::error::Error>> {
    let pem = std::fs::read(path)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err("holds no certificate in PEM".into());
    }
    Ok(RootCerts::from(found))
}

/// Waits until `url` can be downloaded without waiting for others, and keeps its turn. A thread
/// that was started for it before would only wait.
pub(crate) fn reserve_turn(url: &str) {
    if local_path(url).is_none() {
        CONNECTIONS.reserve();
    }
}

/// What a turn was reserved for cannot begin.
pub(crate) fn give_turn_back(url: &str) {
    if local_path(url).is_none() {
        CONNECTIONS.give_back();
    }
}

/// Downloads `url` into `dir` under its own name; a file of that name is replaced once the
/// download is whole. More than `limit` bytes are an error. `started` is called when it has not
/// to wait for other downloads any more; `progress` is told the bytes so far and in all (zero if
/// unknown). What a `file:` URL names is not copied, only read. If `keep_connection` says so,
/// the next download of this process may come over the same connection.
///
/// # Errors
/// The download failed; nothing is left under the file's name that was not there before.
pub fn fetch(
    url: &str,
    dir: &Path,
    limit: u64,
    keep_connection: bool,
    started: impl FnOnce(),
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Download, FetchError> {
    if let Some(path) = local_path(url) {
        started();
        return local::open(&path, file_name(url), limit, &mut progress);
    }
    let mut lease = CONNECTIONS.take();
    started();
    let mut response = get(url, &mut lease)?;
    let total = response.body().content_length().unwrap_or(0);
    let too_large = || FetchError::TooLarge { url: url.to_owned(), limit };
    if total > limit {
        return Err(too_large());
    }
    let name = file_name(url);
    let path = dir.join(&name);
    let unwritable = |path: &Path, error| FetchError::Write { path: path.to_owned(), error };
    let mut file = temporary_file(dir).map_err(|error| unwritable(dir, error))?;

    let mut hasher = blake3::Hasher::new();
    // A small file is kept in memory until it is sent.
    let small_len = usize::try_from(total).ok().filter(|len| (1..BUFFER_LEN).contains(len));
    // One more: the end of the body is read as well.
    let mut buffer = vec![0; small_len.map_or(BUFFER_LEN, |len| len + 1)];
    let mut bytes = 0;
    let mut body = response.body_mut().as_reader();
    loop {
        let asked = Instant::now();
        // A small file's length fits.
        let start = if small_len.is_some() { bytes as usize } else { 0 };
        let read = match body.read(&mut buffer[start..]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FetchError::Body { url: url.to_owned(), bytes, error }),
        };
        if bytes == 0
            && lease.has_served()
            && asked.elapsed() > DELAYED
            && DELAYED_BODIES.fetch_add(1, Ordering::Relaxed) > 0
        {
            lease.keep_none();
        }
        if bytes + read as u64 > limit {
            return Err(too_large());
        }
        let piece = &buffer[start..start + read];
        hasher.update(piece);
        file.write_all(piece).map_err(|error| unwritable(&path, error))?;
        bytes += read as u64;
        progress(bytes, total);
    }
    if keep_connection {
        lease.keep();
    } else {
        drop(lease);
    }
    let file = file.persist(&path).map_err(|error| unwritable(&path, error.error))?;
    let content = if small_len.is_some() {
        buffer.truncate(bytes as usize);
        Content::Memory(buffer)
    } else {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        Content::Disk { modified: modified.map_err(|error| unwritable(&path, error))?, file }
    };
    let digest = FileDigest::of(&hasher);
    Ok(Download { path, content: Arc::new(content), name, bytes, digest })
}

/// The last component of the URL's path, without its query, made safe; the host's name if
/// the path has none.
#[must_use]
pub fn file_name(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return safe_file_name("") };
    let last = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or("");
    match percent_encoding::percent_decode_str(last).decode_utf8_lossy().as_ref() {
        "" => safe_file_name(url.host_str().unwrap_or("")),
        name => safe_file_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn names_come_from_the_path() {
        for (url, name) in [
            ("https://a/b/logo-its-1.png", "logo-its-1.png"),
            ("https://a/detikcon-ranadan-desktop-1.gif?d=1", "detikcon-ranadan-desktop-1.gif"),
            ("https://a/b%20c+d.zip", "b c+d.zip"),
            ("https://a/x%2F..%2Fy", "x_._y"),
            ("https://example.org/", "example.org"),
            ("https://a/b&c=d.txt", "b&c=d.txt"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    const MOVED: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";

    /// Answers one request with `response` and closes.
    fn serve(response: &'static [u8]) -> String {
        serve_each(vec![response])
    }

    /// Answers one request after the other, each over a connection of its own.
    fn serve_each(responses: Vec<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(response).unwrap();
            }
        });
        format!("http://{address}/dir/file.bin?x=1")
    }

    #[test]
    fn small_files_are_kept_in_memory_and_others_read_from_the_disk() {
        for (len, is_small) in [(1, true), (BUFFER_LEN - 1, true), (BUFFER_LEN, false), (0, false)]
        {
            let body: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/file.bin", listener.local_addr().unwrap());
            let sent = body.clone();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").unwrap();
                let (first, second) = sent.split_at(len / 2);
                stream.write_all(first).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(second).unwrap();
            });
            let dir = tempfile::tempdir().unwrap();
            let download = fetch(&url, dir.path(), u64::MAX, false, || (), |_, _| ()).unwrap();
            assert_eq!(download.bytes, len as u64);
            assert_eq!(download.digest, FileDigest::of_bytes(&body));
            assert_eq!(std::fs::read(&download.path).unwrap(), body);
            assert_eq!(matches!(*download.content, Content::Memory(_)), is_small);
            assert_eq!(download.content.size().unwrap(), len as u64);
            let mut read = vec![0; len];
            download.content.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(read, body);
        }
    }

    #[test]
    fn a_redirection_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve_each(vec![MOVED, MOVED, OK]);
        let download = fetch(&url, dir.path(), u64::MAX, false, || (), |_, _| ()).unwrap();
        assert_eq!((download.name.as_str(), download.bytes), ("file.bin", 2));
    }

    #[test]
    fn a_connection_that_led_elsewhere_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for response in [MOVED, OK] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(response).unwrap();
                // The next one is not served before this one is closed.
                assert_eq!(stream.read(&mut request).unwrap(), 0);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fetch(&url, dir.path(), u64::MAX, true, || (), |_, _| ()).unwrap().bytes, 2);
    }

    #[test]
    fn a_url_that_is_redirected_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve_each(vec![
            b"HTTP/1.1 302 Found\r\nLocation: other\r\nContent-Length: 0\r\n\r\n",
            OK,
        ]);
        assert_eq!(fetch(&url, dir.path(), u64::MAX, false, || (), |_, _| ()).unwrap().bytes, 2);
    }

    /// Answers as many requests as said over each connection, and reads one more.
    fn serve_over_connections(requests: Vec<usize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answers in requests {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                for _ in 0..answers {
                    assert_ne!(stream.read(&mut request).unwrap(), 0);
                    stream.write_all(OK).unwrap();
                }
                let _ = stream.read(&mut request).unwrap();
            }
        });
        format!("http://{address}/file.bin")
    }

    fn get_twice(url: &str) -> [bool; 2] {
        let long = Duration::from_secs(60);
        let connections =
            Connections::new(Keeping { idle_timeout: long, max_lifetime: long }, plain_agent);
        [(); 2].map(|()| {
            let mut lease = connections.take();
            let mut response = get_plainly(url, "a", &mut lease).unwrap();
            assert_eq!(response.body_mut().read_to_string().unwrap(), "hi");
            let has_served = lease.has_served();
            lease.keep();
            has_served
        })
    }

    #[test]
    fn a_connection_serves_two_downloads() {
        assert_eq!(get_twice(&serve_over_connections(vec![2])), [false, true]);
    }

    #[test]
    fn what_a_closed_connection_did_not_answer_is_asked_again() {
        assert_eq!(get_twice(&serve_over_connections(vec![1, 1])), [false, false]);
    }

    #[test]
    fn a_download_is_written_and_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let download =
            fetch(&url, dir.path(), u64::MAX, false, || (), |_, total| assert_eq!(total, 5))
                .unwrap();
        assert_eq!(download.path, dir.path().join("file.bin"));
        assert_eq!(download.digest, FileDigest::of_bytes(b"hello"));
        assert_eq!(std::fs::read(download.path).unwrap(), b"hello");
    }

    #[test]
    fn a_body_cut_short_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello");
        let error = fetch(&url, dir.path(), u64::MAX, false, || (), |_, _| ()).unwrap_err();
        assert!(matches!(error, FetchError::Body { bytes: 5, .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn too_much_is_broken_off_whether_it_is_announced_or_not() {
        let dir = tempfile::tempdir().unwrap();
        for response in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        ] {
            let error =
                fetch(&serve(response), dir.path(), 4, false, || (), |_, _| ()).unwrap_err();
            assert!(matches!(error, FetchError::TooLarge { limit: 4, .. }), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_url_is_encoded_before_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let url = url.replace("file.bin", "a b \u{fc}.bin");
        let download = fetch(&url, dir.path(), u64::MAX, false, || (), |_, _| ()).unwrap();
        assert_eq!(download.name, "a b \u{fc}.bin");
    }

    #[test]
    fn certificates_are_needed_for_https_alone() {
        let proxy = |url| Proxy::new(url).unwrap();
        assert!(!needs_certificates("http://a/b", None));
        assert!(!needs_certificates("http://a/b", Some(&proxy("http://p:3128"))));
        assert!(needs_certificates("http://a/b", Some(&proxy("https://p:3128"))));
        assert!(needs_certificates("https://a/b", None));
    }

    #[test]
    fn certificates_to_trust_are_read_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(certificates(&path).is_err());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(certificates(&path).unwrap_err().to_string().contains("PEM"));
    }

    #[test]
    fn a_404_names_url_and_status() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let error =
            fetch(&url, dir.path(), u64::MAX, false, || (), |_, _| ()).unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("404"), "{error}");
    }
}
