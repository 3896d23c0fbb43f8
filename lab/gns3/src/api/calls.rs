//! Requests to a GNS3 server: projects, nodes, files, links and drawings.

use serde_json::{Value, json};

use super::{Body, Drawing, Link, LinkEnd, NodeState, Project, Result, Server};
use crate::error::ServerError;

impl Server {
    /// Finds a project by its name; `None` if there is no such project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn find_project(&self, name: &str) -> Result<Option<Project>> {
        let all: Vec<Project> = self.ask("list projects", "GET", "/projects", Body::None)?;
        Ok(all.into_iter().find(|project| project.name == name))
    }

    /// Creates a project.
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
    /// The server lacks something that a node needs, such as an image.
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

    /// Removes a project with all its nodes and files.
    ///
    /// # Errors
    /// The server refuses.
    pub fn delete_project(&self, project: &Project) -> Result<()> {
        let path = format!("/projects/{}", project.project_id);
        self.call(&format!("delete project {}", project.name), "DELETE", &path, Body::None)
            .map(drop)
    }

    /// Imports the portable project `bytes` under the new id `id`, a UUID.
    ///
    /// # Errors
    /// `bytes` is no portable project.
    pub fn import_project(&self, id: &str, name: &str, bytes: &[u8]) -> Result<Project> {
        let path = format!("/projects/{id}/import?name={name}");
        self.ask(&format!("import project {name}"), "POST", &path, Body::Bytes(bytes))
    }

    /// The nodes of a project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn nodes(&self, project: &Project) -> Result<Vec<NodeState>> {
        let path = format!("/projects/{}/nodes", project.project_id);
        self.ask("list nodes", "GET", &path, Body::None)
    }

    /// Creates a node.
    ///
    /// # Errors
    /// The server lacks something that the node needs, or gives the node another name.
    pub fn create_node(&self, project: &Project, body: &Value) -> Result<NodeState> {
        let path = format!("/projects/{}/nodes", project.project_id);
        let wanted = body["name"].as_str().unwrap_or_default();
        let what = format!("create node {wanted}");
        let node: NodeState = self.ask(&what, "POST", &path, Body::Json(body))?;
        if node.name != wanted {
            self.delete_node(project, &node)?;
            return Err(ServerError::Renamed { wanted: wanted.to_owned(), given: node.name });
        }
        Ok(node)
    }

    /// Removes a node and its links.
    ///
    /// # Errors
    /// The server refuses.
    pub fn delete_node(&self, project: &Project, node: &NodeState) -> Result<()> {
        let path = format!("/projects/{}/nodes/{}", project.project_id, node.node_id);
        self.call(&format!("delete node {}", node.name), "DELETE", &path, Body::None).map(drop)
    }

    /// Changes a node, and returns its new state.
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
    /// The server lacks something that the node needs.
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

    /// Stops all nodes of a project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn stop_nodes(&self, project: &Project) -> Result<()> {
        let path = format!("/projects/{}/nodes/stop", project.project_id);
        self.call("stop all nodes", "POST", &path, Body::None).map(drop)
    }

    /// Reads a file in a node's folder; `None` if the file does not exist.
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
            Err(ServerError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file into a node's folder.
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

    /// The links of a project.
    ///
    /// # Errors
    /// The server refuses.
    pub fn links(&self, project: &Project) -> Result<Vec<Link>> {
        let path = format!("/projects/{}/links", project.project_id);
        self.ask("list links", "GET", &path, Body::None)
    }

    /// Links two ports. `what` describes the link for an error message.
    ///
    /// # Errors
    /// A port is in use or does not exist.
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

    /// Creates a drawing on the canvas at the position (x, y) in pixels, with an id that the caller
    /// chooses.
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

    /// Replaces the SVG text of a drawing.
    ///
    /// # Errors
    /// The server refuses.
    pub fn change_drawing(&self, project: &Project, id: &str, svg: &str) -> Result<()> {
        let path = format!("/projects/{}/drawings/{id}", project.project_id);
        let body = json!({ "svg": svg });
        self.call("change a note on the canvas", "PUT", &path, Body::Json(&body)).map(drop)
    }
}
