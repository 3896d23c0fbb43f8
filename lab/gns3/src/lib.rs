//! The lab on a GNS3 server, and checks of what the lab and GNS3 need.
//!
//! | module | job |
//! |---|---|
//! | [`topology`] | the planned nodes, links, notes and files |
//! | [`project`] | the plan as a portable project of GNS3 |
//! | [`api`], [`error`] | GNS3's REST API; its errors, with remedies |
//! | [`deploy`] | the deployment of the plan on a server |
//! | [`telnet`], [`console`] | a shell behind a node's console |
//! | [`run`] | runs of styles over the nodes' consoles |
//! | [`doctor`] | checks of this machine and of a GNS3 server |
//! | [`options`] | command-line options for a server |

pub mod api;
pub mod console;
pub mod deploy;
pub mod doctor;
pub mod error;
pub mod options;
pub mod project;
pub mod run;
pub mod telnet;
pub mod topology;

use std::io;
use std::path::Path;

use siar_core::client::urls::UrlListError;
use stage::StageError;

use console::ConsoleError;
use error::ServerError;

/// A failure of the lab on GNS3.
#[derive(Debug, thiserror::Error)]
pub enum Gns3Error {
    /// A program, a file or a server of Siar failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A request to a GNS3 server failed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A node's console failed.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// A URL list cannot be used.
    #[error(transparent)]
    Urls(#[from] UrlListError),
}

impl Gns3Error {
    /// A function that makes an I/O error on `path` a [`Gns3Error`].
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let error = StageError::file(path);
        move |cause| Self::Stage(error(cause))
    }
}
