//! Tests of incoming files: what is published, and what is left of the rest.

#![allow(clippy::unwrap_used)]

use super::*;
use siar_proto::BlockLayout;

fn receive(dir: &Path, bytes: &[u8], name: &str) -> Result<PathBuf, StoreError> {
    let mut file = IncomingFile::create(dir, bytes.len() as u64)?;
    let half = bytes.len() / 2;
    file.write_at(half as u64, &bytes[half..])?;
    file.write_at(0, &bytes[..half])?;
    let announced = *blake3::hash(bytes).as_bytes();
    Ok(file.publish(announced, Some(name), &Naming::original())?.path)
}

#[test]
fn pieces_in_any_order_make_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = receive(dir.path(), b"hello world", "a.txt").unwrap();
    assert_eq!(path, dir.path().join("a.txt"));
    assert_eq!(std::fs::read(path).unwrap(), b"hello world");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// More gaps than the hasher has room for come first, and then none.
#[test]
fn pieces_between_many_gaps_make_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..1_000_001u32).map(|at| (at % 251) as u8).collect();
    let mut file = IncomingFile::create(dir.path(), bytes.len() as u64).unwrap();
    let pieces = || (0..).step_by(1500).zip(bytes.chunks(1500));
    for odd in [1, 0] {
        for (offset, piece) in pieces().skip(odd).step_by(2) {
            file.write_at(offset, piece).unwrap();
            file.write_at(offset, &[0xee; 7]).unwrap();
        }
        assert!(file.hasher.subtree_count() <= 64);
    }
    let announced = *blake3::hash(&bytes).as_bytes();
    let published = file.publish(announced, Some("a"), &Naming::original()).unwrap();
    assert_eq!(std::fs::read(published.path).unwrap(), bytes);
}

/// A file of five blocks, and its bytes.
fn five_blocks() -> (AnnouncedFile, Vec<u8>) {
    let bytes: Vec<u8> = (0..5000u32).map(|at| (at % 251) as u8).collect();
    let announced = AnnouncedFile {
        from: std::net::SocketAddr::from(([192, 0, 2, 1], 40_000)).into(),
        name: "a".to_owned(),
        size: bytes.len() as u64,
        blake3: *blake3::hash(&bytes).as_bytes(),
        announced_ms: 0,
        layout: BlockLayout::new(bytes.len() as u64, 10, 100).unwrap(),
    };
    (announced, bytes)
}

fn write(file: &mut IncomingFile, (announced, bytes): &(AnnouncedFile, Vec<u8>), block: u32) {
    let place = announced.layout.byte_range(block);
    let piece = &bytes[place.start as usize..place.end as usize];
    file.write_block(block, place.start, piece).unwrap();
}

