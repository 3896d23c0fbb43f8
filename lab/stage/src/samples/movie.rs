//! The sample movie: a QuickTime file whose frames are PNG pictures.

use super::{Noise, png_file};

const MOVIE_WIDTH: usize = 320;
const MOVIE_HEIGHT: usize = 180;
const MOVIE_FRAMES: usize = 50;
/// The first row of the sea, whose noise makes nearly all of the file's size.
const MOVIE_HORIZON: usize = 146;
const SUN_RADIUS: usize = 24;
/// QuickTime's customary time scale in units per second, a multiple of the usual frame rates.
const TIME_SCALE: u32 = 600;
const FRAME_TIME: u32 = TIME_SCALE / 25;
const MOVIE_TIME: u32 = FRAME_TIME * MOVIE_FRAMES as u32;

/// The frames as PNG files: a sun crosses the sky above a sea.
fn movie_frames() -> Result<Vec<Vec<u8>>, png::EncodingError> {
    let mut noise = Noise(0x30f);
    let mut sky: Vec<u8> = Vec::with_capacity(MOVIE_WIDTH * MOVIE_HORIZON * 3);
    for y in 0..MOVIE_HORIZON {
        let band = (y / 8) as u8;
        sky.extend([96 + 3 * band, 160 + 2 * band, 240].repeat(MOVIE_WIDTH));
    }
    let frame = |step: usize| {
        let mut rgb = sky.clone();
        // On this path the whole sun stays between the edges and above the horizon.
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

/// Big-endian 32-bit fields; two 16-bit fields share one value.
fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn atom(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = parts.concat();
    [words(&[body.len() as u32 + 8]).as_slice(), kind, &body].concat()
}

fn handler(component: &[u8; 4], subtype: &[u8; 4]) -> Vec<u8> {
    // The last byte is an empty name: QuickTime's names are Pascal strings, unlike MP4's.
    atom(b"hdlr", &[&words(&[0]), component, subtype, &words(&[0; 3]), &[0]])
}

/// The movie's description, for frames of the given sizes in bytes, one after the other from the
/// file offset `offset`. The dates are 0 (unknown), so that the bytes are always the same.
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

pub(super) fn movie() -> Result<Vec<u8>, png::EncodingError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::samples::tests::{decode_png, sample};

    const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn word(bytes: &[u8], at: usize) -> usize {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// Kind and body of each atom; panics unless the atoms fill `bytes` exactly.
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
        // The specification fixes these lengths, without headers.
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
}
