//! The deployment of the lab on a GNS3 server, which changes only what differs from the plan.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::api::{LinkEnd, NodeState, Project, Server};
use super::error::ServerError;
use super::project::{body, merge};
use super::topology::{NodeFile, PlannedNode, Port, Topology};

/// The result of a deployment.
#[derive(Debug)]
pub struct Deployed {
    /// The lab's project.
    pub project: Project,
    /// The nodes of the project.
    pub nodes: Vec<NodeState>,
    /// The number of changes.
    pub changes: usize,
}

/// Creates what is missing, changes what differs, and starts the nodes if `start`. Each change
/// is passed to `tell` when it is made. A running node is stopped before its files or properties
/// are changed, because the changes take effect at the next start only.
///
/// # Errors
/// The server refuses a change. Earlier changes stay, and the next deployment goes on from there.
pub fn deploy(
    server: &Server,
    name: &str,
    topology: &Topology,
    start: bool,
    tell: &mut dyn FnMut(&str),
) -> Result<Deployed, ServerError> {
    let mut changes = 0;
    let mut count = |what: &str| {
        changes += 1;
        tell(what);
    };
    let project = match server.find_project(name)? {
        Some(project) => {
            if !project.is_open() {
                server.open_project(&project)?;
                count(&format!("opened project {name}"));
            }
            project
        }
        None => {
            let project = server.create_project(name)?;
            count(&format!("created project {name}"));
            project
        }
    };
    let mut work = Work { server, project: &project, is_dry: false, tell: &mut count };
    work.nodes(topology)?;
    work.links(topology)?;
    work.notes(topology)?;
    if start {
        work.start(topology)?;
    }
    let nodes = server.nodes(&project)?;
    Ok(Deployed { project, nodes, changes })
}

/// The changes that [`deploy`] would make in an open project, in words. Nothing is changed.
///
/// # Errors
/// The server refuses a request, or a node is of another kind.
pub fn differences(
    server: &Server,
    project: &Project,
    topology: &Topology,
) -> Result<Vec<String>, ServerError> {
    let mut found = Vec::new();
    let mut tell = |what: &str| found.push(what.to_owned());
    let mut work = Work { server, project, is_dry: true, tell: &mut tell };
    work.nodes(topology)?;
    work.links(topology)?;
    work.notes(topology)?;
    work.start(topology)?;
    Ok(found)
}

struct Work<'a> {
    server: &'a Server,
    project: &'a Project,
    /// Whether changes are reported only, and not made.
    is_dry: bool,
    tell: &'a mut dyn FnMut(&str),
}

