//! The clients and the server, built by cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use siar_core::event::Style;

use crate::LabError;

/// In the order in which the lab runs them.
pub const STYLES: [Style; 4] = [Style::Mp, Style::Mt, Style::MpAsync, Style::MtAsync];

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
        let here = std::env::current_exe().map_err(LabError::file(Path::new("this program")))?;
        let mut dir = here.parent().unwrap_or(Path::new(".")).to_owned();
        // Tests stand one folder deeper.
        if dir.ends_with("deps") {
            dir.pop();
        }
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut command = Command::new(cargo);
            command.args(["build", "--quiet", "--package", "server"]).stdin(Stdio::null());
            for style in STYLES {
                command.args(["--package", &style.to_string()]);
            }
            if dir.ends_with("release") {
                command.arg("--release");
            }
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
            let status = command.status().map_err(LabError::file(Path::new("cargo")))?;
            if !status.success() {
                let command = "cargo build of the clients and the server".to_owned();
                return Err(LabError::Command { command, output: status.to_string() });
            }
        }
        let binaries = Self { dir };
        for path in
            STYLES.map(|style| binaries.client(style)).into_iter().chain([binaries.server()])
        {
            path.metadata().map_err(LabError::file(&path))?;
        }
        Ok(binaries)
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

    /// The server.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.dir.join("server")
    }
}
