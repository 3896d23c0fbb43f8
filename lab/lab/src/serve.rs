//! The command `cargo lab serve`.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use stage::StageError;
use stage::gateway::Gateway;
use stage::samples::samples;

/// Offers the sample files on loopback until Enter or a signal. Without standard input it serves
/// until a signal.
pub(crate) fn serve(port: u16) -> Result<ExitCode, StageError> {
    let samples = Arc::new(samples()?);
    let gateway =
        Gateway::start_at(SocketAddr::from(([127, 0, 0, 1], port)), Arc::clone(&samples))?;
    println!("# a URL list: save it and give it to a client with --urls");
    print!("{}", gateway.url_list(&samples));
    eprintln!("serving until Enter or Ctrl-C");
    match io::stdin().read_line(&mut String::new()) {
        Ok(length) if length > 0 => Ok(ExitCode::SUCCESS),
        // Nobody can press Enter: standard input has ended, or cannot be read.
        _ => loop {
            thread::park();
        },
    }
}
