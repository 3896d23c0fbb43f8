//! The names of received files.

use std::sync::atomic::AtomicU32;

use super::numbering::Numbering;
use super::{FolderTraits, safe_file_name, shortened_file_name, shown_file_name};

/// How received files are named.
#[derive(Debug)]
pub struct Naming {
    pub(super) numbered: bool,
    keeps_dots: bool,
    pub(super) folder: FolderTraits,
    pub(super) next: AtomicU32,
    pub(super) numbering: Numbering,
}

impl Naming {
    /// Uses the senders' names, made safe; files without a name are numbered.
    #[must_use]
    pub fn original() -> Self {
        let folder = FolderTraits::default();
        let (next, numbering) = (AtomicU32::new(1), Numbering::default());
        Self { numbered: false, keeps_dots: true, folder, next, numbering }
    }

    /// Uses `img1.png`, `img2.gif`, … with the extension that fits the bytes, as the Python scripts
    /// number them (`udpserver_broadcast.py`, line 23).
    #[must_use]
    pub fn numbered() -> Self {
        Self { numbered: true, ..Self::original() }
    }

    /// The same for a folder of these traits.
    #[must_use]
    pub fn in_folder(self, folder: FolderTraits) -> Self {
        Self { folder, ..self }
    }

    /// The same without hidden files: names lose their leading dot.
    #[must_use]
    pub fn without_dotfiles(self) -> Self {
        Self { keeps_dots: false, ..self }
    }

    pub(super) fn name(&self, sent: &str) -> String {
        let name = if self.keeps_dots { safe_file_name(sent) } else { shown_file_name(sent) };
        shortened_file_name(&name, self.folder.longest_name())
    }
}