impl Work<'_> {
    fn change(
        &mut self,
        what: &str,
        act: impl FnOnce(&Server, &Project) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        if !self.is_dry {
            act(self.server, self.project)?;
        }
        (self.tell)(what);
        Ok(())
    }

    fn nodes(&mut self, topology: &Topology) -> Result<(), ServerError> {
        for planned in &topology.nodes {
            let found = self.find(&planned.name)?;
            if let Some(node) = &found
                && node.node_type != planned.node_type
            {
                return Err(ServerError::OtherKind {
                    node: node.name.clone(),
                    there: node.node_type.clone(),
                    wanted: planned.node_type,
                });
            }
            // GNS3 cannot change the image of a node.
            let outdated = found.as_ref().filter(|node| has_other_image(planned, node));
            if let Some(node) = outdated {
                let what = format!("removed {}: it has another image", node.name);
                self.change(&what, |server, project| server.delete_node(project, node))?;
            }
            let mut node = match found {
                Some(ref node) if !has_other_image(planned, node) => node.clone(),
                _ => {
                    self.create(planned)?;
                    match self.find(&planned.name)?.filter(|_| !self.is_dry) {
                        Some(node) => node,
                        // In a dry run a missing node has no files and properties to compare.
                        None => continue,
                    }
                }
            };
            self.files(planned, &mut node)?;
            self.properties(planned, &mut node)?;
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Option<NodeState>, ServerError> {
        let nodes = self.server.nodes(self.project)?;
        Ok(nodes.into_iter().find(|node| node.name == name))
    }

    /// Creates a node. After a failed creation, GNS3 keeps the node's name in use until the
    /// project is opened again.
    fn create(&mut self, planned: &PlannedNode) -> Result<(), ServerError> {
        let mut was_reopened = false;
        self.change(&format!("created {}", planned.name), |server, project| {
            match server.create_node(project, &body(planned)) {
                Err(ServerError::Renamed { .. }) => {
                    was_reopened = true;
                    server.close_project(project)?;
                    server.open_project(project)?;
                    server.create_node(project, &body(planned))
                }
                other => other,
            }
            .map(drop)
        })?;
        if was_reopened {
            (self.tell)(
                "closed and opened the project, to get the name back; its nodes are stopped",
            );
        }
        Ok(())
    }

    fn files(&mut self, planned: &PlannedNode, node: &mut NodeState) -> Result<(), ServerError> {
        let mut differing = Vec::new();
        for file in &planned.files {
            let there = self.server.read_file(self.project, node, &file.path)?;
            if !is_as_planned(file, there.as_deref()) {
                differing.push(file);
            }
        }
        if !differing.is_empty() {
            self.stop(node)?;
        }
        for file in differing {
            let what = format!("uploaded {} to {}", file.path, node.name);
            self.change(&what, |server, project| {
                server.write_file(project, node, &file.path, &file.bytes)?;
                // GNS3 3.0 reports success even if it could not write the file.
                let there = server.read_file(project, node, &file.path)?;
                if is_as_planned(file, there.as_deref()) {
                    return Ok(());
                }
                Err(ServerError::NotWritten { file: file.path.clone(), node: node.name.clone() })
            })?;
        }
        Ok(())
    }

    fn properties(
        &mut self,
        planned: &PlannedNode,
        node: &mut NodeState,
    ) -> Result<(), ServerError> {
        let mut wanted = planned.properties.clone();
        merge(&mut wanted, &planned.later_properties);
        let differing = differing(&wanted, &node.properties);
        if differing.is_empty() {
            return Ok(());
        }
        self.stop(node)?;
        let names = differing.keys().cloned().collect::<Vec<_>>().join(", ");
        self.change(&format!("set {names} of {}", node.name), |server, project| {
            let changed = server.change_node(project, node, &json!({ "properties": differing }))?;
            let left = self::differing(&wanted, &changed.properties);
            if left.is_empty() {
                return Ok(());
            }
            let names = left.keys().cloned().collect::<Vec<_>>().join(", ");
            Err(ServerError::NotTaken { node: node.name.clone(), names })
        })
    }

    fn stop(&mut self, node: &mut NodeState) -> Result<(), ServerError> {
        if !node.is_started() || node.console.is_none() {
            return Ok(());
        }
        self.change(&format!("stopped {}", node.name), |server, project| {
            server.stop_node(project, node)
        })?;
        if !self.is_dry
            && let Some(stopped) = self.find(&node.name)?
        {
            if stopped.is_started() {
                return Err(ServerError::NotStopped { node: node.name.clone() });
            }
            *node = stopped;
        }
        Ok(())
    }

    fn links(&mut self, topology: &Topology) -> Result<(), ServerError> {
        let nodes: HashMap<String, String> = self
            .server
            .nodes(self.project)?
            .into_iter()
            .map(|node| (node.name, node.node_id))
            .collect();
        let mut links: Vec<Vec<LinkEnd>> =
            self.server.links(self.project)?.into_iter().map(|link| link.nodes).collect();
        links.iter_mut().for_each(|ends| ends.sort());
        for [a, b] in &topology.links {
            let end = |port: &Port| LinkEnd {
                // In a dry run the node may be missing.
                node_id: nodes.get(&port.node).cloned().unwrap_or_default(),
                adapter_number: 0,
                port_number: port.number,
            };
            let mut ends = [end(a), end(b)];
            ends.sort();
            if !links.iter().any(|there| *there == ends) {
                let what = format!("{} with port {} of {}", a.node, b.number, b.node);
                self.change(&format!("linked {what}"), |server, project| {
                    server.create_link(project, &ends, &what)
                })?;
            }
        }
        Ok(())
    }

    fn notes(&mut self, topology: &Topology) -> Result<(), ServerError> {
        let drawings = self.server.drawings(self.project)?;
        let space = Uuid::parse_str(&self.project.project_id).unwrap_or(Uuid::NAMESPACE_URL);
        for (number, note) in (0..).zip(&topology.notes) {
            if drawings.iter().any(|drawing| drawing.svg == note.svg) {
                continue;
            }
            let id = Uuid::new_v5(&space, format!("note {number}").as_bytes()).to_string();
            if drawings.iter().any(|drawing| drawing.drawing_id == id) {
                self.change("changed a note on the canvas", |server, project| {
                    server.change_drawing(project, &id, &note.svg)
                })?;
            } else {
                self.change("put a note onto the canvas", |server, project| {
                    server.create_drawing(project, &id, &note.svg, note.position)
                })?;
            }
        }
        Ok(())
    }

    fn start(&mut self, topology: &Topology) -> Result<(), ServerError> {
        for planned in topology.nodes.iter().filter(|planned| planned.has_console) {
            let Some(node) = self.find(&planned.name)? else { continue };
            if node.is_started() {
                continue;
            }
            self.change(&format!("started {}", planned.name), |server, project| {
                server.start_node(project, &node).inspect_err(|_| {
                    // GNS3 counts the node as started even if the start failed at a link; only the
                    // first error is reported.
                    let _ = server.stop_node(project, &node);
                })
            })?;
        }
        Ok(())
    }
}

fn has_other_image(planned: &PlannedNode, node: &NodeState) -> bool {
    let image = planned.properties.get("image");
    image.is_some_and(|image| node.properties.get("image") != Some(image))
}

fn is_as_planned(file: &NodeFile, there: Option<&[u8]>) -> bool {
    match there {
        None => false,
        Some(there) if file.is_extended => {
            let (there, wanted) =
                (String::from_utf8_lossy(there), String::from_utf8_lossy(&file.bytes));
            wanted.lines().all(|line| there.lines().any(|other| other == line))
        }
        Some(there) => there == file.bytes,
    }
}

/// The wanted properties that differ from the actual ones.
fn differing(wanted: &Value, there: &Value) -> Map<String, Value> {
    let wanted = wanted.as_object().into_iter().flatten();
    let differing = wanted.filter(|(name, value)| !is_met(name, value, &there[name.as_str()]));
    differing.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a property has its wanted value. GNS3 adds defaults to objects, and a folder to the
/// names of disk images; both count as equal.
#[must_use]
pub fn is_met(name: &str, wanted: &Value, there: &Value) -> bool {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => wanted
            .iter()
            .all(|(name, value)| there.get(name).is_some_and(|there| is_met(name, value, there))),
        (Value::Array(wanted), Value::Array(there)) => {
            wanted.len() == there.len()
                && wanted.iter().zip(there).all(|(wanted, there)| is_met(name, wanted, there))
        }
        (Value::String(wanted), Value::String(there)) if name.ends_with("_image") => {
            there == wanted || there.strip_suffix(wanted).is_some_and(|dir| dir.ends_with('/'))
        }
        _ => wanted == there,
    }
}
