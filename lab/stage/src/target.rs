//! Static programs, which run on any Linux node: the processors for which this machine can build
//! them, and a check that a file is static.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::StageError;
use crate::programs::package_dir;

/// The way in which this machine builds static programs for one processor architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTarget {
    arch: &'static str,
    triple: String,
    /// The linker, which compiles C sources too; `None`: the system's.
    compiler: Option<String>,
    is_musl: bool,
    is_native: bool,
}

impl NodeTarget {
    /// The target for this machine's processor.
    ///
    /// # Errors
    /// `rustc` cannot be run, or the lab cannot build for this processor.
    pub fn native() -> Result<Self, StageError> {
        let native = Self::all()?.into_iter().find(|target| target.is_native);
        native.ok_or_else(|| StageError::MissingProgram {
            program: "a Rust target for this processor".to_owned(),
            remedy: "the lab builds for x86_64 and aarch64",
        })
    }

    /// All targets that this machine can build for.
    ///
    /// # Errors
    /// `rustc` cannot be run.
    pub fn all() -> Result<Vec<Self>, StageError> {
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

    /// The target triple, as rustc names it.
    #[must_use]
    pub fn triple(&self) -> &str {
        &self.triple
    }

    /// The processor architecture, as rustc names it.
    #[must_use]
    pub fn arch(&self) -> &'static str {
        self.arch
    }

    /// Whether this machine's processor has the architecture.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.is_native
    }

    /// Sets the variables by which cargo builds for the target.
    pub(crate) fn prepare(&self, command: &mut Command) {
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        // In a static program getrandom cannot look the function up in glibc, and a bare node may
        // have no /dev/urandom; the system call needs neither.
        let random = "--cfg getrandom_backend=\"linux_getrandom\"";
        // The programs are the same wherever they are built, and tell nothing of the place.
        let mut paths = String::new();
        for (from, to) in [(workspace(), "/siar"), (cargo_home(), "/cargo")] {
            if let Some(from) = from {
                paths.push_str(&format!(" --remap-path-prefix={from}={to}"));
            }
        }
        // A program at any address has thousands of relocations; packed, they take a fiftieth.
        let relocations = match self.is_native && !self.is_musl && knows_packed_relocations() {
            true => "-C link-arg=-Wl,-z,pack-relative-relocs ",
            false => "",
        };
        let flags = format!("{flags} -C target-feature=+crt-static {relocations}{random}{paths}");
        command.env("RUSTFLAGS", flags);
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

/// Reads a program and checks that it is static, so that it runs on any node.
///
/// # Errors
/// The file cannot be read, or is no static ELF program.
pub fn read_static(program: &Path) -> Result<Vec<u8>, StageError> {
    let bytes = fs::read(program).map_err(StageError::file(program))?;
    let unfit = |fault: String| StageError::NotForNodes { program: program.to_owned(), fault };
    match is_static(&bytes) {
        Ok(true) => Ok(bytes),
        Ok(false) => Err(unfit("is not static: start the lab with cargo".to_owned())),
        Err(error) => Err(unfit(error.to_string())),
    }
}

/// Whether an ELF program is static: it then asks for no interpreter.
fn is_static(bytes: &[u8]) -> Result<bool, object::Error> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    Ok(segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP))
}

fn rustc(arguments: &[&str]) -> Result<String, StageError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).stderr(Stdio::null()).output();
    let output = output.map_err(StageError::file(Path::new("rustc")))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether rustc has the standard library for a target.
fn is_installed(triple: &str) -> Result<bool, StageError> {
    let dir = rustc(&["--print", "target-libdir", "--target", triple])?;
    Ok(!dir.is_empty() && Path::new(&dir).is_dir())
}

/// The workspace's path, unless the flags of rustc cannot hold it.
fn workspace() -> Option<String> {
    let path = package_dir().join("../..").canonicalize().ok()?;
    flag(&path)
}

/// The path of cargo's folder, with the sources of dependencies.
fn cargo_home() -> Option<String> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cargo"));
    flag(&std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)?)
}

fn flag(path: &Path) -> Option<String> {
    path.to_str().filter(|path| !path.contains([' ', '='])).map(str::to_owned)
}

/// Whether this machine's glibc knows packed relocations (`DT_RELR`), as of 2.36: a static program
/// with an older one would end at its start.
fn knows_packed_relocations() -> bool {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").stdin(Stdio::null()).output();
    output.is_ok_and(|output| has_packed_relocations(&String::from_utf8_lossy(&output.stdout)))
}

/// Whether glibc of this version, such as `glibc 2.36`, knows packed relocations.
fn has_packed_relocations(version: &str) -> bool {
    let numbers = version.trim().strip_prefix("glibc ").and_then(|text| text.split_once('.'));
    numbers.is_some_and(|(major, minor)| {
        let minor = minor.split('.').next().unwrap_or_default();
        let version = (major.parse::<u32>(), minor.parse::<u32>());
        matches!(version, (Ok(2), Ok(36..)) | (Ok(3..), Ok(_)))
    })
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

    #[test]
    fn relocations_are_packed_where_glibc_unpacks_them() {
        for (version, packs) in [
            ("glibc 2.36\n", true),
            ("glibc 2.35", false),
            ("glibc 2.41.9000", true),
            ("glibc 3.0", true),
            ("musl 1.2", false),
            ("", false),
        ] {
            assert_eq!(has_packed_relocations(version), packs, "{version}");
        }
    }

    /// This test program is linked dynamically, unless `crt-static` is set.
    #[test]
    fn this_test_is_not_static() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(is_static(&this).unwrap(), cfg!(target_feature = "crt-static"));
        assert!(is_static(b"#!/bin/sh\n").is_err());
    }
}
