//! The bytes of a file that is to be broadcast.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

/// The bytes of a file that is hashed and sent: the very file, for another task may put one of the
/// same name in its place.
#[derive(Debug)]
pub struct Content {
    file: File,
    /// When it was written to last, before it was hashed to its end.
    modified: SystemTime,
}

impl Content {
    /// Of an open file.
    ///
    /// # Errors
    /// The file system does not say when it was written to.
    pub fn new(file: File) -> io::Result<Self> {
        let modified = file.metadata()?.modified()?;
        Ok(Self { file, modified })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How many bytes there are now.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// There are fewer, or they cannot be read.
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
