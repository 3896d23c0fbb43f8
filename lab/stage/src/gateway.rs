//! The lab's HTTP server, which stands for the internet and offers the sample files.

use std::io::{Cursor, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tiny_http::{Response, Server, StatusCode};

use crate::StageError;
use crate::network::Network;
use crate::node::GATEWAY;
use crate::samples::Sample;

/// The files that a [`Gateway`] serves.
pub trait Content: Send + Sync {
    /// A reader of the file at a URL path, which includes the query, and the file's length in
    /// bytes; `None` if there is no such file.
    fn open(&self, path: &str) -> Option<(Box<dyn Read + Send>, usize)>;
}

/// A running HTTP server; dropping the value stops the server.
pub struct Gateway {
    server: Arc<Server>,
    address: SocketAddr,
    origin: String,
    threads: Vec<JoinHandle<()>>,
}

/// The number of downloads that are served at the same time.
const THREADS: usize = 8;

impl Gateway {
    /// Serves `samples` on the network's gateway, at TCP port 80, or at a free port on loopback.
    ///
    /// # Errors
    /// The server cannot listen on the address.
    pub fn start(network: &Network, samples: Arc<Vec<Sample>>) -> Result<Self, StageError> {
        let port = if matches!(network, Network::Loopback) { 0 } else { 80 };
        let address = SocketAddr::new(network.address(GATEWAY), port);
        let listener = network.on(GATEWAY, || TcpListener::bind(address));
        Self::serve(listener, address, samples)
    }

    /// Serves `samples` at `address`.
    ///
    /// # Errors
    /// The server cannot listen on the address.
    pub fn start_at(address: SocketAddr, samples: Arc<Vec<Sample>>) -> Result<Self, StageError> {
        Self::serve(TcpListener::bind(address), address, samples)
    }

    /// Serves `content` on `listener`, which was opened at `address`.
    ///
    /// # Errors
    /// `listener` is an error, or the server cannot use it.
    pub fn serve(
        listener: std::io::Result<TcpListener>,
        address: SocketAddr,
        content: Arc<dyn Content>,
    ) -> Result<Self, StageError> {
        let error = |error: String| StageError::Gateway { address, error };
        let listener = listener.map_err(|cause| error(cause.to_string()))?;
        let address = listener.local_addr().map_err(|cause| error(cause.to_string()))?;
        let server =
            Server::from_listener(listener, None).map_err(|cause| error(cause.to_string()))?;
        let server = Arc::new(server);
        let origin = match address {
            SocketAddr::V4(address) if address.port() == 80 => format!("http://{}", address.ip()),
            address => format!("http://{address}"),
        };
        let mut gateway = Self { server, address, origin, threads: Vec::new() };
        for _ in 0..THREADS {
            let (server, content) = (Arc::clone(&gateway.server), Arc::clone(&content));
            gateway.threads.push(thread::spawn(move || {
                for request in server.incoming_requests() {
                    // A client may end the connection at any time; this is no failure.
                    let _ = match content.open(request.url()) {
                        Some((body, len)) => request.respond(response(body, len)),
                        None => request.respond(Response::empty(404)),
                    };
                }
            }));
        }
        Ok(gateway)
    }

    /// The beginning of every URL that the server offers: scheme, host and, if needed, port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Sets the beginning of every URL, for a server that is reached through another one.
    pub fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// The TCP port that the server listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL list of `samples` in TOML, as a client's `--urls` takes it.
    #[must_use]
    pub fn url_list(&self, samples: &[Sample]) -> String {
        let origin = self.origin();
        let line = |sample: &Sample| format!("{} = \"{origin}{}\"\n", sample.key, sample.path);
        samples.iter().map(line).collect()
    }

    /// The IP address that the server listens on.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

impl Content for Vec<Sample> {
    fn open(&self, path: &str) -> Option<(Box<dyn Read + Send>, usize)> {
        let sample = self.iter().find(|sample| sample.path == path)?;
        Some((Box::new(Cursor::new(sample.bytes.clone())), sample.bytes.len()))
    }
}

fn response(body: Box<dyn Read + Send>, len: usize) -> Response<Box<dyn Read + Send>> {
    // Clients need the length; without this threshold tiny_http sends large files in chunks.
    Response::new(StatusCode(200), Vec::new(), body, Some(len), None)
        .with_chunked_threshold(usize::MAX)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for _ in &self.threads {
            self.server.unblock();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a gateway thread panicked");
            }
        }
    }
}
