//! The program of `cargo lab doctor`.

use std::convert::Infallible;
use std::process::ExitCode;

use clap::Parser;
use gns3::doctor::{Health, Purpose, examine, text};
use gns3::options::ServerOptions;
use stage::tool;

/// Checks that this machine has what the lab and GNS3 need, and says how to get what is missing.
#[derive(Debug, Parser)]
#[command(name = "cargo lab doctor", bin_name = "cargo lab doctor", version = siar_core::VERSION)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

fn main() -> ExitCode {
    let options = Options::parse().server;
    tool::run(|| Ok::<_, Infallible>(doctor(&options)))
}

/// Prints the findings. The exit code is 1 if the lab cannot do its main job on this machine.
fn doctor(options: &ServerOptions) -> ExitCode {
    let findings = examine(&options.server, &options.user, &options.password);
    print!("{}", text(&findings));
    let mut of_lab = findings.iter().filter(|found| found.purpose == Purpose::Lab);
    tool::verdict(of_lab.all(|found| found.health != Health::Ill))
}
