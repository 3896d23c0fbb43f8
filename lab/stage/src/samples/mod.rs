//! The four sample files that the lab's gateway serves in place of the Python scripts' downloads.
//!
//! The files are drawn by code, so that the lab needs neither the internet nor pictures with a
//! licence of their own. The noise generators start from fixed values, so that every run
//! transfers the same bytes. Each file is valid in its format, and about as large as the
//! scripts' file of the same name.

mod movie;

use std::io::{Cursor, Write};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// One file that the gateway serves: its key in the URL list, its URL path, its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file's key in the URL list.
    pub key: &'static str,
    /// The part of the file's URL after the host, including the query.
    pub path: &'static str,
    /// The file's content.
    pub bytes: Vec<u8>,
}

impl Sample {
    /// The last component of the path, without the query.
    #[must_use]
    pub fn file_name(&self) -> &'static str {
        // The query is removed first: it could have slashes.
        let path = self.path.split_once('?').map_or(self.path, |(path, _)| path);
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }
}

/// A file of `len` incompressible bytes at the URL path `/NAME`. Equal names and lengths give
/// equal bytes.
#[must_use]
pub fn noise(name: &str, len: usize) -> Sample {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    let key = name.split('.').next().unwrap_or(name).to_owned();
    // The strings are leaked: samples are few and live as long as the lab.
    Sample { key: key.leak(), path: format!("/{name}").leak(), bytes }
}

/// A failure to make a sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The encoder of the picture or of a frame of the movie failed.
    #[error("PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The encoder of the animation failed.
    #[error("GIF: {0}")]
    Gif(#[from] gif::EncodingError),
    /// The writer of the archive failed.
    #[error("ZIP: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// An entry of the archive could not be written.
    #[error("ZIP entry: {0}")]
    Io(#[from] std::io::Error),
}

/// Makes the four samples, in the order of the Python scripts' list.
///
/// # Errors
/// An encoder failed. Encoders write into memory, so that a failure is a defect of this module.
pub fn samples() -> Result<Vec<Sample>, SampleError> {
    type Make = fn() -> Result<Vec<u8>, SampleError>;
    let samples: [(&str, &str, Make); 4] = [
        ("its", "/wp-content/uploads/2017/10/logo-its-1.png", || Ok(logo()?)),
        ("detik", "/community/media/visual/2021/04/22/detikcon-ranadan-desktop-1.gif?d=1", || {
            Ok(animation()?)
        }),
        ("file2", "/uploads/2018/04/file_example_MOV_1280_1_400x8.mov", || Ok(movie::movie()?)),
        ("file3", "/uploads/2017/02/zip_200.zip", archive),
    ];
    let make = |(key, path, make): (_, _, Make)| Ok(Sample { key, path, bytes: make()? });
    samples.into_par_iter().map(make).collect()
}

/// Marsaglia's xorshift64. It gives the same noise on every machine; a generator from a crate
/// may change with the crate's version. The start value must not be 0.
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A colour with up to `mask` added to each channel.
    fn grain(&mut self, [red, green, blue]: [u8; 3], mask: u64) -> [u8; 3] {
        let bits = self.draw();
        let step = |shift: u32| ((bits >> shift) & mask) as u8;
        [red + step(0), green + step(8), blue + step(16)]
    }

    fn bytes(&mut self, words: usize) -> Vec<u8> {
        (0..words).flat_map(|_| self.draw().to_le_bytes()).collect()
    }
}

fn distance((x, y): (usize, usize), (a, b): (usize, usize)) -> usize {
    (x.abs_diff(a).pow(2) + y.abs_diff(b).pow(2)).isqrt()
}

fn png_file(width: usize, height: usize, rgb: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // The better levels use flate2, whose backend, and so the size of the file, depends on the
    // features that other crates of the build enable.
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(file)
}

const LOGO_SIDE: usize = 160;
/// The radius of the disc in pixels. Only the disc has noise, so that its radius determines the
/// size of the file.
const LOGO_RADIUS: usize = 66;
const LETTERS: [&[u8; 11]; 5] =
    [b"### ### ###", b" #   #  #  ", b" #   #  ###", b" #   #    #", b"###  #  ###"];

fn logo() -> Result<Vec<u8>, png::EncodingError> {
    let mut noise = Noise(0x10c0);
    let mut rgb: Vec<u8> = Vec::with_capacity(LOGO_SIDE * LOGO_SIDE * 3);
    for y in 0..LOGO_SIDE {
        for x in 0..LOGO_SIDE {
            let from_centre = distance((x, y), (LOGO_SIDE / 2, LOGO_SIDE / 2));
            // Left of the letters and above them, the difference wraps to a nonexistent cell.
            let (row, column) = (y.wrapping_sub(60) / 8, x.wrapping_sub(36) / 8);
            let letter = LETTERS.get(row).and_then(|cells| cells.get(column)) == Some(&b'#');
            rgb.extend(match from_centre {
                _ if letter => [16, 32, 80],
                LOGO_RADIUS.. => [255, 255, 255],
                ring if ring / 12 % 2 == 1 => noise.grain([224, 96, 48], 3),
                _ => noise.grain([248, 200, 64], 3),
            });
        }
    }
    png_file(LOGO_SIDE, LOGO_SIDE, &rgb)
}

