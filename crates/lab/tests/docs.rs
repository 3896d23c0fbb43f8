//! What the documents promise.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
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

/// What stands between backticks and calls cargo; line breaks do not count.
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

#[test]
fn links_between_documents_lead_somewhere() {
    for name in ["README.md", "README.id.md", "ARCHITECTURE.md", "docs/GRADING.md", "docs/GNS3.md"]
    {
        let text = read(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = link.0.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = workspace().join(name).parent().unwrap().join(target);
            assert!(path.exists(), "{name}: {target}");
        }
    }
}

/// The lab and the programs must stay quick to build.
#[test]
fn only_the_report_needs_the_typesetter() {
    for package in ["mp", "mt", "mp-async", "mt-async", "server", "lab"] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none"])
            .args(["--package", package])
            .current_dir(workspace())
            .output()
            .unwrap();
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(tree.starts_with(package), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!tree.contains("typst"), "{package} needs typst");
    }
}
