//! The verdict on a style: whether its program uses processes or threads as the name says.

use std::collections::BTreeSet;

use siar_core::event::{Event, EventKind, Style};

use super::Judgement;
use super::collected::{Evidence, StyleEvidence};
use crate::timeline::{Row, Timeline};

/// Judges `style` by the client's events and by the processes that the lab saw.
pub(super) fn judge(evidence: &Evidence, style: Style) -> Judgement {
    let run = evidence.style(style)?;
    let timeline =
        Timeline::from_events(&run.events).ok_or("the client's events tell of no run")?;
    if timeline.style != style {
        return Err(format!("the client's events are those of {}", timeline.style));
    }
    let keys: Vec<&str> = evidence.manifest.files.iter().map(|file| file.key.as_str()).collect();
    let told: Vec<&str> = timeline.rows.iter().map(|row| row.task.as_str()).collect();
    if told != keys {
        return Err(format!("its tasks are {told:?}, the list has {keys:?}"));
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
            Err(format!("{tasks} tasks ran in {workers} places, each needs its own"))
        }
        Style::Mp => Ok(format!("{tasks} child processes of process {}", timeline.parent)),
        Style::Mt => Ok(format!("{tasks} threads of process {}", timeline.parent)),
        Style::MpAsync | Style::MtAsync => {
            submitted_before_done(&run.events)?;
            results_in_order(run, style, &keys)?;
            let kind = if style == Style::MpAsync { "processes" } else { "threads" };
            Ok(format!("{tasks} tasks on {workers} worker {kind}, results in the list's order"))
        }
    }
}

