//! The commands `cargo lab shell` and, inside that shell, `lab on`.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use stage::gateway::Gateway;
use stage::namespace::{Namespace, become_lab_root};
use stage::network::Network;
use stage::node::{self, NODES, Node};
use stage::programs::Programs;
use stage::samples::samples;
use stage::{StageError, tool};

/// The environment variable that tells `lab on` the paths of the nodes' namespaces:
/// `NODE=PATH`, separated by colons.
const NODES_VARIABLE: &str = "SIAR_LAB_NODES";

/// Opens a shell on a node of a fresh lab. The lab and its processes end with the shell.
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
         \x20 lab on alpine-2 server --dir two &\n\
         \x20 lab on alpine-3 server --dir three &\n\
         \x20 lab on alpine-1 mt-async --urls urls.toml --servers 2\n\
         The lab, and what runs in it, ends with this shell.",
        node.name, node.address
    );
    let mut command = with_prompt(&shell, node, &dir)?;
    command
        .current_dir(&dir)
        .env("PATH", format!("{}:{search}", programs.dir().display()))
        .env(NODES_VARIABLE, paths);
    let status = network
        .spawn(node, &mut command)
        .and_then(|mut child| child.wait())
        .map_err(StageError::file(Path::new(&shell)))?;
    network.end_processes().map_err(StageError::file(Path::new("/proc")))?;
    Ok(tool::exit_code(status))
}

/// A shell whose prompt names the node. The user's start-up file may set another prompt, so that
/// ours is set after it.
fn with_prompt(shell: &str, node: Node, dir: &Path) -> Result<Command, StageError> {
    let mut command = Command::new(shell);
    let start_up = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(StageError::file(&path))?;
        path.canonicalize().map_err(StageError::file(&path))
    };
    let name = node.name;
    match Path::new(shell).file_name().and_then(|shell| shell.to_str()) {
        Some("bash") => {
            let text = format!("[ -f ~/.bashrc ] && . ~/.bashrc\nPS1='{name}:\\w# '\n");
            command.arg("--rcfile").arg(start_up(".shell-rc", text)?);
        }
        Some("zsh") => {
            let text = format!("[ -f ~/.zshrc ] && . ~/.zshrc\nPROMPT='{name}:%~# '\n");
            let path = start_up(".zshrc", text)?;
            command.env("ZDOTDIR", path.parent().unwrap_or(dir));
        }
        Some("fish") => {
            let prompt = format!("function fish_prompt; echo -n '{name}:'(prompt_pwd)'# '; end");
            command.args(["-C", &prompt]);
        }
        _ => {
            command.env("PS1", format!("{name}:$PWD# "));
        }
    }
    Ok(command)
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
