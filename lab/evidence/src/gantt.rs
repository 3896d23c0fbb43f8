//! A timeline as a Gantt chart: a row for each task, and a bar for each of the task's spans.

use std::fmt::Write as _;

use siar_core::event::Style;

use crate::chart::{escape, localized};
use crate::timeline::{PHASES, Phase, Row, Timeline};

/// The words of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The names of the [`PHASES`], in the same order.
    pub phases: [String; 6],
    /// The word before a worker's number.
    pub worker: String,
    /// The words after the number of tasks that are not drawn.
    pub more: String,
    /// The decimal mark.
    pub decimal: char,
}

impl Default for Words {
    fn default() -> Self {
        let phases = ["queueing", "download", "delay", "broadcast", "repair", "confirmation"];
        Self {
            phases: phases.map(str::to_owned),
            worker: "worker".to_owned(),
            more: "more tasks".to_owned(),
            decimal: '.',
        }
    }
}

// Lengths in pixels.
const WIDTH: f64 = 820.0;
const LEFT: f64 = 196.0;
const RIGHT: f64 = 64.0;
const TOP: f64 = 46.0;
const ROW: f64 = 34.0;
const BAR: f64 = 18.0;
const THIN_BAR: f64 = 8.0;
const MIN_BAR_WIDTH: f64 = 1.5;
/// The width of a shortened pause; in a pause all tasks wait.
const PAUSE_WIDTH: f64 = 84.0;
const LABEL: f64 = 52.0;
/// Pauses shorter than this part of the run are drawn to scale.
const MIN_PAUSE: f64 = 0.08;
/// The number of tasks that are drawn; further tasks are only counted.
const MAX_ROWS: usize = 40;

const STYLE: &str = ".ink { fill: #1f2328 } .faint { fill: #656d76 } .line { stroke: #d8dee4 }
.paper { fill: #ffffff } .fail { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  .ink { fill: #e6edf3 } .faint { fill: #9198a1 } .line { stroke: #30363d }
  .paper { fill: #0d1117 } .fail { fill: #ff7b72 }
}";

/// The colour of a phase: one of Okabe and Ito's, or a grey for a phase of waiting.
fn colour(phase: Phase) -> &'static str {
    match phase {
        Phase::Queueing => "#8c959f",
        Phase::Download => "#E69F00",
        Phase::Delay => "#afb8c1",
        Phase::Broadcast => "#0072B2",
        Phase::Repair => "#D55E00",
        Phase::Confirmation => "#009E73",
    }
}

/// A part of the time axis: an interval in seconds and its place in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    seconds: (f64, f64),
    pixels: (f64, f64),
    is_break: bool,
}

/// A time axis with shortened pauses, so that milliseconds of work are visible beside seconds of
/// waiting.
#[derive(Debug)]
struct Axis(Vec<Piece>);

impl Axis {
    fn new(timeline: &Timeline) -> Self {
        let total = timeline.total.max(1e-6);
        let spans = timeline.rows.iter().flat_map(|row| &row.spans);
        let mut busy: Vec<(f64, f64)> =
            spans.filter(|span| !span.phase.is_quiet()).map(|span| (span.from, span.to)).collect();
        busy.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut pauses = Vec::new();
        let mut end = 0.0;
        for (from, to) in busy.into_iter().chain([(total, total)]) {
            if from - end > total * MIN_PAUSE {
                // A small part of the pause stays to scale on both sides.
                let margin = (from - end) * 0.004;
                pauses.push((end + margin, from - margin));
            }
            end = f64::max(end, to);
        }
        let width = WIDTH - LEFT - RIGHT;
        let paused: f64 = pauses.iter().map(|(from, to)| to - from).sum();
        let each = PAUSE_WIDTH.min(width / 2.0 / pauses.len().max(1) as f64);
        let scale = (width - each * pauses.len() as f64) / (total - paused).max(1e-9);
        let mut pieces = Vec::new();
        let (mut at, mut x) = (0.0, LEFT);
        let mut add = |to: f64, length: f64, is_break: bool| {
            pieces.push(Piece { seconds: (at, to), pixels: (x, x + length), is_break });
            (at, x) = (to, x + length);
            at
        };
        let mut now = 0.0;
        for (from, to) in pauses {
            add(from, (from - now) * scale, false);
            now = add(to, each, true);
        }
        add(total, (total - now) * scale, false);
        Self(pieces)
    }

