//! From runs to tables, ratios and pictures.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::arena::SLOW_LINK;
use super::cells::{FEW_AND_MANY, LOSSES, RECEIVERS, SHARES, TASKS, UFTP_RATES};
use super::crowd::Crowd;
use super::programs::Run;
use super::{BenchConfig, Measured};
use crate::LabError;
use crate::binaries::STYLES;
use crate::chart::{Bar, BarChart, Group};

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Middle one; the mean of the middle two.
    pub median: f64,
    /// Of all: for what is only sampled.
    pub mean: f64,
    /// Least.
    pub low: f64,
    /// Greatest.
    pub high: f64,
}

impl Spread {
    /// `None` of nothing.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { median, mean, low, high })
    }
}

/// A ratio that should hold.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// What is compared.
    pub what: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub value: f64,
    /// Whether that is so.
    pub holds: bool,
}

/// Everything that was measured, for the tables.
pub struct Summary<'a> {
    measured: &'a [Measured],
    crowds: &'a [Crowd],
}

impl<'a> Summary<'a> {
    /// Looks at the runs of all cells, and at the crowds.
    #[must_use]
    pub fn new(measured: &'a [Measured], crowds: &'a [Crowd]) -> Self {
        Self { measured, crowds }
    }

    fn spread(&self, cell: &str, value: impl Fn(&Measured, &Run) -> Option<f64>) -> Option<Spread> {
        let measured = self.measured.iter().find(|measured| measured.cell.name == cell)?;
        if measured.runs.iter().any(|run| run.fault.is_some()) {
            return None;
        }
        Spread::of(measured.runs.iter().filter_map(|run| value(measured, run)))
    }

    /// Confirmed bytes per second, from the start of sending; in MB/s.
    fn goodput(&self, cell: &str) -> Option<Spread> {
        self.spread(cell, |measured, run| Some(measured.cell.total() as f64 / run.transfer? / 1e6))
    }

    fn wall(&self, cell: &str) -> Option<Spread> {
        self.spread(cell, |_, run| Some(run.wall))
    }

    /// UFTP at its best rate.
    fn best_uftp(&self, loss: u8) -> Option<Spread> {
        let cells = uftp_cells(loss);
        cells.filter_map(|cell| self.goodput(&cell)).max_by(|a, b| a.median.total_cmp(&b.median))
    }

    fn best_uftp_wall(&self) -> Option<Spread> {
        let cells = uftp_cells(0);
        cells.filter_map(|cell| self.wall(&cell)).min_by(|a, b| a.median.total_cmp(&b.median))
    }

