//! GNS3's REST API: v3 of GNS3 3.0, and v2 of GNS3 2.2, as far as the lab needs them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use super::error::Gns3Error;

/// Files are read whole; a larger one is none of the lab's.
const MAX_BODY: u64 = 256 << 20;

const CONNECT: Duration = Duration::from_secs(10);
/// Opening a project may take a container's image over the internet.
const PATIENCE: Duration = Duration::from_secs(300);

type Result<T> = std::result::Result<T, Gns3Error>;

/// A project.
#[derive(Debug, Clone, Deserialize)]
pub struct Project {
    /// Its number.
    pub project_id: String,
    /// Its name, which no other project of the server has.
    pub name: String,
    /// `opened` or `closed`.
    pub status: String,
}

impl Project {
    /// Whether its nodes can be asked for and changed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status == "opened"
    }
}

/// A note or picture on the canvas.
#[derive(Debug, Clone, Deserialize)]
pub struct Drawing {
    /// Its number.
    pub drawing_id: String,
    /// What it shows.
    pub svg: String,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeState {
    /// Its number.
    pub node_id: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub node_type: String,
    /// `started`, `stopped` or `suspended`; not known in a closed project.
    pub status: Option<String>,
    /// The TCP port of its console.
    pub console: Option<u16>,
    /// The host of it.
    pub console_host: Option<String>,
    /// What its kind goes by.
    #[serde(default)]
    pub properties: Value,
}

impl NodeState {
    /// Whether it runs.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.status.as_deref() == Some("started")
    }
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct LinkEnd {
    /// The node.
    pub node_id: String,
    /// Its adapter.
    pub adapter_number: u32,
    /// Its port.
    pub port_number: u32,
}

/// A link.
#[derive(Debug, Clone, Deserialize)]
pub struct Link {
    /// Its two ends.
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
    /// As it tells.
    pub release: String,
}

enum Body<'a> {
    None,
    Json(&'a Value),
    Bytes(&'a [u8]),
}

impl Server {
    /// Finds out what answers at `address` and logs in.
    ///
    /// # Errors
    /// Nobody or something else answers, or the password is wrong.
    pub fn connect(address: &str, user: &str, password: &str) -> Result<Self> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(PATIENCE))
            // It is near, and a proxy would not find it.
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
        let login = |server: &Self| Gns3Error::Login {
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
                Err(Gns3Error::NotGns3 { server: server.address, answer })
            }
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host of its address.
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
        let unreachable =
            |error| Gns3Error::Unreachable { server: self.address.clone(), error: Box::new(error) };
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

    /// `path` is below the version's.
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
            .map_err(|error| Gns3Error::Answer { what: what.to_owned(), error })
    }

    /// The project of this name, if there is one.
    ///
    /// # Errors
    /// The server refuses.
    pub fn find_project(&self, name: &str) -> Result<Option<Project>> {
        let all: Vec<Project> = self.ask("list projects", "GET", "/projects", Body::None)?;
        Ok(all.into_iter().find(|project| project.name == name))
    }

