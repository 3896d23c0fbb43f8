//! The command `cargo lab dist`: the programs as static files that run on any node, with an
//! archive and their checksums.
//!
//! | item | job |
//! |---|---|
//! | [`distribute`] | the programs for one processor architecture, in a folder |
//! | [`Distribution`] | a description of the files, as text |
//! | [`release`] | the command `cargo lab release` |

pub mod release;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use release::archive::Archive;
use sha2::{Digest, Sha256};
use stage::StageError;
use stage::programs::Programs;
use stage::spread::Spread;
use stage::target::{NodeTarget, read_static};

/// The largest permitted size of a program, in bytes, because each node gets a copy.
pub const MAX_LEN: u64 = 5_000_000;
const SUMS: &str = "SHA256SUMS";
/// The beginning of the names of all files.
const NAME: &str = "siar";
const PREFIX: &str = "siar-";
const START_RUNS: usize = 21;

/// A failure to make the distribution.
#[derive(Debug, thiserror::Error)]
pub enum DistError {
    /// A program is missing or not static, or a file cannot be used.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A program is too large for a node.
    #[error("{program} has {len} bytes, more than {most}", most = MAX_LEN)]
    TooLarge {
        /// The program's path.
        program: PathBuf,
        /// The program's size in bytes.
        len: u64,
    },
    /// Another program that is needed has failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it said last.
        said: String,
    },
    /// The tool that makes Debian packages is missing.
    #[error("no `cargo deb` here: `cargo install cargo-deb --locked` installs it")]
    NoPackager,
    /// The programs would not be those of the commit.
    #[error("tracked files differ from the commit: commit them, or give --allow-dirty")]
    Uncommitted,
    /// A program does not start.
    #[error("{program} does not start: {status}, {said}")]
    NoStart {
        /// The program's path.
        program: PathBuf,
        /// The exit status.
        status: ExitStatus,
        /// The program's standard error.
        said: String,
    },
}

impl DistError {
    /// A function that makes an I/O error on `path` a [`DistError`].
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let error = StageError::file(path);
        move |cause| Self::Stage(error(cause))
    }
}

/// The files of one processor architecture.
#[derive(Debug)]
pub struct Distribution {
    archive: PathBuf,
    programs: Vec<Program>,
}

#[derive(Debug)]
struct Program {
    name: String,
    len: u64,
    /// The median time of `--version`; `None` for another processor.
    start: Option<Duration>,
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Program { name, len, start } in &self.programs {
            let start = start.map_or(String::new(), |start| {
                format!(", starts in {:.1} ms", start.as_secs_f64() * 1e3)
            });
            writeln!(f, "  {name:<9} {:.2} MB{start}", *len as f64 / 1e6)?;
        }
        writeln!(f, "  {}", self.archive.display())
    }
}

/// Puts the programs, an archive of them and checksums into the folder `to`.
///
/// # Errors
/// A program is not static, does not start or is too large, or a file cannot be written.
pub fn distribute(
    programs: &Programs,
    target: &NodeTarget,
    to: &Path,
) -> Result<Distribution, DistError> {
    let name = format!("{PREFIX}{}", target.arch());
    let dir = to.join(&name);
    fs::create_dir_all(&dir).map_err(DistError::file(&dir))?;
    let mut made = Vec::new();
    for source in programs.paths() {
        let bytes = read_static(&source)?;
        let len = bytes.len() as u64;
        if len > MAX_LEN {
            return Err(DistError::TooLarge { program: source, len });
        }
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = dir.join(&name);
        // A running program cannot be overwritten, but its file can be replaced.
        let new = dir.join(format!("{name}.new"));
        fs::write(&new, &bytes).map_err(DistError::file(&new))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))
            .map_err(DistError::file(&new))?;
        fs::rename(&new, &path).map_err(DistError::file(&path))?;
        let start = target.is_native().then(|| start_time(&path)).transpose()?;
        made.push(Program { name, len, start });
    }
    let archive = to.join(format!("{name}.tar.gz"));
    pack(&archive, &name, &dir, &made).map_err(DistError::file(&archive))?;
    write_sums(to)?;
    Ok(Distribution { archive, programs: made })
}

/// Writes the archive. Equal programs give equal bytes.
fn pack(archive: &Path, name: &str, dir: &Path, programs: &[Program]) -> io::Result<()> {
    let mut tar = Archive::create(archive, 0)?;
    for program in programs {
        let bytes = fs::read(dir.join(&program.name))?;
        tar.append(format!("{name}/{}", program.name), &bytes, 0o755)?;
    }
    tar.finish()
}

/// Writes the checksums of all files in `to`, also of earlier architectures, for `sha256sum -c`.
fn write_sums(to: &Path) -> Result<(), DistError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(to).map_err(DistError::file(to))?.filter_map(Result::ok) {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(NAME) {
            continue;
        }
        if path.is_dir() {
            let inner = fs::read_dir(&path).map_err(DistError::file(&path))?;
            files.extend(inner.filter_map(Result::ok).map(|entry| entry.path()));
        } else {
            files.push(path);
        }
    }
    files.retain(|file| file.is_file());
    files.sort();
    let path = to.join(SUMS);
    let mut sums = File::create(&path).map_err(DistError::file(&path))?;
    for file in files {
        let bytes = fs::read(&file).map_err(DistError::file(&file))?;
        let sum = Sha256::digest(&bytes);
        let digits: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = file.strip_prefix(to).unwrap_or(&file);
        writeln!(sums, "{digits}  {}", name.display()).map_err(DistError::file(&path))?;
    }
    Ok(())
}

fn start_time(program: &Path) -> Result<Duration, DistError> {
    let mut times = Vec::new();
    for _ in 0..START_RUNS {
        let begin = Instant::now();
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = command.output().map_err(DistError::file(program))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let (program, status) = (program.to_owned(), output.status);
            return Err(DistError::NoStart { program, status, said });
        }
        times.push(begin.elapsed().as_secs_f64());
    }
    let median = Spread::of(times).map_or(0.0, |spread| spread.median);
    Ok(Duration::from_secs_f64(median))
}
