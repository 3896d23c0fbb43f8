//! The clients and the server, built by cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use siar_core::event::Style;

use crate::LabError;
use crate::dist::NodeTarget;

/// In the order in which the lab runs them.
pub const STYLES: [Style; 4] = [Style::Mp, Style::Mt, Style::MpAsync, Style::MtAsync];

const REPORT: &str = "report";
const OBSERVER: &str = "observe";

/// The folder that holds the built programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Has cargo build the programs beside this one, in the same profile. Where this program
    /// was not started by cargo, they must be there already.
    ///
    /// # Errors
    /// Cargo fails, or a program is missing.
    pub fn build() -> Result<Self, LabError> {
        let dir = here()?;
        if let Some(mut command) = cargo_build() {
            if dir.ends_with("release") {
                command.arg("--release");
            }
            call(command)?;
        }
        Self::at(dir)
    }

    /// As [`Self::build`], but static, small, and quick to start: what is copied to nodes.
    ///
    /// # Errors
    /// Cargo fails, or a program is missing.
    pub fn build_for_nodes(target: &NodeTarget) -> Result<Self, LabError> {
        const PROFILE: &str = "dist";
        let Some(mut command) = cargo_build() else { return Self::at(here()?) };
        // Only with a target do the flags spare procedural macros, which cannot be static.
        command.args(["--profile", PROFILE, "--target", target.triple()]);
        target.prepare(&mut command);
        call(command)?;
        let here = here()?;
        let target_dir = here.parent().unwrap_or(Path::new("."));
        Self::at(target_dir.join(target.triple()).join(PROFILE))
    }

    /// Has cargo build the program that makes reports, which the lab itself does without. It
    /// is built as tests are, in less time than it would take to optimise its typesetter.
    ///
    /// # Errors
    /// Cargo fails, or the program is missing.
    pub fn build_report() -> Result<PathBuf, LabError> {
        let here = here()?;
        let mut dir = here.clone();
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut command = Command::new(cargo);
            command.args(["build", "--package", REPORT]).stdin(Stdio::null());
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
            forget_this_package(&mut command);
            call(command)?;
            dir = here.with_file_name("debug");
        }
        let program = dir.join(REPORT);
        program.metadata().map_err(LabError::file(&program))?;
        Ok(program)
    }

    fn at(dir: PathBuf) -> Result<Self, LabError> {
        let binaries = Self { dir };
        for path in binaries.programs() {
            path.metadata().map_err(LabError::file(&path))?;
        }
        Ok(binaries)
    }

    /// The same programs as they are on a node.
    #[must_use]
    pub fn on_node(dir: &str) -> Self {
        Self { dir: dir.into() }
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The client of one style.
    #[must_use]
    pub fn client(&self, style: Style) -> PathBuf {
        self.dir.join(style.to_string())
    }

    /// The clients and the server.
    pub fn programs(&self) -> impl Iterator<Item = PathBuf> {
        STYLES.into_iter().map(|style| self.client(style)).chain([self.server()])
    }

    /// What records a run where the lab cannot look by itself.
    #[must_use]
    pub fn observer(&self) -> PathBuf {
        self.dir.join(OBSERVER)
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.dir.join("server")
    }
}

/// The folder of this program's profile in cargo's target folder.
fn here() -> Result<PathBuf, LabError> {
    let here = std::env::current_exe().map_err(LabError::file(Path::new("this program")))?;
    let mut dir = here.parent().unwrap_or(Path::new(".")).to_owned();
    // Tests stand one folder deeper.
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// `None` where this program was not started by cargo.
fn cargo_build() -> Option<Command> {
    let mut command = Command::new(std::env::var_os("CARGO")?);
    command.args(["build", "--quiet", "--package", "server", "--package", OBSERVER]);
    command.stdin(Stdio::null());
    for style in STYLES {
        command.args(["--package", &style.to_string()]);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    forget_this_package(&mut command);
    Some(command)
}

/// `cargo run` tells a program which package it is; build scripts that look would have their
/// packages built anew each time.
fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let told =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if told.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

fn call(mut command: Command) -> Result<(), LabError> {
    let status = command.status().map_err(LabError::file(Path::new("cargo")))?;
    if status.success() {
        return Ok(());
    }
    let command = format!("{command:?}");
    Err(LabError::Command { command, output: status.to_string() })
}
