//! The wanted ratios between measurements.

use std::fmt::Write as _;

use serde::Serialize;
use stage::programs::STYLES;
use stage::spread::Spread;

use crate::arena::SLOW_LINK;
use crate::cells::{FEW_AND_MANY, SHARES};
use crate::run::Run;
use crate::summary::{MIB, Summary};

/// A wanted ratio and its measured value.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The compared quantities, in words.
    pub what: String,
    /// The wanted value, in words.
    pub wanted: String,
    /// The measured value.
    pub value: f64,
    /// Whether the measured value is as wanted.
    pub holds: bool,
}

/// The verdicts so far.
#[derive(Debug, Default)]
struct Verdicts(Vec<Verdict>);

impl Verdicts {
    fn at_least(&mut self, what: impl Into<String>, least: f64, value: Option<f64>) {
        self.judge(what.into(), format!("at least {least}"), value, |value| value >= least);
    }

    fn below(&mut self, what: impl Into<String>, most: f64, value: Option<f64>) {
        self.judge(what.into(), format!("below {most}"), value, |value| value < most);
    }

    fn judge(
        &mut self,
        what: String,
        wanted: String,
        value: Option<f64>,
        holds: impl FnOnce(f64) -> bool,
    ) {
        if let Some(value) = value {
            self.0.push(Verdict { what, wanted, value, holds: holds(value) });
        }
    }
}

