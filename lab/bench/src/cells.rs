//! The cells of the benchmark: everything that is measured.

use std::process::{Command, Stdio};

use siar_core::event::Style;
use stage::programs::STYLES;

use crate::arena::Faults;
use crate::python;
use crate::siar::Siar;

const MIB: u64 = 1 << 20;
/// The size of a large file, in bytes.
pub const LARGE: u64 = 256 * MIB;
/// The file size of cells with many receivers or several files, in bytes.
pub const MEDIUM: u64 = 64 * MIB;
/// The file size of the cell with the slow link, in bytes.
pub const SLOW_FILE: u64 = 128 * MIB;
/// The file size of the cell that measures the memory of a transfer, in bytes. The source and its
/// copies at the client and the servers need 32 GiB of disk.
pub const HUGE: u64 = 8 << 30;
/// The size of a small file, in bytes: that of the Python scripts' PNG.
pub const SMALL: u64 = 19_320;
/// The losses, in per cent.
pub const LOSSES: [u8; 5] = [0, 1, 5, 10, 20];
/// UFTP's rates, in kbit/s.
pub const UFTP_RATES: [u32; 3] = [1_000_000, 2_000_000, 4_000_000];
/// The numbers of receivers.
pub const RECEIVERS: [usize; 4] = [1, 2, 8, 32];
/// The numbers of small tasks at the same time.
pub const TASKS: [usize; 4] = [1, 20, 200, 1000];
/// The numbers of transfers that share the network path.
pub const SHARES: [usize; 3] = [2, 4, 8];

/// The numbers of simulated receivers.
pub const CROWDS: [usize; 2] = [1000, 10_000];

/// The program of a cell and its task.
#[derive(Debug, Clone)]
pub enum Work {
    /// A client and servers of Siar.
    Siar(Siar),
    /// Several clients of Siar at the same time, each with one file.
    Clients {
        /// The number of clients.
        count: usize,
    },
    /// The upper bound, [`blast`](crate::blast).
    Blast {
        /// Whether the sender makes one system call for each datagram.
        one_by_one: bool,
    },
    /// The lower bound for small tasks, [`bare`](crate::bare).
    Bare {
        /// The number of files, four at a time.
        tasks: usize,
    },
    /// UFTP.
    Uftp {
        /// The rate, in kbit/s.
        kbit: u32,
    },
    /// UDPcast.
    Udpcast,
    /// Only a download, by curl.
    Curl,
    /// A script after the Python scripts.
    Python {
        /// The script's style.
        style: Style,
        /// The number of files.
        tasks: usize,
    },
}

impl Work {
    /// The program that must be installed.
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

    /// Whether the program is installed. Siar's own programs always are; the others are optional.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        match self {
            Self::Siar(_) | Self::Clients { .. } | Self::Blast { .. } | Self::Bare { .. } => true,
            Self::Uftp { .. } => starts("uftpd", &["-V"]),
            Self::Udpcast => starts("udp-sender", &["--version"]),
            Self::Curl => starts("curl", &["--version"]),
            Self::Python { .. } => python::has_requests(),
        }
    }
}

fn starts(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The cell's unique name, by which the summary finds it.
    pub name: String,
    /// The program and its task.
    pub work: Work,
    /// The size of each file, in bytes.
    pub file_len: u64,
    /// The number of receivers.
    pub servers: usize,
    /// The network faults at the receivers.
    pub faults: Faults,
}

impl Cell {
    /// The size of all files, in bytes.
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

    /// The number of runs in each round. The kernel samples user CPU time at its clock tick, so
    /// that a short CPU time needs many runs.
    #[must_use]
    pub fn runs_per_round(&self) -> usize {
        if FEW_AND_MANY.contains(&self.name.as_str()) { SAMPLES } else { 1 }
    }
}

/// The two cells whose senders' user CPU times are compared.
pub const FEW_AND_MANY: [&str; 2] = ["siar-receivers-2", "siar-receivers-32"];
const SAMPLES: usize = 10;

/// All cells; the cell with the huge file only if `huge`.
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
            // The Python scripts write no events either.
            let events = tasks == 1;
            let work = Work::Siar(Siar { events, ..Siar::new(style, tasks) });
            add(format!("siar-tasks-{style}-{tasks}"), work, SMALL, 2, clean);
            let work = Work::Python { style, tasks };
            add(format!("python-tasks-{style}-{tasks}"), work, SMALL, 2, clean);
        }
    }
    cells
}
