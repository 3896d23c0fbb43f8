//! Progress bars on the terminal, one for each task, made from events.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{Event, EventKind, Phase, Progress};

/// The largest number of tasks that get bars: more bars would not fit the terminal.
const MAX_BARS: usize = 40;

/// The bars of a run.
#[derive(Debug)]
pub struct Bars {
    screen: MultiProgress,
    /// Whether the bars are drawn. Even a hidden bar would cost a thread that ticks.
    visible: bool,
    bars: HashMap<String, ProgressBar>,
}

impl Bars {
    /// Makes the bars, which are drawn on standard error if they are `visible`.
    #[must_use]
    pub fn new(visible: bool) -> Self {
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let screen = MultiProgress::with_draw_target(target);
        Self { screen, visible, bars: HashMap::new() }
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

    /// Updates the bar of the event's task.
    pub fn event(&mut self, event: &Event) {
        let Some(task) = &event.task else { return };
        match &event.kind {
            EventKind::TaskQueued { .. } if self.visible && self.bars.len() < MAX_BARS => {
                let bar = self.screen.add(ProgressBar::new(0).with_prefix(task.clone()));
                bar.set_style(style("{prefix:>12} {msg}"));
                bar.set_message("queued");
                bar.enable_steady_tick(Duration::from_millis(200));
                self.bars.insert(task.clone(), bar);
            }
            EventKind::TaskFinished { .. } | EventKind::TaskFailed { .. } => {
                if let Some(bar) = self.bars.remove(task) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    /// Shows the progress of a task's phase on the task's bar.
    pub fn progress(&mut self, progress: &Progress) {
        let Some(bar) = self.bars.get(&progress.task) else { return };
        let (phase, template) = match progress.phase {
            Phase::Downloading => {
                ("downloading", "{prefix:>12} {msg:12} {wide_bar} {bytes}/{total_bytes}")
            }
            Phase::Waiting => ("waiting", "{prefix:>12} {msg:12} {wide_bar} {pos}/{len} ms"),
            Phase::Broadcasting => {
                ("broadcasting", "{prefix:>12} {msg:12} {wide_bar} {pos}/{len} datagrams")
            }
            Phase::Confirming => {
                ("confirming", "{prefix:>12} {msg:12} {wide_bar} {pos}/{len} servers")
            }
        };
        if bar.message() != phase {
            bar.set_style(style(template));
            bar.set_message(phase);
        }
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
