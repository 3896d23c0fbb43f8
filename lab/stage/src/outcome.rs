//! The result of a style's run: the client's events, and a comparison of the received files
//! with their sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use siar_core::event::{Event, EventKind, Style};

use crate::node::SERVERS;
use crate::samples::Sample;

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

/// The table that is printed at the end of a run: one line per style.
#[must_use]
pub fn table(results: &[StyleResult]) -> String {
    let mut text = format!(
        "{:<10} {:>9} {:>10}  {:>10} {:>10}  {:>9} {:>7}\n",
        "style", "total", "overhead", SERVERS[0].name, SERVERS[1].name, "processes", "threads"
    );
    for result in results {
        let delivered = |index: usize| {
            let count = result.delivered.get(index).copied().unwrap_or(0);
            format!("{count} of {}", result.files)
        };
        text.push_str(&format!(
            "{:<10} {:>7.3} s {:>8.3} s  {:>10} {:>10}  {:>9} {:>7}\n",
            result.style.to_string(),
            result.total,
            result.overhead,
            delivered(0),
            delivered(1),
            result.processes,
            result.threads,
        ));
    }
    text
}
