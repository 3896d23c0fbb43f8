//! The HTTP server that stands for the internet: it offers the sample files.

use std::io::{Cursor, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tiny_http::{Response, Server, StatusCode};

use crate::LabError;
use crate::network::{GATEWAY, Network};
use crate::samples::Sample;

/// What is served.
pub trait Content: Send + Sync {
    /// The bytes behind a path, query included, and how many there are.
    fn open(&self, path: &str) -> Option<(Box<dyn Read + Send>, usize)>;
}

/// A running server; it ends when this is dropped.
pub struct Gateway {
    server: Arc<Server>,
    address: SocketAddr,
    origin: String,
    threads: Vec<JoinHandle<()>>,
}

/// As many downloads as this are served at once.
const THREADS: usize = 8;

impl Gateway {
    /// Serves `samples` on the network's gateway, at port 80, or at a free one on loopback.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(network: &Network, samples: Arc<Vec<Sample>>) -> Result<Self, LabError> {
        let port = if matches!(network, Network::Loopback) { 0 } else { 80 };
        let address = SocketAddr::new(network.address(GATEWAY), port);
        let listener = network.on(GATEWAY, || TcpListener::bind(address));
        Self::serve(listener, address, samples)
    }

    /// Serves `samples` at `address`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start_at(address: SocketAddr, samples: Arc<Vec<Sample>>) -> Result<Self, LabError> {
        Self::serve(TcpListener::bind(address), address, samples)
    }

    /// Serves `content` at a listener that was opened at `address`.
    ///
    /// # Errors
    /// The address could not be listened on.
    pub fn serve(
        listener: std::io::Result<TcpListener>,
        address: SocketAddr,
        content: Arc<dyn Content>,
    ) -> Result<Self, LabError> {
        let error = |error: String| LabError::Gateway { address, error };
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
                    // A client that goes away is no concern of the server's.
                    let _ = match content.open(request.url()) {
                        Some((body, len)) => request.respond(response(body, len)),
                        None => request.respond(Response::empty(404)),
                    };
                }
            }));
        }
        Ok(gateway)
    }

    /// The URL of everything that it serves begins with this.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// It is to be asked for by this instead.
    pub fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL list of `samples`, as a client's `--urls` takes it.
    #[must_use]
    pub fn url_list(&self, samples: &[Sample]) -> String {
        let origin = self.origin();
        let line = |sample: &Sample| format!("{} = \"{origin}{}\"\n", sample.key, sample.path);
        samples.iter().map(line).collect()
    }

    /// Where it listens.
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
    // A length that is known is sent, whatever the size.
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
