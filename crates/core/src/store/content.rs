//! The bytes of a file that is to be broadcast.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

/// The bytes of a file that was hashed.
#[derive(Debug)]
pub enum Content {
    /// Of a small file, all of them.
    Memory(Vec<u8>),
    /// On disk.
    Disk {
        /// The very file: another task may put one of the same name in its place.
        file: File,
        /// When it was written to last, before it was hashed to its end.
        modified: SystemTime,
    },
}

impl Content {
    /// How many bytes there are now.
    ///
    /// # Errors
    /// The file system does not say.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::Disk { file, .. } => Ok(file.metadata()?.len()),
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// There are fewer, or they cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let piece = from.and_then(|bytes| bytes.get(..buffer.len()));
                buffer.copy_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::Disk { file, .. } => file.read_exact_at(buffer, offset),
        }
    }

    /// Whether somebody has written to the file since it was hashed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Disk { file, modified } => {
                let now = file.metadata().and_then(|metadata| metadata.modified());
                now.is_ok_and(|now| now != *modified)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_memory_as_from_a_file() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let disk = Content::Disk { file, modified };
        for content in [&Content::Memory(b"0123456789".to_vec()), &disk] {
            assert_eq!((content.size().unwrap(), content.has_changed()), (10, false));
            for (offset, len) in [(0, 10), (3, 4), (9, 1), (10, 0)] {
                let mut buffer = vec![0; len];
                content.read_exact_at(&mut buffer, offset as u64).unwrap();
                assert_eq!(buffer, b"0123456789"[offset..offset + len]);
            }
            for (offset, len) in [(0, 11), (7, 4), (11, 1)] {
                let error = content.read_exact_at(&mut vec![0; len], offset).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }
}
