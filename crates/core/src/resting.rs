//! What is kept for a moment, in case somebody wants it again.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Things that are dropped if nobody takes them in time.
#[derive(Debug)]
pub(crate) struct Resting<T> {
    rest: Duration,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// Since when, the latest last.
    things: Vec<(Instant, T)>,
    is_watched: bool,
    /// Whether anything came since the watch last looked.
    has_come: bool,
}

impl<T: Send + 'static> Resting<T> {
    /// Nothing yet; things will rest for as long as `rest`, twice that at most.
    pub(crate) fn new(rest: Duration) -> Arc<Self> {
        let state = State { things: Vec::new(), is_watched: false, has_come: false };
        Arc::new(Self { rest, state: Mutex::new(state) })
    }

    /// What was put there last.
    pub(crate) fn take(&self) -> Option<T> {
        lock(&self.state).things.pop().map(|(_, thing)| thing)
    }

    /// Keeps `thing`, or drops it if there is no thread to be had that would do so later.
    pub(crate) fn put(self: &Arc<Self>, thing: T) {
        let mut state = lock(&self.state);
        if !state.is_watched {
            let resting = Arc::clone(self);
            let watch = thread::Builder::new().name("resting".to_owned());
            if watch.spawn(move || resting.watch()).is_err() {
                return;
            }
            state.is_watched = true;
        }
        state.has_come = true;
        state.things.push((Instant::now(), thing));
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        let things = std::mem::take(&mut lock(&self.state).things);
        drop(things);
    }

    fn watch(&self) {
        let mut is_watched = true;
        while is_watched {
            thread::sleep(self.rest);
            let mut state = lock(&self.state);
            let now = Instant::now();
            let rested = state.things.partition_point(|(since, _)| *since + self.rest <= now);
            let dropped: Vec<_> = state.things.drain(..rested).collect();
            // While things come and go, a new thread each time would cost more.
            is_watched = std::mem::take(&mut state.has_come) || !state.things.is_empty();
            state.is_watched = is_watched;
            drop(state);
            drop(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_millis(20);

    #[test]
    fn the_latest_is_taken_first() {
        let resting = Resting::new(Duration::from_secs(60));
        resting.put(1);
        resting.put(2);
        assert_eq!([resting.take(), resting.take(), resting.take()], [Some(2), Some(1), None]);
        resting.put(3);
        resting.clear();
        assert_eq!(resting.take(), None);
    }

    #[test]
    fn what_has_rested_is_dropped_again_and_again() {
        let resting = Resting::new(REST);
        for _ in 0..2 {
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            resting.put(sender);
            // Ends with the sender.
            let ended = receiver.recv_timeout(Duration::from_secs(10));
            assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
        }
    }
}
