//! The pictures of a run's folder: a timeline for each style, and the styles side by side.

use std::fs;
use std::path::Path;

use siar_core::event::Style;

use crate::LabError;
use crate::bench::summary::Spread;
use crate::chart::{Bar, BarChart, Group};
use crate::manifest::{Manifest, NodeDir, Role, StyleRuns, Timing};
use crate::run::read_events;
use crate::timeline::{Timeline, Words};

/// The timeline of a style's last run, from its client's events.
///
/// # Errors
/// The events are not there, damaged, or tell of no run.
pub fn timeline(dir: &Path, manifest: &Manifest, style: Style) -> Result<Timeline, LabError> {
    let client = manifest.nodes(Role::Client).next();
    let client = client.map_or("client", |node| node.name.as_str());
    let path = NodeDir::new(dir, style, client).client_events();
    let timeline = Timeline::from_events(&read_events(&path)?);
    let no_run = || std::io::Error::other("no run began");
    timeline.ok_or_else(no_run).map_err(LabError::file(&path))
}

/// What the comparison says in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonWords {
    /// Title of the chart of whole runs.
    pub total: String,
    /// Title of the chart of what is not simulated work.
    pub overhead: String,
    /// Unit of the first.
    pub seconds: String,
    /// Unit of the second.
    pub milliseconds: String,
}

impl Default for ComparisonWords {
    fn default() -> Self {
        Self {
            total: "Whole run (median, range)".to_owned(),
            overhead: "Beyond the delay (median, range)".to_owned(),
            seconds: "seconds".to_owned(),
            milliseconds: "milliseconds".to_owned(),
        }
    }
}

/// The styles side by side: whole runs, and what of them is not the simulated work.
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

/// Draws all of them into the run's folder.
///
/// # Errors
/// A run cannot be read, or the folder not be written to.
pub fn write(dir: &Path, manifest: &Manifest) -> Result<(), LabError> {
    let save = |name: &str, svg: &str| {
        let path = dir.join(name);
        fs::write(&path, svg).map_err(LabError::file(&path))
    };
    for runs in &manifest.styles {
        let svg = timeline(dir, manifest, runs.style)?.to_svg(&Words::default());
        save(&format!("timeline-{}.svg", runs.style), &svg)?;
    }
    let [total, overhead] = comparison(manifest, &ComparisonWords::default());
    save("comparison-total.svg", &total.to_svg())?;
    save("comparison-overhead.svg", &overhead.to_svg())
}
