//! A run judged from its evidence, not from its claims: what the client tells of itself has
//! to agree with what its servers tell, with the packets that reached them, with the
//! processes and threads that the lab saw, and with the files.

mod evidence;
mod report;
mod styles;
mod wire;

use std::path::{Path, PathBuf};

use serde::Serialize;
use siar_core::event::Style;

use crate::LabError;
use crate::binaries::STYLES;
use evidence::Evidence;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The assignment's four programs.
    Style(Style),
    /// Every file went to a broadcast address, and reached both servers on the wire.
    Udp,
    /// Every file is the same, byte for byte, at both servers.
    Delivery,
    /// The PDF is there and has its four sections.
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

/// Every item, in the order of the table.
pub const ITEMS: [Item; 7] = [
    Item::Style(STYLES[0]),
    Item::Style(STYLES[1]),
    Item::Style(STYLES[2]),
    Item::Style(STYLES[3]),
    Item::Udp,
    Item::Delivery,
    Item::Report,
];

/// An item's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was judged.
    pub item: Item,
    /// Whether the evidence bears it out.
    pub passed: bool,
    /// What the evidence is, or what is wrong with it.
    pub reason: String,
}

/// A run's verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grade {
    /// The run's folder.
    pub dir: PathBuf,
    /// In the order of [`ITEMS`].
    pub verdicts: Vec<Verdict>,
}

impl Grade {
    /// How many items passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.passed).count()
    }

    /// Whether all did.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.passed() == self.verdicts.len()
    }
}

/// Judges the run in `dir`. What cannot be read fails the items that need it.
#[must_use]
pub fn grade(dir: &Path) -> Grade {
    let evidence = Evidence::load(dir);
    let judge = |item: Item| {
        let result = match (&evidence, item) {
            (_, Item::Report) => report::judge(dir),
            (Err(error), _) => Err(error.clone()),
            (Ok(evidence), Item::Style(style)) => styles::judge(evidence, style),
            (Ok(evidence), Item::Udp) => wire::judge(evidence),
            (Ok(evidence), Item::Delivery) => evidence.judge_delivery(),
        };
        let passed = result.is_ok();
        Verdict { item, passed, reason: result.unwrap_or_else(|reason| reason) }
    };
    Grade { dir: dir.to_owned(), verdicts: ITEMS.map(judge).to_vec() }
}

/// One grade as lines for people.
#[must_use]
pub fn lines(grade: &Grade) -> String {
    let mut text = String::new();
    for verdict in &grade.verdicts {
        let word = if verdict.passed { "pass" } else { "FAIL" };
        text.push_str(&format!("{word}  {:<9} {}\n", verdict.item.to_string(), verdict.reason));
    }
    let (passed, all) = (grade.passed(), grade.verdicts.len());
    text + &format!("{}: {passed} of {all}\n", grade.dir.display())
}

/// Several grades as one table, a row a folder.
#[must_use]
pub fn table(grades: &[Grade]) -> String {
    let name = |grade: &Grade| grade.dir.display().to_string();
    let width = grades.iter().map(|grade| name(grade).chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!("{:<width$}", "folder");
    for item in ITEMS {
        text.push_str(&format!("  {:>8}", item.to_string()));
    }
    text.push_str("  passed\n");
    for grade in grades {
        text.push_str(&format!("{:<width$}", name(grade)));
        for verdict in &grade.verdicts {
            text.push_str(&format!("  {:>8}", if verdict.passed { "pass" } else { "FAIL" }));
        }
        text.push_str(&format!("  {} of {}\n", grade.passed(), grade.verdicts.len()));
    }
    text
}

/// Writes several grades as CSV: folder, a column and a reason for each item, and how many
/// passed.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv(grades: &[Grade], path: &Path) -> Result<(), LabError> {
    let write = || -> csv::Result<()> {
        let mut csv = csv::Writer::from_path(path)?;
        let items = ITEMS.iter().map(ToString::to_string);
        let columns = items.flat_map(|item| [item.clone(), format!("{item} reason")]);
        csv.write_record(
            ["folder".to_owned()].into_iter().chain(columns).chain(["passed".to_owned()]),
        )?;
        for grade in grades {
            let verdicts = grade.verdicts.iter().flat_map(|verdict| {
                let word = if verdict.passed { "pass" } else { "fail" };
                [word.to_owned(), verdict.reason.clone()]
            });
            let folder = grade.dir.display().to_string();
            csv.write_record(
                [folder].into_iter().chain(verdicts).chain([grade.passed().to_string()]),
            )?;
        }
        Ok(csv.flush()?)
    };
    write().map_err(std::io::Error::other).map_err(LabError::file(path))
}
