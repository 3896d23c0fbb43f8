//! HTTP connections of a process: a few at once while that is quick, and used again.
//!
//! To open a connection costs more than to fetch a small file over one that is there, and a
//! thousand threads that connect at once overrun a server's queue. So downloads wait for each
//! other, as long as these are quick; where they are not, as with a server far away, more and
//! more of them are active at once. Idle timeout and maximum lifetime of a connection are short:
//! an idle one blocks a server that has few threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::idle_pool::IdlePool;
use crate::lock::lock;

/// As many downloads are active at once to begin with.
pub(crate) const AT_ONCE: usize = 4;
/// Each download that takes so long raises the limit by one, if any wait.
const SLOW: Duration = Duration::from_millis(10);
/// If no download ends for so long, the limit is doubled.
const STALL: Duration = Duration::from_millis(50);

/// How long connections are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    /// Between two downloads.
    pub(crate) idle_timeout: Duration,
    /// One that is older at the end of a download is closed.
    pub(crate) max_lifetime: Duration,
}

/// What opens connections, shared by all downloads of a process.
pub(crate) struct Connections<C> {
    open: fn() -> C,
    max_lifetime: Duration,
    idle: Arc<IdlePool<Kept<C>>>,
    turns: Mutex<Turns>,
}

struct Kept<C> {
    origin: String,
    opened: Instant,
    has_served: bool,
    connection: C,
}

struct Turns {
    limit: usize,
    /// Downloads that are active, and turns that are reserved for one.
    active: usize,
    reserved: usize,
    waiting: VecDeque<Arc<Waiting>>,
    /// When a download ended, or more were let go.
    latest_change: Instant,
}

struct Waiting {
    thread: Thread,
    may_go: AtomicBool,
}

impl Turns {
    /// Lets as many go as may.
    fn let_go(&mut self) {
        while self.active < self.limit
            && let Some(first) = self.waiting.pop_front()
        {
            self.active += 1;
            first.may_go.store(true, Ordering::Release);
            first.thread.unpark();
        }
        // It is the one that notices a stall now.
        if let Some(first) = self.waiting.front() {
            first.thread.unpark();
        }
    }
}

impl<C: Send + 'static> Connections<C> {
    /// None yet; `open` makes one.
    pub(crate) fn new(keeping: Keeping, open: fn() -> C) -> Arc<Self> {
        let turns = Turns {
            limit: AT_ONCE,
            active: 0,
            reserved: 0,
            waiting: VecDeque::new(),
            latest_change: Instant::now(),
        };
        let (max_lifetime, idle) = (keeping.max_lifetime, IdlePool::new(keeping.idle_timeout));
        Arc::new(Self { open, max_lifetime, idle, turns: Mutex::new(turns) })
    }

    /// Waits until one more download may go, and keeps its turn for the next one that comes.
    /// Should none come, the turn has to be [given back](Self::give_back).
    pub(crate) fn reserve(&self) {
        self.wait_for_turn(lock(&self.turns));
        lock(&self.turns).reserved += 1;
    }

    /// A turn that was reserved is not needed.
    pub(crate) fn give_back(self: &Arc<Self>) {
        drop(self.take());
    }

    /// Waits until one more download may go, and lets it.
    pub(crate) fn take(self: &Arc<Self>) -> Lease<C> {
        let mut turns = lock(&self.turns);
        if turns.reserved > 0 {
            turns.reserved -= 1;
        } else {
            self.wait_for_turn(turns);
        }
        let connections = Arc::clone(self);
        Lease { connections, kept: None, must_be_new: false, began: Instant::now() }
    }

    /// Waits until it is counted as active, after all that wait already.
    fn wait_for_turn<'a>(&'a self, mut turns: MutexGuard<'a, Turns>) {
        if turns.active < turns.limit {
            turns.active += 1;
            return;
        }
        let came = Instant::now();
        let may_go = AtomicBool::new(false);
        let waiting = Arc::new(Waiting { thread: thread::current(), may_go });
        turns.waiting.push_back(Arc::clone(&waiting));
        loop {
            let is_first = turns.waiting.front().is_some_and(|first| Arc::ptr_eq(first, &waiting));
            let since = turns.latest_change.max(came);
            if is_first && since.elapsed() >= STALL {
                turns.limit *= 2;
                turns.latest_change = Instant::now();
                turns.let_go();
                return;
            }
            drop(turns);
            if is_first {
                thread::park_timeout(STALL.saturating_sub(since.elapsed()));
            } else {
                thread::park();
            }
            turns = lock(&self.turns);
            if waiting.may_go.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn end(&self, began: Instant) {
        let mut turns = lock(&self.turns);
        let now = Instant::now();
        turns.active -= 1;
        turns.latest_change = now;
        if !turns.waiting.is_empty() && now.saturating_duration_since(began) >= SLOW {
            turns.limit += 1;
        }
        turns.let_go();
    }
}

