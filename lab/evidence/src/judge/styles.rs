//! The verdict on a style: whether its program uses processes or threads as the name says.

use std::collections::BTreeSet;

use siar_core::event::{Event, EventKind, Style};

use super::collected::{Evidence, StyleEvidence};
use super::sentence::said;
use super::{Judgement, Sentence};
use crate::timeline::{Row, Timeline};

/// Judges `style` by the client's events and by the processes that the lab saw.
pub(super) fn judge(evidence: &Evidence, style: Style) -> Judgement {
    let run = evidence.style(style)?;
    let timeline = Timeline::from_events(&run.events)
        .ok_or_else(|| said!("the client's events tell of no run"))?;
    if timeline.style != style {
        return Err(said!("the client's events are those of {}", timeline.style));
    }
    let keys: Vec<&str> = evidence.manifest.files.iter().map(|file| file.key.as_str()).collect();
    let told: Vec<&str> = timeline.rows.iter().map(|row| row.task.as_str()).collect();
    if told != keys {
        return Err(said!(
            "its tasks are {}, the list has {}",
            format!("{told:?}"),
            format!("{keys:?}")
        ));
    }
    for row in &timeline.rows {
        check_steps(&run.events, row)?;
    }
    match style {
        Style::Mp | Style::MpAsync => processes(run, &timeline)?,
        Style::Mt | Style::MtAsync => threads(run, &timeline)?,
    }
    let workers: BTreeSet<_> = timeline.rows.iter().map(|row| (row.pid, row.tid)).collect();
    let (tasks, workers) = (timeline.rows.len(), workers.len());
    overlapping(&timeline, workers)?;
    match style {
        Style::Mp | Style::Mt if workers < tasks => {
            Err(said!("{} tasks ran in {} places, each needs its own", tasks, workers))
        }
        Style::Mp => Ok(said!("{} child processes of process {}", tasks, timeline.parent)),
        Style::Mt => Ok(said!("{} threads of process {}", tasks, timeline.parent)),
        Style::MpAsync | Style::MtAsync => {
            submitted_before_done(&run.events)?;
            results_in_order(run, style, &keys)?;
            Ok(if style == Style::MpAsync {
                said!(
                    "{} tasks on {} worker processes, results in the list's order",
                    tasks,
                    workers
                )
            } else {
                said!("{} tasks on {} worker threads, results in the list's order", tasks, workers)
            })
        }
    }
}

/// Checks that a task has all its steps in order, in one thread, and did not fail.
fn check_steps(events: &[Event], row: &Row) -> Result<(), Sentence> {
    let task = &row.task;
    if let Some(error) = &row.error {
        return Err(said!("{} failed: {}", task, error));
    }
    let events: Vec<&Event> =
        events.iter().filter(|event| event.task.as_ref() == Some(task)).collect();
    let step = |name: &str, is: fn(&EventKind) -> bool| {
        let mut found = events.iter().filter(|event| is(&event.kind));
        match (found.next(), found.next()) {
            (Some(event), None) => Ok(*event),
            (None, _) => Err(said!("{} has no {}", task, name)),
            (Some(_), Some(_)) => Err(said!("{} has more than one {}", task, name)),
        }
    };
    let steps = [
        step("task_queued", |kind| matches!(kind, EventKind::TaskQueued { .. }))?,
        step("download_started", |kind| matches!(kind, EventKind::DownloadStarted))?,
        step("download_finished", |kind| matches!(kind, EventKind::DownloadFinished { .. }))?,
        step("delay_finished", |kind| matches!(kind, EventKind::DelayFinished))?,
        step("broadcast_started", |kind| matches!(kind, EventKind::BroadcastStarted { .. }))?,
        step("source_sent", |kind| matches!(kind, EventKind::SourceSent { .. }))?,
        step("task_finished", |kind| matches!(kind, EventKind::TaskFinished { .. }))?,
    ];
    if !steps.is_sorted_by_key(|event| event.time) {
        return Err(said!("the steps of {} are not in their order", task));
    }
    let places: BTreeSet<_> = steps[1..].iter().map(|event| (event.pid, event.tid)).collect();
    if places.len() > 1 {
        return Err(said!("{} changes its process or thread in the middle", task));
    }
    Ok(())
}

/// Checks that the tasks ran in child processes of the client, that the lab saw each of these
/// processes, and at least two of them at the same time.
fn processes(run: &StyleEvidence, timeline: &Timeline) -> Result<(), Sentence> {
    let parent = timeline.parent;
    check_client(run, parent)?;
    let pids: BTreeSet<u32> = timeline.rows.iter().filter_map(|row| row.pid).collect();
    if pids.contains(&parent) {
        return Err(said!("a task ran in the client's own process {}", parent));
    }
    if pids.len() < 2 {
        return Err(said!("all tasks ran in one process, {}", format!("{pids:?}")));
    }
    for pid in &pids {
        let is_child = run.sightings.iter().any(|sighting| {
            sighting.processes.iter().any(|seen| seen.pid == *pid && seen.parent == parent)
        });
        if !is_child {
            return Err(unseen(said!("process {} below the client's {}", pid, parent)));
        }
    }
    let together = run
        .sightings
        .iter()
        .map(|sighting| sighting.processes.iter().filter(|seen| pids.contains(&seen.pid)).count());
    if together.max().unwrap_or(0) < 2 {
        return Err(said!("never were two of its processes alive at the same time"));
    }
    Ok(())
}

