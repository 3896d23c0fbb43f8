//! The program `observe`: it runs a client or a server on a node and records processes or
//! packets.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use clap::{Parser, Subcommand};
use observe::{Capture, ProcessWatch, packet_socket};

/// Runs a program and records its processes or the packets that reach its node; the program's
/// process id goes into DIR/pid.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    watched: Watched,
}

#[derive(Debug, Subcommand)]
enum Watched {
    /// Run a client; record its processes and threads in DIR/client.processes
    Client(Run),
    /// Run a server; record the packets that reach its node in DIR/packets.pcap
    Server(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Folder for the record
    dir: PathBuf,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Options::parse().watched {
        Watched::Client(run) => client(&run),
        Watched::Server(run) => server(&run),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn client(run: &Run) -> io::Result<ExitCode> {
    fs::create_dir_all(&run.dir)?;
    let mut child = spawn(run)?;
    let path = run.dir.join("client.processes");
    let watch = ProcessWatch::start(child.id(), &path).inspect_err(|_| end(&mut child));
    let watch = watch.map_err(about(&path))?;
    let status = child.wait()?;
    watch.stop().map_err(about(&path))?;
    Ok(exit_code(status))
}

fn server(run: &Run) -> io::Result<ExitCode> {
    fs::create_dir_all(&run.dir)?;
    let path = run.dir.join("packets.pcap");
    let capture = packet_socket().and_then(|socket| Capture::start(socket, &path));
    let capture = capture.map_err(about(&path))?;
    let status = spawn(run)?.wait()?;
    capture.stop().map_err(about(&path))?;
    Ok(exit_code(status))
}

/// Starts the program and writes its process id into a file, by which the lab can end it.
fn spawn(run: &Run) -> io::Result<Child> {
    let child = Command::new(&run.command[0]).args(&run.command[1..]).spawn();
    let mut child = child.map_err(about(&run.command[0]))?;
    let path = run.dir.join("pid");
    let noted = fs::write(&path, child.id().to_string()).inspect_err(|_| end(&mut child));
    noted.map_err(about(&path))?;
    Ok(child)
}

/// Ends a program that cannot be recorded.
fn end(child: &mut Child) {
    // The program may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn about(what: impl AsRef<Path>) -> impl FnOnce(io::Error) -> io::Error {
    let what = what.as_ref().to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", what.display()))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