impl Summary<'_> {
    /// The ratios of medians, or of means where the kernel only samples a value.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Verdicts::default();
        self.judge_whole_process(&mut verdicts);
        self.judge_goodput(&mut verdicts);
        self.judge_small_tasks(&mut verdicts);
        self.judge_fairness(&mut verdicts);
        self.judge_cost(&mut verdicts);
        verdicts.0
    }

    fn judge_whole_process(&self, verdicts: &mut Verdicts) {
        let at_hand = self.wall("siar-at-hand");
        let curl = median(self.wall("curl"));
        let clean = self.wall("siar-loss-0");
        for (peer, wall) in
            [("UFTP", self.best_uftp_wall()), ("UDPcast", self.wall("udpcast-loss-0"))]
        {
            let what = format!("clean, whole process, a file at hand, against {peer}");
            verdicts.at_least(what, 4.0, ratio(wall, at_hand));
            let after_curl = || Some((median(wall)? + curl?) / median(clean)?);
            let what = format!("clean, whole process with its download, against curl and {peer}");
            verdicts.at_least(what, 4.0, after_curl());
        }
    }

    fn judge_goodput(&self, verdicts: &mut Verdicts) {
        let clean = self.goodput("siar-loss-0");
        let lossy = self.goodput("siar-loss-10");
        let slow = self.spread("siar-slow-link", |measured, run| {
            Some(measured.cell.total() as f64 * 8.0 / run.transfer? / SLOW_LINK)
        });
        let one_by_one = ratio(self.goodput("siar-one-by-one"), self.goodput("limit-one-by-one"));
        for (what, least, value) in [
            ("clean, against UFTP's best data phase", 3.0, ratio(clean, self.best_uftp(0))),
            ("clean, against the limit", 0.8, ratio(clean, self.goodput("limit"))),
            ("with a key, against without", 0.8, ratio(self.goodput("siar-sealed"), clean)),
            ("10 % loss, against own clean", 0.7, ratio(lossy, clean)),
            ("10 % loss, against UFTP at 10 %", 5.0, ratio(lossy, self.best_uftp(10))),
            ("1 % loss, against own clean", 0.9, ratio(self.goodput("siar-loss-1"), clean)),
            ("100 Mbit/s link: share used by the file's bytes", 0.95, median(slow)),
            ("no segmentation, against one call per datagram", 0.8, one_by_one),
        ] {
            verdicts.at_least(what, least, value);
        }
    }

    fn judge_small_tasks(&self, verdicts: &mut Verdicts) {
        let one = ratio(self.wall("python-tasks-mt-1"), self.wall("siar-tasks-mt-1"));
        verdicts.at_least("19 KB, whole process: the Python script over Siar", 5.0, one);
        for style in STYLES {
            let least = if style.to_string().starts_with("mp") { 5.0 } else { 8.0 };
            let python = self.wall(&format!("python-tasks-{style}-1000"));
            let own = self.wall(&format!("siar-tasks-{style}-1000"));
            let mut what = format!("1,000 tasks, {style}: Python's time over Siar's");
            if let Some(reach) = ratio(python, self.wall("limit-tasks-1000")) {
                // Writing to a string cannot fail.
                let _ = write!(what, " (over the limit's: {reach:.1})");
            }
            verdicts.at_least(what, least, ratio(python, own));
        }
        let small = self.spread("siar-tasks-mt-1", |_, run| Some(run.transfer? * 1e3));
        verdicts.below("19 KB confirmed by two servers, in ms", 5.0, median(small));
    }

    fn judge_fairness(&self, verdicts: &mut Verdicts) {
        let fairness = |cell: &str| median(self.spread(cell, |_, run| jain_index(&run.rates)));
        for tasks in SHARES {
            let what = format!("{tasks} transfers of one client at once: Jain's index");
            verdicts.at_least(what, 0.9, fairness(&format!("siar-share-{tasks}")));
        }
        for count in SHARES {
            let what = format!("{count} clients started separately: Jain's index");
            verdicts.at_least(what, 0.9, fairness(&format!("siar-clients-{count}")));
        }
        let what = "4 processes with a transfer each: Jain's index";
        verdicts.at_least(what, 0.9, fairness("siar-four-mp"));
    }

    fn judge_cost(&self, verdicts: &mut Verdicts) {
        let datagrams = |cell: &str| self.spread(cell, |_, run| run.datagrams);
        for (what, most, cell) in [
            ("datagrams per source datagram, 10 % loss, 2 receivers", 1.15, "siar-loss-10"),
            (
                "datagrams per source datagram, 10 % loss, 32 receivers",
                1.2,
                "siar-receivers-32-loss-10",
            ),
            ("100 Mbit/s link: datagrams per source datagram", 1.03, "siar-slow-link"),
        ] {
            verdicts.below(what, most, median(datagrams(cell)));
        }
        let [few, many] = FEW_AND_MANY;
        let cpu = |cell: &str| self.spread(cell, |_, run| Some(run.sender?.user));
        let cpu_of_many = || Some(cpu(many)?.mean / cpu(few)?.mean);
        verdicts.below("sender's own CPU time, 32 receivers over 2", 1.1, cpu_of_many());
        let datagrams_to_many = ratio(datagrams(many), datagrams(few));
        verdicts.below("sender's datagrams, 32 receivers over 2", 1.1, datagrams_to_many);
        let peak = self.spread("siar-huge", |_, run| peak_in_mib(run));
        verdicts.below("8 GiB at 5 % loss: peak memory, in MiB", 48.0, median(peak));
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
}

fn median(spread: Option<Spread>) -> Option<f64> {
    spread.map(|spread| spread.median)
}

fn ratio(a: Option<Spread>, b: Option<Spread>) -> Option<f64> {
    Some(median(a)? / median(b)?)
}

/// The largest peak memory of one process.
fn peak_in_mib(run: &Run) -> Option<f64> {
    let costs = run.receivers.iter().chain(&run.sender);
    costs.map(|cost| cost.peak).max().map(|peak| peak as f64 / MIB)
}

/// Jain's fairness index, (Σx)² / (n Σx²): 1 for equal shares, 1/n if one has everything.
fn jain_index(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness() {
        assert_eq!(jain_index(&[5.0, 5.0]), Some(1.0));
        assert_eq!(jain_index(&[5.0, 0.0]), Some(0.5));
        assert_eq!(jain_index(&[]), None);
    }
}
