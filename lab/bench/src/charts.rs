//! Charts of the measurements.

use evidence::chart::{Bar, BarChart, Group};
use stage::programs::STYLES;
use stage::spread::Spread;

use crate::cells::{LOSSES, RECEIVERS, TASKS};
use crate::summary::Summary;

impl Summary<'_> {
    /// The charts with their file names, without extension.
    pub(crate) fn charts(&self) -> Vec<(&'static str, BarChart)> {
        let bar = |series: usize, spread: Option<Spread>| {
            let Spread { median, low, high, .. } = spread?;
            Some(Bar { series, median, low, high })
        };
        let by_loss = LOSSES.map(|loss| {
            let bars = [
                self.goodput(&format!("siar-loss-{loss}")),
                self.best_uftp(loss),
                self.spread(&format!("udpcast-loss-{loss}"), |measured, run| {
                    Some(measured.cell.total() as f64 / run.wall / 1e6)
                }),
            ];
            let bars = bars.into_iter().enumerate().filter_map(|(at, spread)| bar(at, spread));
            Group { label: format!("{loss} % loss"), bars: bars.collect() }
        });
        let by_receivers = RECEIVERS.map(|receivers| {
            let spread = self.goodput(&format!("siar-receivers-{receivers}"));
            Group {
                label: format!("{receivers} receivers"),
                bars: bar(0, spread).into_iter().collect(),
            }
        });
        let most = TASKS.into_iter().max().unwrap_or(0);
        let by_style = STYLES.map(|style| {
            let times = ["siar", "python"]
                .map(|program| self.wall(&format!("{program}-tasks-{style}-{most}")));
            let bars = times.into_iter().enumerate().filter_map(|(at, spread)| bar(at, spread));
            Group { label: style.to_string(), bars: bars.collect() }
        });
        vec![
            (
                "loss",
                BarChart {
                    title: "256 MiB to two receivers, by loss".to_owned(),
                    unit: "MB/s".to_owned(),
                    series: vec![
                        "Siar".to_owned(),
                        "UFTP, data phase, best rate".to_owned(),
                        "UDPcast, whole run".to_owned(),
                    ],
                    groups: by_loss.into(),
                    decimal: '.',
                },
            ),
            (
                "receivers",
                BarChart {
                    title: "64 MiB, by number of receivers, all on two cores".to_owned(),
                    unit: "MB/s".to_owned(),
                    series: vec!["Siar".to_owned()],
                    groups: by_receivers.into(),
                    decimal: '.',
                },
            ),
            (
                "tasks",
                BarChart {
                    title: format!("{most} tasks of 19 KB, whole process"),
                    unit: "s".to_owned(),
                    series: vec!["Siar".to_owned(), "Python".to_owned()],
                    groups: by_style.into(),
                    decimal: '.',
                },
            ),
        ]
    }
}
