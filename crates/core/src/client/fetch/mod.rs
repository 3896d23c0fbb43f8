//! The download of a URL to a file, streamed over HTTP or HTTPS; a local file is read in its place.

mod connections;
mod content_disposition;
mod http;
mod local;
mod proxy;

pub use http::CERTIFICATES_VARIABLE;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siar_proto::FileDigest;

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
    /// The file's name, from the URL's path.
    pub name: String,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// The digest of the file.
    pub digest: FileDigest,
}

/// The words of the error message when a host's address cannot be found.
pub const NOT_RESOLVED: &str = "the host's name cannot be looked up";

/// The reason why a URL could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, refuses the request, or aborts.
    #[error("{url}: {error}")]
    Http {
        /// The URL.
        url: String,
        /// The reason.
        error: Box<ureq::Error>,
    },
    /// The address of the server, or of the proxy, cannot be found.
    #[error("{url}: {NOT_RESOLVED}: {reason}")]
    NotResolved {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// A redirection leads nowhere.
    #[error("{url}: redirected wrongly: {reason}")]
    Redirection {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The environment names a proxy that cannot be used.
    #[error("{url}: no proxy can be chosen: {reason}")]
    Proxy {
        /// The URL.
        url: String,
        /// The variable, its value and the reason.
        reason: String,
    },
    /// The body ended too early or stalled.
    #[error("{url}: broke off after {bytes} bytes: {error}")]
    Body {
        /// The URL.
        url: String,
        /// The number of bytes that were received before.
        bytes: u64,
        /// The reason.
        error: io::Error,
    },
    /// The file is larger than the limit.
    #[error("{url}: more than {limit} bytes, the limit for one file")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A local file cannot be read.
    #[error("{path}: cannot be read: {error}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file whose size is known only at its end cannot be read to there.
    #[error("{path}: cannot be read to its end: {error}")]
    Copy {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The path leads to a folder or a pipe, not to a file.
    #[error("{path}: is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The trusted certificates cannot be used.
    #[error("{0}")]
    Trust(String),
    /// The file cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// The path of the file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
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
    /// Whether the next download of this process may use the same connection.
    pub keeps_open: bool,
}

/// Downloads `url` into a folder; a file of the same name is replaced once the download is
/// complete. `progress` is told the bytes so far and the total in bytes (zero if unknown). The file
/// of a `file:` URL is not copied, only read. `turn` is given back when the download has ended.
///
/// # Errors
/// The download failed; nothing is left under the file's name that was not there before.
pub fn fetch(
    turn: Turn,
    url: &str,
    config: &FetchConfig<'_>,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Download, FetchError> {
    let FetchConfig { dir, name, limit, keeps_open } = *config;
    // The turn is held until the connection is free: the server may have no thread for another one.
    let _turn = turn;
    if let Some(path) = local_path(url) {
        let name = chosen_name(name, url, None);
        return local::open(&path, name, config, &mut progress);
    }
    let mut response = http::get(url)?;
    let total = response.content_length();
    let too_large = || FetchError::TooLarge { url: url.to_owned(), limit };
    if total > limit {
        return Err(too_large());
    }
    let name = chosen_name(name, url, response.file_name());
    let name = shortened_file_name(&name, longest_name(dir));
    let path = dir.join(&name);
    let unwritable = |path: &Path, error| FetchError::Write { path: path.to_owned(), error };
    let mut file = temporary_file(dir).map_err(|error| unwritable(dir, error))?;

    let mut hasher = blake3::Hasher::new();
    // The buffer has one byte more than a small file, so that the end of the body is read as well.
    let buffer_len = usize::try_from(total).map_or(BUFFER_LEN, |total| total.saturating_add(1));
    let mut buffer = vec![0; if total == 0 { BUFFER_LEN } else { buffer_len.min(BUFFER_LEN) }];
    let mut bytes = 0;
    loop {
        let read = match response.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FetchError::Body { url: url.to_owned(), bytes, error }),
        };
        if bytes + read as u64 > limit {
            return Err(too_large());
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(|error| unwritable(&path, error))?;
        bytes += read as u64;
        progress(bytes, total);
    }
    response.end(keeps_open);
    let file = file.persist(&path).map_err(|error| unwritable(&path, error.error))?;
    let content = Content::new(file).map_err(|error| unwritable(&path, error))?;
    let digest = FileDigest::of(&hasher);
    Ok(Download { path, content: Arc::new(content), name, bytes, digest })
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
        FetchConfig { dir: dir.path(), name: NameSource::Url, limit: u64::MAX, keeps_open: false }
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
