//! The assignment's report, made from a run of the lab.
//!
//! | module | job |
//! |---|---|
//! | [`content`] | what the run's folder holds, as data for the templates |
//! | [`words`] | the report's words in its two languages |
//! | [`programs`], [`topology`] | the sources; the network's picture |
//! | [`pdf`] | typesetting with Typst |
//! | [`page`] | the web page |

pub mod content;
pub mod page;
pub mod pdf;
pub mod programs;
pub mod topology;
pub mod words;

use std::path::{Path, PathBuf};

use lab::LabError;

/// A report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run's folder is not what the lab makes.
    #[error("{0}; make a run first: cargo lab")]
    Run(#[source] LabError),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A screenshot is no picture that can be shown.
    #[error("{0}: not a PNG, JPEG, GIF or WebP picture")]
    NoPicture(PathBuf),
    /// The file of words is damaged.
    #[error("words: {0}")]
    Words(#[from] toml::de::Error),
    /// The template for the PDF.
    #[error("template {0}")]
    Typst(String),
    /// The template for the page.
    #[error("page template: {0}")]
    Page(#[from] minijinja::Error),
    /// The programs cannot be coloured.
    #[error("syntax colours: {0}")]
    Syntax(#[from] syntect::Error),
    /// The content cannot be handed to the templates.
    #[error("content: {0}")]
    Content(#[from] serde_json::Error),
}

impl ReportError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}
