//! The list of the cases, their run one after the other, and the table of results.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use siar_core::panics::caught;
use stage::StageError;
use stage::programs::Programs;

use crate::scene::Scene;
use crate::{disks, hostile, neighbours, network, processes, sources};

/// The result of a case in which all promises were kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    /// The result in words.
    pub(crate) what: String,
    /// The number of delivered copies of files.
    pub(crate) delivered: usize,
    /// The time from the end of the fault to the end of the transfer, if the case measures it.
    pub(crate) recovery: Option<Duration>,
}

impl Observed {
    pub(crate) fn new(what: impl Into<String>, delivered: usize) -> Self {
        Self { what: what.into(), delivered, recovery: None }
    }

    pub(crate) fn recovered(self, since: Instant) -> Self {
        Self { recovery: Some(since.elapsed()), ..self }
    }
}

/// The result of a case; the error describes the broken promise.
pub(crate) type CaseResult = Result<Observed, Box<dyn std::error::Error>>;

struct Case {
    name: &'static str,
    /// Whether CI runs the case.
    is_short: bool,
    play: fn(&Scene) -> CaseResult,
}

const fn case(name: &'static str, play: fn(&Scene) -> CaseResult) -> Case {
    Case { name, is_short: true, play }
}

const fn long(name: &'static str, play: fn(&Scene) -> CaseResult) -> Case {
    Case { name, is_short: false, play }
}

const CASES: &[Case] = &[
    long("server killed at 10 % and restarted", |scene| processes::server_killed(scene, 0.1)),
    case("server killed at 50 % and restarted", |scene| processes::server_killed(scene, 0.5)),
    long("server killed at 90 % and restarted", |scene| processes::server_killed(scene, 0.9)),
    long("client killed in mid-transfer", processes::client_killed),
    case("server stopped for 5 s and continued", processes::server_stopped),
    case("4 of 32 servers die", processes::some_of_many_die),
    case("mp: child killed while downloading", |scene| processes::worker_killed(scene, "mp", 0)),
    case("mp: child killed in its delay", |scene| processes::worker_killed(scene, "mp", 1)),
    case("mp: child killed while broadcasting", |scene| processes::worker_killed(scene, "mp", 2)),
    case("mp-async: worker killed while downloading", |scene| {
        processes::worker_killed(scene, "mp-async", 0)
    }),
    case("mp-async: worker killed in its delay", |scene| {
        processes::worker_killed(scene, "mp-async", 1)
    }),
    case("mp-async: worker killed while broadcasting", |scene| {
        processes::worker_killed(scene, "mp-async", 2)
    }),
    case("link down for 3 s", network::link_down),
    case("40 % loss", |scene| network::lossy(scene, "numgen random mod 100 < 40", 16 << 20)),
    case("bursts of 50 datagrams lost", |scene| {
        network::lossy(scene, "numgen inc mod 500 >= 450", 16 << 20)
    }),
    case("tiny receive buffer at a server", network::small_receive_buffer),
    case("MTU 576", |scene| network::mtu(scene, 576)),
    case("MTU 9000", |scene| network::mtu(scene, 9000)),
    case("disk full at a server", disks::full_at_server),
    case("disk filled at a server in mid-transfer", disks::filled_in_mid_transfer),
    case("disk full at the client", disks::full_at_client),
    case("read-only folder at a server", disks::read_only_at_server),
    case("read-only folder at the client", disks::read_only_at_client),
    case("quota reached", disks::quota),
    case("two clients, one name, different files", disks::one_name_two_files),
    case("the same file twice", disks::same_file_twice),
    case("flood of hostile datagrams", hostile::flood),
    // A sender waits for the liar for 10 s and half of the time, and gives it up after 30 s.
    long("liar among the receivers", neighbours::liar),
    case("starver of a server's transfers", neighbours::starver),
    case("replayer of sealed datagrams", neighbours::replayer),
    case("squatter on a server's quota", neighbours::squatter),
    case("source stalls", sources::stalls),
    case("source resets the connection", sources::resets),
    case("source sends less than it announces", sources::sends_less),
    case("source sends more than it announces", sources::sends_more),
    case("source redirects for ever", sources::redirects),
    case("source announces 10 GiB, --max-file 1GiB", sources::sends_too_much),
    long("source sends 10 GiB unannounced, --max-file 1GiB", sources::sends_without_end),
];

/// A case with its result.
#[derive(Debug, Clone)]
pub(crate) struct Played {
    /// The case's name.
    pub(crate) name: &'static str,
    /// The result, or a description of the broken promise.
    pub(crate) result: Result<Observed, String>,
    /// The duration of the case.
    pub(crate) took: Duration,
}

/// Runs the cases whose name contains `only`, one after the other; if `is_short`, only those
/// that CI runs. Each case prints a line. Its files lie below `out`.
///
/// # Errors
/// A folder below `out` cannot be made.
pub(crate) fn play(
    programs: &Programs,
    out: &Path,
    is_short: bool,
    only: &str,
) -> Result<Vec<Played>, StageError> {
    let mut played = Vec::new();
    let cases = CASES.iter().filter(|case| case.is_short || !is_short);
    for (number, case) in cases.filter(|case| case.name.contains(only)).enumerate() {
        let dir = out.join(format!("{number:02}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(StageError::file(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(StageError::file(&dir))?;
        let begin = Instant::now();
        let play =
            || Scene::new(programs, &dir).map_err(Into::into).and_then(|scene| (case.play)(&scene));
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
pub(crate) fn table(played: &[Played]) -> String {
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
