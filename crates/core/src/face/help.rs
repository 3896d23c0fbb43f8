//! The help of the four clients: each names its style, and shows the options that it has.

use clap::{Command, CommandFactory};

use super::options::ClientOptions;
use crate::event::Style;

/// The command line of a client in `style`.
pub(super) fn client_command(style: Style) -> Command {
    let name = style.name();
    let command = ClientOptions::command().name(name).about(about(style)).after_help(format!(
        "Examples:\n  \
         {name} https://example.org/a.png ./disk.img   send a download and a file that is here\n  \
         {name} --servers 2 --urls list.toml           wait for two servers\n  \
         {name} --target 192.168.122.255 --delay 0     one network, no simulated work\n\n\
         Exit codes: 0 every file confirmed by every server that joined, 1 something was not, \
         2 usage.\nEach option can also be set as SIAR_<OPTION> in the environment."
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
        client_command(style).render_help().to_string()
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
            client_command(style).debug_assert();
            assert!(help.contains(script) && help.contains("Examples:"), "{help}");
            let has_pool = matches!(style, Style::MpAsync | Style::MtAsync);
            assert_eq!(help.contains("--workers"), has_pool, "{help}");
            assert_eq!(help.contains("--timeout"), has_pool, "{help}");
        }
    }
}
