//! Checks of the documents, and of the dependencies between the crates, against the source.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use siar_core::event::{Event, EventKind, Style};
use siar_core::face::options::{ClientOptions, ServerOptions};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
}

/// The paths of all Markdown documents, from the workspace's root.
fn documents() -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["", "docs/"] {
        for entry in fs::read_dir(workspace().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                names.push(format!("{folder}{name}"));
            }
        }
    }
    names
}

/// The lines of fenced `sh` blocks, without their comments.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = line == "```sh";
        } else if in_block {
            let command = line.split_once(" #").map_or(line, |(command, _)| command).trim();
            if !command.is_empty() && !command.starts_with('#') {
                commands.push(command.to_owned());
            }
        }
    }
    commands
}

/// The cargo commands between backticks, with each run of white space as one space.
fn inline_commands(text: &str) -> BTreeSet<String> {
    let parts = text.split('`').skip(1).step_by(2);
    let parts = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    parts.filter(|part| part.starts_with("cargo ")).collect()
}

#[test]
fn both_readmes_have_the_same_commands() {
    let (english, indonesian) = (read("README.md"), read("README.id.md"));
    assert!(commands(&english).len() >= 8, "{:?}", commands(&english));
    assert_eq!(commands(&english), commands(&indonesian));
    let without_blocks = |text: &str| {
        let parts = text.split("```").step_by(2);
        inline_commands(&parts.collect::<String>())
    };
    assert_eq!(without_blocks(&english), without_blocks(&indonesian));
}

/// The documents that students and teachers need are there in both languages.
#[test]
fn translations_have_the_same_commands_and_headings() {
    for name in ["README", "docs/GRADING", "docs/GNS3"] {
        let (english, indonesian) = (read(&format!("{name}.md")), read(&format!("{name}.id.md")));
        assert_eq!(commands(&english), commands(&indonesian), "{name}");
        let headings = |text: &str| {
            let parts = text.split("```").step_by(2).collect::<String>();
            let lines = parts.lines().filter(|line| line.starts_with('#'));
            lines.map(|line| line.chars().take_while(|c| *c == '#').count()).collect::<Vec<_>>()
        };
        assert_eq!(headings(&english), headings(&indonesian), "{name}");
    }
}

/// Each figure of the READMEs about speed is one of the tables' figures, rounded.
#[test]
fn figures_of_speed_come_from_the_tables() {
    let tables = read("docs/PERFORMANCE.md");
    let tables = tables.lines().filter(|line| line.starts_with('|')).collect::<String>();
    let figures = numbers(&tables);
    assert!(figures.len() > 200, "{}", figures.len());
    for (name, heading) in [("README.md", "## How fast"), ("README.id.md", "## Seberapa cepat")] {
        let text = read(name);
        let mut section =
            section(&text, heading).replace("1.000 berkas", "").replace("1,000 of", "");
        if name == "README.id.md" {
            section = section.replace(',', ".");
        }
        let (decimals, parts): (Vec<_>, Vec<_>) = (
            numbers(&section).into_iter().filter(|number| number.contains('.')).collect(),
            section.split("1/").skip(1).map(|part| numbers(part).remove(0)).collect(),
        );
        assert!(decimals.len() >= 7 && parts.len() >= 3, "{name}: {decimals:?} {parts:?}");
        for told in decimals.iter().chain(&parts) {
            let digits = told.split_once('.').map_or(0, |(_, digits)| digits.len());
            // A part such as 1/57 may be more than it is, and not less.
            let is_it = |figure: &String| {
                let figure: f64 = figure.parse().unwrap_or(f64::NAN);
                let scale = 10f64.powi(digits as i32);
                let told: f64 = told.parse().unwrap();
                format!("{figure:.digits$}") == format!("{told:.digits$}")
                    || (digits == 0 && (figure * scale).floor() / scale == told)
            };
            assert!(figures.iter().any(is_it), "{name}: {told} is in no table");
        }
    }
}

