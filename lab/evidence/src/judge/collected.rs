//! The evidence in a run's folder, and a check of the delivered files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use siar_core::event::{Event, EventKind, Style};
use siar_core::io::store::safe_file_name;
use stage::StageError;
use stage::events::read_events;
use stage::manifest::{Manifest, NodeDir, NodeEntry, Role};
use stage::programs::STYLES;

use super::sentence::said;
use super::{Judgement, Sentence};
use crate::observed::{CapturedDatagram, Sighting, read_datagrams, read_sightings};

/// The evidence of one server in one style's run.
pub(super) struct ServerEvidence {
    pub(super) node: NodeEntry,
    pub(super) dir: NodeDir,
    pub(super) events: Vec<Event>,
    /// The captured datagrams; `None` if the lab ran on loopback.
    pub(super) datagrams: Option<Vec<CapturedDatagram>>,
}

/// The evidence of one style's run.
pub(super) struct StyleEvidence {
    pub(super) client: NodeDir,
    pub(super) events: Vec<Event>,
    pub(super) log: String,
    pub(super) sightings: Vec<Sighting>,
    pub(super) servers: Vec<ServerEvidence>,
}

/// The evidence of a whole run.
pub(super) struct Evidence {
    pub(super) manifest: Manifest,
    styles: BTreeMap<String, Result<StyleEvidence, String>>,
}

impl Evidence {
    pub(super) fn load(dir: &Path) -> Result<Self, Sentence> {
        let manifest = Manifest::read_finished(dir).map_err(|error| error.to_string())?;
        if manifest.files.is_empty() {
            return Err(said!("its URL list is empty"));
        }
        if manifest.nodes(Role::Server).count() < 2 {
            return Err(said!("it has fewer than two servers"));
        }
        let names = manifest.files.iter().map(|file| &file.name);
        for name in names.chain(manifest.nodes.iter().map(|node| &node.name)) {
            if safe_file_name(name) != *name {
                return Err(said!("{} is no name of a file or node", format!("{name:?}")));
            }
        }
        let load = |style: Style| {
            let evidence = StyleEvidence::load(dir, &manifest, style);
            (style.to_string(), evidence.map_err(|error| error.to_string()))
        };
        let styles = STYLES.map(load).into();
        Ok(Self { manifest, styles })
    }

    pub(super) fn style(&self, style: Style) -> Result<&StyleEvidence, Sentence> {
        match self.styles.get(&style.to_string()) {
            Some(Ok(evidence)) => Ok(evidence),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(said!("no run of {}", style)),
        }
    }

    /// Checks that every file is the same at the client, at every server and in the URL list.
    pub(super) fn judge_delivery(&self) -> Judgement {
        let mut copies = 0;
        for style in STYLES {
            let evidence = self.style(style)?;
            for file in &self.manifest.files {
                let source = digest(&evidence.client.files().join(&file.name))?;
                if source != file.blake3 {
                    return Err(said!(
                        "{}: {} at the client is not the file of the list",
                        style,
                        file.name
                    ));
                }
                for server in &evidence.servers {
                    let node = &server.node.name;
                    let copy = digest(&server.dir.files().join(&file.name))
                        .map_err(|error| said!("{}, {}: {}", style, node, error))?;
                    if copy != source {
                        return Err(said!(
                            "{}: {} at {} differs from its source",
                            style,
                            file.name,
                            node
                        ));
                    }
                    let told = server.events.iter().any(|event| {
                        matches!(&event.kind, EventKind::Received { blake3, bytes, .. }
                            if *blake3 == copy && *bytes == file.bytes)
                    });
                    if !told {
                        return Err(said!(
                            "{}: {} has {} but never told that it received it",
                            style,
                            node,
                            file.name
                        ));
                    }
                    copies += 1;
                }
            }
        }
        Ok(said!("{} copies, all the same as their sources (BLAKE3)", copies))
    }
}

impl StyleEvidence {
    fn load(dir: &Path, manifest: &Manifest, style: Style) -> Result<Self, StageError> {
        let Some(client) = manifest.nodes(Role::Client).next() else {
            return Err(StageError::UnknownNode("client".to_owned()));
        };
        let client = NodeDir::new(dir, style, &client.name);
        let server = |node: &NodeEntry| {
            let dir = NodeDir::new(dir, style, &node.name);
            let datagrams = match manifest.has_switch {
                true => Some(read_datagrams(&dir.capture())?),
                false => None,
            };
            let events = read_events(&dir.server_events())?;
            Ok(ServerEvidence { node: node.clone(), events, datagrams, dir })
        };
        let log = client.client_log();
        Ok(Self {
            events: read_events(&client.client_events())?,
            log: fs::read_to_string(&log).map_err(StageError::file(&log))?,
            sightings: read_sightings(&client.processes())?,
            servers: manifest.nodes(Role::Server).map(server).collect::<Result<_, StageError>>()?,
            client,
        })
    }
}

fn digest(path: &Path) -> Result<String, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut hasher = blake3::Hasher::new();
    // Reading a pipe or a device might never end.
    if !path.symlink_metadata().is_ok_and(|data| data.is_file()) {
        return Err(format!("{name}: not a file"));
    }
    let hashed = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    hashed.map_err(|error| format!("{name}: {error}"))?;
    Ok(hasher.finalize().to_string())
}
