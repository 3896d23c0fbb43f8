//! The receiver, one binary for every server node: the seed's `udpserver_broadcast.py` and
//! `udpserver_broadcast2.py`.

use std::process::ExitCode;

use siar_core::run::run_server;

fn main() -> ExitCode {
    run_server()
}
