//! A client of GNS3's REST API: v3 of GNS3 3.0 and v2 of GNS3 2.2, as far as the lab needs them.
//! This module has the types and the connection; `calls` has the requests.

mod calls;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use crate::error::ServerError;

/// The largest answer in bytes; all files of the lab are smaller.
const MAX_BODY: u64 = 256 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for an answer: to open a project, GNS3 may download a container's image.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

type Result<T> = std::result::Result<T, ServerError>;

/// A project of a GNS3 server.
#[derive(Debug, Clone, Deserialize)]
pub struct Project {
    /// The project's id, a UUID.
    pub project_id: String,
    /// The project's name, which is unique on the server.
    pub name: String,
    /// The state, `opened` or `closed`.
    pub status: String,
}

impl Project {
    /// Whether the project is open, so that its nodes can be listed and changed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status == "opened"
    }
}

/// A note or picture on the canvas.
#[derive(Debug, Clone, Deserialize)]
pub struct Drawing {
    /// The drawing's id, a UUID.
    pub drawing_id: String,
    /// The drawing as SVG text.
    pub svg: String,
}

/// The state of a node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeState {
    /// The node's id, a UUID.
    pub node_id: String,
    /// The node's name.
    pub name: String,
    /// The node's kind, such as `docker` or `qemu`.
    pub node_type: String,
    /// The status, `started`, `stopped` or `suspended`; `None` in a closed project.
    pub status: Option<String>,
    /// The TCP port of the console.
    pub console: Option<u16>,
    /// The host of the console.
    pub console_host: Option<String>,
    /// The properties of the node's kind.
    #[serde(default)]
    pub properties: Value,
}

impl NodeState {
    /// Whether the node runs.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.status.as_deref() == Some("started")
    }
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct LinkEnd {
    /// The node's id.
    pub node_id: String,
    /// The number of the adapter.
    pub adapter_number: u32,
    /// The number of the port.
    pub port_number: u32,
}

/// A link between two nodes.
#[derive(Debug, Clone, Deserialize)]
pub struct Link {
    /// The two ends.
    pub nodes: Vec<LinkEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

/// A GNS3 server.
#[derive(Debug)]
pub struct Server {
    agent: Agent,
    address: String,
    version: Version,
    authorization: String,
    /// The server's version, as the server reports it.
    pub release: String,
}

enum Body<'a> {
    None,
    Json(&'a Value),
    Bytes(&'a [u8]),
}

impl Server {
    /// Connects to the server at the URL `address`, finds its version and logs in.
    ///
    /// # Errors
    /// No GNS3 server answers, or the password is wrong.
    pub fn connect(address: &str, user: &str, password: &str) -> Result<Self> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            // The server is on the local network, which a proxy may not reach.
            .proxy(None)
            .build()
            .into();
        let scheme = if address.contains("://") { "" } else { "http://" };
        let address = format!("{scheme}{}", address.trim_end_matches('/'));
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut server = Self {
            agent,
            address,
            version: Version::V3,
            authorization: basic,
            release: String::new(),
        };
        let login = |server: &Self| ServerError::Login {
            server: server.address.clone(),
            user: user.to_owned(),
        };
        let (status, body) = server.exchange("GET", "/v3/version", Body::None)?;
        if let (200, Some(release)) = (status, release(&body)) {
            server.release = release;
            let credentials = json!({"username": user, "password": password});
            let path = "/v3/access/users/authenticate";
            let (status, body) = server.exchange("POST", path, Body::Json(&credentials))?;
            if status == 401 {
                return Err(login(&server));
            }
            let token = serde_json::from_slice::<Value>(&body).ok();
            let token = token.as_ref().and_then(|answer| answer["access_token"].as_str());
            let Some(token) = token else { return Err(refused("log in", status, &body)) };
            server.authorization = format!("Bearer {token}");
            return Ok(server);
        }
        server.version = Version::V2;
        let (status, body) = server.exchange("GET", "/v2/version", Body::None)?;
        match (status, release(&body)) {
            (200, Some(release)) => {
                server.release = release;
                Ok(server)
            }
            (401, _) => Err(login(&server)),
            _ => {
                let said = String::from_utf8_lossy(&body).chars().take(80).collect::<String>();
                let answer = format!("HTTP status {status}, {said:?}");
                Err(ServerError::NotGns3 { server: server.address, answer })
            }
        }
    }

    /// The server's URL.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host in the server's URL.
    #[must_use]
    pub fn host(&self) -> String {
        let url = url::Url::parse(&self.address).ok();
        url.as_ref().and_then(url::Url::host_str).unwrap_or("127.0.0.1").to_owned()
    }

    fn exchange(&self, method: &str, path: &str, body: Body<'_>) -> Result<(u16, Vec<u8>)> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("Authorization", &self.authorization);
        let unreachable = |error| ServerError::Unreachable {
            server: self.address.clone(),
            error: Box::new(error),
        };
        let answer = match body {
            Body::None => {
                request.body(()).map_err(ureq::Error::from).and_then(|it| self.agent.run(it))
            }
            Body::Json(value) => request
                .header("Content-Type", "application/json")
                .body(value.to_string())
                .map_err(ureq::Error::from)
                .and_then(|it| self.agent.run(it)),
            Body::Bytes(bytes) => request
                .header("Content-Type", "application/octet-stream")
                .body(bytes)
                .map_err(ureq::Error::from)
                .and_then(|it| self.agent.run(it)),
        };
        let mut answer = answer.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let read = answer.body_mut().with_config().limit(MAX_BODY).read_to_vec();
        Ok((status, read.map_err(unreachable)?))
    }

    /// Sends a request and returns the body of the answer. `path` follows the version's prefix.
    fn call(&self, what: &str, method: &str, path: &str, body: Body<'_>) -> Result<Vec<u8>> {
        let prefix = if self.version == Version::V3 { "/v3" } else { "/v2" };
        let (status, body) = self.exchange(method, &format!("{prefix}{path}"), body)?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(refused(what, status, &body))
    }

    fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        what: &str,
        method: &str,
        path: &str,
        body: Body<'_>,
    ) -> Result<T> {
        let answer = self.call(what, method, path, body)?;
        serde_json::from_slice(&answer)
            .map_err(|error| ServerError::Answer { what: what.to_owned(), error })
    }
}

fn refused(what: &str, status: u16, body: &[u8]) -> ServerError {
    let told = serde_json::from_slice::<Value>(body).ok();
    let told = told.as_ref().and_then(|it| it["message"].as_str().or(it["detail"].as_str()));
    let told = told.filter(|message| !message.is_empty());
    let message = told.map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    ServerError::Refused { what: what.to_owned(), status, message }
}

fn release(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer["version"].as_str()?.to_owned())
}