/// Checks that a task has all its steps in order, in one thread, and did not fail.
fn check_steps(events: &[Event], row: &Row) -> Result<(), String> {
    let task = &row.task;
    if let Some(error) = &row.error {
        return Err(format!("{task} failed: {error}"));
    }
    let events: Vec<&Event> =
        events.iter().filter(|event| event.task.as_ref() == Some(task)).collect();
    let step = |name: &str, is: fn(&EventKind) -> bool| {
        let mut found = events.iter().filter(|event| is(&event.kind));
        match (found.next(), found.next()) {
            (Some(event), None) => Ok(*event),
            (None, _) => Err(format!("{task} has no {name}")),
            (Some(_), Some(_)) => Err(format!("{task} has more than one {name}")),
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
        return Err(format!("the steps of {task} are not in their order"));
    }
    let places: BTreeSet<_> = steps[1..].iter().map(|event| (event.pid, event.tid)).collect();
    if places.len() > 1 {
        return Err(format!("{task} changes its process or thread in the middle"));
    }
    Ok(())
}

/// Checks that the tasks ran in child processes of the client, that the lab saw each of these
/// processes, and at least two of them at the same time.
fn processes(run: &StyleEvidence, timeline: &Timeline) -> Result<(), String> {
    let parent = timeline.parent;
    check_client(run, parent)?;
    let pids: BTreeSet<u32> = timeline.rows.iter().filter_map(|row| row.pid).collect();
    if pids.contains(&parent) {
        return Err(format!("a task ran in the client's own process {parent}"));
    }
    if pids.len() < 2 {
        return Err(format!("all tasks ran in one process, {pids:?}"));
    }
    for pid in &pids {
        let is_child = run.sightings.iter().any(|sighting| {
            sighting.processes.iter().any(|seen| seen.pid == *pid && seen.parent == parent)
        });
        if !is_child {
            return Err(unseen(&format!("process {pid} below the client's {parent}")));
        }
    }
    let together = run
        .sightings
        .iter()
        .map(|sighting| sighting.processes.iter().filter(|seen| pids.contains(&seen.pid)).count());
    if together.max().unwrap_or(0) < 2 {
        return Err("never were two of its processes alive at the same time".to_owned());
    }
    Ok(())
}

/// Checks that the tasks ran in threads of the client, that the lab saw each of these threads,
/// and at least two of them at the same time.
fn threads(run: &StyleEvidence, timeline: &Timeline) -> Result<(), String> {
    let parent = timeline.parent;
    check_client(run, parent)?;
    if let Some(row) = timeline.rows.iter().find(|row| row.pid != Some(parent)) {
        return Err(format!("{} did not run in the client's process {parent}", row.task));
    }
    let tids: BTreeSet<i32> = timeline.rows.iter().filter_map(|row| row.tid).collect();
    // The id of the main thread equals the process id.
    if tids.contains(&parent.cast_signed()) {
        return Err("a task ran in the client's main thread".to_owned());
    }
    if tids.len() < 2 {
        return Err(format!("all tasks ran in one thread, {tids:?}"));
    }
    let seen: Vec<BTreeSet<i32>> = run
        .sightings
        .iter()
        .filter_map(|sighting| sighting.processes.iter().find(|seen| seen.pid == parent))
        .map(|seen| seen.threads.intersection(&tids).copied().collect())
        .collect();
    if let Some(tid) = tids.iter().find(|tid| seen.iter().all(|threads| !threads.contains(tid))) {
        return Err(unseen(&format!("thread {tid} of the client's process {parent}")));
    }
    if seen.iter().map(BTreeSet::len).max().unwrap_or(0) < 2 {
        return Err("never were two of its threads alive at the same time".to_owned());
    }
    Ok(())
}

fn check_client(run: &StyleEvidence, parent: u32) -> Result<(), String> {
    let seen = run.sightings.first().and_then(|sighting| sighting.processes.first());
    match seen {
        Some(seen) if seen.pid == parent => Ok(()),
        Some(seen) => Err(format!("the lab started process {}, not {parent}", seen.pid)),
        None => Err(unseen("the client")),
    }
}

fn unseen(what: &str) -> String {
    format!("the lab never saw {what} (it looks every 10 ms: is the delay too short?)")
}

/// Checks that every task ran at the same time as another task.
fn overlapping(timeline: &Timeline, workers: usize) -> Result<(), String> {
    let ran: Vec<(f64, f64)> = timeline.rows.iter().filter_map(Row::ran).collect();
    for (index, (row, (from, to))) in timeline.rows.iter().zip(&ran).enumerate() {
        let overlaps = ran
            .iter()
            .enumerate()
            .any(|(other, (start, end))| other != index && start < to && from < end);
        // A pool with fewer workers than tasks may run the last task alone.
        let is_rest = workers < ran.len() && ran.iter().all(|(start, _)| start <= from);
        if !overlaps && !is_rest {
            return Err(format!("{} ran alone: its tasks ran one after another", row.task));
        }
    }
    Ok(())
}

/// Checks that all tasks were queued before one was done: `apply_async` and `submit` return at
/// once.
fn submitted_before_done(events: &[Event]) -> Result<(), String> {
    let times = |is: fn(&EventKind) -> bool| {
        events.iter().filter(move |event| is(&event.kind)).map(|event| event.time)
    };
    let queued = times(|kind| matches!(kind, EventKind::TaskQueued { .. })).max();
    let done = times(|kind| matches!(kind, EventKind::TaskFinished { .. })).min();
    if queued > done {
        return Err("it waited for a task before it had submitted them all".to_owned());
    }
    Ok(())
}

/// Checks that the results are printed as the Python scripts print their dictionary, in the
/// order of the URL list.
fn results_in_order(run: &StyleEvidence, style: Style, keys: &[&str]) -> Result<(), String> {
    let heading = match style {
        Style::MpAsync => "status TASK",
        _ => "hasil task yang dijalankan",
    };
    let below = run.log.lines().skip_while(|line| *line != heading);
    // Lines of standard error may follow the heading first.
    let Some(results) = below.skip(1).find(|line| line.starts_with('{')) else {
        return Err(format!("its terminal shows no results below {heading:?}"));
    };
    let mut rest = results;
    for key in keys {
        let entry = format!("'{key}': datetime.timedelta(");
        match rest.split_once(&entry) {
            Some((_, after)) => rest = after,
            None => return Err(format!("the results lack {key}, or are not in the list's order")),
        }
    }
    Ok(())
}