/// The numbers in a text, as they are written.
fn numbers(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    let parts = parts.map(|part| part.trim_matches('.').to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

/// Both tables of options are complete.
#[test]
fn every_option_stands_in_the_readmes() {
    for command in [ClientOptions::command(), ServerOptions::command()] {
        let options = command
            .get_arguments()
            .filter_map(|argument| Some((argument.get_long()?.to_owned(), argument.get_short())));
        let options: Vec<_> = options.collect();
        assert!(options.len() > 10, "{options:?}");
        for (long, short) in options {
            for name in ["README.md", "README.id.md"] {
                let text = read(name);
                let is_short = short.is_some_and(|short| text.contains(&format!("`-{short}`")));
                assert!(is_short || text.contains(&format!("`--{long}")), "{name} lacks --{long}");
            }
        }
    }
}

/// `docs/EVENTS.md` has a section for each event, with exactly its fields, and true examples.
#[test]
fn the_events_are_documented() {
    let text = read("docs/EVENTS.md");
    let common = fields(section(&text, "## Common fields"));
    let mut headings: Vec<_> = text.lines().filter(|line| line.starts_with("### ")).collect();
    for kind in every_kind() {
        let mut event = Event::now(kind);
        (event.style, event.task) = (Some(Style::Mt), Some("a".to_owned()));
        let serde_json::Value::Object(object) = serde_json::to_value(&event).unwrap() else {
            panic!("{event:?} is no object");
        };
        let name = object["event"].as_str().unwrap().to_owned();
        let heading = format!("### `{name}`");
        let section = section(&text, &heading);
        headings.retain(|line| *line != heading);
        let own: BTreeSet<_> =
            object.keys().filter(|key| !common.contains(*key)).cloned().collect();
        assert_eq!(fields(section), own, "{name}");
        let example = section.lines().find(|line| line.starts_with('{')).unwrap();
        let example: Event = serde_json::from_str(example).unwrap();
        assert_eq!(std::mem::discriminant(&example.kind), std::mem::discriminant(&event.kind));
    }
    assert_eq!(headings, Vec::<&str>::new(), "no such events");
}

/// The text below a heading, up to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let found = text.split_once(&format!("{heading}\n"));
    let (_, rest) = found.unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n#").next().unwrap()
}

/// The names in the first column of a table.
fn fields(section: &str) -> BTreeSet<String> {
    let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// One event of each kind.
fn every_kind() -> Vec<EventKind> {
    use EventKind::*;
    // A new kind does not compile until it stands here; it must be added below as well.
    let name = |kind: &EventKind| match kind {
        RunStarted | TaskQueued { .. } | DownloadStarted | DownloadFinished { .. } => (),
        DelayFinished | BroadcastStarted { .. } | ServerJoined { .. } | SourceSent { .. } => (),
        RepairSent { .. } | FinishesLater { .. } | Confirmed { .. } | Unconfirmed { .. } => (),
        TaskFinished { .. } | TaskFailed { .. } | RunFinished { .. } | Listening { .. } => (),
        TransferStarted { .. } | Resumed { .. } | Received { .. } | TransferFailed { .. } => (),
        Dropped { .. } => (),
    };
    let text = || "a".to_owned();
    let (seconds, bytes, datagrams) = (1.5, 1, 1);
    let kinds = vec![
        RunStarted,
        TaskQueued { url: text() },
        DownloadStarted,
        DownloadFinished { bytes },
        DelayFinished,
        BroadcastStarted { transfer: text(), name: text(), bytes, blake3: text() },
        ServerJoined { server: text() },
        SourceSent { datagrams },
        RepairSent { datagrams, first_seconds: seconds, last_seconds: seconds },
        FinishesLater { server: text() },
        Confirmed { server: text() },
        Unconfirmed { server: text(), reason: text() },
        TaskFinished { seconds },
        TaskFailed { error: text() },
        RunFinished { seconds, failed: 1 },
        Listening { address: text() },
        TransferStarted { transfer: text(), from: text(), name: text(), bytes },
        Resumed { transfer: text(), name: text(), bytes },
        Received { transfer: text(), from: text(), path: text(), bytes, blake3: text(), seconds },
        TransferFailed { transfer: text(), from: text(), reason: text() },
        Dropped { reason: text(), count: 1 },
    ];
    kinds.iter().for_each(name);
    kinds
}

#[test]
fn links_between_documents_have_a_target() {
    let names = documents();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let text = read(&name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = link.0.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = workspace().join(&name).parent().unwrap().join(target);
            assert!(path.exists(), "{name}: {target}");
        }
    }
}

/// The names of the packages in one folder of the workspace.
fn packages_in(folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace().join(folder)).unwrap() {
        let path = entry.unwrap().path().join("Cargo.toml");
        // A folder without a manifest is no package: Git can leave an empty folder behind.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let name = text.lines().find_map(|line| line.strip_prefix("name = "));
        names.push(name.unwrap().trim_matches('"').to_owned());
    }
    names
}

