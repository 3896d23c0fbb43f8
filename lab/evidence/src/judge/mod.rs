//! Verdicts on a run. The client's events alone prove nothing: they must agree with the servers'
//! events, with the packets that reached the servers, with the processes and threads that the
//! lab saw, and with the files.

mod collected;
mod sentence;
mod styles;
mod wire;

use std::path::Path;

use serde::Serialize;
use siar_core::event::Style;
use stage::programs::STYLES;

use collected::Evidence;
pub use sentence::{Sentence, Translations};

/// The evidence for an item in words, or the reason why the item fails.
pub type Judgement = Result<Sentence, Sentence>;

/// All sentences of the verdicts, in English, for those who translate them.
#[must_use]
pub fn templates() -> Vec<&'static str> {
    let sources =
        [include_str!("collected.rs"), include_str!("styles.rs"), include_str!("wire.rs")];
    let calls = sources.into_iter().flat_map(|source| source.split("said!(").skip(1));
    calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

/// An item of the assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The program of one style works as the style's name says.
    Style(Style),
    /// Every file went to a broadcast address, and reached both servers on the wire.
    Udp,
    /// Every file is the same, byte for byte, at both servers.
    Delivery,
    /// The PDF report exists and has its four sections.
    Report,
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Style(style) => style.fmt(f),
            Self::Udp => f.write_str("udp"),
            Self::Delivery => f.write_str("delivery"),
            Self::Report => f.write_str("report"),
        }
    }
}

impl Serialize for Item {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The verdict on an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The item.
    pub item: Item,
    /// Whether the evidence confirms the item.
    pub passed: bool,
    /// The evidence, or the reason of the failure.
    #[serde(serialize_with = "as_text")]
    pub reason: Sentence,
}

impl Verdict {
    /// Makes the verdict of an item's judgement.
    #[must_use]
    pub fn new(item: Item, judgement: Judgement) -> Self {
        let passed = judgement.is_ok();
        Self { item, passed, reason: judgement.unwrap_or_else(|reason| reason) }
    }
}

fn as_text<S: serde::Serializer>(reason: &Sentence, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

/// All items that the evidence of a run decides: all but [`Item::Report`].
pub const ITEMS: [Item; 6] = [
    Item::Style(STYLES[0]),
    Item::Style(STYLES[1]),
    Item::Style(STYLES[2]),
    Item::Style(STYLES[3]),
    Item::Udp,
    Item::Delivery,
];

/// Judges the run in the folder `dir`, in the order of [`ITEMS`]. An item fails if a file that
/// it needs cannot be read.
#[must_use]
pub fn verdicts(dir: &Path) -> Vec<Verdict> {
    let evidence = Evidence::load(dir);
    let judge = |item: Item| {
        let judgement = match (&evidence, item) {
            (Err(error), _) => Err(error.clone()),
            (Ok(evidence), Item::Style(style)) => styles::judge(evidence, style),
            (Ok(evidence), Item::Udp) => wire::judge(evidence),
            (Ok(evidence), Item::Delivery) => evidence.judge_delivery(),
            (Ok(_), Item::Report) => Err("it is not part of the run's evidence".to_owned().into()),
        };
        Verdict::new(item, judgement)
    };
    ITEMS.map(judge).to_vec()
}
