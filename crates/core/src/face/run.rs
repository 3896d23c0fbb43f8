//! The run of a client or of the server, from the command line to the exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Command, Parser};
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

use super::console::{Console, ConsoleError, say_last_error};
use super::help::{client_command, program_name, server_command};
use super::options::{ClientOptions, ConsoleOptions, ServerOptions};
use super::script_lines;
use crate::client::activity::TaskTimeout;
use crate::client::fetch::NOT_RESOLVED;
use crate::client::shown_url::shown_url;
use crate::client::task::TaskConfig;
use crate::client::turns;
use crate::client::urls::Task;
use crate::client::worker::Job;
use crate::event::{Event, EventKind, Observer, Style, TaskVoice};
use crate::io::net::close_idle_sockets;
use crate::io::store::{make_dir, remove_abandoned_files};
use crate::lock::lock;
use crate::server::{Check, ask_if_ready, check, receive};

/// The longest wait of a server that is told to stop until its output is read.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);

/// What a user without internet can do.
const NO_INTERNET: &str = "no host's name could be looked up: is this machine on the internet? \
    Without internet, `cargo lab` runs all styles in a network of its own, and `cargo lab serve` \
    offers files on this machine";

/// One client run: its tasks, their common configuration, and the observer of their events.
pub struct Run {
    style: Style,
    options: ClientOptions,
    tasks: Vec<Task>,
    config: Arc<TaskConfig>,
    console: Arc<Console>,
    started: Timestamp,
    results: Mutex<Vec<(String, Option<Duration>)>>,
    /// The number of tasks whose host has no address that could be found.
    unresolved: AtomicUsize,
}

/// Parses the command line, lets `body` run the tasks in its style, and returns the exit code.
pub fn run_client(style: Style, body: impl FnOnce(&Run)) -> ExitCode {
    if let Err(error) = end_at_signals_as_first_process() {
        say_last_error(&format!("signals cannot be handled: {error}"));
        return ExitCode::FAILURE;
    }
    let name = program_name(style.name());
    let options: ClientOptions = parsed(client_command(style, &name));
    if let Some(done) = completions(&options.console, || client_command(style, &name)) {
        return done;
    }
    let tasks = match options.tasks() {
        Ok(tasks) => tasks,
        Err(error) => return usage_error(&error),
    };
    if let Some(fault) = options.key_fault() {
        return usage_error(&fault);
    }
    let console = match Console::new(&options.console, false) {
        Ok(console) => Arc::new(console),
        Err(error) => return console_error(&error),
    };
    if !prepare_dir(&options.dir, &console) {
        return console.finish(false, None);
    }
    remove_abandoned_files(&options.dir);
    warn_of_foreign_options(style, &options, &console);
    let concurrent = match style {
        Style::Mp | Style::Mt => tasks.len(),
        Style::MpAsync | Style::MtAsync => tasks.len().min(options.worker_count(style)),
    };
    let keeps_open = match style {
        // Each process runs one task only: it has no next task to keep a connection for.
        Style::Mp => false,
        Style::Mt | Style::MtAsync => tasks.len() > concurrent.min(turns::FIRST_LIMIT),
        Style::MpAsync => tasks.len() > concurrent,
    };
    let config = Arc::new(options.task_config(concurrent, keeps_open));
    let (started, results) = (Timestamp::now(), Mutex::default());
    let unresolved = AtomicUsize::new(0);
    let run = Run { style, options, tasks, config, console, started, results, unresolved };
    run.tell(EventKind::RunStarted, None);
    body(&run);
    close_idle_sockets();
    run.advise();
    run.console.finish(run.failed_count() == 0, None)
}

impl Run {
    /// Returns the tasks, in the order of the list.
    #[must_use]
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Prints the Python scripts' line for a task that begins (`multi_process.py`, line 15).
    pub fn print_downloading(&self, task: &Task) {
        self.tell(EventKind::TaskQueued { url: shown_url(&task.url) }, Some(&task.name));
    }

