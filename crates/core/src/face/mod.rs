//! The user interface: the terminal and the command line (clap).
//!
//! | module | job |
//! |---|---|
//! | [`run`] | from a command line to an exit code |
//! | [`options`], `help` | the command lines of clients and server; the help of each client |
//! | [`values`] | durations, sizes and rates on a command line |
//! | `console` | the observer of all events; it notes which tasks advance |
//! | `screen`, `printer`, [`bars`] | the thread that prints, and its output |
//! | `event_file` | the thread that writes `--events` |
//! | `logger` | log lines as Python's `logging` prints them |
//! | [`script_lines`] | the Python scripts' lines, with values as Python prints them |

pub mod bars;
mod console;
mod event_file;
pub mod help;
mod logger;
pub mod options;
mod printer;
pub mod run;
mod screen;
pub mod script_lines;
pub mod values;
