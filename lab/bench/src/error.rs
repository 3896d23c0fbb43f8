//! Errors of the benchmark.

use std::io;
use std::path::Path;

use siar_core::io::seal::KeyError;
use stage::StageError;

use crate::blast::BlastError;

/// A failure of the benchmark itself; a measured program that fails gives a run with a fault.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The lab's network, one of its programs or one of its files failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The upper bound [`blast`](crate::blast) or the lower bound [`bare`](crate::bare) failed.
    #[error(transparent)]
    Blast(#[from] BlastError),
    /// The key file cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl BenchError {
    /// A function that makes an I/O error on `path` a [`BenchError`].
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let error = StageError::file(path);
        move |cause| Self::Stage(error(cause))
    }
}
