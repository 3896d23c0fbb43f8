//! The download of a URL to a file, streamed over HTTP or HTTPS; a local file is read in its place.

mod connections;
mod content_disposition;
mod error;
mod http;
mod local;
mod place;
mod proxy;
mod reach;
mod speed;
mod transport;

pub use error::{FetchError, NOT_RESOLVED};
pub use http::CERTIFICATES_VARIABLE;
pub use reach::Redirections;
pub use speed::SpeedFloor;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siar_proto::FileDigest;

use self::transport::BodyWatch;
use super::shown_url::shown_url;
use super::time_limit::TimeLimit;
use super::turns::Turn;
use super::urls::local_path;
use crate::io::store::{
    Content, longest_name, safe_file_name, shortened_file_name, temporary_file,
};

const BUFFER_LEN: usize = 64 << 10;

/// A downloaded file, or a local one.
#[derive(Debug, Clone)]
pub struct Download {
    /// The path of the file.
    pub path: PathBuf,
    /// The open file.
    pub content: Arc<Content>,
    /// The file's name: the chosen one, or the numbered one that the download got in its place.
    pub name: String,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// The digest of the file.
    pub digest: FileDigest,
}

/// Where a file's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameSource<'a> {
    /// The last component of the URL's path, as with curl's `-O`.
    Url,
    /// The response's `Content-Disposition`, or else the URL, as with curl's `-OJ`.
    Response,
    /// This name, whatever the URL is.
    Given(&'a str),
}

/// The configuration of one download.
#[derive(Debug, Clone, Copy)]
pub struct FetchConfig<'a> {
    /// The folder for the file.
    pub dir: &'a Path,
    /// Where the file's name comes from.
    pub name: NameSource<'a>,
    /// The largest file, in bytes.
    pub limit: u64,
    /// Which redirections are followed.
    pub redirections: Redirections,
    /// The rate below which the download is given up.
    pub speed: SpeedFloor,
    /// The limit of the task's time.
    pub time_limit: Option<TimeLimit>,
    /// Whether the next download of this process may use the same connection.
    pub keeps_open: bool,
}

/// Downloads `url` into a folder. No file is replaced: if a different one has the name, the
/// download gets a number. `progress` is told the bytes so far and the total in bytes (zero if
/// unknown). The file of a `file:` URL is not copied, only read. `turn` is given back when the
/// download has ended.
///
/// # Errors
/// The download failed; it leaves no file.
pub fn fetch(
    turn: Turn,
    url: &str,
    config: &FetchConfig<'_>,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Download, FetchError> {
    let FetchConfig { dir, name, limit, speed, time_limit, keeps_open, .. } = *config;
    // The turn is held until the connection is free: the server may have no thread for another one.
    let _turn = turn;
    if let Some(path) = local_path(url) {
        let name = chosen_name(name, url, None);
        return local::open(&path, name, config, &mut progress);
    }
    let shown = shown_url(url);
    let mut response = http::get(url, &shown, config)?;
    let total = response.content_length();
    let too_large = || FetchError::TooLarge { url: shown.clone(), limit };
    if total > limit {
        return Err(too_large());
    }
    let name = chosen_name(name, url, response.file_name());
    let name = shortened_file_name(&name, longest_name(dir));
    let unwritable = |path: &Path, error| FetchError::Write { path: path.to_owned(), error };
    let mut file = temporary_file(dir).map_err(|error| unwritable(dir, error))?;

    let mut hasher = blake3::Hasher::new();
    // The buffer has one byte more than a small file, so that the end of the body is read as well.
    let buffer_len = usize::try_from(total).map_or(BUFFER_LEN, |total| total.saturating_add(1));
    let mut buffer = vec![0; if total == 0 { BUFFER_LEN } else { buffer_len.min(BUFFER_LEN) }];
    let mut bytes = 0;
    let watch = BodyWatch::begin(speed);
    loop {
        let read = match response.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                require_time(time_limit, &shown, bytes)?;
                return Err(match watch.slow_rate() {
                    Some(rate) => FetchError::TooSlow { url: shown, rate, floor: speed },
                    None => FetchError::Body { url: shown, bytes, error },
                });
            }
        };
        if bytes + read as u64 > limit {
            return Err(too_large());
        }
        require_time(time_limit, &shown, bytes)?;
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(|error| unwritable(&dir.join(&name), error))?;
        bytes += read as u64;
        progress(bytes, total);
    }
    drop(watch);
    response.end(keeps_open);
    let digest = FileDigest::of(&hasher);
    let (file, name) = place::put(file, dir, &name, bytes, digest)?;
    let path = dir.join(&name);
    let content = Content::new(file).map_err(|error| unwritable(&path, error))?;
    Ok(Download { path, content: Arc::new(content), name, bytes, digest })
}