#[test]
fn another_process_goes_on_where_one_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let content = five_blocks();
    let (announced, bytes) = &content;
    assert!(IncomingFile::find(dir.path(), announced).unwrap().is_empty());
    let mut killed = IncomingFile::resume(dir.path(), announced, &[]).unwrap();
    [0, 3, 4].into_iter().for_each(|block| write(&mut killed, &content, block));
    killed.leave();
    let found = IncomingFile::find(dir.path(), announced).unwrap();
    assert_eq!(found, [0, 3, 4]);
    let mut file = IncomingFile::resume(dir.path(), announced, &found).unwrap();
    [2, 1].into_iter().for_each(|block| write(&mut file, &content, block));
    let published = file.publish(announced.blake3, Some("a"), &Naming::original()).unwrap();
    assert_eq!(&std::fs::read(published.path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_without_a_block_is_not_left() {
    let dir = tempfile::tempdir().unwrap();
    let (announced, _) = five_blocks();
    IncomingFile::resume(dir.path(), &announced, &[]).unwrap().leave();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// The first transfer holds its lock, or has published the file, when the second one begins.
#[test]
fn promised_blocks_that_another_transfer_holds_are_copied() {
    for is_published in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let content = five_blocks();
        let (announced, bytes) = &content;
        let mut first = IncomingFile::resume(dir.path(), announced, &[]).unwrap();
        [1, 2].into_iter().for_each(|block| write(&mut first, &content, block));
        let found = IncomingFile::find(dir.path(), announced).unwrap();
        assert_eq!(found, [1, 2]);
        let naming = Naming::original();
        let held = if is_published {
            [0, 3, 4].into_iter().for_each(|block| write(&mut first, &content, block));
            first.publish(announced.blake3, Some("a"), &naming).unwrap();
            None
        } else {
            Some(first)
        };
        let mut second = IncomingFile::resume(dir.path(), announced, &found).unwrap();
        [0, 3, 4].into_iter().for_each(|block| write(&mut second, &content, block));
        let published = second.publish(announced.blake3, Some("a"), &naming).unwrap();
        assert_eq!(&std::fs::read(published.path).unwrap(), bytes);
        drop(held);
    }
}

#[test]
fn a_promise_that_cannot_be_kept_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (announced, _) = five_blocks();
    let error = IncomingFile::resume(dir.path(), &announced, &[1]).unwrap_err();
    assert!(error.to_string().contains("removed by another transfer"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A file of one block, a new partial file, and one that was continued.
#[test]
fn a_published_file_has_the_mode_of_any_new_file() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    std::fs::write(dir.path().join("new"), "").unwrap();
    let of_new = mode(&dir.path().join("new"));
    assert_eq!(mode(&receive(dir.path(), b"one", "one").unwrap()), of_new);
    let content = five_blocks();
    for stops in [false, true] {
        let mut file = IncomingFile::resume(dir.path(), &content.0, &[]).unwrap();
        write(&mut file, &content, 0);
        if stops {
            file.leave();
            file = IncomingFile::resume(dir.path(), &content.0, &[0]).unwrap();
        }
        (1..5).for_each(|block| write(&mut file, &content, block));
        let digest = content.0.blake3;
        let published = file.publish(digest, Some("five"), &Naming::original()).unwrap();
        assert_eq!(mode(&published.path), of_new);
    }
}

#[test]
fn a_file_with_a_gap_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = IncomingFile::create(dir.path(), 3).unwrap();
    file.write_at(0, b"a").unwrap();
    file.write_at(2, b"c").unwrap();
    let announced = *blake3::hash(b"abc").as_bytes();
    file.publish(announced, Some("a"), &Naming::original()).unwrap_err();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn another_file_of_that_name_is_kept_and_the_same_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    receive(dir.path(), b"one", "a.txt").unwrap();
    assert_eq!(receive(dir.path(), b"two", "a.txt").unwrap(), dir.path().join("a-1.txt"));
    assert_eq!(receive(dir.path(), b"one", "a.txt").unwrap(), dir.path().join("a.txt"));
    assert_eq!(std::fs::read(dir.path().join("a.txt")).unwrap(), b"one");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Each of many files of one name is read at most once more, and not for each that follows.
#[test]
fn a_file_of_a_much_used_name_is_not_compared_with_all() {
    let dir = tempfile::tempdir().unwrap();
    let naming = Naming::original();
    let publish = |bytes: &[u8]| {
        let mut file = IncomingFile::create(dir.path(), bytes.len() as u64).unwrap();
        file.write_at(0, bytes).unwrap();
        file.publish(*blake3::hash(bytes).as_bytes(), Some("a.txt"), &naming).unwrap()
    };
    for number in 0..40u8 {
        assert!(publish(&[number]).is_new);
    }
    let path = |number: u32| dir.path().join(with_number("a.txt", number));
    assert_eq!(publish(&[200]).path, path(40));
    let again = publish(&[30]);
    assert_eq!((again.path, again.is_new), (path(30), false));
    assert_eq!(naming.numbering.of("a.txt", 1, blake3::hash(&[0]).as_bytes()), (vec![0], 41));
    std::fs::remove_file(dir.path().join("a.txt")).unwrap();
    assert_eq!(publish(&[201]).path, dir.path().join("a.txt"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 41);
}

#[test]
fn a_hidden_file_stays_hidden_unless_that_is_unwanted() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(receive(dir.path(), b"a", ".env").unwrap(), dir.path().join(".env"));
    assert_eq!(Naming::original().without_dotfiles().name(".env"), "env");
}

#[test]
fn wrong_bytes_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = IncomingFile::create(dir.path(), 3).unwrap();
    file.write_at(0, b"abc").unwrap();
    let result = file.publish([0; 32], Some("a"), &Naming::original());
    assert!(matches!(result, Err(StoreError::Corrupt { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_larger_than_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let result = IncomingFile::create(dir.path(), u64::MAX);
    assert!(matches!(result, Err(StoreError::NoSpace { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn numbered_names_carry_the_true_extension() {
    let dir = tempfile::tempdir().unwrap();
    let naming = Naming::numbered();
    for (bytes, expected) in [
        (&b"\x89PNG\r\n\x1a\n0000"[..], "img1.png"),
        (b"GIF89a000000", "img2.gif"),
        (b"no magic", "img3.txt"),
    ] {
        let mut file = IncomingFile::create(dir.path(), bytes.len() as u64).unwrap();
        file.write_at(0, bytes).unwrap();
        let announced = *blake3::hash(bytes).as_bytes();
        let published = file.publish(announced, Some("x.txt"), &naming).unwrap();
        assert_eq!(published.path, dir.path().join(expected));
    }
}
