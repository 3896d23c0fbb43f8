//! `cargo lab faults`: what can go wrong is made to go wrong, with the real programs, in a
//! network of its own for each case; and the promises are looked at.
//!
//! | module | what goes wrong |
//! |---|---|
//! | [`stage`] | nothing: where cases take place |
//! | `network` | loss, links, sizes of packets and buffers |
//! | `processes` | servers, clients and workers that are killed or stopped |
//! | `disks` | full and read-only disks, quotas, names |
//! | `hostile` | a flood of hostile datagrams |
//! | `sources` | HTTP servers that misbehave |

mod disks;
mod hostile;
mod network;
mod processes;
mod sources;
pub mod stage;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use siar_core::panics::caught;

use crate::LabError;
use crate::binaries::Binaries;
use stage::Stage;

/// What a case showed, if no promise broke.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// In words.
    pub what: String,
    /// Copies of files that had to arrive and did.
    pub delivered: usize,
    /// From the end of the fault to the end of the transfer, where that is of interest.
    pub recovery: Option<Duration>,
}

impl Observed {
    fn new(what: impl Into<String>, delivered: usize) -> Self {
        Self { what: what.into(), delivered, recovery: None }
    }

    fn recovered(self, since: Instant) -> Self {
        Self { recovery: Some(since.elapsed()), ..self }
    }
}

/// Says which promise broke.
type CaseResult = Result<Observed, Box<dyn std::error::Error>>;

struct Case {
    name: &'static str,
    /// Part of the short form.
    is_short: bool,
    play: fn(&Stage) -> CaseResult,
}

const fn case(name: &'static str, play: fn(&Stage) -> CaseResult) -> Case {
    Case { name, is_short: true, play }
}

const fn long(name: &'static str, play: fn(&Stage) -> CaseResult) -> Case {
    Case { name, is_short: false, play }
}

const CASES: &[Case] = &[
    long("server killed at 10 % and restarted", |stage| processes::server_killed(stage, 0.1)),
    case("server killed at 50 % and restarted", |stage| processes::server_killed(stage, 0.5)),
    long("server killed at 90 % and restarted", |stage| processes::server_killed(stage, 0.9)),
    long("client killed in mid-transfer", processes::client_killed),
    case("server stopped for 5 s and continued", processes::server_stopped),
    case("4 of 32 servers die", processes::some_of_many_die),
    case("mp: child killed while downloading", |stage| processes::worker_killed(stage, "mp", 0)),
    case("mp: child killed in its delay", |stage| processes::worker_killed(stage, "mp", 1)),
    case("mp: child killed while broadcasting", |stage| processes::worker_killed(stage, "mp", 2)),
    case("mp-async: worker killed while downloading", |stage| {
        processes::worker_killed(stage, "mp-async", 0)
    }),
    case("mp-async: worker killed in its delay", |stage| {
        processes::worker_killed(stage, "mp-async", 1)
    }),
    case("mp-async: worker killed while broadcasting", |stage| {
        processes::worker_killed(stage, "mp-async", 2)
    }),
    case("link down for 3 s", network::link_down),
    case("40 % loss", |stage| network::lossy(stage, "numgen random mod 100 < 40", 16 << 20)),
    case("bursts of 50 datagrams lost", |stage| {
        network::lossy(stage, "numgen inc mod 500 >= 450", 16 << 20)
    }),
    case("tiny receive buffer at a server", network::small_receive_buffer),
    case("MTU 576", |stage| network::mtu(stage, 576)),
    case("MTU 9000", |stage| network::mtu(stage, 9000)),
    case("disk full at a server", disks::full_at_server),
    case("disk filled at a server in mid-transfer", disks::filled_in_mid_transfer),
    case("disk full at the client", disks::full_at_client),
    case("read-only folder at a server", disks::read_only_at_server),
    case("read-only folder at the client", disks::read_only_at_client),
    case("quota reached", disks::quota),
    case("two clients, one name, different files", disks::one_name_two_files),
    case("the same file twice", disks::same_file_twice),
    case("flood of hostile datagrams", hostile::flood),
    case("source stalls", sources::stalls),
    case("source resets the connection", sources::resets),
    case("source sends less than it announces", sources::sends_less),
    case("source sends more than it announces", sources::sends_more),
    case("source redirects for ever", sources::redirects),
    case("source announces 10 GiB, --max-file 1GiB", sources::sends_too_much),
    long("source sends 10 GiB unannounced, --max-file 1GiB", sources::sends_without_end),
];

/// A case with its outcome.
#[derive(Debug, Clone)]
pub struct Played {
    /// The case.
    pub name: &'static str,
    /// What it showed, or which promise broke.
    pub result: Result<Observed, String>,
    /// How long it took.
    pub took: Duration,
}

/// Plays the cases whose name contains `only`, or those of the short form, one after the
/// other; each prints a line. What they leave lies below `out`.
///
/// # Errors
/// `out` cannot be written to.
pub fn play(
    binaries: &Binaries,
    out: &Path,
    is_short: bool,
    only: &str,
) -> Result<Vec<Played>, LabError> {
    let mut played = Vec::new();
    let cases = CASES.iter().filter(|case| case.is_short || !is_short);
    for (number, case) in cases.filter(|case| case.name.contains(only)).enumerate() {
        let dir = out.join(format!("{number:02}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(LabError::file(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let begin = Instant::now();
        let play =
            || Stage::new(binaries, &dir).map_err(Into::into).and_then(|stage| (case.play)(&stage));
        let result = caught(play).and_then(|result| result.map_err(|error| error.to_string()));
        let one = Played { name: case.name, result, took: begin.elapsed() };
        println!("{}", line(&one));
        played.push(one);
    }
    Ok(played)
}

fn line(played: &Played) -> String {
    let (word, what) = match &played.result {
        Ok(observed) => ("kept  ", observed.what.as_str()),
        Err(fault) => ("BROKEN", fault.as_str()),
    };
    format!("{word}  {:<44} {:>5.1} s  {what}", played.name, played.took.as_secs_f64())
}

/// The table for `docs/RELIABILITY.md`.
#[must_use]
pub fn table(played: &[Played]) -> String {
    let mut text = "| case | promises | copies delivered | recovery | what happened |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    for one in played {
        let (word, delivered, recovery, what) = match &one.result {
            Ok(observed) => (
                "kept",
                observed.delivered.to_string(),
                observed
                    .recovery
                    .map_or_else(String::new, |took| format!("{:.1} s", took.as_secs_f64())),
                observed.what.as_str(),
            ),
            Err(fault) => ("**broken**", String::new(), String::new(), fault.as_str()),
        };
        text.push_str(&format!("| {} | {word} | {delivered} | {recovery} | {what} |\n", one.name));
    }
    let observed: Vec<&Observed> =
        played.iter().filter_map(|one| one.result.as_ref().ok()).collect();
    let delivered: usize = observed.iter().map(|observed| observed.delivered).sum();
    let longest =
        observed.iter().filter_map(|observed| observed.recovery).max().unwrap_or_default();
    let broken = played.len() - observed.len();
    text + &format!(
        "\n{} cases, {broken} broken promises, {delivered} copies that had to arrive and did, longest \
         recovery {:.1} s.\n",
        played.len(),
        longest.as_secs_f64()
    )
}
