//! The bytes of a file that is to be broadcast.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

/// A file that is hashed and sent. It stays open: another task may replace the file of this name.
#[derive(Debug)]
pub struct Content {
    file: File,
    /// When the file was last written to, before it was hashed completely.
    modified: SystemTime,
}

impl Content {
    /// Takes an open file.
    ///
    /// # Errors
    /// The file system does not return the time of the last change.
    pub fn new(file: File) -> io::Result<Self> {
        let modified = file.metadata()?.modified()?;
        Ok(Self { file, modified })
    }

    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the present size of the file, in bytes.
    ///
    /// # Errors
    /// The file system does not return the size.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The file has fewer bytes, or they cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Whether somebody has written to the file since it was hashed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let now = self.file.metadata().and_then(|metadata| metadata.modified());
        now.is_ok_and(|now| now != self.modified)
    }
}
