//! A release as a `.tar.gz`, to be unpacked into `/usr/local`.

use std::fs::File;
use std::io;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::tree::{InstalledFile, UNIT};

/// Writes the files below the folder `name`, all with the same time in seconds since 1970. Equal
/// files give equal bytes.
///
/// # Errors
/// The archive cannot be written.
pub fn write(archive: &Path, name: &str, files: &[InstalledFile], time: u64) -> io::Result<()> {
    let mut tar = Archive::create(archive, time)?;
    for file in files {
        let path = format!("{name}/{}", file.path);
        let mode = if file.is_program { 0o755 } else { 0o644 };
        if file.path == UNIT {
            tar.append(path, &localized_unit(&file.bytes), mode)?;
        } else {
            tar.append(path, &file.bytes, mode)?;
        }
    }
    tar.finish()
}

/// A `.tar.gz` whose files belong to root and all have the same time.
pub(crate) struct Archive {
    tar: tar::Builder<GzEncoder<File>>,
    time: u64,
}

impl Archive {
    /// Begins an archive whose files have this time, in seconds since 1970.
    pub(crate) fn create(path: &Path, time: u64) -> io::Result<Self> {
        let tar = tar::Builder::new(GzEncoder::new(File::create(path)?, Compression::best()));
        Ok(Self { tar, time })
    }

    /// Adds a file.
    pub(crate) fn append(&mut self, path: String, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        self.tar.append_data(&mut header, path, bytes)
    }

    /// Writes what is left.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.tar.into_inner()?.finish()?.sync_all()
    }
}

/// The server's unit with the places of `/usr/local`.
fn localized_unit(unit: &[u8]) -> Vec<u8> {
    let unit = String::from_utf8_lossy(unit).replace("/usr/bin/", "/usr/local/bin/");
    unit.replace("=-/etc/default/", "=-/usr/local/etc/default/").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_the_places_of_the_archive() {
        let unit = include_bytes!("../../../../deploy/systemd/siar-server.service");
        let unit = String::from_utf8(localized_unit(unit)).unwrap();
        assert!(unit.contains("ExecStart=/usr/local/bin/siar-server"), "{unit}");
        assert!(unit.contains("EnvironmentFile=-/usr/local/etc/default/siar-server"), "{unit}");
        assert!(!unit.contains("=/usr/bin"), "{unit}");
    }
}
