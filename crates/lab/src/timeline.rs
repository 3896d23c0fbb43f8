//! A run as a Gantt picture, made from a client's events: a row for each task, a bar for
//! each thing that happened to it.

use std::fmt::Write as _;

use jiff::Timestamp;
use siar_core::event::{Event, EventKind, Style};

use crate::chart::escape;

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The task waits for a worker to take it.
    Queueing,
    /// HTTP.
    Download,
    /// The simulated work.
    Delay,
    /// The file's datagrams go out for the first time, joining included.
    Broadcast,
    /// Repair goes out; during the broadcast or after it.
    Repair,
    /// Everything is sent; servers verify and confirm.
    Confirmation,
}

/// All of them, in the order of the legend.
pub const PHASES: [Phase; 6] = [
    Phase::Queueing,
    Phase::Download,
    Phase::Delay,
    Phase::Broadcast,
    Phase::Repair,
    Phase::Confirmation,
];

impl Phase {
    /// Okabe and Ito's colours, and two greys for waiting.
    fn colour(self) -> &'static str {
        match self {
            Self::Queueing => "#8c959f",
            Self::Download => "#E69F00",
            Self::Delay => "#afb8c1",
            Self::Broadcast => "#0072B2",
            Self::Repair => "#D55E00",
            Self::Confirmation => "#009E73",
        }
    }

    /// Time in which the task does nothing by itself.
    fn is_quiet(self) -> bool {
        matches!(self, Self::Queueing | Self::Delay)
    }
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// What it stands for.
    pub phase: Phase,
    /// Where it begins, in seconds since the run's start.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its key in the URL list.
    pub task: String,
    /// The process that ran it; `None` if none did.
    pub pid: Option<u32>,
    /// The thread that ran it, as the kernel numbers it.
    pub tid: Option<i32>,
    /// Which worker that is, counted from 1 in the order of their first tasks.
    pub worker: Option<usize>,
    /// In the order of time, except that repair overlaps the broadcast.
    pub spans: Vec<Span>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A run of one style.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Which.
    pub style: Style,
    /// The parent's process id.
    pub parent: u32,
    /// From the first event to the last, in seconds.
    pub total: f64,
    /// One a task, in the order of the list.
    pub rows: Vec<Row>,
}

/// What a picture says in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Names of [`PHASES`], in their order.
    pub phases: [String; 6],
    /// Before a worker's number.
    pub worker: String,
    /// After the number of tasks that are not drawn.
    pub more: String,
}

impl Default for Words {
    fn default() -> Self {
        let phases = ["queueing", "download", "delay", "broadcast", "repair", "confirmation"];
        Self {
            phases: phases.map(str::to_owned),
            worker: "worker".to_owned(),
            more: "more tasks".to_owned(),
        }
    }
}

impl Timeline {
    /// From a client's events; `None` if they tell of no run.
    #[must_use]
    pub fn from_events(events: &[Event]) -> Option<Self> {
        let first = events.iter().find(|event| event.kind == EventKind::RunStarted)?;
        let at = |time: Timestamp| time.duration_since(first.time).as_secs_f64();
        let mut rows: Vec<Row> = Vec::new();
        for event in events {
            let Some(task) = &event.task else { continue };
            if rows.iter().all(|row| row.task != *task) {
                let of_task = events.iter().filter(|other| other.task.as_ref() == Some(task));
                rows.push(Row::from_events(task, &of_task.collect::<Vec<_>>(), &at));
            }
        }
        let mut workers = Vec::new();
        let mut started: Vec<&mut Row> = rows.iter_mut().filter(|row| row.tid.is_some()).collect();
        started.sort_by(|a, b| a.work_begins().total_cmp(&b.work_begins()));
        for row in started {
            let id = (row.pid, row.tid);
            let known = workers.iter().position(|worker| *worker == id);
            let index = known.unwrap_or(workers.len());
            if known.is_none() {
                workers.push(id);
            }
            row.worker = Some(index + 1);
        }
        let total = events.iter().map(|event| at(event.time)).fold(0.0, f64::max);
        Some(Self { style: first.style?, parent: first.pid, total, rows })
    }
}