    fn x(&self, seconds: f64) -> f64 {
        let Some(piece) =
            self.0.iter().find(|piece| seconds <= piece.seconds.1).or_else(|| self.0.last())
        else {
            return LEFT;
        };
        let ((from, to), (left, right)) = (piece.seconds, piece.pixels);
        left + (right - left) * ((seconds - from) / (to - from).max(1e-12)).clamp(0.0, 1.0)
    }
}

impl Timeline {
    /// Draws the timeline as a whole SVG file. Equal timelines give equal files.
    #[must_use]
    pub fn to_svg(&self, words: &Words) -> String {
        let drawn = self.rows.len().min(MAX_ROWS);
        let hidden = self.rows.len() - drawn;
        let bottom = TOP + ROW * drawn as f64 + 6.0;
        let height = bottom + if hidden > 0 { 52.0 } else { 30.0 };
        let axis = Axis::new(self);
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH:.0}' height='{height:.0}' \
             viewBox='0 0 {WIDTH:.0} {height:.0}' role='img' \
             font-family='system-ui, Libertinus Serif, sans-serif' font-size='12'>\n\
             <title>{}</title>\n<style>\n{STYLE}\n</style>\n\
             <rect class='paper' width='{WIDTH:.0}' height='{height:.0}' fill='#ffffff'/>\n",
            self.style
        );
        self.draw_legend(&mut svg, words);
        for (index, row) in self.rows.iter().take(drawn).enumerate() {
            self.draw_row(&mut svg, row, TOP + ROW * index as f64, &axis, words);
        }
        draw_axis(&mut svg, &axis, bottom, words.decimal);
        if hidden > 0 {
            let label = format!("+ {hidden} {}", words.more);
            draw_text(&mut svg, "faint", 12.0, bottom + 42.0, "start", &label);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_legend(&self, svg: &mut String, words: &Words) {
        let mut x = LEFT;
        for (phase, word) in PHASES.into_iter().zip(&words.phases) {
            let (top, height) =
                if phase == Phase::Repair { (16.0, THIN_BAR) } else { (10.0, 14.0) };
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<rect x='{x:.1}' y='{top:.1}' width='14' height='{height:.1}' fill='{}'/>",
                colour(phase)
            );
            draw_text(svg, "ink", x + 20.0, 22.0, "start", word);
            x += 40.0 + 6.6 * word.chars().count() as f64;
        }
    }

    fn draw_row(&self, svg: &mut String, row: &Row, top: f64, axis: &Axis, words: &Words) {
        let task = shorten(&row.task, 26);
        draw_text(svg, "ink", 12.0, top + 14.0, "start", &task);
        let ids = match (row.pid, row.tid, row.worker) {
            (Some(pid), Some(tid), Some(worker)) => match self.style {
                Style::Mp | Style::Mt => format!("pid {pid}  tid {tid}"),
                Style::MpAsync | Style::MtAsync => {
                    format!("{} {worker}  pid {pid}  tid {tid}", words.worker)
                }
            },
            _ => String::new(),
        };
        draw_text(svg, "faint", 12.0, top + 28.0, "start", &ids);
        for span in &row.spans {
            let (left, right) = (axis.x(span.from), axis.x(span.to));
            let width = (right - left).max(MIN_BAR_WIDTH);
            let word = PHASES
                .iter()
                .position(|phase| *phase == span.phase)
                .map_or("", |index| words.phases[index].as_str());
            let place = format!("({:.4} s – {:.4} s)", span.from, span.to);
            let tip = format!(
                "{}: {word} {} {}",
                row.task,
                duration(span.to - span.from, words.decimal),
                localized(place, words.decimal),
            );
            let (y, height) = if span.phase == Phase::Repair {
                (top + 4.0 + BAR - THIN_BAR, THIN_BAR)
            } else {
                (top + 4.0, BAR)
            };
            let _ = writeln!(
                svg,
                "<rect class='bar' x='{left:.2}' y='{y:.1}' width='{width:.2}' \
                 height='{height:.1}' fill='{}' data-tip='{tip}'><title>{tip}</title></rect>",
                colour(span.phase),
                tip = escape(&tip)
            );
        }
        let from = row.spans.iter().map(|span| span.from).fold(f64::MAX, f64::min);
        let to = row.spans.iter().map(|span| span.to).fold(0.0, f64::max);
        let x = axis.x(to) + 6.0;
        if let Some(error) = &row.error {
            let left = x.min(WIDTH - RIGHT - 60.0);
            draw_text(svg, "fail", left, top + 17.0, "start", &format!("✗ {}", shorten(error, 40)));
        } else if !row.spans.is_empty() {
            draw_text(svg, "ink", x, top + 17.0, "start", &duration(to - from, words.decimal));
        }
    }
}