/// Checks that the tasks ran in threads of the client, that the lab saw each of these threads,
/// and at least two of them at the same time.
fn threads(run: &StyleEvidence, timeline: &Timeline) -> Result<(), Sentence> {
    let parent = timeline.parent;
    check_client(run, parent)?;
    if let Some(row) = timeline.rows.iter().find(|row| row.pid != Some(parent)) {
        return Err(said!("{} did not run in the client's process {}", row.task, parent));
    }
    let tids: BTreeSet<i32> = timeline.rows.iter().filter_map(|row| row.tid).collect();
    // The id of the main thread equals the process id.
    if tids.contains(&parent.cast_signed()) {
        return Err(said!("a task ran in the client's main thread"));
    }
    if tids.len() < 2 {
        return Err(said!("all tasks ran in one thread, {}", format!("{tids:?}")));
    }
    let seen: Vec<BTreeSet<i32>> = run
        .sightings
        .iter()
        .filter_map(|sighting| sighting.processes.iter().find(|seen| seen.pid == parent))
        .map(|seen| seen.threads.intersection(&tids).copied().collect())
        .collect();
    if let Some(tid) = tids.iter().find(|tid| seen.iter().all(|threads| !threads.contains(tid))) {
        return Err(unseen(said!("thread {} of the client's process {}", tid, parent)));
    }
    if seen.iter().map(BTreeSet::len).max().unwrap_or(0) < 2 {
        return Err(said!("never were two of its threads alive at the same time"));
    }
    Ok(())
}

fn check_client(run: &StyleEvidence, parent: u32) -> Result<(), Sentence> {
    let seen = run.sightings.first().and_then(|sighting| sighting.processes.first());
    match seen {
        Some(seen) if seen.pid == parent => Ok(()),
        Some(seen) => Err(said!("the lab started process {}, not {}", seen.pid, parent)),
        None => Err(unseen(said!("the client"))),
    }
}

fn unseen(what: Sentence) -> Sentence {
    said!("the lab never saw {} (it looks every 10 ms: is the delay too short?)").about(what)
}

/// Checks that every task ran at the same time as another task.
fn overlapping(timeline: &Timeline, workers: usize) -> Result<(), Sentence> {
    let ran: Vec<(f64, f64)> = timeline.rows.iter().filter_map(Row::ran).collect();
    for (index, (row, (from, to))) in timeline.rows.iter().zip(&ran).enumerate() {
        let overlaps = ran
            .iter()
            .enumerate()
            .any(|(other, (start, end))| other != index && start < to && from < end);
        // A pool with fewer workers than tasks may run the last task alone.
        let is_rest = workers < ran.len() && ran.iter().all(|(start, _)| start <= from);
        if !overlaps && !is_rest {
            return Err(said!("{} ran alone: its tasks ran one after another", row.task));
        }
    }
    Ok(())
}

/// Checks that all tasks were queued before one was done: `apply_async` and `submit` return at
/// once.
fn submitted_before_done(events: &[Event]) -> Result<(), Sentence> {
    let times = |is: fn(&EventKind) -> bool| {
        events.iter().filter(move |event| is(&event.kind)).map(|event| event.time)
    };
    let queued = times(|kind| matches!(kind, EventKind::TaskQueued { .. })).max();
    let done = times(|kind| matches!(kind, EventKind::TaskFinished { .. })).min();
    if queued > done {
        return Err(said!("it waited for a task before it had submitted them all"));
    }
    Ok(())
}

/// Checks that the results are printed as the Python scripts print their dictionary, in the
/// order of the URL list.
fn results_in_order(run: &StyleEvidence, style: Style, keys: &[&str]) -> Result<(), Sentence> {
    let heading = match style {
        Style::MpAsync => "status TASK",
        _ => "hasil task yang dijalankan",
    };
    let below = run.log.lines().skip_while(|line| *line != heading);
    // Lines of standard error may follow the heading first.
    let Some(results) = below.skip(1).find(|line| line.starts_with('{')) else {
        return Err(said!("its terminal shows no results below {}", format!("{heading:?}")));
    };
    let mut rest = results;
    for key in keys {
        let entry = format!("'{key}': datetime.timedelta(");
        match rest.split_once(&entry) {
            Some((_, after)) => rest = after,
            None => return Err(said!("the results lack {}, or are not in the list's order", key)),
        }
    }
    Ok(())
}