    /// The ratios, of medians; of means where a value is sampled.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut at_least = |what: &str, least: f64, value: Option<f64>| {
            if let Some(value) = value {
                let wanted = format!("at least {least}");
                let holds = value >= least;
                verdicts.push(Verdict { what: what.to_owned(), wanted, value, holds });
            }
        };
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        let ratio = |a: Option<Spread>, b: Option<Spread>| Some(median(a)? / median(b)?);
        let clean = self.goodput("siar-loss-0");
        let clean_wall = self.wall("siar-loss-0");
        at_least("clean, against UFTP's best data phase", 3.0, ratio(clean, self.best_uftp(0)));
        let at_hand = self.wall("siar-at-hand");
        let curl = median(self.wall("curl"));
        for (peer, wall) in
            [("UFTP", self.best_uftp_wall()), ("UDPcast", self.wall("udpcast-loss-0"))]
        {
            let what = format!("clean, whole process, a file at hand, against {peer}");
            at_least(&what, 4.0, ratio(wall, at_hand));
            let after_curl = || Some((median(wall)? + curl?) / median(clean_wall)?);
            let what = format!("clean, whole process with its download, against curl and {peer}");
            at_least(&what, 4.0, after_curl());
        }
        at_least("clean, against the limit", 0.8, ratio(clean, self.goodput("limit")));
        at_least("with a key, against without", 0.8, ratio(self.goodput("siar-sealed"), clean));
        let lossy = self.goodput("siar-loss-10");
        at_least("10 % loss, against own clean", 0.7, ratio(lossy, clean));
        at_least("10 % loss, against UFTP at 10 %", 5.0, ratio(lossy, self.best_uftp(10)));
        at_least("1 % loss, against own clean", 0.9, ratio(self.goodput("siar-loss-1"), clean));
        let slow = self.spread("siar-slow-link", |measured, run| {
            Some(measured.cell.total() as f64 * 8.0 / run.transfer? / SLOW_LINK)
        });
        at_least("100 Mbit/s link: share used by the file's bytes", 0.95, median(slow));
        at_least(
            "no segmentation, against one call per datagram",
            0.8,
            ratio(self.goodput("siar-one-by-one"), self.goodput("limit-one-by-one")),
        );
        at_least(
            "19 KB, whole process: the seed's script over Siar",
            5.0,
            ratio(self.wall("python-tasks-mt-1"), self.wall("siar-tasks-mt-1")),
        );
        for style in STYLES {
            let least = if style.to_string().starts_with("mp") { 5.0 } else { 8.0 };
            let (python, own) =
                (format!("python-tasks-{style}-1000"), format!("siar-tasks-{style}-1000"));
            let python = self.wall(&python);
            let mut what = format!("1,000 tasks, {style}: Python's time over Siar's");
            if let Some(reach) = ratio(python, self.wall("limit-tasks-1000")) {
                // Writing to a string cannot fail.
                let _ = write!(what, " (over the limit's: {reach:.1})");
            }
            at_least(&what, least, ratio(python, self.wall(&own)));
        }
        for tasks in SHARES {
            let fairness =
                self.spread(&format!("siar-share-{tasks}"), |_, run| jain_index(&run.rates));
            let what = format!("{tasks} transfers of one client at once: Jain's index");
            at_least(&what, 0.9, median(fairness));
        }
        for count in SHARES {
            let fairness =
                self.spread(&format!("siar-clients-{count}"), |_, run| jain_index(&run.rates));
            let what = format!("{count} clients started separately: Jain's index");
            at_least(&what, 0.9, median(fairness));
        }
        let fairness = self.spread("siar-four-mp", |_, run| jain_index(&run.rates));
        at_least("4 processes with a transfer each: Jain's index", 0.9, median(fairness));
        let mut below = |what: &str, most: f64, value: Option<f64>| {
            if let Some(value) = value {
                let wanted = format!("below {most}");
                let holds = value < most;
                verdicts.push(Verdict { what: what.to_owned(), wanted, value, holds });
            }
        };
        let datagrams = |cell: &str| median(self.spread(cell, |_, run| run.datagrams));
        let what = "datagrams per source datagram, 10 % loss, 2 receivers";
        below(what, 1.15, datagrams("siar-loss-10"));
        let what = "datagrams per source datagram, 10 % loss, 32 receivers";
        below(what, 1.2, datagrams("siar-receivers-32-loss-10"));
        below("100 Mbit/s link: datagrams per source datagram", 1.03, datagrams("siar-slow-link"));
        let sender_cpu = |cell: &str| self.spread(cell, |_, run| Some(run.sender?.user));
        let many = || {
            let [few, many] = FEW_AND_MANY.map(sender_cpu);
            Some(many?.mean / few?.mean)
        };
        below("sender's own CPU time, 32 receivers over 2", 1.1, many());
        let many = ratio(
            self.spread("siar-receivers-32", |_, run| run.datagrams),
            self.spread("siar-receivers-2", |_, run| run.datagrams),
        );
        below("sender's datagrams, 32 receivers over 2", 1.1, many);
        let small = self.spread("siar-tasks-mt-1", |_, run| Some(run.transfer? * 1e3));
        below("19 KB confirmed by two servers, in ms", 5.0, median(small));
        let peak = |run: &Run| {
            let costs = run.receivers.iter().chain(&run.sender);
            costs.map(|cost| cost.peak).max().map(|peak| peak as f64 / MIB)
        };
        let huge = self.spread("siar-huge", |_, run| peak(run));
        below("8 GiB at 5 % loss: peak memory, in MiB", 48.0, median(huge));
        verdicts
    }

    /// The ratios as a Markdown table.
    #[must_use]
    pub fn verdict_table(&self) -> String {
        let mut text = "| ratio | wanted | measured | |\n|---|---|---|---|\n".to_owned();
        for verdict in self.verdicts() {
            let mark = if verdict.holds { "holds" } else { "**missed**" };
            let Verdict { what, wanted, value, .. } = verdict;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {what} | {wanted} | {value:.3} | {mark} |");
        }
        text
    }

    /// All cells as a Markdown table.
    #[must_use]
    pub fn cell_table(&self) -> String {
        let mut text =
            "| cell | goodput, MB/s | whole process, s | CPU s/GB: sender | each receiver | \
             peak MiB: sender | receiver | datagrams per source datagram |\n\
             |---|---|---|---|---|---|---|---|\n"
                .to_owned();
        for measured in self.measured {
            let name = &measured.cell.name;
            if let Some(fault) = measured.runs.iter().find_map(|run| run.fault.as_ref()) {
                let _ = writeln!(text, "| {name} | {fault} | | | | | | |");
                continue;
            }
            let gigabytes = measured.cell.total() as f64 / 1e9;
            let receivers = |value: fn(&super::process::Cost) -> f64| {
                move |run: &Run| Spread::of(run.receivers.iter().map(value)).map(|all| all.median)
            };
            let (cpu, peak) = (receivers(|cost| cost.cpu), receivers(|cost| cost.peak as f64));
            let sender = |value: fn(&super::process::Cost) -> f64| {
                self.spread(name, |_, run| run.sender.as_ref().map(value))
            };
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} | {} |",
                with_extremes(self.goodput(name), 1.0, 0),
                with_extremes(self.wall(name), 1.0, 3),
                plain(sender(|cost| cost.cpu), gigabytes, 2),
                plain(self.spread(name, |_, run| cpu(run)), gigabytes, 2),
                plain(sender(|cost| cost.peak as f64), MIB, 0),
                plain(self.spread(name, |_, run| peak(run)), MIB, 0),
                plain(self.spread(name, |_, run| run.datagrams), 1.0, 3),
            );
        }
        text
    }

    /// The simulated crowds as a Markdown table.
    #[must_use]
    pub fn crowd_table(&self) -> String {
        let mut text =
            "| simulated receivers, 1 % loss, 4,096 symbols at a gigabit's pace | seconds | \
             reports | in the busiest tenth of a second, per second | datagrams sent | \
             per source datagram |\n|---|---|---|---|---|---|\n"
                .to_owned();
        for crowd in self.crowds {
            let Crowd { receivers, seconds, reports, busiest, datagrams, datagrams_per_source } =
                crowd;
            let _ = writeln!(
                text,
                "| {receivers} | {seconds:.3} | {reports} | {busiest:.0} | {datagrams} | \
                 {datagrams_per_source:.3} |"
            );
        }
        text
    }

    fn charts(&self) -> Vec<(&'static str, BarChart)> {
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
                },
            ),
            (
                "receivers",
                BarChart {
                    title: "64 MiB, by number of receivers, all on two cores".to_owned(),
                    unit: "MB/s".to_owned(),
                    series: vec!["Siar".to_owned()],
                    groups: by_receivers.into(),
                },
            ),
            (
                "tasks",
                BarChart {
                    title: format!("{most} tasks of 19 KB, whole process"),
                    unit: "s".to_owned(),
                    series: vec!["Siar".to_owned(), "Python".to_owned()],
                    groups: by_style.into(),
                },
            ),
        ]
    }

    /// Writes `bench.json`, `bench.md` and the charts below `out`.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, config: &BenchConfig, machine: &str, out: &Path) -> Result<(), LabError> {
        #[derive(Serialize)]
        struct CellRuns<'a> {
            cell: &'a str,
            bytes: u64,
            servers: usize,
            runs: &'a [Run],
        }
        #[derive(Serialize)]
        struct Report<'a> {
            machine: &'a str,
            date: String,
            runs: usize,
            verdicts: Vec<Verdict>,
            cells: Vec<CellRuns<'a>>,
            crowds: &'a [Crowd],
        }
        let cells = self.measured.iter().map(|measured| CellRuns {
            cell: &measured.cell.name,
            bytes: measured.cell.total(),
            servers: measured.cell.servers,
            runs: &measured.runs,
        });
        let date = jiff::Timestamp::now().strftime("%F").to_string();
        let report = Report {
            machine,
            date: date.clone(),
            runs: config.runs,
            verdicts: self.verdicts(),
            cells: cells.collect(),
            crowds: self.crowds,
        };
        let write = |name: &str, text: &str| {
            let path = out.join(name);
            fs::write(&path, text).map_err(LabError::file(&path))
        };
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| LabError::file(&out.join("bench.json"))(error.into()))?;
        write("bench.json", &json)?;
        let runs = config.runs;
        write(
            "bench.md",
            &format!(
                "{date}, {machine}; {runs} interleaved runs of each cell: median (lowest to highest).\n\n{}\n{}\n{}",
                self.verdict_table(),
                self.cell_table(),
                self.crowd_table()
            ),
        )?;
        for (name, chart) in self.charts() {
            write(&format!("{name}.svg"), &chart.to_svg())?;
        }
        Ok(())
    }
}

/// UFTP's cells at one loss, one for each rate.
fn uftp_cells(loss: u8) -> impl Iterator<Item = String> {
    UFTP_RATES.iter().map(move |kbit| format!("uftp-{}-loss-{loss}", kbit / 1_000_000))
}

const MIB: f64 = (1u64 << 20) as f64;

fn with_extremes(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    spread.map_or_else(String::new, |Spread { median, low, high, .. }| {
        let (median, low, high) = (median / unit, low / unit, high / unit);
        format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
    })
}

fn plain(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.digits$}", spread.median / unit))
}

/// (Σx)² / (n Σx²): 1 if all have the same, 1/n if one has it all.
fn jain_index(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

/// Processor, cores and kernel, as the kernel tells them.
#[must_use]
pub fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    // What stands behind a dash in a kernel's version is its vendor's.
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    format!("{cores} cores of {processor}, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_extremes() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, mean: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn fairness() {
        assert_eq!(jain_index(&[5.0, 5.0]), Some(1.0));
        assert_eq!(jain_index(&[5.0, 0.0]), Some(0.5));
        assert_eq!(jain_index(&[]), None);
    }
}