/// Only the report may need the typesetter, so that the lab and the programs build quickly.
#[test]
fn only_the_report_needs_the_typesetter() {
    let packages = [packages_in("crates"), packages_in("lab")].concat();
    for known in ["mp", "mt", "mp-async", "mt-async", "server", "lab", "stage", "report"] {
        assert!(packages.iter().any(|package| package == known), "{packages:?} lack {known}");
    }
    for package in packages.iter().filter(|package| *package != "report") {
        let tree = dependencies(package);
        assert!(!tree.contains("typst"), "{package} needs typst");
    }
}

/// The packages that `package` is built from, one per line.
fn dependencies(package: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none"])
        .args(["--package", package])
        .current_dir(workspace())
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(tree.starts_with(package), "{}", String::from_utf8_lossy(&output.stderr));
    tree
}

/// The protocol's crates must not need a crate for the network, the disk or the terminal.
#[test]
fn the_protocol_is_built_without_io() {
    for package in ["siar-proto", "siar-code"] {
        let tree = dependencies(package);
        let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        for foreign in
            ["siar-core", "ureq", "clap", "rustls", "socket2", "nix", "libc", "tempfile", "log"]
        {
            // On some processors BLAKE3 detects the instruction set through libc.
            let is_blake3_dependency = foreign == "libc" && names.contains(&"blake3");
            assert!(is_blake3_dependency || !names.contains(&foreign), "{package} needs {foreign}");
        }
    }
}

#[test]
fn the_product_does_not_depend_on_the_lab() {
    let in_lab = packages_in("lab");
    for package in packages_in("crates") {
        let tree = dependencies(&package);
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap();
            let is_of_lab = in_lab.iter().any(|of_lab| of_lab == name) && line.contains("(/");
            assert!(!is_of_lab, "{package} needs {name}");
        }
    }
}

/// The layers of siar-core, from the top: a folder uses only folders of lower layers.
const LAYERS: [&[&str]; 4] =
    [&["face"], &["client", "server"], &["io"], &["event", "lock", "panics", "version", "visible"]];

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_folders_of_core_use_only_lower_layers() {
    let root = workspace().join("crates/core/src");
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut seen = 0;
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let folder = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let folder = folder.trim_end_matches(".rs").to_owned();
        if folder == "lib" {
            continue;
        }
        let own = layer(&folder).unwrap_or_else(|| panic!("{folder} is in no layer"));
        let text = fs::read_to_string(&file).unwrap();
        for used in text.split("crate::").skip(1) {
            let used: String =
                used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let other = layer(&used).unwrap_or_else(|| panic!("{file:?}: {used} is in no layer"));
            seen += 1;
            assert!(used == folder || other > own, "{file:?} uses {used}");
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn the_architecture_names_existing_paths() {
    let text = read("ARCHITECTURE.md");
    let names: BTreeSet<_> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.starts_with("crates/") || name.starts_with("lab/"))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(workspace().join(name).exists(), "ARCHITECTURE.md: {name}");
    }
}
