//! The time of a whole client process for one small file without the simulated work, beside that
//! of a Python script.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stage::StageError;
use stage::network::Network;
use stage::node::{CLIENT, SERVERS};
use stage::programs::{Programs, STYLES};
use stage::server::RunningServer;

use crate::python;

/// A script that downloads a file and sends it in one datagram, as `library.py` does, without
/// the two seconds of sleep.
const PYTHON: &str = "
import requests, socket, sys
url, target = sys.argv[1:]
data = requests.get(url).content
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.sendto(data, (target, 5005))
";

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Overhead {
    /// The program and its options.
    pub what: String,
    /// The times of whole processes, sorted; empty if a process failed.
    pub times: Vec<Duration>,
}

impl Overhead {
    /// The median; of an even number of times, the upper one of the middle two.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        self.times.get(self.times.len() / 2).copied()
    }
}

/// Times `runs` processes of every style, with and without `--servers`, and of Python if it has
/// `requests`. The runs are interleaved.
///
/// # Errors
/// The lab itself fails. A client that fails only gives a row without times.
pub fn measure(
    network: &Network,
    programs: &Programs,
    url: &str,
    out: &Path,
    runs: usize,
) -> Result<Vec<Overhead>, StageError> {
    let dir = out.join("overhead");
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(StageError::file(&dir))?;
    }
    let mut servers = Vec::new();
    for node in SERVERS {
        servers.push(RunningServer::start(network, programs, node, &dir.join(node.name), &[])?);
    }
    let target = network.broadcast_address().to_string();
    let mut commands = Vec::new();
    for style in STYLES {
        for waiting in [&["--servers", "2"][..], &[]] {
            let mut command = Command::new(programs.client(style));
            command.args(["--delay", "0s", "--target", &target, "--dir"]).arg(&dir);
            command.args(waiting).arg(url);
            commands.push((format!("{style} {}", waiting.join(" ")), command));
        }
    }
    if python::has_requests() {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON, url, &target]);
        commands.push((PYTHON_LABEL.to_owned(), command));
    }
    let mut rows: Vec<Overhead> = commands
        .iter()
        .map(|(what, _)| Overhead { what: what.trim().to_owned(), times: Vec::new() })
        .collect();
    let mut failed = vec![false; rows.len()];
    for _ in 0..runs {
        for (index, (_, command)) in commands.iter_mut().enumerate() {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let program = Path::new(command.get_program()).to_owned();
            let started = Instant::now();
            let status = network
                .spawn(CLIENT, command)
                .and_then(|mut child| child.wait())
                .map_err(StageError::file(&program))?;
            rows[index].times.push(started.elapsed());
            failed[index] |= !status.success();
        }
    }
    for (row, failed) in rows.iter_mut().zip(failed) {
        row.times.sort();
        if failed {
            row.times.clear();
        }
    }
    Ok(rows)
}

const PYTHON_LABEL: &str = "python3, one thread, unconfirmed";

/// A table in text: medians, extremes and, if Python was measured, the ratio to its median.
#[must_use]
pub fn table(rows: &[Overhead]) -> String {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let python = rows.iter().find(|row| row.what == PYTHON_LABEL).and_then(Overhead::median);
    let mut text = format!(
        "{:<34} {:>10} {:>18} {:>10}\n",
        "19 KB, whole process", "median", "spread", "of Python"
    );
    for row in rows {
        let (Some(median), Some(first), Some(last)) =
            (row.median(), row.times.first(), row.times.last())
        else {
            text.push_str(&format!("{:<34} failed\n", row.what));
            continue;
        };
        let ratio = python
            .map_or_else(String::new, |python| format!("{:.2}", millis(median) / millis(python)));
        text.push_str(&format!(
            "{:<34} {:>7.1} ms {:>7.1}..{:<6.1} ms {:>10}\n",
            row.what,
            millis(median),
            millis(*first),
            millis(*last),
            ratio
        ));
    }
    text
}
