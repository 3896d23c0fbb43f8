//! What is measured.

use std::process::{Command, Stdio};

use siar_core::event::Style;

use super::arena::Faults;
use super::programs::Siar;
use crate::binaries::STYLES;

const MIB: u64 = 1 << 20;
/// The large file.
pub const LARGE: u64 = 256 * MIB;
/// The file of cells with many receivers or many files.
pub const MEDIUM: u64 = 64 * MIB;
/// The file of the cell with the slow link.
pub const SLOW_FILE: u64 = 128 * MIB;
/// The file of the cell that shows what memory a transfer takes. With its copies at client and
/// servers it needs 32 GiB of disk.
pub const HUGE: u64 = 8 << 30;
/// As large as the seed's PNG.
pub const SMALL: u64 = 19_320;
/// Losses in per cent.
pub const LOSSES: [u8; 5] = [0, 1, 5, 10, 20];
/// UFTP's rates in kbit/s.
pub const UFTP_RATES: [u32; 3] = [1_000_000, 2_000_000, 4_000_000];
/// How many receivers.
pub const RECEIVERS: [usize; 4] = [1, 2, 8, 32];
/// How many tasks at once.
pub const TASKS: [usize; 4] = [1, 20, 200, 1000];
/// How many transfers share the path.
pub const SHARES: [usize; 3] = [2, 4, 8];

/// How many receivers are simulated.
pub const CROWDS: [usize; 2] = [1000, 10_000];

/// Which program does what.
#[derive(Debug, Clone)]
pub enum Work {
    /// A client and servers of Siar.
    Siar(Siar),
    /// Clients of Siar that were started separately, with a file each.
    Clients {
        /// How many.
        count: usize,
    },
    /// The ceiling.
    Blast {
        /// One call for each datagram.
        one_by_one: bool,
    },
    /// The least that small tasks can cost.
    Bare {
        /// Files, four at a time.
        tasks: usize,
    },
    /// UFTP.
    Uftp {
        /// Its rate in kbit/s.
        kbit: u32,
    },
    /// UDPcast.
    Udpcast,
    /// A download by curl, and nothing else.
    Curl,
    /// A script in the seed's manner.
    Python {
        /// Its style.
        style: Style,
        /// Files at once.
        tasks: usize,
    },
}

impl Work {
    /// What has to be installed for it.
    #[must_use]
    pub fn program(&self) -> &'static str {
        match self {
            Self::Siar(_) | Self::Clients { .. } | Self::Blast { .. } | Self::Bare { .. } => "siar",
            Self::Uftp { .. } => "uftp",
            Self::Udpcast => "udpcast",
            Self::Curl => "curl",
            Self::Python { .. } => "python3 with requests",
        }
    }

    /// Whether its programs are there. Peers are optional.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        match self {
            Self::Siar(_) | Self::Clients { .. } | Self::Blast { .. } | Self::Bare { .. } => true,
            Self::Uftp { .. } => starts("uftpd", &["-V"]),
            Self::Udpcast => starts("udp-sender", &["--version"]),
            Self::Curl => starts("curl", &["--version"]),
            Self::Python { .. } => has_python_requests(),
        }
    }
}

/// Whether Python is there with the library that the seed's scripts use.
pub(crate) fn has_python_requests() -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", "import requests"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn starts(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// One thing to be measured.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Unique; the summary looks cells up by it.
    pub name: String,
    /// By which program.
    pub work: Work,
    /// Bytes of each file.
    pub file_len: u64,
    /// Receivers.
    pub servers: usize,
    /// What the network does to them.
    pub faults: Faults,
}

impl Cell {
    /// Bytes of all files.
    #[must_use]
    pub fn total(&self) -> u64 {
        let tasks = match &self.work {
            Work::Siar(what) => what.tasks,
            Work::Clients { count } => *count,
            Work::Bare { tasks } | Work::Python { tasks, .. } => *tasks,
            _ => 1,
        };
        self.file_len * tasks as u64
    }

