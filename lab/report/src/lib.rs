//! The assignment's report, as PDF and as a web page, made from a run of the lab.
//!
//! | module | job |
//! |---|---|
//! | [`content`] | the content of the run's folder, as data for the templates |
//! | [`words`] | the report's words in two languages |
//! | [`programs`], [`topology`] | the source files of the programs; the network's picture |
//! | [`pdf`] | typesetting with Typst |
//! | [`page`] | the web page |

pub mod content;
pub mod page;
pub mod pdf;
pub mod programs;
pub mod topology;
pub mod words;

use std::path::{Path, PathBuf};

use stage::StageError;

/// A failure to make a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file of the run is missing or damaged.
    #[error("{0}; make a run first: cargo lab")]
    Run(#[source] StageError),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file's path.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// A screenshot is no picture in a supported format; the field is its path.
    #[error("{0}: not a PNG, JPEG, GIF or WebP picture")]
    NoPicture(PathBuf),
    /// The file of words is damaged.
    #[error("words: {0}")]
    Words(#[from] toml::de::Error),
    /// The template for the PDF has an error; the field is the error with its line.
    #[error("template {0}")]
    Typst(String),
    /// The template for the page has an error.
    #[error("page template: {0}")]
    Page(#[from] minijinja::Error),
    /// The syntax of the programs cannot be highlighted.
    #[error("syntax colours: {0}")]
    Syntax(#[from] syntect::Error),
    /// The content cannot be serialized for the templates.
    #[error("content: {0}")]
    Content(#[from] serde_json::Error),
}

impl ReportError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}
