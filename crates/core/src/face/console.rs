//! The observer of all events of a process: it notes which tasks advance, and hands events to the
//! threads that write and print them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel;

use super::bars::Bars;
use super::event_file::{EventFile, EventFileError};
use super::logger;
use super::options::{ColorChoice, ConsoleOptions};
use super::printer::{Printer, PrinterOptions};
use super::screen::{Message, Screen, ScreenError};
use crate::client::activity::Activity;
use crate::event::{Event, EventKind, Observer, Progress};
use crate::visible::escaped_lines;

/// The reason why a console cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// The event file cannot be created.
    #[error(transparent)]
    EventFile(#[from] EventFileError),
    /// A thread that prints or writes cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// The longest wait at the end of the process until standard error has taken a message.
const LAST_MESSAGE_TIMEOUT: Duration = Duration::from_millis(500);

/// Prints an error on standard error from a thread of its own: nobody may read standard error.
pub(super) fn say_last_error(error: &dyn Display) {
    say_last("error", error);
}

fn say_last(label: &str, message: &dyn Display) {
    // An error in a list of URLs shows the line of the list below it.
    let text = format!("{label}: {}\n", escaped_lines(&message.to_string()));
    let (said, is_said) = channel::bounded(1);
    let say = move || {
        // If standard error cannot be written to, no other place is left for the message.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = said.send(());
    };
    if thread::Builder::new().spawn(say).is_ok() {
        let _ = is_said.recv_timeout(LAST_MESSAGE_TIMEOUT);
    }
}

/// The console of a process, with the threads that write the event file and that print.
pub(crate) struct Console {
    activity: Arc<Activity>,
    event_file: Option<EventFile>,
    is_verbose: bool,
    screen: Screen,
}

impl Console {
    /// Starts the threads. `dumps` is the server's option `--dump`.
    pub(crate) fn new(options: &ConsoleOptions, dumps: bool) -> Result<Self, ConsoleError> {
        let is_terminal = io::stderr().is_terminal();
        let has_color = match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        let bars = Bars::new(is_terminal && !options.no_progress && !options.quiet);
        let is_stdout_taken = options.events.as_deref().is_some_and(|path| path.as_os_str() == "-");
        let printer_options =
            PrinterOptions { is_stdout_taken, is_quiet: options.quiet, has_color, dumps };
        let is_verbose = options.verbose > 0;
        let event_file = options.events.as_deref().map(EventFile::create).transpose()?;
        let screen =
            Screen::start(Printer::new(bars, printer_options)).map_err(ConsoleError::Thread)?;
        logger::init(options, screen.log_writer());
        Ok(Self { activity: Arc::default(), event_file, is_verbose, screen })
    }

    /// Returns the record of when each task last advanced.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Prints one of the Python scripts' lines.
    pub(crate) fn line(&self, text: String) {
        self.screen.show(Message::Line(text));
    }

    /// Prints a note on standard error that is not an error.
    pub(crate) fn note(&self, text: String) {
        self.screen.show(Message::Note(text));
    }

    /// Prints a warning.
    pub(crate) fn warn(&self, text: String) {
        self.screen.show(Message::Warning(text));
    }

    /// Prints an error message.
    pub(crate) fn complain(&self, text: String) {
        self.screen.show(Message::Complaint(text));
    }

    /// Waits until all events are written and all messages are printed, and returns the exit code
    /// of the process. With `patience`, waiting ends when nothing could be printed for that time.
    pub(crate) fn finish(&self, is_success: bool, patience: Option<Duration>) -> ExitCode {
        let mut is_success = is_success;
        let written = self.event_file.as_ref().map_or(Ok(()), |file| file.finish(patience));
        if let Err(error) = written {
            is_success = false;
            say_last_error(&error);
        }
        match self.screen.finish(patience) {
            Ok(()) => {}
            // The exit code tells of the files.
            Err(error @ ScreenError::Unread(_)) => say_last("warning", &error),
            Err(error @ ScreenError::Panicked) => {
                is_success = false;
                say_last_error(&error);
            }
        }
        if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Observer for Console {
    fn is_recording(&self) -> bool {
        self.event_file.is_some() || self.is_verbose
    }

    fn event(&self, event: Event) {
        if let Some(task) = &event.task {
            self.activity.note(task, matches!(event.kind, EventKind::DownloadStarted));
        }
        let event = Arc::new(event);
        if let Some(file) = &self.event_file {
            file.write(&event);
        }
        if self.is_verbose || !event.kind.is_only_recorded() {
            self.screen.show(Message::Event(event));
        }
    }

    fn progress(&self, progress: Progress) {
        self.activity.note(&progress.task, false);
        self.screen.show(Message::Progress(progress));
    }
}
