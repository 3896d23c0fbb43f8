//! Turns for the downloads of a process: a few run at once while they are quick, and more if not.
//!
//! A thousand threads that connect at once overrun a server's queue. So downloads wait for each
//! other, first come, first served, as long as they are quick. If they are slow (the server may be
//! far away), more and more of them run at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::urls::local_path;
use crate::lock::lock;

/// The number of downloads at once in the beginning.
pub(crate) const FIRST_LIMIT: usize = 4;
/// A download that takes longer than this raises the limit by one, if other downloads wait.
const SLOW: Duration = Duration::from_millis(10);
/// If no download ends within this time, the limit is doubled.
const STALL: Duration = Duration::from_millis(50);

static TURNS: LazyLock<Arc<Turns>> = LazyLock::new(Arc::default);

/// The right to one download. Dropping the turn gives it back.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    /// `None` for a local file, which needs no turn.
    turns: Option<Arc<Turns>>,
    began: Instant,
}

impl Turn {
    /// Waits for the turn to download `url`, behind all downloads that wait already.
    pub fn wait(url: &str) -> Self {
        if local_path(url).is_some() {
            return Self { turns: None, began: Instant::now() };
        }
        TURNS.wait()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = &self.turns {
            turns.end(self.began);
        }
    }
}

/// The state of all downloads of a process.
#[derive(Debug)]
struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    active: usize,
    waiting: VecDeque<Arc<Waiting>>,
    /// When a download last ended, or the limit last let more begin.
    latest_change: Instant,
}

#[derive(Debug)]
struct Waiting {
    thread: Thread,
    may_go: AtomicBool,
}

impl Default for Turns {
    fn default() -> Self {
        let (limit, active, waiting) = (FIRST_LIMIT, 0, VecDeque::new());
        Self(Mutex::new(State { limit, active, waiting, latest_change: Instant::now() }))
    }
}

impl State {
    /// Lets as many downloads begin as the limit allows.
    fn let_go(&mut self) {
        while self.active < self.limit
            && let Some(first) = self.waiting.pop_front()
        {
            self.active += 1;
            first.may_go.store(true, Ordering::Release);
            first.thread.unpark();
        }
        // The first in the queue now watches for a stall.
        if let Some(first) = self.waiting.front() {
            first.thread.unpark();
        }
    }
}

impl Turns {
    fn wait(self: &Arc<Self>) -> Turn {
        self.wait_until_active(lock(&self.0));
        Turn { turns: Some(Arc::clone(self)), began: Instant::now() }
    }

    fn wait_until_active<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.active < state.limit {
            state.active += 1;
            return;
        }
        let came = Instant::now();
        let may_go = AtomicBool::new(false);
        let waiting = Arc::new(Waiting { thread: thread::current(), may_go });
        state.waiting.push_back(Arc::clone(&waiting));
        loop {
            let is_first = state.waiting.front().is_some_and(|first| Arc::ptr_eq(first, &waiting));
            let since = state.latest_change.max(came);
            if is_first && since.elapsed() >= STALL {
                state.limit *= 2;
                state.latest_change = Instant::now();
                state.let_go();
                return;
            }
            drop(state);
            if is_first {
                thread::park_timeout(STALL.saturating_sub(since.elapsed()));
            } else {
                thread::park();
            }
            state = lock(&self.0);
            if waiting.may_go.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn end(&self, began: Instant) {
        let mut state = lock(&self.0);
        let now = Instant::now();
        state.active -= 1;
        state.latest_change = now;
        if !state.waiting.is_empty() && now.saturating_duration_since(began) >= SLOW {
            state.limit += 1;
        }
        state.let_go();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Starts threads that begin to wait one after the other, and returns their turns.
    fn wait_in_line(turns: &Arc<Turns>, count: usize) -> mpsc::Receiver<(usize, Turn)> {
        let (sender, receiver) = mpsc::channel();
        let limit = Instant::now() + LONG;
        for number in 0..count {
            let before = lock(&turns.0).waiting.len();
            let (waiting, sender) = (Arc::clone(turns), sender.clone());
            thread::spawn(move || sender.send((number, waiting.wait())));
            let is_in_line = || {
                let state = lock(&turns.0);
                state.waiting.len() > before || state.limit > FIRST_LIMIT
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
        let turns = Arc::new(Turns::default());
        let (most, now) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..DOWNLOADS {
                scope.spawn(|| {
                    let _turn = turns.wait();
                    most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let state = lock(&turns.0);
        // The limit may have risen if the machine is too busy to be quick.
        assert!(most.into_inner() <= state.limit);
        assert_eq!((state.active, state.waiting.len()), (0, 0));
    }

    #[test]
    fn everybody_goes_on_when_no_download_ends() {
        const WAITING: usize = 5 * FIRST_LIMIT;
        let turns = Arc::new(Turns::default());
        let started = Instant::now();
        let held: Vec<_> = (0..FIRST_LIMIT).map(|_| turns.wait()).collect();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..WAITING {
            let (turns, sender) = (Arc::clone(&turns), sender.clone());
            thread::spawn(move || sender.send(turns.wait()));
        }
        let more: Vec<_> = (0..WAITING).map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(lock(&turns.0).limit, 8 * FIRST_LIMIT);
        assert!(started.elapsed() >= 3 * STALL);
        drop((held, more));
        assert_eq!(lock(&turns.0).active, 0);
    }

    #[test]
    fn a_turn_is_given_back_by_a_thread_that_panics_or_cannot_be_started() {
        let turns = Arc::new(Turns::default());
        for _ in 0..2 * FIRST_LIMIT {
            let turn = turns.wait();
            let panics = thread::spawn(move || {
                let _turn = turn;
                panic!("of a test");
            });
            assert!(panics.join().is_err());
            let turn = turns.wait();
            // The system cannot provide a stack of half the address space.
            let thread = thread::Builder::new().stack_size(1 << 46);
            assert!(thread.spawn(move || drop(turn)).is_err());
        }
        let state = lock(&turns.0);
        assert_eq!((state.active, state.limit), (0, FIRST_LIMIT));
    }

    #[test]
    fn who_came_first_goes_first_and_a_slow_download_lets_one_more_go() {
        let turns = Arc::new(Turns::default());
        let mut held: Vec<_> = (0..FIRST_LIMIT).map(|_| turns.wait()).collect();
        thread::sleep(SLOW);
        let waiting = wait_in_line(&turns, 3);
        held.pop();
        let [first, second] = [(); 2].map(|()| waiting.recv_timeout(LONG).unwrap());
        let limit = lock(&turns.0).limit;
        assert!(limit > FIRST_LIMIT);
        // On a machine that is too busy there is a stall, after which all three begin.
        if limit == FIRST_LIMIT + 1 {
            // Both began at once: either may be reported first.
            assert_eq!(first.0 + second.0, 1);
        }
    }
}
