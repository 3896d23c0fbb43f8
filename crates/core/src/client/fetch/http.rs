//! HTTP and HTTPS: the response for a URL, over a kept or a new connection.

use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ureq::config::{Config, ConfigBuilder};
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, BodyReader, Proxy, ProxyProtocol, Timeout};
use url::{Host, Position, Url};

use super::connections::{Connections, Keeping, Lease};
use super::content_disposition;
use super::proxy::proxy_for;
use super::{BUFFER_LEN, FetchError};

/// The longest wait for a host's address: less than the usual `--timeout`, so that the reason of a
/// failure is told.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The length of the request buffer, in bytes: a request's head fits, and a larger buffer would
/// only cost page faults.
const REQUEST_LEN: usize = 16 << 10;
const MAX_REDIRECTS: usize = 10;
/// The time after which a response body is late. On a used connection, a server that sends head and
/// body separately waits for the acknowledgement of the head, which Linux delays by 40 ms: a new
/// connection is faster.
const LATE_BODY_TIME: Duration = Duration::from_millis(30);
/// The number of late bodies. The first may be late because this machine is busy; after the second,
/// no connection is kept any more.
static LATE_BODIES: AtomicUsize = AtomicUsize::new(0);

/// The environment variable with the path of a PEM file of certificates, which replace those
/// compiled in (as for OpenSSL and curl).
pub const CERTIFICATES_VARIABLE: &str = "SSL_CERT_FILE";

/// A response whose body can be read.
pub(super) struct HttpResponse {
    body: BodyReader<'static>,
    total: u64,
    file_name: Option<String>,
    lease: Lease<'static, Agent>,
    is_begun: bool,
}

impl HttpResponse {
    /// Returns the body's length in bytes; zero if it is unknown.
    pub(super) fn content_length(&self) -> u64 {
        self.total
    }

    /// Returns the file's name from the response's `Content-Disposition`, as it was sent.
    pub(super) fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// Ends a response whose whole body was read. The connection is kept for another download if
    /// `keeps_open`, or closed.
    pub(super) fn end(self, keeps_open: bool) {
        let Self { body, lease, .. } = self;
        // Dropping the body gives the connection back to the agent.
        drop(body);
        if keeps_open {
            lease.keep();
        }
    }
}

impl Read for HttpResponse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        let asked = Instant::now();
        let read = self.body.read(buffer)?;
        if is_first
            && self.lease.has_served()
            && asked.elapsed() > LATE_BODY_TIME
            && LATE_BODIES.fetch_add(1, Ordering::Relaxed) > 0
        {
            self.lease.keep_none();
        }
        Ok(read)
    }
}

/// The configuration without certificates: reading them costs more than a small file does.
static CONFIG: LazyLock<Config> = LazyLock::new(|| config(|config| config.max_idle_connections(1)));

/// How long connections are kept: for small files one after the other, see [`Connections`].
const KEEPING: Keeping =
    Keeping { idle_timeout: Duration::from_millis(20), max_lifetime: Duration::from_millis(100) };

/// The kept connections. Each has an agent of its own: dropping the agent closes the connection.
static CONNECTIONS: LazyLock<Connections<Agent>> =
    LazyLock::new(|| Connections::new(KEEPING, plain_agent));

fn plain_agent() -> Agent {
    Agent::new_with_config(CONFIG.clone())
}

/// The agent with certificates, for HTTPS as well, which all tasks of a process share.
static TRUSTING_AGENT: LazyLock<Result<Agent, String>> = LazyLock::new(|| {
    let root_certs = match std::env::var_os(CERTIFICATES_VARIABLE) {
        Some(path) if !path.is_empty() => certificates(Path::new(&path))
            .map_err(|error| format!("{CERTIFICATES_VARIABLE} {}: {error}", path.display()))?,
        _ => RootCerts::WebPki,
    };
    let tls = TlsConfig::builder().root_certs(root_certs).build();
    // An idle connection would stay open: nothing closes it in time.
    Ok(Agent::new_with_config(config(|config| config.tls_config(tls).max_idle_connections(0))))
});

