//! Gives up waiting for tasks that do not advance.

use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;

use crate::console::Console;
use crate::lock::lock;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(50);

struct Waiting {
    task: String,
    reason: oneshot::Sender<String>,
}

/// One thread that watches the progress of all tasks that somebody waits for; it ends with
/// this.
pub(crate) struct Watch(Arc<Mutex<Vec<Waiting>>>);

impl Watch {
    pub(crate) fn start(console: Arc<Console>, timeout: Duration) -> Self {
        let waiting = Arc::default();
        let looked_at = Arc::downgrade(&waiting);
        let watch = move || watch(&console, &looked_at, timeout);
        if let Err(error) = thread::Builder::new().name("watch".to_owned()).spawn(watch) {
            log::warn!("--timeout is not watched: {error}");
        }
        Self(waiting)
    }

    /// Resolves, to the reason, once `task` has not advanced for the timeout; until it has
    /// started, once no task has.
    pub(crate) fn stalled(&self, task: &str) -> impl Future<Output = String> + Unpin + use<> {
        let (reason, future) = oneshot::channel();
        lock(&self.0).push(Waiting { task: task.to_owned(), reason });
        Box::pin(async {
            match future.await {
                Ok(reason) => reason,
                Err(oneshot::Canceled) => std::future::pending().await,
            }
        })
    }
}

fn watch(console: &Console, waiting: &Weak<Mutex<Vec<Waiting>>>, timeout: Duration) {
    while let Some(waiting) = waiting.upgrade() {
        let stalled: Vec<Waiting> = {
            let mut waiting = lock(&waiting);
            waiting.retain(|one| !one.reason.is_canceled());
            waiting.extract_if(.., |one| console.lock().idle(&one.task) >= timeout).collect()
        };
        for one in stalled {
            // It may just have got its result.
            let _ = one.reason.send(format!("given up: no progress for {timeout:?} (--timeout)"));
        }
        drop(waiting);
        thread::sleep(INTERVAL.min(timeout.max(Duration::from_millis(1))));
    }
}
