//! The corpus, and random bytes for a few seconds, on stable.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use siar_fuzz::TARGETS;

#[test]
fn the_corpus_breaks_no_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let entries = fs::read_dir(corpus.join(name)).expect("each target has a corpus");
        let mut played = 0;
        for entry in entries {
            let path = entry.expect("a file").path();
            let bytes = fs::read(&path).expect("it can be read");
            // A panic does not say which one it was.
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "{} breaks a promise", path.display());
            played += 1;
        }
        assert!(played >= 3, "{name}: {played} inputs in its corpus");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn random_bytes_break_no_promise(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }
}
