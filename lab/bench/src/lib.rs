//! The commands `cargo lab bench` and `cargo lab overhead`: measurements of Siar, of its limits
//! and of other programs, in separate networks.
//!
//! | module | job |
//! |---|---|
//! | [`arena`] | the network of a cell: a switch, a client, servers and network faults |
//! | [`origin`] | the HTTP server of the source files |
//! | [`process`] | processes and their costs |
//! | [`run`] | one run of a program: source file, setting and result |
//! | [`siar`], [`peers`], [`python`] | runs of Siar, of UFTP, UDPcast and curl, and of Python |
//! | [`limit`], [`blast`], [`bare`] | runs of the upper and lower bounds, and their programs |
//! | [`mod@cells`] | the list of all measurements |
//! | [`crowd`] | simulations with thousands of receivers |
//! | [`summary`], [`verdicts`], `charts` | tables, ratios and charts |
//! | [`overhead`] | the time of one small file, beside Python |

pub mod arena;
pub mod bare;
pub mod blast;
pub mod cells;
mod charts;
pub mod crowd;
mod error;
pub mod limit;
pub mod origin;
pub mod overhead;
pub mod peers;
pub mod process;
pub mod python;
pub mod run;
pub mod siar;
pub mod summary;
pub mod verdicts;

pub use error::BenchError;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use stage::StageError;
use stage::namespace::own_mounts;
use stage::programs::Programs;

use arena::Arena;
use cells::{Cell, HUGE, Work, cells};
use origin::Origin;
use run::{Place, Run, Source};

/// The settings of a benchmark.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// The number of rounds; most cells run once in each round.
    pub runs: usize,
    /// Parts of names: only cells whose name contains one of them are measured; empty: all cells.
    pub only: Vec<String>,
    /// Whether the cell with the huge file is measured.
    pub huge: bool,
}

impl BenchConfig {
    /// Whether the cell `name` is to be measured.
    #[must_use]
    pub fn is_wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// A cell with its runs.
#[derive(Debug)]
pub struct Measured {
    /// The cell.
    pub cell: Cell,
    /// The cell's runs, in order. A run with a fault is the last one.
    pub runs: Vec<Run>,
}

/// Mounts a file system in memory at `dir`, for this process and its children, because the
/// disk's varying speed would distort the measurements. The function must be called before any
/// thread is started, as root of the process's user namespace.
///
/// # Errors
/// A file cannot be written, or the kernel does not permit the mount.
pub fn mount_memory(dir: &Path) -> Result<(), StageError> {
    fs::create_dir_all(dir).map_err(StageError::file(dir))?;
    let refused = |error: nix::errno::Errno| StageError::Namespace(error.into());
    let no_path: Option<&str> = None;
    own_mounts()?;
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), no_path).map_err(refused)?;
    // UFTP and UDPcast resolve the names of the other nodes, and would wait for a DNS server.
    let hosts = dir.join("hosts");
    let servers = (0..100).map(|index| (arena::server_address(index), format!("server{index}")));
    let nodes = [(arena::CLIENT_ADDRESS, "client".to_owned())].into_iter().chain(servers);
    let lines = nodes.map(|(address, name)| format!("{address} {name}\n"));
    fs::write(&hosts, lines.collect::<String>()).map_err(StageError::file(&hosts))?;
    mount(Some(&hosts), "/etc/hosts", no_path, MsFlags::MS_BIND, no_path).map_err(refused)
}

/// Measures all cells in the folder `work`, with interleaved runs. The cell with the huge file
/// runs once, at the end, in the folder `disk`, which the caller removes.
///
/// # Errors
/// The lab itself fails; a program that fails is a run with a fault.
pub fn measure(
    config: &BenchConfig,
    programs: &Programs,
    work: &Path,
    disk: &Path,
) -> Result<Vec<Measured>, BenchError> {
    let wanted = |cell: &Cell| config.is_wanted(&cell.name);
    let (present, absent): (Vec<Cell>, Vec<Cell>) =
        cells(config.huge).into_iter().filter(wanted).partition(|cell| cell.work.is_installed());
    let peers: BTreeSet<&str> = absent.iter().map(|cell| cell.work.program()).collect();
    for peer in peers {
        println!("left out: {peer} is not installed");
    }
    let measured: Vec<Measured> =
        present.into_iter().map(|cell| Measured { cell, runs: Vec::new() }).collect();
    let mut bench = Bench {
        arenas: BTreeMap::new(),
        sources: BTreeMap::new(),
        rates: BTreeMap::new(),
        programs,
        work,
        disk,
    };
    // The kernel writes the huge file to disk for some time, which would disturb other cells.
    let (mut huge, mut measured): (Vec<_>, Vec<_>) =
        measured.into_iter().partition(|measured| measured.cell.file_len == HUGE);
    for round in 1..=config.runs {
        let told = format!("{round} of {}", config.runs);
        for measured in &mut measured {
            for _ in 0..measured.cell.runs_per_round() {
                bench.measure(measured, &told)?;
            }
        }
    }
    huge.iter_mut().try_for_each(|measured| bench.measure(measured, "once"))?;
    measured.extend(huge);
    Ok(measured)
}

