//! The corpus, and random bytes for a few seconds, on stable.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use siar_core::client::worker::{Followed, follow, read_job};
use siar_fuzz::{Ignore, TARGETS};

#[test]
fn the_corpus_breaks_no_promise() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 3, "{name}: {} inputs in its corpus", corpus.len());
        for (number, bytes) in corpus.iter().enumerate() {
            // A panic does not say which one it was.
            let result = std::panic::catch_unwind(|| target(bytes));
            assert!(result.is_ok(), "{name}: input {number} in order of names breaks a promise");
        }
    }
}

/// Bytes as they really come through the pipes.
#[test]
fn real_messages_are_read() {
    let corpus = corpus("messages");
    let is_job = |bytes: &Vec<u8>| matches!(read_job(&mut bytes.as_slice()), Ok(Some(_)));
    assert!(corpus.iter().any(is_job), "no job is in the corpus");
    let ends_well = |bytes: &Vec<u8>| {
        matches!(follow(&mut bytes.as_slice(), &Ignore), Ok(Followed::Result(Ok(_))))
    };
    assert!(corpus.iter().any(|bytes| bytes.starts_with(b"{\"Event\"") && ends_well(bytes)));
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(corpus).expect("each target has a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).expect("it can be read")).collect()
}

#[test]
fn mutations_of_the_corpus_break_no_promise() {
    let mut runner = TestRunner::new(ProptestConfig { cases: 3000, ..ProptestConfig::default() });
    let bytes = proptest::collection::vec(any::<u8>(), 0..20);
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        let mutation = (0..corpus.len(), any::<usize>(), any::<usize>(), bytes.clone());
        let result = runner.run(&mutation, |(entry, at, len, bytes)| {
            let mut mutated = corpus[entry].clone();
            let at = at % (mutated.len() + 1);
            let end = (at + len % 20).min(mutated.len());
            mutated.splice(at..end, bytes);
            target(&mutated);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
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