    /// Makes a project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn create_project(&self, name: &str) -> Result<Project> {
        let body = json!({ "name": name });
        self.ask(&format!("create project {name}"), "POST", "/projects", Body::Json(&body))
    }

    /// Opens a project.
    ///
    /// # Errors
    /// A node needs what the server has not got.
    pub fn open_project(&self, project: &Project) -> Result<()> {
        let path = format!("/projects/{}/open", project.project_id);
        self.call(&format!("open project {}", project.name), "POST", &path, Body::None).map(drop)
    }

    /// Closes a project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn close_project(&self, project: &Project) -> Result<()> {
        let path = format!("/projects/{}/close", project.project_id);
        self.call(&format!("close project {}", project.name), "POST", &path, Body::None).map(drop)
    }

    /// Removes a project and all that is in it.
    ///
    /// # Errors
    /// The server refuses.
    pub fn delete_project(&self, project: &Project) -> Result<()> {
        let path = format!("/projects/{}", project.project_id);
        self.call(&format!("delete project {}", project.name), "DELETE", &path, Body::None)
            .map(drop)
    }

    /// Takes a portable project under a new number.
    ///
    /// # Errors
    /// It is none.
    pub fn import_project(&self, id: &str, name: &str, bytes: &[u8]) -> Result<Project> {
        let path = format!("/projects/{id}/import?name={name}");
        self.ask(&format!("import project {name}"), "POST", &path, Body::Bytes(bytes))
    }

    /// A project's nodes.
    ///
    /// # Errors
    /// The server refuses.
    pub fn nodes(&self, project: &Project) -> Result<Vec<NodeState>> {
        let path = format!("/projects/{}/nodes", project.project_id);
        self.ask("list nodes", "GET", &path, Body::None)
    }

    /// Makes a node.
    ///
    /// # Errors
    /// The server has not got what it needs; or calls it otherwise.
    pub fn create_node(&self, project: &Project, body: &Value) -> Result<NodeState> {
        let path = format!("/projects/{}/nodes", project.project_id);
        let wanted = body["name"].as_str().unwrap_or_default();
        let what = format!("create node {wanted}");
        let node: NodeState = self.ask(&what, "POST", &path, Body::Json(body))?;
        if node.name != wanted {
            self.delete_node(project, &node)?;
            return Err(Gns3Error::Renamed { wanted: wanted.to_owned(), given: node.name });
        }
        Ok(node)
    }

    /// Removes a node, and its links.
    ///
    /// # Errors
    /// The server refuses.
    pub fn delete_node(&self, project: &Project, node: &NodeState) -> Result<()> {
        let path = format!("/projects/{}/nodes/{}", project.project_id, node.node_id);
        self.call(&format!("delete node {}", node.name), "DELETE", &path, Body::None).map(drop)
    }

    /// Changes a node; gives it as it is then.
    ///
    /// # Errors
    /// The server refuses.
    pub fn change_node(
        &self,
        project: &Project,
        node: &NodeState,
        body: &Value,
    ) -> Result<NodeState> {
        let path = format!("/projects/{}/nodes/{}", project.project_id, node.node_id);
        self.ask(&format!("change node {}", node.name), "PUT", &path, Body::Json(body))
    }

    /// Starts a node.
    ///
    /// # Errors
    /// The server has not got what it needs.
    pub fn start_node(&self, project: &Project, node: &NodeState) -> Result<()> {
        let path = format!("/projects/{}/nodes/{}/start", project.project_id, node.node_id);
        let body = json!({});
        self.call(&format!("start {}", node.name), "POST", &path, Body::Json(&body)).map(drop)
    }

    /// Stops a node.
    ///
    /// # Errors
    /// The server refuses.
    pub fn stop_node(&self, project: &Project, node: &NodeState) -> Result<()> {
        let path = format!("/projects/{}/nodes/{}/stop", project.project_id, node.node_id);
        self.call(&format!("stop {}", node.name), "POST", &path, Body::None).map(drop)
    }

    /// Stops all nodes.
    ///
    /// # Errors
    /// The server refuses.
    pub fn stop_nodes(&self, project: &Project) -> Result<()> {
        let path = format!("/projects/{}/nodes/stop", project.project_id);
        self.call("stop all nodes", "POST", &path, Body::None).map(drop)
    }

    /// A file of a node's folder; `None` if it is not there.
    ///
    /// # Errors
    /// The server refuses.
    pub fn read_file(
        &self,
        project: &Project,
        node: &NodeState,
        file: &str,
    ) -> Result<Option<Vec<u8>>> {
        let path = format!("/projects/{}/nodes/{}/files/{file}", project.project_id, node.node_id);
        let what = format!("read {file} of {}", node.name);
        match self.call(&what, "GET", &path, Body::None) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Gns3Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a file into a node's folder.
    ///
    /// # Errors
    /// The server refuses.
    pub fn write_file(
        &self,
        project: &Project,
        node: &NodeState,
        file: &str,
        bytes: &[u8],
    ) -> Result<()> {
        let path = format!("/projects/{}/nodes/{}/files/{file}", project.project_id, node.node_id);
        let what = format!("write {file} of {}", node.name);
        self.call(&what, "POST", &path, Body::Bytes(bytes)).map(drop)
    }

    /// A project's links.
    ///
    /// # Errors
    /// The server refuses.
    pub fn links(&self, project: &Project) -> Result<Vec<Link>> {
        let path = format!("/projects/{}/links", project.project_id);
        self.ask("list links", "GET", &path, Body::None)
    }

    /// Joins two ports.
    ///
    /// # Errors
    /// One is taken, or not there.
    pub fn create_link(&self, project: &Project, ends: &[LinkEnd; 2], what: &str) -> Result<()> {
        let path = format!("/projects/{}/links", project.project_id);
        let ends = ends.iter().map(|end| {
            json!({
                "node_id": end.node_id,
                "adapter_number": end.adapter_number,
                "port_number": end.port_number,
            })
        });
        let body = json!({ "nodes": ends.collect::<Vec<_>>() });
        self.call(&format!("link {what}"), "POST", &path, Body::Json(&body)).map(drop)
    }

    /// The drawings of a project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn drawings(&self, project: &Project) -> Result<Vec<Drawing>> {
        let path = format!("/projects/{}/drawings", project.project_id);
        self.ask("list drawings", "GET", &path, Body::None)
    }

    /// Puts a drawing onto the canvas, under a number that the caller chooses.
    ///
    /// # Errors
    /// The server refuses.
    pub fn create_drawing(
        &self,
        project: &Project,
        id: &str,
        svg: &str,
        (x, y): (i32, i32),
    ) -> Result<()> {
        let path = format!("/projects/{}/drawings", project.project_id);
        let body = json!({"drawing_id": id, "svg": svg, "x": x, "y": y, "z": 2});
        self.call("put a note onto the canvas", "POST", &path, Body::Json(&body)).map(drop)
    }

    /// Makes a drawing show something else.
    ///
    /// # Errors
    /// The server refuses.
    pub fn change_drawing(&self, project: &Project, id: &str, svg: &str) -> Result<()> {
        let path = format!("/projects/{}/drawings/{id}", project.project_id);
        let body = json!({ "svg": svg });
        self.call("change a note on the canvas", "PUT", &path, Body::Json(&body)).map(drop)
    }
}

fn refused(what: &str, status: u16, body: &[u8]) -> Gns3Error {
    let told = serde_json::from_slice::<Value>(body).ok();
    let told = told.as_ref().and_then(|it| it["message"].as_str().or(it["detail"].as_str()));
    let told = told.filter(|message| !message.is_empty());
    let message = told.map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Gns3Error::Refused { what: what.to_owned(), status, message }
}

fn release(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer["version"].as_str()?.to_owned())
}
