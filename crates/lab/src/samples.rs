//! The four files that the lab's gateway serves in place of the seed's downloads.
//!
//! They are drawn by code, so that the lab needs neither the Internet nor somebody else's
//! pictures, and from fixed noise seeds, so that every run transfers the same bytes. Each is
//! a real file of its kind, about as large as the one whose name it has.

use std::io::{Cursor, Write};

use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// One file that the gateway serves: its key in the URL list, its URL path, its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name in the URL list.
    pub key: &'static str,
    /// What follows the host in its URL, query included.
    pub path: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Sample {
    /// The last component of its path, without the query.
    #[must_use]
    pub fn file_name(&self) -> &'static str {
        // The query goes first: it could have slashes of its own.
        let path = self.path.split_once('?').map_or(self.path, |(path, _)| path);
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }
}

/// A file at `/NAME` that no program can compress, the same each time.
#[must_use]
pub fn noise(name: &str, len: usize) -> Sample {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    let key = name.split('.').next().unwrap_or(name).to_owned();
    // Samples live as long as the lab, and are few.
    Sample { key: key.leak(), path: format!("/{name}").leak(), bytes }
}

/// Why a sample cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The picture or a frame of the movie.
    #[error("PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The animation.
    #[error("GIF: {0}")]
    Gif(#[from] gif::EncodingError),
    /// The archive.
    #[error("ZIP: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// An entry of the archive.
    #[error("ZIP entry: {0}")]
    Io(#[from] std::io::Error),
}

/// Makes the four samples, in the order of the seed's list.
///
/// # Errors
/// An encoder failed; it writes into memory, so that this would be a mistake in this module.
pub fn samples() -> Result<Vec<Sample>, SampleError> {
    Ok(vec![
        Sample { key: "its", path: "/wp-content/uploads/2017/10/logo-its-1.png", bytes: logo()? },
        Sample {
            key: "detik",
            path: "/community/media/visual/2021/04/22/detikcon-ranadan-desktop-1.gif?d=1",
            bytes: animation()?,
        },
        Sample {
            key: "file2",
            path: "/uploads/2018/04/file_example_MOV_1280_1_400x8.mov",
            bytes: movie()?,
        },
        Sample { key: "file3", path: "/uploads/2017/02/zip_200.zip", bytes: archive()? },
    ])
}

/// Marsaglia's xorshift64: the same noise on every machine and with every crate version, which
/// a generator from a crate does not promise. The seed must not be 0.
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
    // Not only for speed: the better levels go through flate2, whose backend, and with it the
    // size of the file, depends on which features the rest of the build switches on.
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(file)
}

const LOGO_SIDE: usize = 160;
/// Only the disc has grain, so that its radius sets the size of the file.
const LOGO_RADIUS: usize = 66;
const LETTERS: [&[u8; 11]; 5] =
    [b"### ### ###", b" #   #  #  ", b" #   #  ###", b" #   #    #", b"###  #  ###"];

