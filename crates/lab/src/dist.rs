//! `cargo lab dist`: the programs as static files that run on any node, Alpine included.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

use crate::LabError;
use crate::bench::summary::Spread;
use crate::binaries::Binaries;

/// One binary a node: it has to be small.
pub const MAX_LEN: u64 = 5_000_000;
const SUMS: &str = "SHA256SUMS";
const PREFIX: &str = "siar-";
const START_RUNS: usize = 21;

/// How static programs are built here for one kind of processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTarget {
    arch: &'static str,
    triple: String,
    /// Links, and compiles what is in C; `None`: the system's.
    compiler: Option<String>,
    is_musl: bool,
    is_native: bool,
}

impl NodeTarget {
    /// For processors such as this machine's.
    ///
    /// # Errors
    /// `rustc` cannot be asked.
    pub fn native() -> Result<Self, LabError> {
        let native = Self::all()?.into_iter().find(|target| target.is_native);
        native.ok_or_else(|| LabError::MissingProgram {
            program: "a Rust target for this processor".to_owned(),
            remedy: "the lab builds for x86_64 and aarch64",
        })
    }

    /// For all processors that can be built for here.
    ///
    /// # Errors
    /// `rustc` cannot be asked.
    pub fn all() -> Result<Vec<Self>, LabError> {
        let host = rustc(&["-vV"])?;
        let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let mut targets = Vec::new();
        for arch in ["x86_64", "aarch64"] {
            let is_native = host.starts_with(arch);
            let musl =
                [Some(format!("{arch}-linux-musl-gcc")), is_native.then(|| "musl-gcc".into())];
            let musl = musl.into_iter().flatten().find(|compiler| is_program(compiler));
            let gnu = format!("{arch}-linux-gnu-gcc");
            let found = if let Some(compiler) = musl
                && is_installed(&format!("{arch}-unknown-linux-musl"))?
            {
                Some((true, Some(compiler)))
            } else if !is_installed(&format!("{arch}-unknown-linux-gnu"))? {
                None
            } else if is_native {
                Some((false, None))
            } else {
                is_program(&gnu).then_some((false, Some(gnu)))
            };
            targets.extend(found.map(|(is_musl, compiler)| {
                let libc = if is_musl { "musl" } else { "gnu" };
                let triple = format!("{arch}-unknown-linux-{libc}");
                Self { arch, triple, compiler, is_musl, is_native }
            }));
        }
        Ok(targets)
    }

    /// As rustc names it.
    #[must_use]
    pub fn triple(&self) -> &str {
        &self.triple
    }

    /// The kind of processor.
    #[must_use]
    pub fn arch(&self) -> &'static str {
        self.arch
    }

    /// Tells cargo how to build for it.
    pub(crate) fn prepare(&self, command: &mut Command) {
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        // A static glibc has no getrandom to be looked up, and a bare node no /dev/urandom.
        let random = "--cfg getrandom_backend=\"linux_getrandom\"";
        command.env("RUSTFLAGS", format!("{flags} -C target-feature=+crt-static {random}"));
        if let Some(compiler) = &self.compiler {
            let name = self.triple.replace('-', "_");
            command.env(format!("CC_{name}"), compiler);
            command.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), compiler);
        }
    }
}

impl fmt::Display for NodeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let libc = match self.is_musl {
            true => "musl",
            false => "glibc (no musl target with its C compiler is installed)",
        };
        write!(f, "{}: static, with {libc}", self.triple)
    }
}

/// What was put into the folder.
#[derive(Debug)]
pub struct Distribution {
    archive: PathBuf,
    programs: Vec<Program>,
}

