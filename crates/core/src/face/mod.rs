//! What a person sees and types: terminals, clap.
//!
//! | module | job |
//! |---|---|
//! | [`run`] | from a command line to an exit code |
//! | [`options`] | the command lines of clients and server |
//! | `console` | whom everything is told; notes that tasks advance |
//! | `screen`, `printer`, [`bars`] | the thread that shows what is told |
//! | `event_file` | the thread that writes `--events` |
//! | `logger` | log lines as Python's `logging` prints them |
//! | [`script_lines`] | the scripts' lines, as Python prints values |

pub mod bars;
mod console;
mod event_file;
mod logger;
pub mod options;
mod printer;
pub mod run;
mod screen;
pub mod script_lines;
