//! Log lines in the format of Python's `logging`: `WARNING:root:…`.

use std::io::Write;

use log::LevelFilter;

use super::options::ConsoleOptions;

/// The target of the Python scripts' log line. `RUST_LOG` does not switch it off: the line is
/// output, not a log of this program.
pub(super) const ROOT: &str = "root";

/// Sends log lines to `writer`. `RUST_LOG` sets the level, or else `-q` and `-v` do.
pub(super) fn init(options: &ConsoleOptions, writer: impl Write + Send + 'static) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let root = if options.quiet { LevelFilter::Error } else { LevelFilter::Warn };
    let logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .filter_module(ROOT, root)
        .format(|out, record| {
            let level = match record.level() {
                log::Level::Warn => "WARNING",
                other => other.as_str(),
            };
            writeln!(out, "{level}:{}:{}", record.target(), record.args())
        })
        .target(env_logger::Target::Pipe(Box::new(writer)))
        .try_init();
    // This can fail only for a second console in one process.
    debug_assert!(logger.is_ok());
}
