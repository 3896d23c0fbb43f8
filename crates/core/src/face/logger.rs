//! Log lines in the format of Python's `logging`: `WARNING:root:…`.

use std::io::Write;

use log::{Level, LevelFilter, Record};

use super::options::ConsoleOptions;
use crate::visible::escaped;

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
        .format(|out, record| writeln!(out, "{}", line(record)))
        .target(env_logger::Target::Pipe(Box::new(writer)))
        .try_init();
    // This can fail only for a second console in one process.
    debug_assert!(logger.is_ok());
}

/// Formats a record as one line, whatever the names and reasons in it: they may come from the
/// network.
fn line(record: &Record<'_>) -> String {
    let level = match record.level() {
        Level::Warn => "WARNING",
        other => other.as_str(),
    };
    let text = record.args().to_string();
    format!("{level}:{}:{}", escaped(record.target()), escaped(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_without_controls() {
        let name = "a\r\nWARNING:root:forged\u{1b}[2J\u{9b}31m\u{202e}\u{200b}.png";
        let told = line(
            &Record::builder()
                .level(Level::Warn)
                .target("siar_core")
                .args(format_args!("{name}: a replay"))
                .build(),
        );
        assert_eq!(
            told,
            "WARNING:siar_core:a\\r\\nWARNING:root:forged\\x1b[2J\\x9b31m\\u202e\\u200b.png: a replay"
        );
    }
}
