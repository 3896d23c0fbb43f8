//! The command `cargo lab grade`: verdicts on runs, item by item, and on the report.
//!
//! | item | job |
//! |---|---|
//! | [`grade()`] | the [`Grade`] of one run: the verdicts on its evidence and on its PDF |
//! | [`lines`], [`table`], [`write_csv`] | grades as text and as CSV |

mod report;

use std::path::{Path, PathBuf};

use evidence::judge::{self, Item, Verdict};
use serde::Serialize;
use stage::StageError;

/// All items, in the order of the table.
pub const ITEMS: [Item; 7] = {
    let [first, second, third, fourth, fifth, sixth] = judge::ITEMS;
    [first, second, third, fourth, fifth, sixth, Item::Report]
};

/// A run's verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grade {
    /// The run's folder.
    pub dir: PathBuf,
    /// The verdicts, in the order of [`ITEMS`].
    pub verdicts: Vec<Verdict>,
}

impl Grade {
    /// The number of items that passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.passed).count()
    }

    /// Whether all items passed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.passed() == self.verdicts.len()
    }
}

/// Judges the run in the folder `dir`. An item fails if a file that it needs cannot be read.
#[must_use]
pub fn grade(dir: &Path) -> Grade {
    let mut verdicts = judge::verdicts(dir);
    verdicts.push(Verdict::new(Item::Report, report::judge(dir)));
    Grade { dir: dir.to_owned(), verdicts }
}

/// One grade as text, one line per item. A reason why all items fail, such as a run that was
/// broken off, has one line.
#[must_use]
pub fn lines(grade: &Grade) -> String {
    let mut text = String::new();
    let [of_run @ .., _] = &grade.verdicts[..] else { return text };
    let common = of_run.first().filter(|first| {
        of_run.iter().all(|verdict| !verdict.passed && verdict.reason == first.reason)
    });
    if let Some(common) = common {
        text.push_str(&format!("FAIL  {:<9} {}\n", "run", common.reason));
    }
    let shown = if common.is_some() { &grade.verdicts[of_run.len()..] } else { &grade.verdicts };
    for verdict in shown {
        let word = if verdict.passed { "pass" } else { "FAIL" };
        text.push_str(&format!("{word}  {:<9} {}\n", verdict.item.to_string(), verdict.reason));
    }
    let (passed, all) = (grade.passed(), grade.verdicts.len());
    text + &format!("{}: {passed} of {all}\n", grade.dir.display())
}

/// Several grades as one table in text, one row per folder.
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

/// Writes several grades as CSV. The columns are the folder, a result and a reason for each
/// item, and the number of items that passed.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv(grades: &[Grade], path: &Path) -> Result<(), StageError> {
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
                [word.to_owned(), verdict.reason.to_string()]
            });
            let folder = grade.dir.display().to_string();
            csv.write_record(
                [folder].into_iter().chain(verdicts).chain([grade.passed().to_string()]),
            )?;
        }
        Ok(csv.flush()?)
    };
    write().map_err(std::io::Error::other).map_err(StageError::file(path))
}
