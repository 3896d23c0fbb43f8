//! The clients, the server and the lab's tools, built by cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use siar_core::event::Style;

use crate::StageError;
use crate::target::NodeTarget;

/// The four styles, in the order in which the lab runs them.
pub const STYLES: [Style; 4] = [Style::Mp, Style::Mt, Style::MpAsync, Style::MtAsync];

const OBSERVER: &str = "observe";
const SERVER: &str = "server";
const LAB: &str = "lab";
const INSTALLED_PREFIX: &str = "siar-";

/// The folder that holds the built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
    /// What stands before each name: programs that a package has installed are `siar-mt` and the
    /// like.
    prefix: &'static str,
}

impl Programs {
    /// Builds the programs with cargo, in this program's profile. If cargo did not start this
    /// program, nothing is built, and the programs must lie beside this program.
    ///
    /// # Errors
    /// Cargo fails, or a program is missing.
    pub fn build() -> Result<Self, StageError> {
        let dir = program_dir()?;
        if let Some(mut command) = cargo_build() {
            if dir.ends_with("release") {
                command.arg("--release");
            }
            call(command)?;
        }
        Self::at(dir)
    }

    /// Builds static programs, which can be copied to nodes, in the profile `dist`; otherwise as
    /// [`Self::build`].
    ///
    /// # Errors
    /// Cargo fails, or a program is missing.
    pub fn build_for_nodes(target: &NodeTarget) -> Result<Self, StageError> {
        Self::build_static(target, &[])
    }

    /// Builds the same static programs, and the lab itself.
    ///
    /// # Errors
    /// Cargo fails, or a program is missing.
    pub fn build_for_nodes_with_lab(target: &NodeTarget) -> Result<Self, StageError> {
        Self::build_static(target, &[LAB])
    }

    fn build_static(target: &NodeTarget, more: &[&str]) -> Result<Self, StageError> {
        const PROFILE: &str = "dist";
        let Some(mut command) = cargo_build() else { return Self::at(program_dir()?) };
        for package in more {
            command.args(["--package", package]);
        }
        // Without `--target`, the flags would apply to procedural macros, which cannot be static.
        command.args(["--profile", PROFILE, "--target", target.triple()]);
        target.prepare(&mut command);
        call(command)?;
        let program_dir = program_dir()?;
        let target_dir = program_dir.parent().unwrap_or(Path::new("."));
        Self::at(target_dir.join(target.triple()).join(PROFILE))
    }

    fn at(dir: PathBuf) -> Result<Self, StageError> {
        let prefix = if dir.join(INSTALLED_PREFIX.to_owned() + SERVER).is_file() {
            INSTALLED_PREFIX
        } else {
            ""
        };
        let programs = Self { dir, prefix };
        for path in programs.paths() {
            if !path.is_file() {
                return Err(not_built(&path));
            }
        }
        Ok(programs)
    }

    /// The programs in the folder `dir` of a node. Nothing is checked.
    #[must_use]
    pub fn on_node(dir: &str) -> Self {
        Self { dir: dir.into(), prefix: "" }
    }

    /// The programs' folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the client of one style.
    #[must_use]
    pub fn client(&self, style: Style) -> PathBuf {
        self.program(style.name())
    }

    /// The paths of the clients and of the server.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        STYLES.into_iter().map(|style| self.client(style)).chain([self.server()])
    }

    /// The path of `observe`, which records a run on a node that the lab cannot watch itself.
    #[must_use]
    pub fn observer(&self) -> PathBuf {
        self.dir.join(OBSERVER)
    }

    /// The path of the server.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.program(SERVER)
    }

    /// The path of the lab's own program.
    #[must_use]
    pub fn lab(&self) -> PathBuf {
        self.program(LAB)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.join(self.prefix.to_owned() + name)
    }
}

/// The cargo profile of a tool of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The profile of this program.
    Same,
    /// The debug profile, which compiles faster, for a tool whose speed does not matter.
    Debug,
}

/// Builds a tool of the lab, a separate program, with cargo, and returns its path. If cargo did
/// not start this program, nothing is built, and the tool must lie beside this program.
///
/// # Errors
/// Cargo fails, or the program is missing.
pub fn build_tool(package: &str, program: &str, profile: Profile) -> Result<PathBuf, StageError> {
    let mut dir = program_dir()?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command.args(["build", "--package", package, "--bin", program]).stdin(Stdio::null());
        match profile {
            Profile::Same if dir.ends_with("release") => {
                command.arg("--release");
            }
            Profile::Same => (),
            Profile::Debug => dir.set_file_name("debug"),
        }
        command.current_dir(package_dir());
        remove_package_variables(&mut command);
        call(command)?;
    }
    // The report's program is a debug build, and may lie there when this program is not.
    let debug = dir.with_file_name("debug");
    let places = [dir.join(program), debug.join(program)];
    let found = places.iter().find(|place| place.is_file());
    found.cloned().ok_or_else(|| not_built(&places[0]))
}

/// The error for a program that was not built.
fn not_built(program: &Path) -> StageError {
    StageError::MissingProgram {
        program: program.display().to_string(),
        remedy: "start the command as `cargo lab` in Siar's repository: cargo then builds it",
    }
}

/// The folder of this program's profile in cargo's target folder.
fn program_dir() -> Result<PathBuf, StageError> {
    let program = std::env::current_exe().map_err(StageError::file(Path::new("this program")))?;
    let mut dir = program.parent().unwrap_or(Path::new(".")).to_owned();
    // Test programs lie one folder deeper.
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// The folder of the package that cargo has started; the programs are in the same workspace. It is
/// asked for when it is needed: a path in the program would say where it was built.
pub(crate) fn package_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| ".".into(), PathBuf::from)
}

/// The cargo command that builds the programs, or `None` if cargo did not start this program.
fn cargo_build() -> Option<Command> {
    let mut command = Command::new(std::env::var_os("CARGO")?);
    command.args(["build", "--quiet", "--package", SERVER, "--package", OBSERVER]);
    command.stdin(Stdio::null());
    for style in STYLES {
        command.args(["--package", &style.to_string()]);
    }
    command.current_dir(package_dir());
    remove_package_variables(&mut command);
    Some(command)
}

/// Removes the variables by which `cargo run` tells a program its package: build scripts that
/// read them would be run again at every build.
fn remove_package_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let told =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if told.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

fn call(mut command: Command) -> Result<(), StageError> {
    let status = command.status().map_err(StageError::file(Path::new("cargo")))?;
    if status.success() {
        return Ok(());
    }
    let command = format!("{command:?}");
    Err(StageError::Command { command, output: status.to_string() })
}
