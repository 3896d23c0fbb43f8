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

impl Summary<'_> {
    /// The ratios of medians, or of means where the kernel only samples a value.
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
            "19 KB, whole process: the Python script over Siar",
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
