//! The commands `cargo lab shell` and, inside that shell, `lab on`.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use stage::gateway::Gateway;
use stage::namespace::{Namespace, become_lab_root};
use stage::network::Network;
use stage::node::{self, NODES};
use stage::programs::Programs;
use stage::samples::samples;
use stage::{StageError, tool};

/// The environment variable that tells `lab on` the paths of the nodes' namespaces:
/// `NODE=PATH`, separated by colons.
const NODES_VARIABLE: &str = "SIAR_LAB_NODES";

/// Opens a shell on a node of a fresh lab; the lab ends with the shell.
pub(crate) fn shell(node: &str, out: &Path) -> Result<ExitCode, StageError> {
    let node = node::find(node)?;
    let programs = Programs::build()?;
    become_lab_root().map_err(StageError::Namespace)?;
    let network = Network::namespaces()?;
    let samples = Arc::new(samples()?);
    let gateway = Gateway::start(&network, Arc::clone(&samples))?;
    let dir = out.join("shell").join(node.name);
    fs::create_dir_all(&dir).map_err(StageError::file(&dir))?;
    let url_list = dir.join("urls.toml");
    fs::write(&url_list, gateway.url_list(&samples)).map_err(StageError::file(&url_list))?;

    let paths = NODES.iter().filter_map(|node| {
        let path = network.namespace(*node)?.path();
        Some(format!("{}={}", node.name, path.display()))
    });
    let paths = paths.collect::<Vec<_>>().join(":");
    let search = std::env::var("PATH").unwrap_or_default();
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    println!(
        "A shell on {} ({}). mp, mt, mp-async, mt-async, server and lab are in its PATH; \
         urls.toml lists the gateway's files. For example:\n\
         \x20 lab on alpine-2 sh -c 'mkdir -p two && server --dir two' &\n\
         \x20 lab on alpine-3 sh -c 'mkdir -p three && server --dir three' &\n\
         \x20 lab on alpine-1 mt-async --urls urls.toml --servers 2\n\
         The lab ends with this shell.",
        node.name, node.address
    );
    let mut command = Command::new(&shell);
    command
        .current_dir(&dir)
        .env("PATH", format!("{}:{search}", programs.dir().display()))
        .env("PS1", format!("{}:\\w# ", node.name))
        .env(NODES_VARIABLE, paths);
    let status = network
        .spawn(node, &mut command)
        .and_then(|mut child| child.wait())
        .map_err(StageError::file(Path::new(&shell)))?;
    Ok(tool::exit_code(status))
}

/// Runs a command on another node of the shell's lab.
pub(crate) fn on(node: &str, command: &[String]) -> Result<ExitCode, StageError> {
    let node = node::find(node)?;
    let outside = || StageError::MissingProgram {
        program: format!("the lab of {}", node.name),
        remedy: "`lab on` works inside `cargo lab shell`",
    };
    let nodes = std::env::var(NODES_VARIABLE).map_err(|_| outside())?;
    let path = nodes
        .split(':')
        .find_map(|entry| entry.strip_prefix(node.name)?.strip_prefix('='))
        .ok_or_else(outside)?;
    let namespace = Namespace::open(path).map_err(StageError::Namespace)?;
    let program = Path::new(&command[0]);
    let status = namespace
        .enter(|| Command::new(program).args(&command[1..]).spawn())
        .and_then(|mut child| child.wait())
        .map_err(StageError::file(program))?;
    Ok(tool::exit_code(status))
}
