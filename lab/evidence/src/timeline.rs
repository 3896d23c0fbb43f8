//! The timeline of a run, made from a client's events: a row for each task, and a span for each
//! phase of the task.

use jiff::Timestamp;
use siar_core::event::{Event, EventKind, Style};

/// A phase of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The task waits for a worker.
    Queueing,
    /// The file is downloaded over HTTP.
    Download,
    /// The simulated work is done.
    Delay,
    /// Servers join, and the source datagrams are sent.
    Broadcast,
    /// Repair datagrams are sent, during the broadcast or after it.
    Repair,
    /// All source datagrams are sent; servers verify and confirm the file.
    Confirmation,
}

/// All phases, in the order of a legend.
pub const PHASES: [Phase; 6] = [
    Phase::Queueing,
    Phase::Download,
    Phase::Delay,
    Phase::Broadcast,
    Phase::Repair,
    Phase::Confirmation,
];

impl Phase {
    /// Whether the task only waits in this phase.
    pub(crate) fn is_quiet(self) -> bool {
        matches!(self, Self::Queueing | Self::Delay)
    }
}

/// One phase of a task on the time axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// The begin, in seconds since the run's start.
    pub from: f64,
    /// The end, in seconds since the run's start.
    pub to: f64,
}

/// One task of a timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The task's key in the URL list.
    pub task: String,
    /// The process that ran the task; `None` if the task never began.
    pub pid: Option<u32>,
    /// The kernel's id of the thread that ran the task; `None` if the task never began.
    pub tid: Option<i32>,
    /// The number of the worker, from 1 in the order of the workers' first tasks.
    pub worker: Option<usize>,
    /// The spans in the order of time, except that repair may overlap other spans.
    pub spans: Vec<Span>,
    /// The error, if the task failed.
    pub error: Option<String>,
}

/// A run of one style.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// The style.
    pub style: Style,
    /// The parent's process id.
    pub parent: u32,
    /// Seconds from the first event to the last.
    pub total: f64,
    /// One row for each task, in the order of the URL list.
    pub rows: Vec<Row>,
}

impl Timeline {
    /// Makes the timeline of a client's events; `None` if they have no start of a run.
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
        // The last span of an interrupted run is still open.
        if let Some((phase, from)) = since {
            row.spans.push(Span { phase, from, to: end });
        }
        row
    }

    /// Begin and end of the task without its time in the queue, in seconds since the run's start;
    /// `None` if the task never ran.
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

#[cfg(test)]
pub(crate) mod tests {
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

    pub(crate) fn two_tasks_on_one_worker() -> Timeline {
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
}