    /// How often it runs in each round. The kernel samples a program's own CPU time by its clock
    /// tick: of a few hundredths of a second, few runs say nothing.
    #[must_use]
    pub fn runs_per_round(&self) -> usize {
        if FEW_AND_MANY.contains(&self.name.as_str()) { SAMPLES } else { 1 }
    }
}

/// The cells whose senders' own CPU time is compared.
pub const FEW_AND_MANY: [&str; 2] = ["siar-receivers-2", "siar-receivers-32"];
const SAMPLES: usize = 10;

/// All of them, the one with the huge file only if asked for.
#[must_use]
pub fn cells(huge: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |name: String, work: Work, file_len: u64, servers: usize, faults: Faults| {
        cells.push(Cell { name, work, file_len, servers, faults });
    };
    let clean = Faults::default();
    let one_file = |arguments| Work::Siar(Siar { arguments, ..Siar::new(Style::Mt, 1) });
    add("limit".into(), Work::Blast { one_by_one: false }, LARGE, 2, clean);
    for loss in LOSSES {
        let faults = Faults { loss, ..clean };
        add(format!("siar-loss-{loss}"), one_file(&[]), LARGE, 2, faults);
        for kbit in UFTP_RATES {
            let name = format!("uftp-{}-loss-{loss}", kbit / 1_000_000);
            add(name, Work::Uftp { kbit }, LARGE, 2, faults);
        }
        add(format!("udpcast-loss-{loss}"), Work::Udpcast, LARGE, 2, faults);
    }
    let at_hand = Work::Siar(Siar { at_hand: true, ..Siar::new(Style::Mt, 1) });
    add("siar-at-hand".into(), at_hand, LARGE, 2, clean);
    add("curl".into(), Work::Curl, LARGE, 2, clean);
    let sealed = Work::Siar(Siar { sealed: true, ..Siar::new(Style::Mt, 1) });
    add("siar-sealed".into(), sealed, LARGE, 2, clean);
    for loss in [0, 1, 10] {
        let faults = Faults { loss, cut_trains: true, ..clean };
        add(format!("siar-cut-loss-{loss}"), one_file(&[]), LARGE, 2, faults);
    }
    add("limit-one-by-one".into(), Work::Blast { one_by_one: true }, LARGE, 2, clean);
    add("siar-one-by-one".into(), one_file(&["--no-segmentation"]), LARGE, 2, clean);
    for receivers in RECEIVERS {
        add(format!("siar-receivers-{receivers}"), one_file(&[]), MEDIUM, receivers, clean);
    }
    let lossy = Faults { loss: 10, ..clean };
    add("siar-receivers-32-loss-10".into(), one_file(&[]), MEDIUM, 32, lossy);
    if huge {
        let faults = Faults { loss: 5, ..clean };
        add("siar-huge".into(), one_file(&[]), HUGE, 2, faults);
    }
    let slow = Faults { slow_link: true, ..clean };
    add("siar-slow-link".into(), one_file(&[]), SLOW_FILE, 2, slow);
    for style in STYLES {
        add(format!("siar-four-{style}"), Work::Siar(Siar::new(style, 4)), MEDIUM, 2, clean);
    }
    for tasks in SHARES {
        add(
            format!("siar-share-{tasks}"),
            Work::Siar(Siar::new(Style::Mt, tasks)),
            MEDIUM,
            2,
            clean,
        );
    }
    for count in SHARES {
        add(format!("siar-clients-{count}"), Work::Clients { count }, MEDIUM, 2, clean);
    }
    for tasks in TASKS {
        add(format!("limit-tasks-{tasks}"), Work::Bare { tasks }, SMALL, 2, clean);
        for style in STYLES {
            // The scripts keep no record either.
            let events = tasks == 1;
            let work = Work::Siar(Siar { events, ..Siar::new(style, tasks) });
            add(format!("siar-tasks-{style}-{tasks}"), work, SMALL, 2, clean);
            let work = Work::Python { style, tasks };
            add(format!("python-tasks-{style}-{tasks}"), work, SMALL, 2, clean);
        }
    }
    cells
}
