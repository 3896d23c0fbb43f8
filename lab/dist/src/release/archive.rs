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
    let mut tar = tar::Builder::new(GzEncoder::new(File::create(archive)?, Compression::best()));
    for file in files {
        let bytes =
            if file.path == UNIT { localized_unit(&file.bytes) } else { file.bytes.clone() };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if file.is_program { 0o755 } else { 0o644 });
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, format!("{name}/{}", file.path), bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.sync_all()
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
