//! The receiver, one binary for every server node: `udpserver_broadcast.py` and
//! `udpserver_broadcast2.py`.

use std::process::ExitCode;

fn main() -> ExitCode {
    siar_core::run_server()
}