fn config(set: impl FnOnce(ConfigBuilder<AgentScope>) -> ConfigBuilder<AgentScope>) -> Config {
    let config = Agent::config_builder()
        // A redirection may lead to HTTPS, and by another proxy: `respond` follows it.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Each request has its own proxy.
        .proxy(None)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(STALL_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
        .input_buffer_size(BUFFER_LEN)
        .output_buffer_size(REQUEST_LEN)
        // A file is stored as it is sent: its size is known in advance, and an archive stays
        // packed.
        .accept_encoding("identity")
        .user_agent(concat!("siar/", env!("CARGO_PKG_VERSION")));
    set(config).build()
}

/// Requests `url`.
///
/// # Errors
/// The server cannot be reached, refuses the request, or is not trusted.
pub(super) fn get(url: &str) -> Result<HttpResponse, FetchError> {
    let mut lease = CONNECTIONS.lease();
    let response = respond(url, &mut lease)?;
    let total = response.body().content_length().unwrap_or(0);
    let disposition = response.headers().get("content-disposition");
    let file_name = disposition.and_then(|value| content_disposition::file_name(value.as_bytes()));
    let body = response.into_body().into_reader();
    Ok(HttpResponse { body, total, file_name, lease, is_begun: false })
}

/// Follows redirections from `url` to a response that is none.
fn respond(url: &str, lease: &mut Lease<'_, Agent>) -> Result<Response<Body>, FetchError> {
    // Parsing also encodes the URL as browsers do: spaces, for example.
    let parsed = Url::parse(url);
    let mut requested = parsed.map_err(|error| redirected_wrongly(url, error.to_string()))?;
    for _ in 0..=MAX_REDIRECTS {
        let response = request(&requested, url, lease)?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        requested =
            redirected(&requested, &response).map_err(|reason| redirected_wrongly(url, reason))?;
        drop(response);
        lease.close();
    }
    Err(fetch_error(url, ureq::Error::TooManyRedirects))
}

fn redirected_wrongly(url: &str, reason: String) -> FetchError {
    FetchError::Redirection { url: url.to_owned(), reason }
}

/// Requests `requested`, to which `url` has led, over a kept connection, or with certificates.
fn request(
    requested: &Url,
    url: &str,
    lease: &mut Lease<'_, Agent>,
) -> Result<Response<Body>, FetchError> {
    let proxy =
        proxy_for(requested).map_err(|reason| FetchError::Proxy { url: url.to_owned(), reason })?;
    let shown = match &proxy {
        Some(proxy) => format!("{url} (through the proxy {}:{})", proxy.host(), proxy.port()),
        None => url.to_owned(),
    };
    let failed = |error| fetch_error(&shown, error);
    // A limit of the time for a look-up costs a thread, which an address does not need.
    let has_name = proxy.is_some() || matches!(requested.host(), Some(Host::Domain(_)));
    let resolve_timeout = has_name.then_some(RESOLVE_TIMEOUT);
    if !needs_certificates(requested, proxy.as_ref()) {
        return get_plainly(requested, proxy.as_ref(), resolve_timeout, lease).map_err(failed);
    }
    let agent = TRUSTING_AGENT.as_ref().map_err(|error| FetchError::Trust(error.clone()))?;
    let request = agent.get(requested.as_str()).config().proxy(proxy);
    request.timeout_resolve(resolve_timeout).build().call().map_err(failed)
}

/// The error of a request for `url`.
fn fetch_error(url: &str, error: ureq::Error) -> FetchError {
    let reason = match &error {
        ureq::Error::HostNotFound => Some("host not found".to_owned()),
        ureq::Error::Timeout(Timeout::Resolve) => {
            Some(format!("no name server answered within {} s", RESOLVE_TIMEOUT.as_secs()))
        }
        // The standard library has no kind of error for it.
        ureq::Error::Io(error) => {
            let said = error.to_string();
            said.strip_prefix("failed to lookup address information: ").map(str::to_owned)
        }
        _ => None,
    };
    let url = url.to_owned();
    match reason {
        Some(reason) => FetchError::NotResolved { url, reason },
        None => FetchError::Http { url, error: Box::new(error) },
    }
}

/// Requests `url` without certificates. A server may close a used connection at any time: the
/// request is then repeated over a new one (RFC 9112, section 9.3.1).
fn get_plainly(
    url: &Url,
    proxy: Option<&Proxy>,
    resolve_timeout: Option<Duration>,
    lease: &mut Lease<'_, Agent>,
) -> Result<Response<Body>, ureq::Error> {
    let origin = &url[..Position::BeforePath];
    let call = |lease: &mut Lease<'_, Agent>| {
        let request = lease.connection(origin).get(url.as_str()).config().proxy(proxy.cloned());
        request.timeout_resolve(resolve_timeout).build().call()
    };
    match call(lease) {
        Err(ureq::Error::Io(_)) if lease.has_served() => {
            lease.close();
            call(lease)
        }
        result => result,
    }
}

/// Whether the server of `url` or the proxy has to prove its identity.
fn needs_certificates(url: &Url, proxy: Option<&Proxy>) -> bool {
    url.scheme() != "http" || proxy.is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https)
}

/// Returns the URL that a response redirects to.
///
/// # Errors
/// The response leads to nothing that can be requested: the message says to what.
fn redirected(url: &Url, response: &Response<Body>) -> Result<Url, String> {
    let Some(location) = response.headers().get("location") else {
        return Err(format!("the server answered {} without a location", response.status()));
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    let to = url.join(&location).map_err(|error| format!("{location:?}: {error}"))?;
    if matches!(to.scheme(), "http" | "https") {
        Ok(to)
    } else {
        Err(format!("{location:?} is neither http:// nor https://"))
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    /// Answers the given number of requests over each connection, and reads one more.
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
            let mut lease = connections.lease();
            let url = Url::parse(url).unwrap();
            let mut response = get_plainly(&url, None, None, &mut lease).unwrap();
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
    fn certificates_are_needed_for_https_alone() {
        let [http, https] = ["http://a/b", "https://a/b"].map(|url| Url::parse(url).unwrap());
        let proxy = |url| Proxy::new(url).unwrap();
        assert!(!needs_certificates(&http, None));
        assert!(!needs_certificates(&http, Some(&proxy("http://p:3128"))));
        assert!(needs_certificates(&http, Some(&proxy("https://p:3128"))));
        assert!(needs_certificates(&https, None));
    }

    #[test]
    fn certificates_to_trust_are_read_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(certificates(&path).is_err());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(certificates(&path).unwrap_err().to_string().contains("PEM"));
    }
}