struct Bench<'a> {
    arenas: BTreeMap<usize, (Arena, Origin)>,
    sources: BTreeMap<u64, Source>,
    /// The rates of the upper bound, in bytes per second, without and with one call per datagram.
    rates: BTreeMap<bool, f64>,
    programs: &'a Programs,
    work: &'a Path,
    disk: &'a Path,
}

impl Bench<'_> {
    /// Runs a cell once, unless an earlier run of the cell has a fault.
    fn measure(&mut self, measured: &mut Measured, round: &str) -> Result<(), BenchError> {
        let Measured { cell, runs } = measured;
        if runs.last().is_some_and(|run| run.fault.is_some()) {
            return Ok(());
        }
        let run = self.run(cell)?;
        let told = run.fault.clone().unwrap_or_else(|| {
            let seconds = run.transfer.unwrap_or(run.wall);
            format!("{seconds:.3} s, {:.0} MB/s", cell.total() as f64 / seconds / 1e6)
        });
        println!("{round}  {:<22} {told}", cell.name);
        runs.push(run);
        Ok(())
    }

    fn run(&mut self, cell: &Cell) -> Result<Run, BenchError> {
        if !self.arenas.contains_key(&cell.servers) {
            let arena = Arena::new(cell.servers)?;
            let origin = run::origin(&arena, self.work)?;
            self.arenas.insert(cell.servers, (arena, origin));
        }
        if !self.sources.contains_key(&cell.file_len) {
            self.sources.insert(cell.file_len, self.source(cell.file_len)?);
        }
        match cell.work {
            Work::Blast { one_by_one } => self.blast(cell, one_by_one),
            _ => self.run_once(cell, 0.0),
        }
    }

    /// Makes a source file, and a link to a huge one: the origin serves one folder only.
    fn source(&self, len: u64) -> Result<Source, BenchError> {
        if len != HUGE {
            return Source::make(self.work, len);
        }
        let source = Source::make(self.disk, len)?;
        let link = self.work.join(source.path.file_name().unwrap_or_default());
        symlink(&source.path, &link).map_err(BenchError::file(&link))?;
        Ok(source)
    }

    fn run_once(&self, cell: &Cell, rate: f64) -> Result<Run, BenchError> {
        let dir = if cell.file_len == HUGE { self.disk } else { self.work }.join("run");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(BenchError::file(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(BenchError::file(&dir))?;
        let source = &self.sources[&cell.file_len];
        let (arena, _) = &self.arenas[&cell.servers];
        arena.set_faults(cell.faults)?;
        let place = Place { arena, programs: self.programs, dir };
        match &cell.work {
            Work::Siar(what) => siar::run(&place, source, what),
            Work::Clients { count } => siar::clients(&place, source, *count),
            Work::Blast { one_by_one } => limit::blast(&place, source, rate, *one_by_one),
            Work::Bare { tasks } => limit::bare(&place, source, *tasks),
            Work::Uftp { kbit } => peers::uftp(&place, source, *kbit),
            Work::Udpcast => peers::udpcast(&place, source),
            Work::Curl => peers::curl(&place, source),
            Work::Python { style, tasks } => python::run(&place, source, *style, *tasks),
        }
    }

    /// Runs the upper bound at falling rates until nothing is lost, because its sender has no
    /// feedback. The next run begins with the rate that was found.
    fn blast(&mut self, cell: &Cell, one_by_one: bool) -> Result<Run, BenchError> {
        const FIRST_RATE: f64 = 3e9;
        const LEAST_RATE: f64 = 2e7;
        const STEP: f64 = 0.93;
        let mut rate = self.rates.get(&one_by_one).copied().unwrap_or(FIRST_RATE);
        loop {
            let run = self.run_once(cell, rate)?;
            if run.fault.is_none() || rate < LEAST_RATE {
                self.rates.insert(one_by_one, rate);
                return Ok(run);
            }
            rate *= STEP;
        }
    }
}
