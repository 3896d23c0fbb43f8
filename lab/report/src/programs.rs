//! The source files of the four programs, as they were built.

use siar_core::event::Style;

/// A source file.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile {
    /// The file's path in the workspace.
    pub path: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! source {
    ($path:literal) => {
        SourceFile { path: $path, text: include_str!(concat!("../../../", $path)) }
    };
}

/// The source files of a style's program.
#[must_use]
pub fn sources(style: Style) -> &'static [SourceFile] {
    match style {
        Style::Mp => {
            const { &[source!("crates/mp/src/main.rs"), source!("crates/mp/src/process.rs")] }
        }
        Style::Mt => {
            const { &[source!("crates/mt/src/main.rs"), source!("crates/mt/src/thread.rs")] }
        }
        Style::MpAsync => {
            const { &[source!("crates/mp-async/src/main.rs"), source!("crates/mp-async/src/pool.rs")] }
        }
        Style::MtAsync => {
            const { &[source!("crates/mt-async/src/main.rs"), source!("crates/mt-async/src/pool.rs")] }
        }
    }
}

/// The name of the Python script that a style mirrors.
#[must_use]
pub fn mirrored_script(style: Style) -> &'static str {
    match style {
        Style::Mp => "multi_process.py",
        Style::Mt => "multi_thread.py",
        Style::MpAsync => "multi_process_async.py",
        Style::MtAsync => "multi_thread_async.py",
    }
}

/// The source file that the four programs share.
pub const SHARED: SourceFile = source!("crates/core/src/client/task.rs");
/// The source file of the server.
pub const SERVER: SourceFile = source!("crates/server/src/main.rs");

impl SourceFile {
    /// The file's text without its unit tests.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.text.split("\n#[cfg(test)]").next().unwrap_or(self.text).trim_end()
    }
}
