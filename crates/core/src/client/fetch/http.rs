//! HTTP and HTTPS: the response for a URL, over a kept or a new connection.

use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ureq::config::{Config, ConfigBuilder};
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::{AgentScope, WithoutBody};
use ureq::{Agent, Body, BodyReader, Proxy, ProxyProtocol, RequestBuilder, Timeout};
use url::{Host, Position, Url};

use super::connections::{Connections, Keeping, Lease};
use super::content_disposition;
use super::proxy::proxy_for;
use super::reach::{JudgingResolver, Redirections, loses_https, seems_public, watched};
use super::transport::connector;
use super::{BUFFER_LEN, FetchConfig, FetchError, require_time};
use crate::client::shown_url::shown_url;

/// The longest wait for a host's address: less than the usual `--timeout`, so that the reason of a
/// failure is told.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The shortest wait: a timeout of zero would mean none.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
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
    agent(CONFIG.clone())
}

fn agent(config: Config) -> Agent {
    Agent::with_parts(config, connector(), JudgingResolver::default())
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
    Ok(agent(config(|config| config.tls_config(tls).max_idle_connections(0))))
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

/// Requests `url`, which errors name as `shown`.
///
/// # Errors
/// The server cannot be reached, refuses the request, is not trusted, or redirects to where it must
/// not.
pub(super) fn get(
    url: &str,
    shown: &str,
    config: &FetchConfig<'_>,
) -> Result<HttpResponse, FetchError> {
    let mut lease = CONNECTIONS.lease();
    let response = respond(url, shown, config, &mut lease)?;
    let total = response.body().content_length().unwrap_or(0);
    let disposition = response.headers().get("content-disposition");
    let file_name = disposition.and_then(|value| content_disposition::file_name(value.as_bytes()));
    let body = response.into_body().into_reader();
    Ok(HttpResponse { body, total, file_name, lease, is_begun: false })
}

/// Follows redirections from `url` to a response that is none.
fn respond(
    url: &str,
    shown: &str,
    config: &FetchConfig<'_>,
    lease: &mut Lease<'_, Agent>,
) -> Result<Response<Body>, FetchError> {
    let wrongly = |reason| FetchError::Redirection { url: shown.to_owned(), reason };
    // Parsing also encodes the URL as browsers do: spaces, for example.
    let mut to = Url::parse(url).map_err(|error| wrongly(error.to_string()))?;
    let left = config.time_limit.map_or(STALL_TIMEOUT, |limit| limit.left().max(SHORTEST_WAIT));
    let stall_timeout = config.speed.longest_wait(STALL_TIMEOUT).min(left);
    // The public URL that has redirected to this one, if this one must be public for that.
    let mut from = None;
    for _ in 0..=MAX_REDIRECTS {
        let hop = Hop { to: &to, from: from.as_ref(), shown, stall_timeout };
        let answered = hop.request(lease);
        require_time(config.time_limit, shown, 0)?;
        let (response, is_public) = answered?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let next = redirected(&to, &response).map_err(wrongly)?;
        if config.redirections == Redirections::Safe {
            if loses_https(&to, &next) {
                return Err(unsafe_redirection(&to, &next, "without the safety of https://"));
            }
            from = is_public.then_some(to);
        }
        to = next;
        drop(response);
        lease.close();
    }
    Err(fetch_error(shown, ureq::Error::TooManyRedirects))
}

fn unsafe_redirection(from: &Url, to: &Url, how: &str) -> FetchError {
    let [from, to] = [from, to].map(|url| shown_url(url.as_str()));
    FetchError::UnsafeRedirection { from, to, how: how.to_owned() }
}

/// One request on the way to a response that is no redirection.
struct Hop<'a> {
    to: &'a Url,
    /// The URL that has redirected to `to`, if `to` must be public.
    from: Option<&'a Url>,
    /// The URL that errors name.
    shown: &'a str,
    stall_timeout: Duration,
}

