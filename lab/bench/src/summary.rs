//! The summary of the runs, as tables and files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;
use stage::spread::Spread;

use crate::cells::UFTP_RATES;
use crate::crowd::Crowd;
use crate::process::Cost;
use crate::run::Run;
use crate::verdicts::Verdict;
use crate::{BenchConfig, BenchError, Measured};

/// All measurements, for the tables.
pub struct Summary<'a> {
    measured: &'a [Measured],
    crowds: &'a [Crowd],
}

impl<'a> Summary<'a> {
    /// Makes the summary of all cells and of the simulations.
    #[must_use]
    pub fn new(measured: &'a [Measured], crowds: &'a [Crowd]) -> Self {
        Self { measured, crowds }
    }

    pub(crate) fn spread(
        &self,
        cell: &str,
        value: impl Fn(&Measured, &Run) -> Option<f64>,
    ) -> Option<Spread> {
        let measured = self.measured.iter().find(|measured| measured.cell.name == cell)?;
        if measured.runs.iter().any(|run| run.fault.is_some()) {
            return None;
        }
        Spread::of(measured.runs.iter().filter_map(|run| value(measured, run)))
    }

    /// The confirmed bytes per second from the start of sending, in MB/s.
    pub(crate) fn goodput(&self, cell: &str) -> Option<Spread> {
        self.spread(cell, |measured, run| Some(measured.cell.total() as f64 / run.transfer? / 1e6))
    }

    pub(crate) fn wall(&self, cell: &str) -> Option<Spread> {
        self.spread(cell, |_, run| Some(run.wall))
    }

    /// The goodput of UFTP at its best rate, in MB/s.
    pub(crate) fn best_uftp(&self, loss: u8) -> Option<Spread> {
        let cells = uftp_cells(loss);
        cells.filter_map(|cell| self.goodput(&cell)).max_by(|a, b| a.median.total_cmp(&b.median))
    }

    pub(crate) fn best_uftp_wall(&self) -> Option<Spread> {
        let cells = uftp_cells(0);
        cells.filter_map(|cell| self.wall(&cell)).min_by(|a, b| a.median.total_cmp(&b.median))
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
            let receivers = |value: fn(&Cost) -> f64| {
                move |run: &Run| Spread::of(run.receivers.iter().map(value)).map(|all| all.median)
            };
            let (cpu, peak) = (receivers(|cost| cost.cpu), receivers(|cost| cost.peak as f64));
            let sender = |value: fn(&Cost) -> f64| {
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

    /// The simulations as a Markdown table.
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

    /// Writes `bench.json`, `bench.md` and the charts into `out`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, config: &BenchConfig, machine: &str, out: &Path) -> Result<(), BenchError> {
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
            fs::write(&path, text).map_err(BenchError::file(&path))
        };
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| BenchError::file(&out.join("bench.json"))(error.into()))?;
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

/// The names of UFTP's cells at one loss, one for each rate.
fn uftp_cells(loss: u8) -> impl Iterator<Item = String> {
    UFTP_RATES.iter().map(move |kbit| format!("uftp-{}-loss-{loss}", kbit / 1_000_000))
}

pub(crate) const MIB: f64 = (1u64 << 20) as f64;

fn with_extremes(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    spread.map_or_else(String::new, |Spread { median, low, high, .. }| {
        let (median, low, high) = (median / unit, low / unit, high / unit);
        format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
    })
}

fn plain(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.digits$}", spread.median / unit))
}
