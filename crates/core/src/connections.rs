//! HTTP connections of a process: a few at once while that is quick, and used again.
//!
//! To open a connection costs more than to fetch a small file over one that is there, and a
//! thousand threads that connect at once overrun a server's queue. So downloads wait for each
//! other, as long as these are quick; where they are not, as with a server far away, more and
//! more of them go at once. A connection rests for a moment only: a server with few threads
//! may be waiting for what it asks next, while others wait for that server.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::resting::Resting;

/// As many downloads go at once to begin with.
pub(crate) const AT_ONCE: usize = 4;
/// Each download that takes this long lets one more go at once; if none ends for this long,
/// twice as many may.
const SLOW: Duration = Duration::from_millis(50);
/// A connection that rests longer is closed.
const REST: Duration = Duration::from_millis(20);
/// None is kept while a download has been waiting so long for an answer: the server may have
/// no thread for it before another connection is closed.
const LONG_AWAITED: Duration = Duration::from_millis(250);

/// What opens connections, shared by all downloads of a process.
pub(crate) struct Connections<C> {
    open: fn() -> C,
    resting: Arc<Resting<C>>,
    state: Mutex<State>,
    /// The one who waits with a limit, for all who wait.
    watcher: Condvar,
    others: Condvar,
}

struct State {
    at_once: usize,
    are_used_again: bool,
    /// With those that were reserved.
    under_way: usize,
    reserved: usize,
    is_watched: bool,
    others: usize,
    /// When a download ended, or more were let go.
    latest_change: Option<Instant>,
    next_number: u64,
    /// Downloads that have no answer yet, the oldest first.
    unanswered: Vec<(Instant, u64)>,
}

impl State {
    fn has_answer(&mut self, start: (Instant, u64)) {
        self.unanswered.retain(|other| *other != start);
    }
}

impl<C: Send + 'static> Connections<C> {
    /// None yet; `open` makes one.
    pub(crate) fn new(open: fn() -> C) -> Arc<Self> {
        let state = State {
            at_once: AT_ONCE,
            are_used_again: true,
            under_way: 0,
            reserved: 0,
            is_watched: false,
            others: 0,
            latest_change: None,
            next_number: 0,
            unanswered: Vec::new(),
        };
        let (watcher, others) = (Condvar::new(), Condvar::new());
        Arc::new(Self {
            open,
            resting: Resting::new(REST),
            state: Mutex::new(state),
            watcher,
            others,
        })
    }

    /// Waits until one more download may go, and keeps its turn for the next one that comes.
    pub(crate) fn reserve(&self) {
        let mut state = self.wait_for_turn(lock(&self.state));
        state.under_way += 1;
        state.reserved += 1;
    }

    fn wait_for_turn<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let came = Instant::now();
        while state.under_way >= state.at_once {
            if state.is_watched {
                state.others += 1;
                state = self.others.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.others -= 1;
                continue;
            }
            state.is_watched = true;
            let since = state.latest_change.map_or(came, |end| end.max(came));
            let rest = SLOW.saturating_sub(since.elapsed());
            let waited = self.watcher.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.is_watched = false;
            let since = state.latest_change.map_or(came, |end| end.max(came));
            if since.elapsed() >= SLOW {
                state.at_once *= 2;
                state.latest_change = Some(Instant::now());
                self.others.notify_all();
            } else {
                // Somebody else has to watch if this one goes.
                self.others.notify_one();
            }
        }
        state
    }

    /// Waits until one more download may go, and lets it.
    pub(crate) fn take(self: &Arc<Self>) -> Lease<C> {
        let mut state = lock(&self.state);
        if state.reserved > 0 {
            state.reserved -= 1;
        } else {
            state = self.wait_for_turn(state);
            state.under_way += 1;
        }
        let start = (Instant::now(), state.next_number);
        state.next_number += 1;
        state.unanswered.push(start);
        drop(state);
        let connection = self.resting.take();
        let is_used = connection.is_some();
        Lease { connections: Arc::clone(self), connection, is_used, start }
    }

    fn end(&self, start: (Instant, u64)) {
        let mut state = lock(&self.state);
        state.has_answer(start);
        state.under_way -= 1;
        let now = Instant::now();
        state.latest_change = Some(now);
        if state.is_watched && now.saturating_duration_since(start.0) >= SLOW {
            state.at_once += 1;
            // The first of the two that may go now.
            self.others.notify_one();
        }
        if state.others > 0 {
            self.others.notify_one();
        } else {
            self.watcher.notify_one();
        }
    }

    fn may_rest(&self) -> bool {
        let state = lock(&self.state);
        let oldest = state.unanswered.first();
        state.are_used_again && oldest.is_none_or(|(since, _)| since.elapsed() < LONG_AWAITED)
    }
}

/// The right to one download, and maybe a connection.
pub(crate) struct Lease<C: Send + 'static> {
    connections: Arc<Connections<C>>,
    connection: Option<C>,
    is_used: bool,
    start: (Instant, u64),
}