impl Row {
    fn from_events(task: &str, events: &[&Event], at: &impl Fn(Timestamp) -> f64) -> Self {
        let mut row = Self {
            task: task.to_owned(),
            pid: None,
            tid: None,
            worker: None,
            spans: Vec::new(),
            error: None,
        };
        let mut since: Option<(Phase, f64)> = None;
        let (mut broadcast, mut end) = (0.0, 0.0_f64);
        for event in events {
            let now = at(event.time);
            end = end.max(now);
            let next = match &event.kind {
                EventKind::TaskQueued { .. } => Some(Phase::Queueing),
                EventKind::DownloadStarted => {
                    (row.pid, row.tid) = (Some(event.pid), Some(event.tid));
                    Some(Phase::Download)
                }
                EventKind::DownloadFinished { .. } => Some(Phase::Delay),
                EventKind::DelayFinished => Some(Phase::Broadcast),
                EventKind::BroadcastStarted { .. } => {
                    broadcast = now;
                    continue;
                }
                EventKind::SourceSent { .. } => Some(Phase::Confirmation),
                EventKind::RepairSent { datagrams, first_seconds, last_seconds } => {
                    if *datagrams > 0 {
                        let (from, to) = (broadcast + first_seconds, broadcast + last_seconds);
                        row.spans.push(Span { phase: Phase::Repair, from, to });
                    }
                    continue;
                }
                EventKind::TaskFinished { .. } => None,
                EventKind::TaskFailed { error } => {
                    row.error = Some(error.clone());
                    None
                }
                _ => continue,
            };
            if let Some((phase, from)) = since.take() {
                row.spans.push(Span { phase, from, to: now });
            }
            since = next.map(|phase| (phase, now));
        }
        // A run that was cut off.
        if let Some((phase, from)) = since {
            row.spans.push(Span { phase, from, to: end });
        }
        row
    }

    /// From when to when it ran, in seconds; `None` if it never did.
    #[must_use]
    pub fn ran(&self) -> Option<(f64, f64)> {
        let work = || self.spans.iter().filter(|span| span.phase != Phase::Queueing);
        let to = work().map(|span| span.to).max_by(f64::total_cmp)?;
        Some((work().next()?.from, to))
    }

    fn work_begins(&self) -> f64 {
        self.ran().map_or(f64::MAX, |(from, _)| from)
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
const LEAST_BAR: f64 = 1.5;
/// How much of the axis a pause takes, in which no task does anything by itself.
const BREAK: f64 = 84.0;
const LABEL: f64 = 52.0;
/// A pause shorter than this part of the run is drawn to scale.
const LEAST_BREAK: f64 = 0.08;
/// More tasks than this are counted, not drawn.
const MAX_ROWS: usize = 40;

const STYLE: &str = ".ink { fill: #1f2328 } .faint { fill: #656d76 } .line { stroke: #d8dee4 }
.paper { fill: #ffffff } .fail { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  .ink { fill: #e6edf3 } .faint { fill: #9198a1 } .line { stroke: #30363d }
  .paper { fill: #0d1117 } .fail { fill: #ff7b72 }
}";

/// Part of the time axis: seconds on the left, pixels on the right.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    seconds: (f64, f64),
    pixels: (f64, f64),
    is_break: bool,
}

/// A time axis on which long pauses are cut short, so that milliseconds of work can be seen
/// beside seconds of waiting.
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
            if from - end > total * LEAST_BREAK {
                // A little of the pause stays to scale on both sides.
                let margin = (from - end) * 0.004;
                pauses.push((end + margin, from - margin));
            }
            end = f64::max(end, to);
        }
        let width = WIDTH - LEFT - RIGHT;
        let paused: f64 = pauses.iter().map(|(from, to)| to - from).sum();
        let each = BREAK.min(width / 2.0 / pauses.len().max(1) as f64);
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
    /// Draws it as a whole SVG file. Equal timelines give equal files.
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
        draw_axis(&mut svg, &axis, bottom);
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
                phase.colour()
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
            let width = (right - left).max(LEAST_BAR);
            let word = PHASES
                .iter()
                .position(|phase| *phase == span.phase)
                .map_or("", |index| words.phases[index].as_str());
            let tip = format!(
                "{}: {word} {} ({:.4} s – {:.4} s)",
                row.task,
                duration(span.to - span.from),
                span.from,
                span.to
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
                span.phase.colour(),
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
            draw_text(svg, "ink", x, top + 17.0, "start", &duration(to - from));
        }
    }
}