fn logo() -> Result<Vec<u8>, png::EncodingError> {
    let mut noise = Noise(0x10c0);
    let mut rgb: Vec<u8> = Vec::with_capacity(LOGO_SIDE * LOGO_SIDE * 3);
    for y in 0..LOGO_SIDE {
        for x in 0..LOGO_SIDE {
            let from_centre = distance((x, y), (LOGO_SIDE / 2, LOGO_SIDE / 2));
            // Left of or above the letters the difference wraps to a cell that does not exist.
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
/// Of 256 pixels, how many are speckles: rings alone compress to less than two thirds.
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

const MOVIE_WIDTH: usize = 320;
const MOVIE_HEIGHT: usize = 180;
const MOVIE_FRAMES: usize = 50;
/// The rows below are sea, whose grain makes nearly all of the file's size.
const MOVIE_HORIZON: usize = 146;
const SUN_RADIUS: usize = 24;
/// QuickTime's customary time scale, a multiple of the usual frame rates.
const TIME_SCALE: u32 = 600;
const FRAME_TIME: u32 = TIME_SCALE / 25;
const MOVIE_TIME: u32 = FRAME_TIME * MOVIE_FRAMES as u32;

/// A sun that crosses the sky above a glittering sea.
fn movie_frames() -> Result<Vec<Vec<u8>>, png::EncodingError> {
    let mut noise = Noise(0x30f);
    let mut sky: Vec<u8> = Vec::with_capacity(MOVIE_WIDTH * MOVIE_HORIZON * 3);
    for y in 0..MOVIE_HORIZON {
        let band = (y / 8) as u8;
        sky.extend([96 + 3 * band, 160 + 2 * band, 240].repeat(MOVIE_WIDTH));
    }
    let frame = |step: usize| {
        let mut rgb = sky.clone();
        // The path keeps the whole sun between the edges and above the horizon.
        let (sun_x, sun_y) = (30 + step * 5, 80 - step * (MOVIE_FRAMES - 1 - step) / 12);
        for y in sun_y - SUN_RADIUS..sun_y + SUN_RADIUS {
            for x in sun_x - SUN_RADIUS..sun_x + SUN_RADIUS {
                if x.abs_diff(sun_x).pow(2) + y.abs_diff(sun_y).pow(2) < SUN_RADIUS.pow(2) {
                    let at = (y * MOVIE_WIDTH + x) * 3;
                    rgb[at..at + 3].copy_from_slice(&[255, 224, 64]);
                }
            }
        }
        for _ in 0..(MOVIE_HEIGHT - MOVIE_HORIZON) * MOVIE_WIDTH {
            rgb.extend(noise.grain([16, 64, 128], 7));
        }
        png_file(MOVIE_WIDTH, MOVIE_HEIGHT, &rgb)
    };
    (0..MOVIE_FRAMES).map(frame).collect()
}

/// Big-endian 32-bit fields; two 16-bit ones share a word.
fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn atom(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = parts.concat();
    [words(&[body.len() as u32 + 8]).as_slice(), kind, &body].concat()
}

fn handler(component: &[u8; 4], subtype: &[u8; 4]) -> Vec<u8> {
    // The last byte is an empty name: QuickTime's are Pascal strings, unlike MP4's.
    atom(b"hdlr", &[&words(&[0]), component, subtype, &words(&[0; 3]), &[0]])
}

/// The movie's description, for samples of these sizes one after the other from `offset`.
/// Dates, which QuickTime counts from 1904, are left 0 (unknown) for stable bytes.
fn moov(sizes: &[u32], offset: u32) -> Vec<u8> {
    let matrix = words(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
    let (width, height) = (MOVIE_WIDTH as u32, MOVIE_HEIGHT as u32);
    let frames = sizes.len() as u32;

    let mut codec = [0u8; 32];
    codec[..4].copy_from_slice(b"\x03PNG");
    // 0x400: lossless; 0x48_0000: 72 dpi; after the codec's name: depth 24, no colour table.
    let picture = words(&[0, 1, 0, 0, 0, 0x400, (width << 16) | height, 0x48_0000, 0x48_0000, 0]);
    let picture = atom(b"png ", &[&picture, &[0, 1], &codec, &words(&[0x0018_ffff])]);
    let stbl = atom(
        b"stbl",
        &[
            &atom(b"stsd", &[&words(&[0, 1]), &picture]),
            &atom(b"stts", &[&words(&[0, 1, frames, FRAME_TIME])]),
            &atom(b"stsc", &[&words(&[0, 1, 1, frames, 1])]),
            &atom(b"stsz", &[&words(&[0, 0, frames]), &words(sizes)]),
            &atom(b"stco", &[&words(&[0, 1, offset])]),
        ],
    );

    // Flag 1: the data is in this file.
    let dref = atom(b"dref", &[&words(&[0, 1]), &atom(b"alis", &[&words(&[1])])]);
    let minf = atom(
        b"minf",
        &[
            &atom(b"vmhd", &[&words(&[1, 0, 0])]),
            // MP4 has no second handler, but QuickTime's specification asks for it.
            &handler(b"dhlr", b"alis"),
            &atom(b"dinf", &[&dref]),
            &stbl,
        ],
    );
    let mdhd = atom(b"mdhd", &[&words(&[0, 0, 0, TIME_SCALE, MOVIE_TIME, 0])]);
    let mdia = atom(b"mdia", &[&mdhd, &handler(b"mhlr", b"vide"), &minf]);

    // Flags 15: enabled, and used in the movie, its preview and its poster.
    let tkhd = words(&[15, 0, 0, 1, 0, MOVIE_TIME, 0, 0, 0, 0]);
    let tkhd = atom(b"tkhd", &[&tkhd, &matrix, &words(&[width << 16, height << 16])]);
    let trak = atom(b"trak", &[&tkhd, &mdia]);
    let mvhd = words(&[0, 0, 0, TIME_SCALE, MOVIE_TIME, 0x1_0000, 0x100_0000, 0, 0]);
    let mvhd = atom(b"mvhd", &[&mvhd, &matrix, &words(&[0, 0, 0, 0, 0, 0, 2])]);
    atom(b"moov", &[&mvhd, &trak])
}

fn movie() -> Result<Vec<u8>, png::EncodingError> {
    let frames = movie_frames()?;
    let sizes: Vec<u32> = frames.iter().map(|frame| frame.len() as u32).collect();
    let ftyp = atom(b"ftyp", &[b"qt  ", &words(&[0x2005_0300]), b"qt  "]);
    // The description comes first, so that a player can start early; the offset in it depends
    // on its own length, which does not depend on the offset.
    let offset = ftyp.len() + moov(&sizes, 0).len() + 8;
    let moov = moov(&sizes, offset as u32);
    let media: Vec<u8> = frames.concat();
    Ok([ftyp, moov, atom(b"mdat", &[&media])].concat())
}

fn archive() -> Result<Vec<u8>, SampleError> {
    let mut noise = Noise(0x217);
    let mut table = b"row,first,second,third\n".to_vec();
    for row in 1..=1500 {
        let [first, second, third] = [(); 3].map(|()| noise.draw() % 100_000);
        writeln!(table, "{row},{first},{second},{third}")?;
    }
    // The default time is the clock's if any crate in the build enables zip's `time`.
    let options = SimpleFileOptions::default().last_modified_time(DateTime::default());
    let deflated = options.compression_method(CompressionMethod::Deflated);
    // Noise does not shrink, so that stored entries of it set the size of the archive.
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

    const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| samples().unwrap());

    fn sample(key: &str) -> &'static Sample {
        SAMPLES.iter().find(|sample| sample.key == key).unwrap()
    }

    fn decode_png(bytes: &[u8]) -> (u32, u32) {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        reader.finish().unwrap();
        (frame.width, frame.height)
    }

    fn word(bytes: &[u8], at: usize) -> usize {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// Kind and body of each atom; fails unless they fill `bytes` exactly.
    fn atoms(mut bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let size = word(bytes, 0);
            assert!((8..=bytes.len()).contains(&size), "an atom of {size} bytes");
            let (atom, rest) = bytes.split_at(size);
            found.push((&atom[4..8], &atom[8..]));
            bytes = rest;
        }
        found
    }

    fn kinds(bytes: &[u8]) -> String {
        let kinds: Vec<&[u8]> = atoms(bytes).into_iter().map(|(kind, _)| kind).collect();
        String::from_utf8(kinds.join(&b' ')).unwrap()
    }

    fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> &'a [u8] {
        atoms(bytes).into_iter().find(|atom| atom.0 == kind).unwrap().1
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
    fn mov_atoms_nest() {
        let file = sample("file2").bytes.as_slice();
        assert_eq!(kinds(file), "ftyp moov mdat");
        let moov = child(file, b"moov");
        assert_eq!(kinds(moov), "mvhd trak");
        let trak = child(moov, b"trak");
        assert_eq!(kinds(trak), "tkhd mdia");
        let mdia = child(trak, b"mdia");
        assert_eq!(kinds(mdia), "mdhd hdlr minf");
        let minf = child(mdia, b"minf");
        assert_eq!(kinds(minf), "vmhd hdlr dinf stbl");
        let stbl = child(minf, b"stbl");
        assert_eq!(kinds(stbl), "stsd stts stsc stsz stco");
        // The lengths that the specification fixes, headers excluded.
        assert_eq!(child(moov, b"mvhd").len(), 100);
        assert_eq!(child(trak, b"tkhd").len(), 84);
        assert_eq!(child(mdia, b"mdhd").len(), 24);
        assert_eq!(kinds(&child(stbl, b"stsd")[8..]), "png ");
        assert_eq!(child(stbl, b"stsd").len(), 8 + 86);

        let mut at = word(child(stbl, b"stco"), 8);
        let sizes = child(stbl, b"stsz");
        assert_eq!(word(sizes, 8), MOVIE_FRAMES);
        for frame in 0..MOVIE_FRAMES {
            let end = at + word(sizes, 12 + 4 * frame);
            assert!(file[at..end].starts_with(PNG_SIGNATURE), "frame {frame}");
            assert_eq!(decode_png(&file[at..end]), (320, 180));
            at = end;
        }
        assert_eq!(at, file.len());
    }

    #[test]
    fn zip_unpacks() {
        let bytes = sample("file3").bytes.as_slice();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(archive.len(), 4);
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            assert_eq!(entry.last_modified(), Some(DateTime::default()));
            // Reading to the end is what checks the CRC.
            let read = io::copy(&mut entry, &mut io::sink()).unwrap();
            assert_eq!(read, entry.size());
        }
    }
}
