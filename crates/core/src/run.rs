//! From a command line to an exit code.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use jiff::Timestamp;

use crate::connections;
use crate::console::Console;
use crate::event::{Event, EventKind, Observer, Style, TaskVoice};
use crate::fetch::{give_turn_back, reserve_turn};
use crate::lock::lock;
use crate::net::close_idle_sockets;
use crate::options::{ClientOptions, ConsoleOptions, ServerOptions};
use crate::receive::receive;
use crate::store::remove_abandoned_files;
use crate::task::TaskConfig;
use crate::timing;
use crate::urls::Task;
use crate::watch::Watch;
use crate::worker::Job;

/// One client run: its tasks, what they have in common, and whom they tell.
pub struct Run {
    style: Style,
    options: ClientOptions,
    tasks: Vec<Task>,
    config: Arc<TaskConfig>,
    console: Arc<Console>,
    started: Timestamp,
    results: Mutex<Vec<(String, Option<Duration>)>>,
    watch: OnceLock<Watch>,
}

/// Parses the command line, lets `body` run the tasks in its style, prints the seed's total
/// and says how it went.
pub fn run_client(style: Style, body: impl FnOnce(&Run)) -> ExitCode {
    let options: ClientOptions = parsed(style.name());
    if let Some(done) = completions::<ClientOptions>(&options.console, style.name()) {
        return done;
    }
    let tasks = match options.tasks() {
        Ok(tasks) => tasks,
        Err(error) => return usage_error(&error),
    };
    if let Some(fault) = options.key_fault() {
        return usage_error(&fault);
    }
    let console = match Console::new(&options.console) {
        Ok(console) => Arc::new(console),
        Err(error) => return usage_error(&error),
    };
    remove_abandoned_files(&options.dir);
    let concurrent = match style {
        Style::Mp | Style::Mt => tasks.len(),
        Style::MpAsync | Style::MtAsync => tasks.len().min(options.worker_count(style)),
    };
    let more_follow = match style {
        // A process of its own for each task has no second one.
        Style::Mp => false,
        Style::Mt | Style::MtAsync => tasks.len() > concurrent.min(connections::AT_ONCE),
        Style::MpAsync => tasks.len() > concurrent,
    };
    let config = Arc::new(options.task_config(concurrent, more_follow));
    let started = Timestamp::now();
    let results = Mutex::default();
    let run =
        Run { style, options, tasks, config, console, started, results, watch: OnceLock::new() };
    run.tell(EventKind::RunStarted, None);
    body(&run);
    close_idle_sockets();
    run.finish()
}

impl Run {
    /// The tasks in the list's order. Asking for the next one queues it and prints the
    /// seed's `mendownload` line. Where each gets a thread, it is given out when its download
    /// can begin.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().inspect(|task| {
            if self.style == Style::Mt {
                reserve_turn(&task.url);
            }
            self.tell(EventKind::TaskQueued { url: task.url.clone() }, Some(&task.name));
        })
    }

    /// What all tasks have in common.
    #[must_use]
    pub fn config(&self) -> Arc<TaskConfig> {
        Arc::clone(&self.config)
    }

    /// Async styles: most workers at once.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.options.worker_count(self.style)
    }

    /// Async styles: a result is given up when its task has not advanced for this long.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// Resolves, to the reason, once `task` has not advanced for the run's timeout; until it
    /// has started, once no task has.
    pub fn stalled(&self, task: &Task) -> impl Future<Output = String> + Unpin + use<> {
        let watch = || Watch::start(Arc::clone(&self.console), self.options.timeout);
        self.watch.get_or_init(watch).stalled(&task.name)
    }

    /// What a worker process needs to know of `task`.
    #[must_use]
    pub fn job(&self, task: &Task) -> Job {
        let config = TaskConfig::clone(&self.config);
        let recorded = self.options.console.events.is_some();
        Job { style: self.style, task: task.clone(), config, recorded }
    }

    /// With what `task` tells what happens to it, wherever it runs.
    #[must_use]
    pub fn voice(&self, task: &Task) -> TaskVoice {
        TaskVoice::new(self.style, &task.name, self.observer())
    }

    /// Whom everything is told.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.console) as Arc<dyn Observer>
    }

    /// Keeps a task's result, in the order of these calls, and tells of a failure.
    pub fn collect<E: Display>(&self, task: &Task, result: Result<Duration, E>) {
        let took = match result {
            Ok(took) => Some(took),
            Err(error) => {
                let error = error.to_string();
                self.tell(EventKind::TaskFailed { error }, Some(&task.name));
                None
            }
        };
        lock(&self.results).push((task.name.clone(), took));
    }

    /// Keeps as `task`'s result that no thread could be started for it.
    pub fn collect_not_started(&self, task: &Task, error: &io::Error) {
        give_turn_back(&task.url);
        self.collect(task, Err(format!("cannot start a thread: {error}")));
    }

    fn tell(&self, kind: EventKind, task: Option<&str>) {
        let task = task.map(str::to_owned);
        self.console.event(Event { style: Some(self.style), task, ..Event::now(kind) });
    }

    fn finish(self) -> ExitCode {
        let results = std::mem::take(&mut *lock(&self.results));
        let failed = results.iter().filter(|(_, took)| took.is_none()).count();
        let seconds = Timestamp::now().duration_since(self.started).as_secs_f64();
        self.tell(EventKind::RunFinished { seconds, failed }, None);
        // The two pool scripts print their results under a line of their own
        // (`multi_process_async.py`, line 28, and `multi_thread_async.py`, line 29).
        let heading = match self.style {
            Style::Mp | Style::Mt => None,
            Style::MpAsync => Some("status TASK"),
            Style::MtAsync => Some("hasil task yang dijalankan"),
        };
        let mut state = self.console.lock();
        if let Some(heading) = heading {
            state.line(heading);
            let results = results.iter().map(|(name, took)| (name.as_str(), *took));
            state.line(&timing::results_dict(results));
        }
        state.finish(failed == 0)
    }
}

/// Parses the command line, receives until stopped, and says how it went.
pub fn run_server() -> ExitCode {
    let options: ServerOptions = parsed("server");
    if let Some(done) = completions::<ServerOptions>(&options.console, "server") {
        return done;
    }
    let console = match Console::new(&options.console) {
        Ok(console) => console,
        Err(error) => return usage_error(&error),
    };
    console.lock().dump = options.dump;
    let result = receive(&options.receive_config(), &console);
    let mut state = console.lock();
    match result {
        Ok(summary) => {
            let bytes = bytesize::ByteSize::b(summary.bytes).display().iec();
            let mut text = format!("{} files received, {bytes}", summary.files);
            if summary.failed > 0 {
                text.push_str(&format!(", {} transfers failed", summary.failed));
            }
            state.note(&text);
            state.finish(true)
        }
        Err(error) => {
            state.complain(&error);
            state.finish(false)
        }
    }
}

/// The command line of the program of this name; what is wrong with it ends the process.
fn parsed<O: Parser>(name: &'static str) -> O {
    let matches = O::command().name(name).get_matches();
    O::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn completions<O: CommandFactory>(options: &ConsoleOptions, name: &str) -> Option<ExitCode> {
    let shell = options.completions?;
    clap_complete::generate(shell, &mut O::command(), name, &mut io::stdout());
    Some(ExitCode::SUCCESS)
}

fn usage_error(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}