#[derive(Debug)]
struct Program {
    name: String,
    len: u64,
    /// `--version`, median; `None` for another processor.
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

/// Puts the programs, their sums and an archive of them into `to`.
///
/// # Errors
/// A program is not static, does not start, or is too large; or `to` cannot be written to.
pub fn distribute(
    binaries: &Binaries,
    target: &NodeTarget,
    to: &Path,
) -> Result<Distribution, LabError> {
    let name = format!("{PREFIX}{}", target.arch);
    let dir = to.join(&name);
    fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
    let mut programs = Vec::new();
    for source in binaries.programs() {
        let bytes = read_static(&source)?;
        let len = bytes.len() as u64;
        if len > MAX_LEN {
            let fault = format!("has {len} bytes, more than {MAX_LEN}");
            return Err(LabError::NotForNodes { program: source, fault });
        }
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = dir.join(&name);
        // A running one cannot be overwritten, but replaced.
        let new = dir.join(format!("{name}.new"));
        fs::write(&new, &bytes).map_err(LabError::file(&new))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))
            .map_err(LabError::file(&new))?;
        fs::rename(&new, &path).map_err(LabError::file(&path))?;
        let start = target.is_native.then(|| start_time(&path)).transpose()?;
        programs.push(Program { name, len, start });
    }
    let archive = to.join(format!("{name}.tar.gz"));
    pack(&archive, &name, &dir, &programs).map_err(LabError::file(&archive))?;
    write_sums(to)?;
    Ok(Distribution { archive, programs })
}

/// The same bytes for the same programs.
fn pack(archive: &Path, name: &str, dir: &Path, programs: &[Program]) -> io::Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(File::create(archive)?, Compression::best()));
    for program in programs {
        let bytes = fs::read(dir.join(&program.name))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, format!("{name}/{}", program.name), bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.sync_all()
}

/// For `sha256sum -c`: of all that was put into `to`, for other processors before too.
fn write_sums(to: &Path) -> Result<(), LabError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(to).map_err(LabError::file(to))?.filter_map(Result::ok) {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if path.is_dir() {
            let inner = fs::read_dir(&path).map_err(LabError::file(&path))?;
            files.extend(inner.filter_map(Result::ok).map(|entry| entry.path()));
        } else {
            files.push(path);
        }
    }
    files.retain(|file| file.is_file());
    files.sort();
    let path = to.join(SUMS);
    let mut sums = File::create(&path).map_err(LabError::file(&path))?;
    for file in files {
        let bytes = fs::read(&file).map_err(LabError::file(&file))?;
        let sum = Sha256::digest(&bytes);
        let digits: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = file.strip_prefix(to).unwrap_or(&file);
        writeln!(sums, "{digits}  {}", name.display()).map_err(LabError::file(&path))?;
    }
    Ok(())
}

/// A program that runs on any node.
///
/// # Errors
/// It cannot be read, or is not static.
pub(crate) fn read_static(program: &Path) -> Result<Vec<u8>, LabError> {
    let bytes = fs::read(program).map_err(LabError::file(program))?;
    let unfit = |fault: String| LabError::NotForNodes { program: program.to_owned(), fault };
    match is_static(&bytes) {
        Ok(true) => Ok(bytes),
        Ok(false) => Err(unfit("is not static: start the lab with cargo".to_owned())),
        Err(error) => Err(unfit(error.to_string())),
    }
}

/// A static program asks for no interpreter.
fn is_static(bytes: &[u8]) -> Result<bool, object::Error> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    Ok(segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP))
}

fn start_time(program: &Path) -> Result<Duration, LabError> {
    let mut times = Vec::new();
    for _ in 0..START_RUNS {
        let begin = Instant::now();
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = command.output().map_err(LabError::file(program))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let fault = format!("does not start: {}, {}", output.status, said.trim());
            return Err(LabError::NotForNodes { program: program.to_owned(), fault });
        }
        times.push(begin.elapsed().as_secs_f64());
    }
    let median = Spread::of(times).map_or(0.0, |spread| spread.median);
    Ok(Duration::from_secs_f64(median))
}

fn rustc(arguments: &[&str]) -> Result<String, LabError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).stderr(Stdio::null()).output();
    let output = output.map_err(LabError::file(Path::new("rustc")))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether rustc has the standard library for a target.
fn is_installed(triple: &str) -> Result<bool, LabError> {
    let dir = rustc(&["--print", "target-libdir", "--target", triple])?;
    Ok(!dir.is_empty() && Path::new(&dir).is_dir())
}

fn is_program(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests are linked dynamically here, and this one asks for its interpreter.
    #[test]
    fn this_test_is_not_static() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(is_static(&this).unwrap(), cfg!(target_feature = "crt-static"));
        assert!(is_static(b"#!/bin/sh\n").is_err());
    }
}
