//! Runs of the upper bound [`blast`](crate::blast) and of the lower bound
//! [`bare`](crate::bare). Their processes are further instances of this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BenchError;
use crate::blast::Seen;
use crate::run::{LIMIT, ORIGIN, Place, Run, Source, end_receivers, fault};

/// The path of this program, which has senders and receivers as hidden commands.
fn this_program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(BenchError::file(Path::new("this program")))
}

/// Runs the upper bound at `rate` bytes per second. A run that lost a datagram has a fault.
///
/// # Errors
/// The lab itself fails.
pub fn blast(
    place: &Place<'_>,
    source: &Source,
    rate: f64,
    one_by_one: bool,
) -> Result<Run, BenchError> {
    let here = this_program()?;
    let receivers = place.start_receivers("ready", |_| {
        let mut command = Command::new(&here);
        command.args(["blast-receive", "file"]);
        command
    })?;
    let mut command = Command::new(&here);
    command.arg("blast-send").arg(&source.path).arg(rate.to_string());
    if one_by_one {
        command.arg("--one-by-one");
    }
    let (status, sender) = place.run_client(&mut command, source)?;
    let Some(begin) = status.and_then(|_| last_line(&place.client_log())) else {
        return Ok(Run::fault("the blaster failed"));
    };
    let (mut costs, mut end, mut least) = (Vec::new(), begin.at, u64::MAX);
    for (receiver, dir) in receivers.into_iter().zip(place.dirs()?) {
        let log = dir.with_extension("log");
        costs.push(receiver.finish(LIMIT).map_err(BenchError::file(&log))?.1);
        let Some(seen) = last_line(&log) else {
            return Ok(Run::fault("a receiver of the blaster failed"));
        };
        end = end.max(seen.at);
        least = least.min(seen.bytes);
    }
    if least < source.len {
        let lost = 1.0 - least as f64 / source.len as f64;
        return Ok(Run::fault(format!("{:.1} % were lost", lost * 100.0)));
    }
    Ok(Run {
        wall: sender.wall,
        transfer: Some(end - begin.at),
        sender: Some(sender),
        receivers: costs,
        datagrams: Some(1.0),
        ..Run::default()
    })
}

fn last_line(log: &Path) -> Option<Seen> {
    serde_json::from_str(fs::read_to_string(log).ok()?.lines().last()?).ok()
}

/// Runs the lower bound for `tasks` small tasks.
///
/// # Errors
/// The lab itself fails.
pub fn bare(place: &Place<'_>, source: &Source, tasks: usize) -> Result<Run, BenchError> {
    let here = this_program()?;
    let receivers = place.start_receivers("ready", |_| {
        let mut command = Command::new(&here);
        command.arg("bare-receive").arg(tasks.to_string());
        command
    })?;
    let mut command = Command::new(&here);
    let numbers = [source.len, tasks as u64, receivers.len() as u64];
    command.arg("bare-send").arg(ORIGIN.to_string()).args(numbers.map(|number| number.to_string()));
    command.current_dir(&place.dir);
    let (status, sender) = place.run_client(&mut command, source)?;
    let receivers = end_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), receivers, ..Run::default() })
}