/// The right to one download, and maybe a connection.
pub(crate) struct Lease<C: Send + 'static> {
    connections: Arc<Connections<C>>,
    kept: Option<Kept<C>>,
    must_be_new: bool,
    began: Instant,
}

impl<C: Send + 'static> Lease<C> {
    /// One that has served before, if there is one to `origin`: scheme, user, host and port.
    pub(crate) fn connection(&mut self, origin: &str) -> &C {
        if self.kept.is_none() && !self.must_be_new {
            self.kept = self.connections.idle.take(|kept| kept.origin == origin);
        }
        let new = || Kept {
            origin: origin.to_owned(),
            opened: Instant::now(),
            has_served: false,
            connection: (self.connections.open)(),
        };
        &self.kept.get_or_insert_with(new).connection
    }

    /// Whether it has served before; it may have been closed since.
    pub(crate) fn has_served(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.has_served)
    }

    /// Closes the connection; the next one that is given out is new.
    pub(crate) fn close(&mut self) {
        self.kept = None;
        self.must_be_new = true;
    }

    /// No connection is used again, whichever it is.
    pub(crate) fn keep_none(&self) {
        self.connections.idle.close();
    }

    /// The download has ended well; the connection may serve another one.
    pub(crate) fn keep(mut self) {
        if let Some(mut kept) = self.kept.take()
            && kept.opened.elapsed() < self.connections.max_lifetime
        {
            kept.has_served = true;
            self.connections.idle.put(kept);
        }
    }
}