impl<C: Send + 'static> Lease<C> {
    /// One that has served before, if there is one.
    pub(crate) fn connection(&mut self) -> &C {
        self.connection.get_or_insert_with(self.connections.open)
    }

    /// Whether the connection has served before.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Drops a connection that has served before for one that has not.
    pub(crate) fn renew(&mut self) {
        self.connection = None;
        self.is_used = false;
    }

    /// The server has answered.
    pub(crate) fn answered(&self) {
        lock(&self.connections.state).has_answer(self.start);
    }

    /// No connection is to be used again.
    pub(crate) fn use_none_again(&self) {
        lock(&self.connections.state).are_used_again = false;
    }

    /// The download has ended well; the connection may serve another one.
    pub(crate) fn keep(mut self) {
        if let Some(connection) = self.connection.take()
            && self.connections.may_rest()
        {
            self.connections.resting.put(connection);
        }
    }
}

impl<C: Send + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        self.connections.end(self.start);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Connections that are numbered in the order in which they are opened.
    fn numbered() -> Arc<Connections<usize>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Connections::new(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }

    #[test]
    fn a_connection_that_was_kept_serves_again_and_one_that_was_not_does_not() {
        let connections = numbered();
        let mut lease = connections.take();
        let first = *lease.connection();
        assert!(!lease.is_used());
        lease.keep();
        let mut lease = connections.take();
        assert!(lease.is_used());
        assert_eq!(*lease.connection(), first);
        drop(lease);
        let mut lease = connections.take();
        assert!(!lease.is_used());
        assert_ne!(*lease.connection(), first);
        let second = *lease.connection();
        lease.renew();
        assert_ne!(*lease.connection(), second);
    }

    #[test]
    fn none_rests_while_an_answer_is_long_awaited() {
        let connections = numbered();
        let awaiting = connections.take();
        let keep = || {
            let mut lease = connections.take();
            lease.connection();
            lease.keep();
            connections.take().is_used()
        };
        assert!(keep());
        std::thread::sleep(LONG_AWAITED * 2);
        assert!(!keep());
        awaiting.answered();
        assert!(keep());
        awaiting.use_none_again();
        assert!(!keep());
    }

    #[test]
    fn few_downloads_go_at_once_while_they_end_quickly() {
        const DOWNLOADS: usize = 200;
        let connections = numbered();
        let (most, now) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS {
                scope.spawn(|| {
                    let mut lease = connections.take();
                    lease.connection();
                    most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    now.fetch_sub(1, Ordering::SeqCst);
                    lease.keep();
                });
            }
        });
        let state = lock(&connections.state);
        // More than to begin with if the machine is too busy to be quick.
        assert!(most.into_inner() <= state.at_once);
        assert_eq!((state.under_way, state.others, state.unanswered.len()), (0, 0, 0));
    }

    #[test]
    fn everybody_goes_on_when_no_download_ends() {
        const WAITING: usize = 5 * AT_ONCE;
        let connections = numbered();
        let held: Vec<_> = (0..AT_ONCE).map(|_| connections.take()).collect();
        let (sender, receiver) = mpsc::channel();
        let started = Instant::now();
        for _ in 0..WAITING {
            let (connections, sender) = (Arc::clone(&connections), sender.clone());
            std::thread::spawn(move || sender.send(connections.take()).unwrap());
        }
        let come = || receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        let more: Vec<_> = (0..WAITING).map(|_| come()).collect();
        assert_eq!(lock(&connections.state).at_once, 8 * AT_ONCE);
        assert!(started.elapsed() >= 3 * SLOW);
        drop((held, more));
    }

    #[test]
    fn a_reserved_turn_is_the_next_download_s() {
        let connections = numbered();
        for _ in 0..AT_ONCE {
            connections.reserve();
        }
        let taken: Vec<_> = (0..AT_ONCE).map(|_| connections.take()).collect();
        assert_eq!(lock(&connections.state).at_once, AT_ONCE);
        drop(taken);
        assert_eq!(lock(&connections.state).under_way, 0);
    }

    #[test]
    fn a_slow_download_lets_one_more_go() {
        let connections = numbered();
        let mut held: Vec<_> = (0..AT_ONCE).map(|_| connections.take()).collect();
        std::thread::sleep(SLOW);
        let (sender, receiver) = mpsc::channel();
        for _ in 0..2 {
            let (connections, sender) = (Arc::clone(&connections), sender.clone());
            std::thread::spawn(move || sender.send(connections.take()).unwrap());
        }
        let limit = Instant::now() + Duration::from_secs(10);
        while !lock(&connections.state).is_watched {
            assert!(Instant::now() < limit);
            std::thread::yield_now();
        }
        held.pop();
        let come = || receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        drop([come(), come()]);
        assert!(lock(&connections.state).at_once > AT_ONCE);
    }
}