fn draw_axis(svg: &mut String, axis: &Axis, bottom: f64, decimal: char) {
    let mut free_from = 0.0;
    for piece in &axis.0 {
        let (left, right) = piece.pixels;
        if piece.is_break {
            let middle = f64::midpoint(left, right);
            let _ = writeln!(
                svg,
                "<path d='M{left:.1} {TOP:.1}V{bottom:.1}M{right:.1} {TOP:.1}V{bottom:.1}' \
                 fill='none' stroke='#656d76' stroke-dasharray='2 3'/>"
            );
            let pause = format!("‖ {} ‖", duration(piece.seconds.1 - piece.seconds.0, decimal));
            draw_text(svg, "faint", middle, bottom + 16.0, "middle", &pause);
            free_from = right + 4.0;
            continue;
        }
        let (from, to) = piece.seconds;
        let steps = ((right - left) / LABEL / 1.6).floor().max(1.0);
        for step in 0..=steps as usize {
            let seconds = from + (to - from) * step as f64 / steps;
            let x = axis.x(seconds);
            let _ = writeln!(
                svg,
                "<path class='line' d='M{x:.1} {TOP:.1}V{bottom:.1}' fill='none' stroke='#d8dee4' stroke-opacity='0.6'/>"
            );
            if x - LABEL / 2.0 < free_from || x + LABEL / 2.0 > next_break(axis, x) {
                continue;
            }
            free_from = x + LABEL / 2.0;
            let label = localized(format!("{seconds:.3} s"), decimal);
            draw_text(svg, "faint", x, bottom + 16.0, "middle", &label);
        }
    }
}

/// The horizontal position of the next pause's label, in pixels.
fn next_break(axis: &Axis, x: f64) -> f64 {
    let next = axis.0.iter().find(|piece| piece.is_break && piece.pixels.0 >= x - 0.1);
    next.map_or(WIDTH, |piece| piece.pixels.0 + 4.0)
}

fn draw_text(svg: &mut String, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
    let fill = match class {
        "ink" => "#1f2328",
        "fail" => "#cf222e",
        _ => "#656d76",
    };
    let _ = writeln!(
        svg,
        "<text class='{class}' x='{x:.1}' y='{y:.1}' text-anchor='{anchor}' fill='{fill}'>{}</text>",
        escape(text)
    );
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// A duration in seconds as text, in µs, ms or s, with this decimal mark.
#[must_use]
pub fn duration(seconds: f64, decimal: char) -> String {
    let text = if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    };
    localized(text, decimal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::tests::two_tasks_on_one_worker;

    #[test]
    fn pauses_are_cut_short_and_order_is_kept() {
        let axis = Axis::new(&two_tasks_on_one_worker());
        assert_eq!(axis.0.iter().filter(|piece| piece.is_break).count(), 2);
        let positions: Vec<f64> = (0..=420).map(|step| axis.x(f64::from(step) / 100.0)).collect();
        assert!(positions.is_sorted(), "{positions:?}");
        assert_eq!(positions[0], LEFT);
        assert!((positions[420] - (WIDTH - RIGHT)).abs() < 1e-6);
        // Ten milliseconds of download are visible beside two seconds of delay.
        assert!(axis.x(0.011) - axis.x(0.001) > 12.0);
    }

    #[test]
    fn the_picture_names_tasks_and_workers_and_escapes_them() {
        let mut timeline = two_tasks_on_one_worker();
        timeline.rows[0].task = "<&'".to_owned();
        let svg = timeline.to_svg(&Words::default());
        assert!(svg.contains("&lt;&amp;") && svg.contains("worker 1  pid 7  tid 8"), "{svg}");
        assert_eq!(svg, timeline.to_svg(&Words::default()));
    }
}
