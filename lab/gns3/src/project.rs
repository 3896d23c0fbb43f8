//! The lab as a portable project of GNS3, which is a file for the import in GNS3's menu.

use std::collections::HashMap;
use std::io::{Cursor, Write};

use serde_json::{Value, json};
use stage::StageError;
use uuid::Uuid;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipWriter};

use super::topology::{PlannedNode, Topology};

/// The revision of the project's format: GNS3 2.2 writes it, and 3.0 reads it too.
const REVISION: u32 = 9;
const WRITTEN_BY: &str = "2.2.54";

/// The bytes of the project file. Equal labs give equal bytes.
///
/// # Errors
/// The ZIP file cannot be made.
pub fn export(name: &str, topology: &Topology) -> Result<Vec<u8>, StageError> {
    let of = |part: &str| id(name, part);
    let nodes: HashMap<&str, String> =
        topology.nodes.iter().map(|node| (node.name.as_str(), of(&node.name))).collect();
    let end = |port: &super::topology::Port| {
        json!({
            "node_id": nodes.get(port.node.as_str()),
            "adapter_number": 0,
            "port_number": port.number,
        })
    };
    let links: Vec<Value> = topology
        .links
        .iter()
        .map(|[a, b]| {
            let link = of(&format!("{}:{} {}:{}", a.node, a.number, b.node, b.number));
            json!({ "link_id": link, "nodes": [end(a), end(b)] })
        })
        .collect();
    let drawings: Vec<Value> = (0..)
        .zip(&topology.notes)
        .map(|(number, note)| {
            let (x, y) = note.position;
            let drawing = of(&format!("note {number}"));
            json!({"drawing_id": drawing, "x": x, "y": y, "z": 2, "rotation": 0, "svg": note.svg})
        })
        .collect();
    let planned: Vec<Value> = topology
        .nodes
        .iter()
        .map(|node| {
            let mut body = body(node);
            merge(&mut body["properties"], &node.later_properties);
            body["node_id"] = json!(nodes[node.name.as_str()]);
            body
        })
        .collect();
    let project = json!({
        "name": name,
        "project_id": of("project"),
        "revision": REVISION,
        "type": "topology",
        "version": WRITTEN_BY,
        "auto_start": false,
        "auto_open": false,
        "auto_close": true,
        "topology": {"computes": [], "drawings": drawings, "links": links, "nodes": planned},
    });
    let write = || -> zip::result::ZipResult<Vec<u8>> {
        let options = SimpleFileOptions::default().last_modified_time(DateTime::default());
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("project.gns3", options)?;
        zip.write_all(format!("{project:#}\n").as_bytes())?;
        for node in &topology.nodes {
            for file in &node.files {
                let id = &nodes[node.name.as_str()];
                let path = format!("project-files/{}/{id}/{}", node.node_type, file.path);
                zip.start_file(path, options)?;
                zip.write_all(&file.bytes)?;
            }
        }
        Ok(zip.finish()?.into_inner())
    };
    write().map_err(|error| StageError::file(name.as_ref())(error.into()))
}

/// The description of a node in JSON, for a project file and for the API.
#[must_use]
pub fn body(node: &PlannedNode) -> Value {
    let (x, y) = node.position;
    json!({
        "name": node.name,
        "node_type": node.node_type,
        "compute_id": "local",
        "console_type": if node.has_console { "telnet" } else { "none" },
        "symbol": node.symbol,
        "x": x,
        "y": y,
        "properties": node.properties,
    })
}

/// Adds the entries of one object to another.
pub(super) fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// A UUID that depends only on the names of the project and of its part.
fn id(project: &str, part: &str) -> String {
    let name = format!("https://siar.test/gns3/{project}/{part}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}
