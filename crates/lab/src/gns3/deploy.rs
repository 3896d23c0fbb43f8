//! Makes a GNS3 server's project what it should be, and changes nothing that is.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::api::{Gns3Error, LinkEnd, NodeState, Project, Server};
use super::project::{body, merge};
use super::topology::{NodeFile, PlannedNode, Topology};

/// A change that was made, in words.
pub type Change = String;

/// The deployed lab.
#[derive(Debug)]
pub struct Deployed {
    /// Its project.
    pub project: Project,
    /// The nodes as they are.
    pub nodes: Vec<NodeState>,
    /// How many changes it took.
    pub changes: usize,
}

/// Creates what is missing, changes what differs, and starts the nodes if `start`; tells of
/// each change when it is made.
///
/// # Errors
/// The server refuses: what was changed before stays so, and the next time goes on from there.
pub fn deploy(
    server: &Server,
    name: &str,
    topology: &Topology,
    start: bool,
    tell: &mut dyn FnMut(&Change),
) -> Result<Deployed, Gns3Error> {
    let mut changes = 0;
    let mut changed = |change: Change| {
        changes += 1;
        tell(&change);
    };
    let project = match server.find_project(name)? {
        Some(project) => {
            if project.status != "opened" {
                server.open_project(&project)?;
                changed(format!("opened project {name}"));
            }
            project
        }
        None => {
            let project = server.create_project(name)?;
            changed(format!("created project {name}"));
            project
        }
    };
    let there = server.nodes(&project)?;
    let mut nodes: HashMap<&str, NodeState> = HashMap::new();
    for planned in &topology.nodes {
        let node = match there.iter().find(|node| node.name == planned.name) {
            Some(node) => node.clone(),
            None => {
                let node = create(server, &project, planned)?;
                changed(format!("created {}", planned.name));
                node
            }
        };
        for file in &planned.files {
            let there = server.read_file(&project, &node, &file.path)?;
            if !is_as_planned(file, there.as_deref()) {
                server.write_file(&project, &node, &file.path, &file.bytes)?;
                changed(format!("uploaded {} to {}", file.path, planned.name));
            }
        }
        let mut properties = planned.properties.clone();
        merge(&mut properties, &planned.later_properties);
        let differing = differing(&properties, &node.properties);
        if differing.as_object().is_some_and(|differing| !differing.is_empty()) {
            server.change_node(&project, &node, &json!({ "properties": differing }))?;
            let names: Vec<&str> = differing
                .as_object()
                .into_iter()
                .flat_map(|it| it.keys().map(String::as_str))
                .collect();
            changed(format!("set {} of {}", names.join(", "), planned.name));
        }
        nodes.insert(&planned.name, node);
    }
    let links = server.links(&project)?;
    for [a, b] in &topology.links {
        let end = |port: &super::topology::Port| {
            let node_id = nodes.get(port.node.as_str()).map(|node| node.node_id.clone());
            LinkEnd {
                node_id: node_id.unwrap_or_default(),
                adapter_number: 0,
                port_number: port.number,
            }
        };
        let mut ends = [end(a), end(b)];
        let is_there = links.iter().any(|link| {
            let mut there = link.nodes.clone();
            there.sort();
            let mut wanted = ends.clone();
            wanted.sort();
            there == wanted
        });
        if !is_there {
            let what = format!("{} with port {} of {}", a.node, b.number, b.node);
            ends.sort();
            server.create_link(&project, &ends, &what)?;
            changed(format!("linked {what}"));
        }
    }
    let drawings = server.drawings(&project)?;
    for note in &topology.notes {
        if !drawings.contains(&note.svg) {
            server.create_drawing(&project, &note.svg, note.position)?;
            changed("put a note onto the canvas".to_owned());
        }
    }
    if start {
        for planned in &topology.nodes {
            if let Some(node) = nodes.get(planned.name.as_str())
                && planned.has_console
                && !node.is_started()
            {
                server.start_node(&project, node)?;
                changed(format!("started {}", planned.name));
            }
        }
    }
    let nodes = server.nodes(&project)?;
    Ok(Deployed { project, nodes, changes })
}

/// What of a lab an open project has not got, in words.
///
/// # Errors
/// The server refuses.
pub fn undeployed(
    server: &Server,
    project: &Project,
    topology: &Topology,
) -> Result<Vec<String>, Gns3Error> {
    let there = server.nodes(project)?;
    let mut missing = Vec::new();
    for planned in &topology.nodes {
        let Some(node) = there.iter().find(|node| node.name == planned.name) else {
            missing.push(format!("{} is not there", planned.name));
            continue;
        };
        for file in &planned.files {
            let there = server.read_file(project, node, &file.path)?;
            if !is_as_planned(file, there.as_deref()) {
                missing.push(format!("{} of {} is missing or another", file.path, planned.name));
            }
        }
    }
    let links = server.links(project)?.len();
    if links < topology.links.len() {
        missing.push(format!("{links} of {} links", topology.links.len()));
    }
    Ok(missing)
}

/// A node that could not be made leaves its name taken until the project is opened anew.
fn create(
    server: &Server,
    project: &Project,
    planned: &PlannedNode,
) -> Result<NodeState, Gns3Error> {
    match server.create_node(project, &body(planned)) {
        Err(Gns3Error::Renamed { .. }) => {
            server.close_project(project)?;
            server.open_project(project)?;
            server.create_node(project, &body(planned))
        }
        other => other,
    }
}

pub(super) fn is_as_planned(file: &NodeFile, there: Option<&[u8]>) -> bool {
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

/// Of the wanted properties those that are otherwise.
fn differing(wanted: &Value, there: &Value) -> Value {
    let wanted = wanted.as_object().into_iter().flatten();
    let differing = wanted.filter(|(name, value)| !is_met(value, &there[name.as_str()]));
    Value::Object(differing.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Whether a property is as it should be: GNS3 adds defaults to objects, and the folder to the
/// names of files.
#[must_use]
pub fn is_met(wanted: &Value, there: &Value) -> bool {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => wanted
            .iter()
            .all(|(name, value)| there.get(name).is_some_and(|there| is_met(value, there))),
        (Value::Array(wanted), Value::Array(there)) => {
            wanted.len() == there.len()
                && wanted.iter().zip(there).all(|(wanted, there)| is_met(wanted, there))
        }
        (Value::String(wanted), Value::String(there)) => {
            there == wanted || there.strip_suffix(wanted).is_some_and(|dir| dir.ends_with('/'))
        }
        _ => wanted == there,
    }
}
