//! The files that a release installs.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use siar_core::face::help::{client_command, server_command};
use stage::programs::{Programs, STYLES};
use stage::target::read_static;

use super::workspace;
use crate::DistError;

/// The prefix of the programs' names: on a PATH they say what they are.
pub const PREFIX: &str = "siar-";

/// A file of the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// The path from the folder that it is installed into, such as `usr/local`.
    pub path: String,
    /// The content.
    pub bytes: Vec<u8>,
    /// Whether the file is a program.
    pub is_program: bool,
}

/// The documents of the workspace that are installed.
const DOCUMENTS: [&str; 11] = [
    "LICENSE",
    "README.md",
    "README.id.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/EVENTS.md",
    "docs/GRADING.md",
    "docs/GRADING.id.md",
    "docs/OPERATIONS.md",
    "docs/PROTOCOL.md",
    "docs/RELIABILITY.md",
];

/// The settings of the server, and its unit: path in the workspace, installed path.
pub(super) const SETTINGS: &str = "etc/default/siar-server";
pub(super) const UNIT: &str = "lib/systemd/system/siar-server.service";

/// Gathers the files of a release, in the order of their paths.
///
/// # Errors
/// A program is not static, or a file cannot be read.
pub fn files(programs: &Programs) -> Result<Vec<InstalledFile>, DistError> {
    let mut files = Vec::new();
    for path in programs.paths().chain([programs.lab()]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = read_static(&path)?;
        files.push(InstalledFile { path: format!("bin/{PREFIX}{name}"), bytes, is_program: true });
    }
    for (name, command) in commands() {
        files.extend(described(&name, command)?);
    }
    let lab = programs.lab();
    for (path, argument) in [
        ("share/man/man1/siar-lab.1", "--man"),
        ("share/bash-completion/completions/siar-lab", "--completions=bash"),
        ("share/zsh/site-functions/_siar-lab", "--completions=zsh"),
        ("share/fish/vendor_completions.d/siar-lab.fish", "--completions=fish"),
    ] {
        let text = super::output_of(std::process::Command::new(&lab).arg(argument))?;
        files.push(text_file(path, text.into_bytes()));
    }
    for document in DOCUMENTS {
        let name = Path::new(document).file_name().unwrap_or_default().to_string_lossy();
        files.push(text_file(&format!("share/doc/siar/{name}"), read(document)?));
    }
    files.push(text_file(UNIT, read("deploy/systemd/siar-server.service")?));
    files.push(text_file(SETTINGS, read("deploy/systemd/siar-server.default")?));
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// The command lines of the clients and of the server, under their installed names.
fn commands() -> Vec<(String, Command)> {
    let client = |style| {
        let name = format!("{PREFIX}{style}");
        (name.clone(), client_command(style, &name))
    };
    let server = format!("{PREFIX}server");
    let mut commands: Vec<_> = STYLES.map(client).into();
    commands.push((server.clone(), server_command(&server)));
    commands
}

/// The manual page and the completions of a program.
fn described(name: &str, command: Command) -> Result<Vec<InstalledFile>, DistError> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).date("").source(format!("Siar {}", super::VERSION));
    man.render(&mut page).map_err(DistError::file(Path::new(name)))?;
    let mut files = vec![text_file(&format!("share/man/man1/{name}.1"), page)];
    for (shell, path) in [
        (Shell::Bash, format!("share/bash-completion/completions/{name}")),
        (Shell::Zsh, format!("share/zsh/site-functions/_{name}")),
        (Shell::Fish, format!("share/fish/vendor_completions.d/{name}.fish")),
    ] {
        let mut script = Vec::new();
        generate(shell, &mut command.clone(), name, &mut script);
        files.push(text_file(&path, script));
    }
    Ok(files)
}

fn text_file(path: &str, bytes: Vec<u8>) -> InstalledFile {
    InstalledFile { path: path.to_owned(), bytes, is_program: false }
}

fn read(name: &str) -> Result<Vec<u8>, DistError> {
    let path = workspace().join(name);
    fs::read(&path).map_err(DistError::file(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_page_and_completions_under_its_name() {
        for (name, command) in commands() {
            let files = described(&name, command).unwrap();
            assert_eq!(files.len(), 4);
            for file in files {
                let text = String::from_utf8(file.bytes).unwrap();
                assert!(text.contains(&name) || text.contains(&name.replace('-', "\\-")), "{name}");
                assert!(file.path.contains(&name));
            }
        }
    }

    #[test]
    fn the_documents_and_settings_are_there() {
        let settings = ["deploy/systemd/siar-server.service", "deploy/systemd/siar-server.default"];
        for name in DOCUMENTS.into_iter().chain(settings) {
            assert!(!read(name).unwrap().is_empty(), "{name}");
        }
    }
}
