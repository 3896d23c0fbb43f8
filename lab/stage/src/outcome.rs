//! The result of a style's run: the client's events, and a comparison of the received files
//! with their sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use siar_core::event::{Event, EventKind, Style};

use crate::node::SERVERS;
use crate::samples::Sample;
use crate::spread::Spread;

/// The result of one run of a style.
#[derive(Debug, Clone, PartialEq)]
pub struct StyleResult {
    /// The style.
    pub style: Style,
    /// Whether the client's exit code was 0.
    pub success: bool,
    /// Seconds from start to end.
    pub total: f64,
    /// Seconds of `total` that are not the simulated work.
    pub overhead: f64,
    /// For each server, the number of files that arrived whole.
    pub delivered: Vec<usize>,
    /// The number of files of the URL list.
    pub files: usize,
    /// The number of processes that ran tasks.
    pub processes: usize,
    /// The number of threads that ran tasks.
    pub threads: usize,
    /// The missing and the wrong files, one line per file and server.
    pub faults: Vec<String>,
}

impl StyleResult {
    /// Whether every file arrived whole at every server and the client reported success.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.success && self.faults.is_empty()
    }
}

/// The result of a client by its events, still without the files. `delay` is the simulated
/// work, and `wall` the measured time of the process, for a client without a last event.
#[must_use]
pub fn summarize(
    style: Style,
    success: bool,
    events: &[Event],
    delay: Duration,
    wall: Duration,
) -> StyleResult {
    let of_tasks = || events.iter().filter(|event| event.kind == EventKind::DownloadStarted);
    let total = events.iter().find_map(|event| match event.kind {
        EventKind::RunFinished { seconds, .. } => Some(seconds),
        _ => None,
    });
    // A client that was killed wrote no last event.
    let total = total.unwrap_or(wall.as_secs_f64());
    StyleResult {
        style,
        success,
        total,
        overhead: total - delay.as_secs_f64(),
        delivered: Vec::new(),
        files: 0,
        processes: of_tasks().map(|event| event.pid).collect::<BTreeSet<_>>().len(),
        threads: of_tasks().map(|event| event.tid).collect::<BTreeSet<_>>().len(),
        faults: Vec::new(),
    }
}

/// Compares the files in `dir` with the samples: one line for each missing or wrong file.
#[must_use]
pub fn compare(dir: &Path, samples: &[Sample]) -> Vec<String> {
    compare_files(dir, samples.iter().map(|sample| (sample.file_name(), sample.bytes.as_slice())))
}

/// Compares the files in `dir` with pairs of a name and the expected bytes, as [`compare`] does.
#[must_use]
pub fn compare_files<'a>(
    dir: &Path,
    wanted: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Vec<String> {
    let fault = |(name, wanted): (&str, &[u8])| match fs::read(dir.join(name)) {
        Ok(bytes) if bytes == wanted => None,
        Ok(bytes) => Some(format!(
            "{name} differs from its source ({} bytes, the source has {})",
            bytes.len(),
            wanted.len()
        )),
        Err(error) => Some(format!("{name}: {error}")),
    };
    wanted.into_iter().filter_map(fault).collect()
}

/// The table that is printed at the end: one line per style. Of several runs of a style it shows
/// the median times with their range, and the fewest files that arrived.
#[must_use]
pub fn table(results: &[StyleResult]) -> String {
    let mut styles: Vec<Vec<&StyleResult>> = Vec::new();
    for result in results {
        match styles.iter_mut().find(|runs| runs[0].style == result.style) {
            Some(runs) => runs.push(result),
            None => styles.push(vec![result]),
        }
    }
    let runs = styles.iter().map(Vec::len).max().unwrap_or(0);
    let width = if runs > 1 { 23 } else { 9 };
    let mut text = format!(
        "{:<10} {:>width$} {:>width$}  {:>10} {:>10}  {:>9} {:>7}\n",
        "style", "total", "overhead", SERVERS[0].name, SERVERS[1].name, "processes", "threads"
    );
    for runs in styles {
        let delivered = |index: usize| {
            let count = |run: &&StyleResult| run.delivered.get(index).copied().unwrap_or(0);
            format!("{} of {}", runs.iter().map(count).min().unwrap_or(0), runs[0].files)
        };
        text.push_str(&format!(
            "{:<10} {:>width$} {:>width$}  {:>10} {:>10}  {:>9} {:>7}\n",
            runs[0].style.to_string(),
            seconds(runs.iter().map(|run| run.total)),
            seconds(runs.iter().map(|run| run.overhead)),
            delivered(0),
            delivered(1),
            runs.iter().map(|run| run.processes).min().unwrap_or(0),
            runs.iter().map(|run| run.threads).min().unwrap_or(0),
        ));
    }
    if runs > 1 {
        text.push_str(&format!("medians of {runs} runs of each style (least – greatest)\n"));
    }
    text
}

/// A time in seconds; of several times the median, and in parentheses the range.
fn seconds(values: impl IntoIterator<Item = f64>) -> String {
    let values: Vec<f64> = values.into_iter().collect();
    let Some(Spread { median, low, high, .. }) = Spread::of(values.iter().copied()) else {
        return String::new();
    };
    if values.len() > 1 {
        format!("{median:.3} s ({low:.3} – {high:.3})")
    } else {
        format!("{median:.3} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(style: Style, total: f64, delivered: usize) -> StyleResult {
        StyleResult {
            style,
            success: true,
            total,
            overhead: total - 2.0,
            delivered: vec![delivered, 4],
            files: 4,
            processes: 1,
            threads: 4,
            faults: Vec::new(),
        }
    }

    #[test]
    fn one_run_is_shown_as_it_is_and_several_by_their_median() {
        let one = table(&[result(Style::Mt, 2.045, 4)]);
        assert!(one.contains("mt           2.045 s   0.045 s      4 of 4     4 of 4"), "{one}");
        assert_eq!(one.lines().count(), 2);
        let runs = [2.5, 2.1, 2.2].map(|total| result(Style::Mt, total, 4));
        let several = table(&[&runs[..], &[result(Style::Mp, 2.0, 3)]].concat());
        assert!(several.contains("2.200 s (2.100 – 2.500)"), "{several}");
        assert!(several.contains("3 of 4"), "{several}");
        assert!(several.ends_with("medians of 3 runs of each style (least – greatest)\n"));
    }
}