    /// Prints the Python scripts' last line, after all results (`multi_process.py`, line 27).
    pub fn print_total(&self) {
        let seconds = Timestamp::now().duration_since(self.started).as_secs_f64();
        let failed = self.failed_count();
        self.tell(EventKind::RunFinished { seconds, failed }, None);
    }

    /// Prints the results as a Python dictionary under `heading` (`multi_process_async.py`, lines
    /// 28 and 29).
    pub fn print_results(&self, heading: &str) {
        let results = lock(&self.results);
        let results = results.iter().map(|(name, took)| (name.as_str(), *took));
        self.console.line(heading.to_owned());
        self.console.line(script_lines::results_dict(results));
    }

    /// Returns the configuration that all tasks share.
    #[must_use]
    pub fn config(&self) -> Arc<TaskConfig> {
        Arc::clone(&self.config)
    }

    /// Returns the largest number of workers at once (async styles).
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.options.worker_count(self.style)
    }

    /// Returns how long the run waits for the result of `task` (async styles).
    #[must_use]
    pub fn timeout(&self, task: &Task) -> TaskTimeout {
        TaskTimeout::new(self.console.activity(), &task.name, self.options.timeout)
    }

    /// Returns the job by which a worker process runs `task`.
    #[must_use]
    pub fn job(&self, task: &Task) -> Job {
        let config = TaskConfig::clone(&self.config);
        let is_recorded = self.console.is_recording();
        Job::new(self.style, task.clone(), config, is_recorded)
    }

    /// Returns the voice by which `task` reports events, wherever it runs.
    #[must_use]
    pub fn voice(&self, task: &Task) -> TaskVoice {
        TaskVoice::new(self.style, &task.name, self.observer())
    }

    /// Returns the observer of all events.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.console) as Arc<dyn Observer>
    }

    /// Keeps a task's result, in the order of these calls, and reports a failure.
    pub fn collect<E: Display>(&self, task: &Task, result: Result<Duration, E>) {
        let took = match result {
            Ok(took) => Some(took),
            Err(error) => {
                let error = error.to_string();
                if error.contains(NOT_RESOLVED) {
                    self.unresolved.fetch_add(1, Ordering::Relaxed);
                }
                self.tell(EventKind::TaskFailed { error }, Some(&task.name));
                None
            }
        };
        lock(&self.results).push((task.name.clone(), took));
    }

    /// Says what to do if no name could be looked up: most often there is no internet.
    fn advise(&self) {
        let results = lock(&self.results);
        let unresolved = self.unresolved.load(Ordering::Relaxed);
        if unresolved > 0 && unresolved == results.len() {
            self.console.note(NO_INTERNET.to_owned());
        }
    }

    fn failed_count(&self) -> usize {
        lock(&self.results).iter().filter(|(_, took)| took.is_none()).count()
    }

    fn tell(&self, kind: EventKind, task: Option<&str>) {
        let task = task.map(str::to_owned);
        self.console.event(Event { style: Some(self.style), task, ..Event::now(kind) });
    }
}