/// Returns an error if the task's time is over; `bytes` bytes of the URL `shown` have come.
fn require_time(limit: Option<TimeLimit>, shown: &str, bytes: u64) -> Result<(), FetchError> {
    limit.filter(TimeLimit::is_over).map_or(Ok(()), |TimeLimit { allowed, .. }| {
        Err(FetchError::OutOfTime { url: shown.to_owned(), bytes, allowed })
    })
}

/// Returns the safe name of the file at `url`, whose response names it `sent`.
fn chosen_name(source: NameSource<'_>, url: &str, sent: Option<&str>) -> String {
    match (source, sent) {
        (NameSource::Given(name), _) | (NameSource::Response, Some(name)) => safe_file_name(name),
        (NameSource::Response, None) | (NameSource::Url, _) => file_name(url),
    }
}

/// Returns the last component of the URL's path, without the query and made safe, or the host's
/// name if the path is empty.
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
    use std::time::Duration;

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

    fn fetch_into(dir: &tempfile::TempDir, url: &str) -> Result<Download, FetchError> {
        fetch(Turn::wait(url), url, &config(dir), |_, _| ())
    }

    fn config(dir: &tempfile::TempDir) -> FetchConfig<'_> {
        FetchConfig {
            dir: dir.path(),
            name: NameSource::Url,
            limit: u64::MAX,
            redirections: Redirections::Safe,
            speed: SpeedFloor { bytes_per_second: 100, time: Duration::from_secs(30) },
            time_limit: None,
            keeps_open: false,
        }
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    const MOVED: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";

    /// Answers one request with `response` and closes the connection.
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
    fn files_of_any_length_are_whole() {
        for len in [0, 1, BUFFER_LEN - 1, BUFFER_LEN, BUFFER_LEN + 1] {
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
                std::thread::sleep(std::time::Duration::from_millis(20));
                stream.write_all(second).unwrap();
            });
            let dir = tempfile::tempdir().unwrap();
            let download = fetch_into(&dir, &url).unwrap();
            assert_eq!(download.bytes, len as u64);
            assert_eq!(download.digest, FileDigest::of_bytes(&body));
            assert_eq!(std::fs::read(&download.path).unwrap(), body);
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
        let download = fetch_into(&dir, &url).unwrap();
        assert_eq!((download.name.as_str(), download.bytes), ("file.bin", 2));
    }

    /// The server sends a byte now and then: of the body, or of the frame of its first chunk.
    #[test]
    fn a_download_that_is_too_slow_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).unwrap();
                let frame: &[u8] = match request[5] {
                    b'c' => b"Transfer-Encoding: chunked\r\n\r\n1;",
                    _ => b"Content-Length: 20\r\n\r\n",
                };
                stream.write_all(&[&b"HTTP/1.1 200 OK\r\n"[..], frame].concat()).unwrap();
                // The client may end the connection at any time.
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let fetch_above = |bytes_per_second, path: &str| {
            let speed = SpeedFloor { bytes_per_second, time: Duration::from_secs(1) };
            let (url, config) = (format!("{url}{path}"), FetchConfig { speed, ..config(&dir) });
            fetch(Turn::wait(&url), &url, &config, |_, _| ())
        };
        for path in ["body", "chunk"] {
            let error = fetch_above(100, path).unwrap_err();
            assert!(matches!(error, FetchError::TooSlow { rate: ..100, .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains("for 1s, less than 100 bytes/s"), "{said}");
            assert!(said.starts_with(&format!("{url}{path}: ")), "{said}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        assert_eq!(fetch_above(0, "body").unwrap().bytes, 20);
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("file.bin");
        std::fs::write(&there, "mine").unwrap();
        for _ in 0..2 {
            let download = fetch_into(&dir, &serve(OK)).unwrap();
            assert_eq!(download.name, "file-1.bin");
            assert_eq!(download.path, dir.path().join("file-1.bin"));
            let mut bytes = [0; 2];
            download.content.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"hi");
        }
        assert_eq!(std::fs::read(there).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_redirection_that_leads_nowhere_says_where() {
        let dir = tempfile::tempdir().unwrap();
        for (response, said) in [
            (
                &b"HTTP/1.1 302 Found\r\nLocation: ftp://a/b\r\nContent-Length: 0\r\n\r\n"[..],
                "ftp://a/b",
            ),
            (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "302"),
        ] {
            let error = fetch_into(&dir, &serve(response)).unwrap_err();
            assert!(matches!(error, FetchError::Redirection { .. }), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let error = fetch_into(&dir, &serve_each(vec![MOVED; 11])).unwrap_err();
        assert!(error.to_string().contains("too many redirects"), "{error}");
    }

    #[test]
    fn a_name_is_given_or_sent_or_that_of_the_url() {
        let dir = tempfile::tempdir().unwrap();
        let named = b"HTTP/1.1 200 OK\r\nContent-Disposition: attachment; filename=\"../sent.csv\"\r\nContent-Length: 2\r\n\r\nhi";
        for (name, response, expected) in [
            (NameSource::Url, &named[..], "file.bin"),
            (NameSource::Response, named, "sent.csv"),
            (NameSource::Response, OK, "file.bin"),
            (NameSource::Given("a/b"), named, "a_b"),
        ] {
            let (url, config) = (serve(response), FetchConfig { name, ..config(&dir) });
            let download = fetch(Turn::wait(&url), &url, &config, |_, _| ()).unwrap();
            assert_eq!(download.name, expected);
            assert_eq!(download.path, dir.path().join(expected));
        }
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
                // The server reads the end of this connection before it serves the next one.
                assert_eq!(stream.read(&mut request).unwrap(), 0);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let config = FetchConfig { keeps_open: true, ..config(&dir) };
        assert_eq!(fetch(Turn::wait(&url), &url, &config, |_, _| ()).unwrap().bytes, 2);
    }

    #[test]
    fn a_url_that_is_redirected_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve_each(vec![
            b"HTTP/1.1 302 Found\r\nLocation: other\r\nContent-Length: 0\r\n\r\n",
            OK,
        ]);
        assert_eq!(fetch_into(&dir, &url).unwrap().bytes, 2);
    }

    #[test]
    fn a_download_is_written_and_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let progress = |_, total| assert_eq!(total, 5);
        let download = fetch(Turn::wait(&url), &url, &config(&dir), progress).unwrap();
        assert_eq!(download.path, dir.path().join("file.bin"));
        assert_eq!(download.digest, FileDigest::of_bytes(b"hello"));
        assert_eq!(std::fs::read(download.path).unwrap(), b"hello");
    }

    #[test]
    fn a_body_cut_short_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello");
        let error = fetch_into(&dir, &url).unwrap_err();
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
            let config = FetchConfig { limit: 4, ..config(&dir) };
            let error =
                fetch(Turn::wait("http:"), &serve(response), &config, |_, _| ()).unwrap_err();
            assert!(matches!(error, FetchError::TooLarge { limit: 4, .. }), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_url_is_encoded_before_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let url = url.replace("file.bin", "a b \u{fc}.bin");
        let download = fetch_into(&dir, &url).unwrap();
        assert_eq!(download.name, "a b \u{fc}.bin");
    }

    #[test]
    fn a_404_names_url_and_status() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let error = fetch_into(&dir, &url).unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("404"), "{error}");
    }
}
