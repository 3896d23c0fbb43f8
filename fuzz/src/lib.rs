//! The fuzz targets: each code that reads bytes from the network, from worker processes or from URL
//! lists is a function of bytes, which panics if a promise is broken.
//!
//! `cargo +nightly fuzz run --features libfuzzer TARGET` searches for such bytes, guided by
//! coverage. With stable Rust, `cargo test -p siar-fuzz` runs the corpus and random bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A panic is what is looked for.

mod choice;
mod receiver;
mod sender;

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use siar_core::client::worker::{Followed, follow, read_job};
use siar_core::event::{Event, Observer, Progress};
use siar_core::io::seal::{Key, Opener, Sealer};
use siar_core::io::store::{safe_file_name, with_number};
use siar_proto::wire::Frame;

pub use receiver::receiver;
pub use sender::sender;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("frame", frame),
    ("sealed", sealed),
    ("receiver", receiver),
    ("sender", sender),
    ("name", name),
    ("messages", messages),
    ("urls", urls),
];

/// A frame has the same meaning after it is parsed, emitted and parsed again.
pub fn frame(bytes: &[u8]) {
    if let Ok(parsed) = Frame::parse(bytes) {
        let emitted = parsed.to_datagram();
        assert_eq!(Frame::parse(&emitted).as_ref(), Ok(&parsed));
    }
}

/// Only datagrams that were sealed with the key open, and only unchanged.
pub fn sealed(bytes: &[u8]) {
    static KEY: OnceLock<Key> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        // The key is the same in every run.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{}", "0123456789abcdef".repeat(4)).unwrap();
        Key::load(file.path()).unwrap()
    });
    let mut opener = Opener::new(key);
    assert!(opener.open(bytes).is_err());
    let (mut out, mut sealer) = (Vec::new(), Sealer::new(key));
    sealer.seal(bytes, &mut out);
    assert_eq!(opener.open(&out).ok(), Some(bytes));
    // The first bytes choose the place and the kind of the change.
    if let [first, second, third, ..] = *bytes {
        let at = usize::from(u16::from_be_bytes([first, second])) % out.len();
        out[at] ^= third.max(1);
        assert!(opener.open(&out).is_err());
    }
}

/// A name becomes one path component, and no temporary file of ours.
pub fn name(bytes: &[u8]) {
    let name = String::from_utf8_lossy(bytes);
    let safe = safe_file_name(&name);
    for safe in [&safe, &with_number(&safe, 4_294_967_295)] {
        assert!(!safe.is_empty() && safe.len() <= 255, "{safe:?}");
        assert!(!safe.contains(['/', '\\', '\0']) && !safe.starts_with(".siar-"), "{safe:?}");
        assert!(safe != "." && safe != "..", "{safe:?}");
        assert_eq!(Path::new(safe).components().count(), 1, "{safe:?}");
    }
}

/// An observer that ignores everything.
#[derive(Debug)]
pub struct Ignore;

impl Observer for Ignore {
    fn is_recording(&self) -> bool {
        true
    }

    fn event(&self, _: Event) {}
    fn progress(&self, _: Progress) {}
}

/// The messages of worker processes are parsed, in both directions.
pub fn messages(bytes: &[u8]) {
    let mut left = bytes;
    while let Ok(Followed::Result(_)) = follow(&mut left, &Ignore) {}
    let mut left = bytes;
    while let Ok(Some(job)) = read_job(&mut left) {
        let line = serde_json::to_vec(&job).unwrap();
        assert_eq!(read_job(&mut line.as_slice()).unwrap(), Some(job));
    }
}

/// A URL list contains only URLs that can be downloaded, or is refused.
pub fn urls(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(tasks) = siar_core::client::urls::parse(Path::new("urls.toml"), text) else { return };
    assert!(!tasks.is_empty());
    for task in tasks {
        let url = url::Url::parse(&task.url).expect("only URLs");
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{task:?}");
        assert!(!siar_core::client::fetch::file_name(&task.url).is_empty());
    }
}