const GIF_WIDTH: u16 = 160;
const GIF_HEIGHT: u16 = 120;
const GIF_FRAMES: usize = 8;
/// Speckles per 256 pixels; without them the file would be less than two thirds as large.
const GIF_SPECKLES: u64 = 20;

fn animation() -> Result<Vec<u8>, gif::EncodingError> {
    let palette: Vec<u8> = (0..16u8).flat_map(|i| [i * 17, 40 + i * 10, 255 - i * 13]).collect();
    let mut noise = Noise(0x61f);
    let mut encoder = gif::Encoder::new(Vec::new(), GIF_WIDTH, GIF_HEIGHT, &palette)?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    let (width, height) = (usize::from(GIF_WIDTH), usize::from(GIF_HEIGHT));
    for step in 0..GIF_FRAMES {
        // One period of the rings (two pixels for each of 16 colours) over all frames, so that
        // the loop has no jump.
        let phase = (GIF_FRAMES - step) * 32 / GIF_FRAMES;
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let bits = noise.draw();
                pixels.push(if bits % 256 < GIF_SPECKLES {
                    (bits >> 8) as u8 % 16
                } else {
                    let from_centre = distance((x, y), (width / 2, height / 2));
                    ((from_centre + phase) / 2 % 16) as u8
                });
            }
        }
        encoder.write_frame(&gif::Frame {
            delay: 10,
            width: GIF_WIDTH,
            height: GIF_HEIGHT,
            buffer: pixels.into(),
            ..gif::Frame::default()
        })?;
    }
    encoder.into_inner()
}

fn archive() -> Result<Vec<u8>, SampleError> {
    let mut noise = Noise(0x217);
    let mut table = b"row,first,second,third\n".to_vec();
    for row in 1..=1500 {
        let [first, second, third] = [(); 3].map(|()| noise.draw() % 100_000);
        writeln!(table, "{row},{first},{second},{third}")?;
    }
    // Without a fixed time, zip takes the clock's if any crate of the build enables its `time`.
    let options = SimpleFileOptions::default().last_modified_time(DateTime::default());
    let deflated = options.compression_method(CompressionMethod::Deflated);
    // Noise cannot be compressed; its stored entries determine the size of the archive.
    let stored = options.compression_method(CompressionMethod::Stored);
    let entries = [
        ("readme.txt", deflated, b"Made by code for the lab: a table and some noise.\n".to_vec()),
        ("table.csv", deflated, table),
        ("noise/first.bin", stored, noise.bytes(12_000)),
        ("noise/second.bin", stored, noise.bytes(10_800)),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, options, content) in entries {
        zip.start_file(name, options)?;
        zip.write_all(&content)?;
    }
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{io, sync::LazyLock};

    use super::*;

    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| samples().unwrap());

    pub(super) fn sample(key: &str) -> &'static Sample {
        SAMPLES.iter().find(|sample| sample.key == key).unwrap()
    }

    pub(super) fn decode_png(bytes: &[u8]) -> (u32, u32) {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        reader.finish().unwrap();
        (frame.width, frame.height)
    }

    #[test]
    fn sizes_and_names() {
        let expected = [
            ("its", "logo-its-1.png", 17_000..=21_000),
            ("detik", "detikcon-ranadan-desktop-1.gif", 44_000..=52_000),
            ("file2", "file_example_MOV_1280_1_400x8.mov", 1_300_000..=1_500_000),
            ("file3", "zip_200.zip", 190_000..=210_000),
        ];
        assert_eq!(SAMPLES.len(), expected.len());
        for (sample, (key, name, size)) in SAMPLES.iter().zip(expected) {
            assert_eq!((sample.key, sample.file_name()), (key, name));
            assert!(size.contains(&sample.bytes.len()), "{name}: {}", sample.bytes.len());
        }
    }

    #[test]
    fn same_bytes_every_time() {
        assert!(samples().unwrap() == *SAMPLES);
    }

    #[test]
    fn png_decodes() {
        assert_eq!(decode_png(&sample("its").bytes), (160, 160));
    }

    #[test]
    fn gif_decodes() {
        let mut decoder = gif::Decoder::new(sample("detik").bytes.as_slice()).unwrap();
        let mut frames = 0;
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!((frame.width, frame.height), (GIF_WIDTH, GIF_HEIGHT));
            frames += 1;
        }
        assert_eq!(frames, GIF_FRAMES);
        assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
    }

    #[test]
    fn zip_unpacks() {
        let bytes = sample("file3").bytes.as_slice();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(archive.len(), 4);
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            assert_eq!(entry.last_modified(), Some(DateTime::default()));
            // Only reading to the end checks the CRC.
            let read = io::copy(&mut entry, &mut io::sink()).unwrap();
            assert_eq!(read, entry.size());
        }
    }
}
