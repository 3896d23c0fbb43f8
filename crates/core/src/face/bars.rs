//! Progress bars on the terminal, made from events: at a client one for each task and one for all,
//! at a server one for each transfer.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{Event, EventKind, Phase, Progress};
use crate::visible::escaped;

/// The largest number of tasks that get bars: more bars would not fit the terminal.
const MAX_BARS: usize = 40;

/// The part of a template that shows the rate, and the time left at this rate.
const RATE: &str = " {bytes_per_sec} {eta}";
/// The template of the bar of all files.
const ALL: &str =
    "{prefix:>12} all files    {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// The bars of a run.
#[derive(Debug)]
pub struct Bars {
    screen: MultiProgress,
    /// Whether the bars are drawn.
    visible: bool,
    bars: HashMap<String, TaskBar>,
    /// The bar of all files, in bytes; it appears with the second task.
    all: Option<TaskBar>,
    /// The bytes of each file that was announced: sent, and in all.
    files: HashMap<String, (u64, u64)>,
    /// At a server: the names of the files that are being received, by their transfers.
    names: HashMap<String, String>,
}

#[derive(Debug)]
struct TaskBar {
    bar: ProgressBar,
    /// The template that the bar has now.
    template: &'static str,
    /// Whether the bar shows the template without its rate.
    lacks_rate: bool,
}

impl Bars {
    /// Makes the bars, which are drawn on standard error if they are `visible`.
    #[must_use]
    pub fn new(visible: bool) -> Self {
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let screen = MultiProgress::with_draw_target(target);
        Self {
            screen,
            visible,
            bars: HashMap::new(),
            all: None,
            files: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Whether the bars are drawn.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.visible
    }

    /// Calls `write` while the bars are removed from the terminal.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.screen.suspend(write)
    }

    /// Updates the bar of the event's task or transfer.
    pub fn event(&mut self, event: &Event) {
        if self.visible {
            match &event.task {
                Some(task) => self.task_event(task, &event.kind),
                None => self.server_event(&event.kind),
            }
        }
    }

    fn server_event(&mut self, kind: &EventKind) {
        match kind {
            // The bar is added with the first progress: most files have arrived before.
            EventKind::TransferStarted { transfer, name, .. } => {
                self.names.insert(transfer.clone(), escaped(name).into_owned());
            }
            EventKind::Received { transfer, .. } | EventKind::TransferFailed { transfer, .. } => {
                self.names.remove(transfer);
                if let Some(TaskBar { bar, .. }) = self.bars.remove(transfer) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    fn task_event(&mut self, task: &str, kind: &EventKind) {
        match kind {
            EventKind::TaskQueued { .. } if self.bars.len() < MAX_BARS => {
                let bar = ProgressBar::new(0).with_prefix(escaped(task).into_owned());
                let bar = match &self.all {
                    Some(all) => self.screen.insert_before(&all.bar, bar),
                    None => self.screen.add(bar),
                };
                let mut bar = TaskBar::new(bar);
                bar.show("{prefix:>12} queued", 0, 0);
                self.bars.insert(task.to_owned(), bar);
                if self.bars.len() == 2 && self.all.is_none() {
                    self.all = Some(TaskBar::new(self.screen.add(ProgressBar::new(0))));
                }
            }
            EventKind::BroadcastStarted { bytes, .. } => {
                self.files.insert(task.to_owned(), (0, *bytes));
                self.show_all();
            }
            EventKind::TaskFinished { .. } | EventKind::TaskFailed { .. } => {
                if let Some(TaskBar { bar, .. }) = self.bars.remove(task) {
                    bar.finish_and_clear();
                }
                if let Some((sent, bytes)) = self.files.get_mut(task) {
                    *sent = *bytes;
                    self.show_all();
                }
                if self.bars.is_empty()
                    && let Some(all) = self.all.take()
                {
                    all.bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    /// Shows the progress of a task's phase on the task's bar.
    pub fn progress(&mut self, progress: &Progress) {
        let Progress { task, phase, done, total } = progress;
        if *phase == Phase::Receiving && self.bars.len() < MAX_BARS && self.visible {
            self.bars.entry(task.clone()).or_insert_with(|| {
                let name = self.names.get(task).unwrap_or(task).clone();
                TaskBar::new(self.screen.add(ProgressBar::new(0).with_prefix(name)))
            });
        }
        if let Some(bar) = self.bars.get_mut(task) {
            bar.show(template(*phase, *total > 0), *done, *total);
        }
        if *phase == Phase::Broadcasting
            && let Some((sent, _)) = self.files.get_mut(task)
        {
            *sent = *done;
            self.show_all();
        }
    }

    /// Shows the bytes of all files that were announced so far.
    fn show_all(&mut self) {
        let Some(all) = &mut self.all else { return };
        let (sent, bytes) = self
            .files
            .values()
            .fold((0, 0), |(sent, all), (done, bytes)| (sent + done, all + bytes));
        all.show(ALL, sent, bytes);
    }
}

impl TaskBar {
    fn new(bar: ProgressBar) -> Self {
        Self { bar, template: "", lacks_rate: false }
    }

    /// Draws the bar. A new template and its numbers are drawn at once, and without a rate: the
    /// rate is measured from then on.
    fn show(&mut self, template: &'static str, done: u64, total: u64) {
        let is_new = self.template != template;
        if is_new {
            self.template = template;
            self.bar.set_style(style(&template.replace(RATE, "")));
        } else if self.lacks_rate {
            self.bar.set_style(style(template));
        }
        self.lacks_rate = is_new;
        self.bar.update(|state| {
            state.set_len(total);
            state.set_pos(done);
        });
        if is_new {
            self.bar.reset_eta();
        }
    }
}

fn template(phase: Phase, has_total: bool) -> &'static str {
    match (phase, has_total) {
        (Phase::Downloading, true) => {
            "{prefix:>12} downloading  {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        }
        (Phase::Downloading, false) => "{prefix:>12} downloading  {bytes} {bytes_per_sec}",
        (Phase::Waiting, _) => "{prefix:>12} waiting      {wide_bar} {pos}/{len} ms",
        (Phase::Broadcasting, _) => {
            "{prefix:>12} broadcasting {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        }
        (Phase::Receiving, _) => {
            "{prefix:>12} receiving    {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        }
        (Phase::Confirming, _) => "{prefix:>12} confirming   {wide_bar} {pos}/{len} servers",
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
