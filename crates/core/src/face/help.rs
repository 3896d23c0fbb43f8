//! The command lines with their help: each client names its style, and shows the options that it
//! has.

use std::path::Path;

use clap::{Command, CommandFactory};

use super::options::{ClientOptions, ServerOptions};
use crate::event::Style;

/// Returns the name that this program was started by, or `usual` if there is none.
pub(super) fn program_name(usual: &str) -> String {
    let name = std::env::args_os().next();
    let name = name.as_deref().and_then(|name| Path::new(name).file_name()?.to_str());
    name.filter(|name| !name.is_empty()).unwrap_or(usual).to_owned()
}

fn named(command: Command, name: &str) -> Command {
    command.display_name(name.to_owned()).bin_name(name.to_owned())
}

/// The command line of the server under the name `name`.
#[must_use]
pub fn server_command(name: &str) -> Command {
    named(ServerOptions::command().name("server"), name).after_help(format!(
        "Examples:\n  \
         {name} --dir received                          take what is broadcast to port 5005\n  \
         {name} --dir received --exit-after 4           stop after four files\n  \
         {name} --bind 0.0.0.0:6000 --group 239.1.2.3   another port, a multicast group\n\n\
         Exit codes: 0 stopped by a signal or after --exit-after, 1 it cannot run or lost a \
         record, 2 usage.\nAn option that shows [env: SIAR_…] can also be set in the environment."
    ))
}

/// The command line of a client in `style` under the name `name`.
#[must_use]
pub fn client_command(style: Style, name: &str) -> Command {
    let command = named(ClientOptions::command().name(style.name()), name)
        .about(about(style))
        .after_help(format!(
            "Examples:\n  \
         {name} https://example.org/a.png ./disk.img   send a download and a file that is here\n  \
         {name} --servers 2 --urls list.toml           wait for two servers\n  \
         {name} --target 192.168.122.255 --delay 0     one network, no simulated work\n\n\
         Exit codes: 0 every file confirmed by every server that joined, 1 something was not, \
         2 usage.\nAn option that shows [env: SIAR_…] can also be set in the environment."
        ));
    match style {
        Style::MpAsync => command.mut_arg("workers", |workers| {
            workers.help("Largest number of worker processes at once [default: 20]")
        }),
        Style::MtAsync => {
            command.mut_arg("workers", |workers| workers.help("Number of threads [default: 4]"))
        }
        Style::Mp | Style::Mt => command
            .mut_arg("workers", |workers| workers.hide(true))
            .mut_arg("timeout", |timeout| timeout.hide(true)),
    }
}

fn about(style: Style) -> String {
    let concurrency = match style {
        Style::Mp => {
            "one child process for each file, as multi_process.py does with multiprocessing.Process"
        }
        Style::Mt => "one thread for each file, as multi_thread.py does with threading.Thread",
        Style::MpAsync => {
            "in a pool of worker processes, as multi_process_async.py does with multiprocessing.Pool"
        }
        Style::MtAsync => {
            "in a pool of threads, as multi_thread_async.py does with ThreadPoolExecutor"
        }
    };
    format!(
        "Download files over HTTP(S), or read local files, and broadcast each of them over UDP to \
         every server: {concurrency}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(style: Style) -> String {
        client_command(style, style.name()).render_help().to_string()
    }

    #[test]
    fn each_client_shows_its_own_options_and_examples() {
        for (style, script) in [
            (Style::Mp, "multi_process.py"),
            (Style::Mt, "multi_thread.py"),
            (Style::MpAsync, "multi_process_async.py"),
            (Style::MtAsync, "multi_thread_async.py"),
        ] {
            let help = help(style);
            client_command(style, "siar").debug_assert();
            assert!(help.contains(script) && help.contains("Examples:"), "{help}");
            let has_pool = matches!(style, Style::MpAsync | Style::MtAsync);
            assert_eq!(help.contains("--workers"), has_pool, "{help}");
            assert_eq!(help.contains("--timeout"), has_pool, "{help}");
        }
    }
}
