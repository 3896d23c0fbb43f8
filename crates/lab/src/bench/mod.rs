//! `cargo lab bench`: Siar, its ceiling and its peers side by side, in networks of their own.
//!
//! | module | job |
//! |---|---|
//! | [`arena`] | a switch with a client, servers, and their faults |
//! | [`origin`] | the HTTP server of the sources |
//! | [`process`] | processes with what they cost |
//! | [`programs`], [`blast`], [`bare`] | one run of each program |
//! | [`mod@cells`] | what is measured |
//! | [`crowd`] | thousands of receivers, simulated |
//! | [`summary`] | tables, ratios, pictures |

pub mod arena;
pub mod bare;
pub mod blast;
pub mod cells;
pub mod crowd;
pub mod origin;
pub mod process;
pub mod programs;
pub mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::LabError;
use crate::binaries::Binaries;
use crate::namespace::own_mounts;
use arena::Arena;
use cells::{Cell, HUGE, Work, cells};
use origin::Origin;
use programs::{Place, Run, Source};

/// What a bench goes by.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// Runs of each cell.
    pub runs: usize,
    /// Only cells whose name contains one of these; empty: all.
    pub only: Vec<String>,
    /// With the file that does not fit memory.
    pub huge: bool,
}

impl BenchConfig {
    /// Whether what is called `name` is to be measured.
    #[must_use]
    pub fn is_wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// A cell with its runs.
#[derive(Debug)]
pub struct Measured {
    /// What was measured.
    pub cell: Cell,
    /// As often as asked for (or a few times that), or up to the first fault.
    pub runs: Vec<Run>,
}

/// Puts a file system in memory over `dir`, for this process and those that it starts; the
/// disk's moods would drown what is measured. To be called before any thread is started, as
/// root of the process's user namespace.
///
/// # Errors
/// The kernel does not permit it.
pub fn mount_memory(dir: &Path) -> Result<(), LabError> {
    fs::create_dir_all(dir).map_err(LabError::file(dir))?;
    let refused = |error: nix::errno::Errno| LabError::Namespace(error.into());
    let no_path: Option<&str> = None;
    own_mounts()?;
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), no_path).map_err(refused)?;
    // Peers ask the resolver for the names of their peers, and would wait for it.
    let hosts = dir.join("hosts");
    let servers = (0..100).map(|index| (arena::server_address(index), format!("server{index}")));
    let nodes = [(arena::CLIENT_ADDRESS, "client".to_owned())].into_iter().chain(servers);
    let lines = nodes.map(|(address, name)| format!("{address} {name}\n"));
    fs::write(&hosts, lines.collect::<String>()).map_err(LabError::file(&hosts))?;
    mount(Some(&hosts), "/etc/hosts", no_path, MsFlags::MS_BIND, no_path).map_err(refused)
}

/// Measures all cells in the folder `work`, their runs interleaved; then the huge file's, once,
/// in the folder `disk`, which outlasts this.
///
/// # Errors
/// The lab itself fails; a program that fails is a run with a fault.
pub fn measure(
    config: &BenchConfig,
    binaries: &Binaries,
    work: &Path,
    disk: &Path,
) -> Result<Vec<Measured>, LabError> {
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
        binaries,
        work,
        disk,
    };
    // What it leaves to be written to the disk would disturb the others.
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
    /// The ceiling's rates, in bytes per second, by whether it sends one by one.
    rates: BTreeMap<bool, f64>,
    binaries: &'a Binaries,
    work: &'a Path,
    disk: &'a Path,
}

impl Bench<'_> {
    /// Runs a cell once more, unless that has failed already.
    fn measure(&mut self, measured: &mut Measured, round: &str) -> Result<(), LabError> {
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

    fn run(&mut self, cell: &Cell) -> Result<Run, LabError> {
        if !self.arenas.contains_key(&cell.servers) {
            let arena = Arena::new(cell.servers)?;
            let origin = programs::origin(&arena, self.work)?;
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

    /// The origin looks for all of them in the same folder.
    fn source(&self, len: u64) -> Result<Source, LabError> {
        if len != HUGE {
            return Source::make(self.work, len);
        }
        let source = Source::make(self.disk, len)?;
        let link = self.work.join(source.path.file_name().unwrap_or_default());
        symlink(&source.path, &link).map_err(LabError::file(&link))?;
        Ok(source)
    }

    fn run_once(&self, cell: &Cell, rate: f64) -> Result<Run, LabError> {
        let dir = if cell.file_len == HUGE { self.disk } else { self.work }.join("run");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(LabError::file(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let source = &self.sources[&cell.file_len];
        let (arena, _) = &self.arenas[&cell.servers];
        arena.set_faults(cell.faults)?;
        let place = Place { arena, binaries: self.binaries, dir };
        match &cell.work {
            Work::Siar(what) => programs::siar(&place, source, what),
            Work::Clients { count } => programs::clients(&place, source, *count),
            Work::Blast { one_by_one } => programs::blast(&place, source, rate, *one_by_one),
            Work::Bare { tasks } => programs::bare(&place, source, *tasks),
            Work::Uftp { kbit } => programs::uftp(&place, source, *kbit),
            Work::Udpcast => programs::udpcast(&place, source),
            Work::Curl => programs::curl(&place, source),
            Work::Python { style, tasks } => programs::python(&place, source, *style, *tasks),
        }
    }

    /// The ceiling has no feedback: it is given the highest rate at which nothing is lost,
    /// looked for from above.
    fn blast(&mut self, cell: &Cell, one_by_one: bool) -> Result<Run, LabError> {
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
