//! The record of when each task last advanced; both pools apply `--timeout` to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// The error of a result that was given up: the task has not advanced for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("given up: no progress for {0:?} (--timeout)")]
pub struct TimedOut(pub Duration);

/// When each task last advanced.
#[derive(Debug)]
pub struct Activity(Mutex<Latest>);

#[derive(Debug)]
struct Latest {
    of_any: Instant,
    /// The times of the tasks that have started.
    of_started: HashMap<String, Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        let of_started = HashMap::new();
        Self(Mutex::new(Latest { of_any: Instant::now(), of_started }))
    }
}

impl Activity {
    /// Notes that `task` has advanced now; `starts` says that it has just been started.
    pub fn note(&self, task: &str, starts: bool) {
        let now = Instant::now();
        let mut latest = lock(&self.0);
        latest.of_any = now;
        match latest.of_started.get_mut(task) {
            Some(at) => *at = now,
            None if starts => _ = latest.of_started.insert(task.to_owned(), now),
            None => {}
        }
    }

    /// Returns when `task` last advanced, or, until it has started, when any task did.
    #[must_use]
    pub fn latest(&self, task: &str) -> Instant {
        let latest = lock(&self.0);
        latest.of_started.get(task).copied().unwrap_or(latest.of_any)
    }
}

/// The timeout of a task's result.
#[derive(Debug, Clone)]
pub struct TaskTimeout {
    activity: Arc<Activity>,
    task: String,
    timeout: Duration,
}

impl TaskTimeout {
    /// Makes a timeout that ends when `task` has not advanced for `timeout`.
    #[must_use]
    pub fn new(activity: Arc<Activity>, task: &str, timeout: Duration) -> Self {
        Self { activity, task: task.to_owned(), timeout }
    }

    /// Calls `wait_until` with a deadline, again and again, until it returns the result or the task
    /// has not advanced for the timeout.
    ///
    /// # Errors
    /// The task has not advanced for the timeout.
    pub fn wait<T>(&self, mut wait_until: impl FnMut(Instant) -> Option<T>) -> Result<T, TimedOut> {
        let deadline = || self.activity.latest(&self.task) + self.timeout;
        loop {
            if let Some(result) = wait_until(deadline()) {
                return Ok(result);
            }
            if deadline() <= Instant::now() {
                return Err(TimedOut(self.timeout));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep_until(deadline: Instant) {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }

    #[test]
    fn a_task_is_waited_for_while_it_advances() {
        let activity = Arc::new(Activity::default());
        activity.note("a", true);
        let timeout = TaskTimeout::new(Arc::clone(&activity), "a", Duration::from_millis(20));
        let mut rounds = 0;
        let result = timeout.wait(|deadline| {
            rounds += 1;
            sleep_until(deadline);
            activity.note("a", false);
            (rounds == 4).then_some(rounds)
        });
        assert_eq!(result, Ok(4));
    }

    #[test]
    fn a_task_that_stands_still_is_given_up_whatever_others_do() {
        let activity = Arc::new(Activity::default());
        activity.note("a", true);
        let timeout = TaskTimeout::new(Arc::clone(&activity), "a", Duration::from_millis(20));
        let result = timeout.wait::<()>(|deadline| {
            activity.note("b", true);
            sleep_until(deadline);
            None
        });
        assert_eq!(result, Err(TimedOut(Duration::from_millis(20))));
        // A task that has not started waits for the others.
        assert!(activity.latest("c") > activity.latest("a"));
    }
}