fn draw_axis(svg: &mut String, axis: &Axis, bottom: f64) {
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
            let pause = format!("‖ {} ‖", duration(piece.seconds.1 - piece.seconds.0));
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
            draw_text(svg, "faint", x, bottom + 16.0, "middle", &format!("{seconds:.3} s"));
        }
    }
}

/// Where the label of the next pause begins.
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

/// Seconds for people.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(millis: i64, task: Option<&str>, tid: i32, kind: EventKind) -> Event {
        Event {
            time: Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap(),
            kind,
            pid: 7,
            tid,
            style: Some(Style::MtAsync),
            task: task.map(str::to_owned),
        }
    }

    fn task_events(task: &str, tid: i32, begin: i64) -> Vec<Event> {
        let at = |millis, kind| event(begin + millis, Some(task), tid, kind);
        vec![
            at(0, EventKind::DownloadStarted),
            at(10, EventKind::DownloadFinished { bytes: 5 }),
            at(2010, EventKind::DelayFinished),
            at(
                2011,
                EventKind::BroadcastStarted {
                    transfer: "t".into(),
                    name: "n".into(),
                    bytes: 5,
                    blake3: String::new(),
                },
            ),
            at(2020, EventKind::SourceSent { datagrams: 1 }),
            at(
                2030,
                EventKind::RepairSent { datagrams: 1, first_seconds: 0.004, last_seconds: 0.008 },
            ),
            at(2031, EventKind::TaskFinished { seconds: 2.031 }),
        ]
    }

    fn two_tasks_on_one_worker() -> Timeline {
        let queued =
            |task| event(0, Some(task), 7, EventKind::TaskQueued { url: "http://a/b".to_owned() });
        let mut events = vec![event(0, None, 7, EventKind::RunStarted), queued("a"), queued("b")];
        events.extend(task_events("a", 8, 1));
        events.extend(task_events("b", 8, 2100));
        events.push(event(4200, None, 7, EventKind::RunFinished { seconds: 4.2, failed: 0 }));
        Timeline::from_events(&events).unwrap()
    }

    #[test]
    fn events_become_bars() {
        let timeline = two_tasks_on_one_worker();
        assert_eq!(timeline.total, 4.2);
        let row = &timeline.rows[1];
        assert_eq!((row.pid, row.tid, row.worker), (Some(7), Some(8), Some(1)));
        let phases: Vec<Phase> = row.spans.iter().map(|span| span.phase).collect();
        assert_eq!(
            phases,
            [
                Phase::Queueing,
                Phase::Download,
                Phase::Delay,
                Phase::Broadcast,
                Phase::Repair,
                Phase::Confirmation
            ]
        );
        assert_eq!((row.spans[0].from, row.spans[0].to), (0.0, 2.1));
        assert!((row.spans[4].to - row.spans[4].from - 0.004).abs() < 1e-9);
    }

    #[test]
    fn pauses_are_cut_short_and_order_is_kept() {
        let axis = Axis::new(&two_tasks_on_one_worker());
        assert_eq!(axis.0.iter().filter(|piece| piece.is_break).count(), 2);
        let positions: Vec<f64> = (0..=420).map(|step| axis.x(f64::from(step) / 100.0)).collect();
        assert!(positions.is_sorted(), "{positions:?}");
        assert_eq!(positions[0], LEFT);
        assert!((positions[420] - (WIDTH - RIGHT)).abs() < 1e-6);
        // Ten milliseconds of download can be seen beside two seconds of delay.
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
