//! The pictures of a run's folder: a timeline for each style, and the styles side by side.

use std::fs;
use std::path::Path;

use siar_core::event::Style;
use stage::StageError;
use stage::events::read_events;
use stage::manifest::{Manifest, NodeDir, Role, StyleRuns, Timing};
use stage::spread::Spread;

use crate::chart::{Bar, BarChart, Group};
use crate::gantt::Words;
use crate::timeline::Timeline;

/// The timeline of a style's last run, from its client's events.
///
/// # Errors
/// The event file is missing or damaged, or has no start of a run.
pub fn timeline(dir: &Path, manifest: &Manifest, style: Style) -> Result<Timeline, StageError> {
    let client = manifest.nodes(Role::Client).next();
    let client = client.map_or("client", |node| node.name.as_str());
    let path = NodeDir::new(dir, style, client).client_events();
    let timeline = Timeline::from_events(&read_events(&path)?);
    let no_run = || std::io::Error::other("no run began");
    timeline.ok_or_else(no_run).map_err(StageError::file(&path))
}

/// The words of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonWords {
    /// The title of the chart of total times.
    pub total: String,
    /// The title of the chart of times without the simulated work.
    pub overhead: String,
    /// The unit of the first chart.
    pub seconds: String,
    /// The unit of the second chart.
    pub milliseconds: String,
    /// The decimal mark.
    pub decimal: char,
}

impl Default for ComparisonWords {
    fn default() -> Self {
        Self {
            total: "Whole run (median, range)".to_owned(),
            overhead: "Beyond the delay (median, range)".to_owned(),
            seconds: "seconds".to_owned(),
            milliseconds: "milliseconds".to_owned(),
            decimal: '.',
        }
    }
}

/// Two charts of the styles side by side: total times in seconds, and times without the
/// simulated work in milliseconds.
#[must_use]
pub fn comparison(manifest: &Manifest, words: &ComparisonWords) -> [BarChart; 2] {
    let chart = |title: &str, unit: &str, value: fn(&Timing) -> f64| BarChart {
        title: title.to_owned(),
        unit: unit.to_owned(),
        series: vec![unit.to_owned()],
        groups: manifest
            .styles
            .iter()
            .map(|runs| Group {
                label: runs.style.to_string(),
                bars: bar(runs, value).into_iter().collect(),
            })
            .collect(),
        decimal: words.decimal,
    };
    [
        chart(&words.total, &words.seconds, |timing| timing.total),
        chart(&words.overhead, &words.milliseconds, |timing| timing.overhead * 1e3),
    ]
}

fn bar(runs: &StyleRuns, value: fn(&Timing) -> f64) -> Option<Bar> {
    let values = runs.runs.iter().map(value).filter(|value| value.is_finite());
    let Spread { median, low, high, .. } = Spread::of(values)?;
    // A single run has no spread.
    let (low, high) = if runs.runs.len() > 1 { (low, high) } else { (f64::NAN, f64::NAN) };
    Some(Bar { series: 0, median, low, high })
}

/// Draws all pictures of a run into its folder `dir`.
///
/// # Errors
/// The events of a run cannot be read, or a file cannot be written.
pub fn write(dir: &Path, manifest: &Manifest) -> Result<(), StageError> {
    let save = |name: &str, svg: &str| {
        let path = dir.join(name);
        fs::write(&path, svg).map_err(StageError::file(&path))
    };
    for runs in &manifest.styles {
        let svg = timeline(dir, manifest, runs.style)?.to_svg(&Words::default());
        save(&format!("timeline-{}.svg", runs.style), &svg)?;
    }
    let [total, overhead] = comparison(manifest, &ComparisonWords::default());
    save("comparison-total.svg", &total.to_svg())?;
    save("comparison-overhead.svg", &overhead.to_svg())
}