/// Parses the command line, receives until the server is stopped, and returns the exit code.
pub fn run_server() -> ExitCode {
    let name = program_name("server");
    let mut options: ServerOptions = parsed(server_command(&name));
    let mut events = None;
    if options.check || options.is_ready {
        // The event file of the environment is that of a running server: it must not be emptied.
        events = options.console.events.take();
    }
    if let Some(done) = completions(&options.console, || server_command(&name)) {
        return done;
    }
    if let Some(conflict) = options.conflict() {
        return usage_error(&conflict);
    }
    let console = match Console::new(&options.console, options.dump) {
        Ok(console) => console,
        Err(error) => return console_error(&error),
    };
    if options.is_ready {
        let answer =
            ask_if_ready(options.bind, options.interface.as_ref(), options.key_file.as_deref());
        match &answer {
            Ok(address) => console.line(format!("the server at {address} answers")),
            Err(error) => console.complain(error.to_string()),
        }
        return console.finish(answer.is_ok(), Some(SERVER_PATIENCE));
    }
    if !prepare_dir(&options.dir, &console) {
        return console.finish(false, Some(SERVER_PATIENCE));
    }
    if options.check {
        return check_server(&options, events.as_deref(), &console);
    }
    let result = receive(&options.receive_config(), &console);
    match &result {
        Ok(summary) => {
            let bytes = bytesize::ByteSize::b(summary.bytes).display().iec();
            let mut text = format!("{} files received, {bytes}", summary.files);
            if summary.failed > 0 {
                text.push_str(&format!(", {} transfers failed", summary.failed));
            }
            console.note(text);
        }
        Err(error) => console.complain(error.to_string()),
    }
    console.finish(result.is_ok(), Some(SERVER_PATIENCE))
}

/// Prints what the server could receive.
fn check_server(options: &ServerOptions, events: Option<&Path>, console: &Console) -> ExitCode {
    let Check { found, warnings, mut faults } = check(&options.receive_config());
    let folder = events.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        faults.push(format!("there is no folder {} for the event file", folder.display()));
    }
    for (subject, description) in found {
        console.line(format!("{subject:<11} {description}"));
    }
    for warning in warnings {
        console.warn(warning);
    }
    let is_able = faults.is_empty();
    for fault in faults {
        console.complain(fault);
    }
    console.finish(is_able, Some(SERVER_PATIENCE))
}

/// Lets SIGINT, SIGTERM, SIGHUP and SIGQUIT end the process if it is the first one of a container: there
/// the system ignores a signal that has no handler.
fn end_at_signals_as_first_process() -> io::Result<()> {
    if std::process::id() == 1 {
        let always = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            // As a shell reports a process that a signal has ended.
            register_conditional_shutdown(signal, 128 + signal, Arc::clone(&always))?;
        }
    }
    Ok(())
}

/// Parses the command line by `command`; an error in it ends the process.
fn parsed<O: Parser>(command: Command) -> O {
    let matches = command.get_matches();
    O::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Makes the folder for files if it is missing. Returns `false`, after an error message, if that
/// fails.
fn prepare_dir(dir: &Path, console: &Console) -> bool {
    match make_dir(dir) {
        Ok(false) => true,
        Ok(true) => {
            console.note(format!("made the folder {}", dir.display()));
            true
        }
        Err(error) => {
            console.complain(format!("the folder {} cannot be made: {error}", dir.display()));
            false
        }
    }
}

/// Says which options have no effect in this style. They are no error: one list of options may
/// serve all styles.
fn warn_of_foreign_options(style: Style, options: &ClientOptions, console: &Console) {
    if matches!(style, Style::Mp | Style::Mt) && options.workers.is_some() {
        console
            .note(format!("{style} has no workers: each task runs at once, --workers is ignored"));
    }
}

fn completions(options: &ConsoleOptions, command: impl FnOnce() -> Command) -> Option<ExitCode> {
    let shell = options.completions?;
    let mut command = command();
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let mut script = Vec::<u8>::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    Some(print_text(&script))
}

/// Prints a whole text on standard output, and returns the exit code. A reader that closes the pipe
/// is no error.
pub fn print_text(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say_last_error(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn usage_error(error: &dyn Display) -> ExitCode {
    say_last_error(error);
    ExitCode::from(2)
}

/// Prints the error and returns the exit code. An event file that cannot be created is an error of
/// the command line; a thread that cannot be started is not.
fn console_error(error: &ConsoleError) -> ExitCode {
    match error {
        ConsoleError::EventFile(error) => usage_error(error),
        ConsoleError::Thread(_) => {
            say_last_error(error);
            ExitCode::FAILURE
        }
    }
}