impl Hop<'_> {
    /// Makes the request, over a kept connection or with certificates. Returns also whether the
    /// server may be a public one.
    fn request(&self, lease: &mut Lease<'_, Agent>) -> Result<(Response<Body>, bool), FetchError> {
        let proxy = proxy_for(self.to)
            .map_err(|reason| FetchError::Proxy { url: self.shown.to_owned(), reason })?;
        let shown = match &proxy {
            Some(proxy) => {
                format!("{} (through the proxy {}:{})", self.shown, proxy.host(), proxy.port())
            }
            None => self.shown.to_owned(),
        };
        // A proxy looks a name up itself: what it finds cannot be judged here.
        let seems_public = proxy.is_some() && seems_public(self.to);
        if let Some(from) = self.from.filter(|_| proxy.is_some() && !seems_public) {
            return Err(unsafe_redirection(from, self.to, "whose host is not a public one"));
        }
        let only_public = self.from.is_some() && proxy.is_none();
        let (result, seen) = watched(only_public, || self.call(proxy.as_ref(), lease));
        let response = match (result?, self.from, seen.address_inside()) {
            (Ok(response), ..) => response,
            (Err(_), Some(from), Some(address)) if only_public => {
                let how = format!("whose address {address} is not a public one");
                return Err(unsafe_redirection(from, self.to, &how));
            }
            (Err(error), ..) => return Err(fetch_error(&shown, error)),
        };
        Ok((response, if proxy.is_some() { seems_public } else { seen.may_be_public() }))
    }

    fn call(
        &self,
        proxy: Option<&Proxy>,
        lease: &mut Lease<'_, Agent>,
    ) -> Result<Result<Response<Body>, ureq::Error>, FetchError> {
        // A limit of the time for a look-up costs a thread, which an address does not need.
        let has_name = proxy.is_some() || matches!(self.to.host(), Some(Host::Domain(_)));
        let set = |request: RequestBuilder<WithoutBody>| {
            let config = request.config().proxy(proxy.cloned());
            let config = config.timeout_resolve(has_name.then_some(RESOLVE_TIMEOUT));
            // Of the head, each read could bring a byte only.
            let config = config.timeout_recv_response(Some(self.stall_timeout));
            config.timeout_per_read(Some(self.stall_timeout)).build().call()
        };
        if !needs_certificates(self.to, proxy) {
            return Ok(get_plainly(self.to, set, lease));
        }
        let agent = TRUSTING_AGENT.as_ref().map_err(|error| FetchError::Trust(error.clone()))?;
        Ok(set(agent.get(self.to.as_str())))
    }
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

/// Requests `url` without certificates, by `call`. A server may close a used connection at any
/// time: the request is then repeated over a new one (RFC 9112, section 9.3.1).
fn get_plainly(
    url: &Url,
    call: impl Fn(RequestBuilder<WithoutBody>) -> Result<Response<Body>, ureq::Error>,
    lease: &mut Lease<'_, Agent>,
) -> Result<Response<Body>, ureq::Error> {
    let origin = &url[..Position::BeforePath];
    match call(lease.connection(origin).get(url.as_str())) {
        Err(ureq::Error::Io(_)) if lease.has_served() => {
            lease.close();
            call(lease.connection(origin).get(url.as_str()))
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
    let shown = || shown_url(&location);
    let to = url.join(&location).map_err(|error| format!("\"{}\": {error}", shown()))?;
    if matches!(to.scheme(), "http" | "https") {
        Ok(to)
    } else {
        Err(format!("\"{}\" is neither http:// nor https://", shown()))
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
            let mut response = get_plainly(&url, RequestBuilder::call, &mut lease).unwrap();
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
    fn no_public_server_leads_to_what_is_not_public() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let from = Url::parse("http://user:secret@example.org/a").unwrap();
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let to = Url::parse(&format!("http://{host}:{port}/b")).unwrap();
            let hop = Hop { to: &to, from: Some(&from), shown: "a", stall_timeout: STALL_TIMEOUT };
            let error = hop.request(&mut CONNECTIONS.lease()).unwrap_err();
            assert!(matches!(error, FetchError::UnsafeRedirection { .. }), "{error}");
            let said = error.to_string();
            assert!(said.starts_with("http://user:***@example.org/a: redirects to "), "{said}");
            assert!(said.contains(to.as_str()), "{said}");
            let asked = listener.accept().unwrap_err();
            assert_eq!(asked.kind(), io::ErrorKind::WouldBlock);
        }
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
