//! A pool of idle values (connections, sockets), kept for a short time in case they are needed
//! again.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Values that are dropped if nobody takes them in time.
#[derive(Debug)]
pub(crate) struct IdlePool<T> {
    timeout: Duration,
    state: Mutex<State<T>>,
    /// Held while values are dropped, which may take long. It is locked before `state`.
    dropping: Mutex<()>,
}

#[derive(Debug)]
struct State<T> {
    /// Each value with the time since when it is idle, the latest last.
    things: Vec<(Instant, T)>,
    is_watched: bool,
    /// Whether a value came since the watching thread last looked.
    has_come: bool,
    is_closed: bool,
}

impl<T: Send + 'static> IdlePool<T> {
    /// Makes an empty pool. A value that nobody takes for `timeout` is dropped, at the latest after
    /// twice that time.
    pub(crate) fn new(timeout: Duration) -> Arc<Self> {
        let state =
            State { things: Vec::new(), is_watched: false, has_come: false, is_closed: false };
        Arc::new(Self { timeout, state: Mutex::new(state), dropping: Mutex::new(()) })
    }

    /// Takes the latest value that is wanted.
    pub(crate) fn take(&self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut state = lock(&self.state);
        let index = state.things.iter().rposition(|(_, thing)| is_wanted(thing))?;
        Some(state.things.remove(index).1)
    }

    /// Keeps `thing`, or drops it if no thread can be started that would drop it later.
    pub(crate) fn put(self: &Arc<Self>, thing: T) {
        let mut state = lock(&self.state);
        if state.is_closed {
            return;
        }
        if !state.is_watched {
            let pool = Arc::clone(self);
            let watch = thread::Builder::new().name("idle-pool".to_owned());
            if watch.spawn(move || pool.watch()).is_err() {
                return;
            }
            state.is_watched = true;
        }
        state.has_come = true;
        state.things.push((Instant::now(), thing));
    }

    /// Drops all values, and every value that is put back from now on. On return, all are dropped.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let things = std::mem::take(&mut state.things);
        drop(state);
        drop(things);
        drop(lock(&self.dropping));
    }

    fn watch(&self) {
        let mut is_watched = true;
        while is_watched {
            thread::sleep(self.timeout);
            let dropping = lock(&self.dropping);
            let mut state = lock(&self.state);
            let now = Instant::now();
            let timed_out = state.things.partition_point(|(since, _)| *since + self.timeout <= now);
            let dropped: Vec<_> = state.things.drain(..timed_out).collect();
            // While values come and go the thread stays: a new thread each time would cost more.
            is_watched = std::mem::take(&mut state.has_come) || !state.things.is_empty();
            state.is_watched = is_watched;
            drop(state);
            drop(dropped);
            drop(dropping);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};

    use super::*;

    #[test]
    fn the_latest_that_is_wanted_is_taken() {
        let pool = IdlePool::new(Duration::from_secs(60));
        for thing in 1..=4 {
            pool.put(thing);
        }
        let take = || pool.take(|thing| thing % 2 == 1);
        assert_eq!([take(), take(), take()], [Some(3), Some(1), None]);
        pool.close();
        assert_eq!(pool.take(|_| true), None);
        pool.put(5);
        assert_eq!(pool.take(|_| true), None);
    }

    #[test]
    fn what_nobody_takes_is_dropped_again_and_again() {
        let pool = IdlePool::new(Duration::from_millis(20));
        for _ in 0..2 {
            let (sender, receiver) = mpsc::channel::<()>();
            pool.put(sender);
            // The thread ends when the sender is dropped.
            let ended = receiver.recv_timeout(Duration::from_secs(10));
            assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
        }
    }
}