impl<C: Send + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        // The server may have no thread for the next one before this is closed.
        self.kept = None;
        self.connections.end(self.began);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Connections that are numbered in the order in which they are opened.
    fn numbered(max_lifetime: Duration) -> Arc<Connections<usize>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Connections::new(Keeping { idle_timeout: LONG, max_lifetime }, || {
            NEXT.fetch_add(1, Ordering::Relaxed)
        })
    }

    fn keep_one(connections: &Arc<Connections<usize>>, origin: &str) -> usize {
        let mut lease = connections.take();
        let number = *lease.connection(origin);
        lease.keep();
        number
    }

    #[test]
    fn a_connection_serves_again_where_it_leads() {
        let connections = numbered(LONG);
        let (a, b) = (keep_one(&connections, "a"), keep_one(&connections, "b"));
        assert_ne!(a, b);
        assert_eq!((keep_one(&connections, "a"), keep_one(&connections, "b")), (a, b));
        let mut lease = connections.take();
        assert_eq!((*lease.connection("a"), lease.has_served()), (a, true));
        lease.close();
        assert_ne!(*lease.connection("a"), a);
        drop(lease);
        let mut lease = connections.take();
        assert!(![a, b].contains(lease.connection("a")));
        assert!(!lease.has_served());
    }

    #[test]
    fn a_connection_is_not_kept_for_ever_or_where_that_is_no_use() {
        let connections = numbered(Duration::ZERO);
        assert_ne!(keep_one(&connections, "a"), keep_one(&connections, "a"));
        let connections = numbered(LONG);
        assert_eq!(keep_one(&connections, "a"), keep_one(&connections, "a"));
        let numbers = [keep_one(&connections, "a"), keep_one(&connections, "b")];
        let mut lease = connections.take();
        lease.connection("a");
        lease.keep_none();
        lease.keep();
        for origin in ["a", "b"] {
            assert!(!numbers.contains(&keep_one(&connections, origin)));
        }
    }

    /// Threads that begin to wait one after the other, and what they get.
    fn wait_in_line(
        connections: &Arc<Connections<usize>>,
        count: usize,
    ) -> mpsc::Receiver<(usize, Lease<usize>)> {
        let (sender, receiver) = mpsc::channel();
        let limit = Instant::now() + LONG;
        for number in 0..count {
            let before = lock(&connections.turns).waiting.len();
            let (connections, sender) = (Arc::clone(connections), sender.clone());
            let line = Arc::clone(&connections);
            thread::spawn(move || sender.send((number, connections.take())));
            let is_in_line = || {
                let turns = lock(&line.turns);
                turns.waiting.len() > before || turns.limit > AT_ONCE
            };
            while !is_in_line() {
                assert!(Instant::now() < limit);
                thread::yield_now();
            }
        }
        receiver
    }

    #[test]
    fn few_downloads_go_at_once_while_they_end_quickly() {
        const DOWNLOADS: usize = 200;
        let connections = numbered(LONG);
        let (most, now) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..DOWNLOADS {
                scope.spawn(|| {
                    let mut lease = connections.take();
                    lease.connection("a");
                    most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    now.fetch_sub(1, Ordering::SeqCst);
                    lease.keep();
                });
            }
        });
        let turns = lock(&connections.turns);
        // More than to begin with if the machine is too busy to be quick.
        assert!(most.into_inner() <= turns.limit);
        assert_eq!((turns.active, turns.waiting.len()), (0, 0));
    }

    #[test]
    fn everybody_goes_on_when_no_download_ends() {
        const WAITING: usize = 5 * AT_ONCE;
        let connections = numbered(LONG);
        let started = Instant::now();
        let held: Vec<_> = (0..AT_ONCE).map(|_| connections.take()).collect();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..WAITING {
            let (connections, sender) = (Arc::clone(&connections), sender.clone());
            thread::spawn(move || sender.send(connections.take()));
        }
        let more: Vec<_> = (0..WAITING).map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(lock(&connections.turns).limit, 8 * AT_ONCE);
        assert!(started.elapsed() >= 3 * STALL);
        drop((held, more));
        assert_eq!(lock(&connections.turns).active, 0);
    }

    #[test]
    fn a_reserved_turn_is_the_next_download_s() {
        let connections = numbered(LONG);
        for _ in 0..AT_ONCE {
            connections.reserve();
        }
        let taken: Vec<_> = (0..AT_ONCE).map(|_| connections.take()).collect();
        assert_eq!(lock(&connections.turns).limit, AT_ONCE);
        drop(taken);
        connections.reserve();
        connections.give_back();
        assert_eq!(lock(&connections.turns).active, 0);
    }

    #[test]
    fn who_came_first_goes_first_and_a_slow_download_lets_one_more_go() {
        let connections = numbered(LONG);
        let mut held: Vec<_> = (0..AT_ONCE).map(|_| connections.take()).collect();
        thread::sleep(SLOW);
        let waiting = wait_in_line(&connections, 3);
        held.pop();
        let [first, second] = [(); 2].map(|()| waiting.recv_timeout(LONG).unwrap());
        let limit = lock(&connections.turns).limit;
        assert!(limit > AT_ONCE);
        // A machine that is too busy has a stall, after which all three go.
        if limit == AT_ONCE + 1 {
            // Both were let go at once: either may be told of first.
            assert_eq!(first.0 + second.0, 1);
        }
    }
}
