//! Python's `threading.Thread`: start and join.

use std::io;
use std::thread::Builder;

use crossbeam::channel::{Receiver, bounded};

/// A started thread, and the result of its work.
///
/// As in Python, `join` waits for the thread's result and not for the system's thread. The system's
/// thread is detached, so that its stack serves the next thread. With `std::thread::JoinHandle`,
/// each of a thousand ended threads would keep its stack until it is joined.
pub(crate) struct Thread<T>(Result<Receiver<T>, io::Error>);

/// The reason why a thread has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ThreadError<E> {
    /// The work returned an error.
    #[error("{0}")]
    Failed(E),
    /// The work panicked.
    #[error("its thread panicked")]
    Panicked,
    /// The thread was not started.
    #[error("cannot start a thread: {0}")]
    NotStarted(#[source] io::Error),
}

impl<T: Send + 'static, E: Send + 'static> Thread<Result<T, E>> {
    /// Starts a thread with this name that does `work`.
    pub(crate) fn start(name: &str, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Self {
        let (result, given) = bounded(1);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            // The caller may no longer wait for the result.
            let _ = result.send(work());
        });
        Self(thread.map(|_detached| given))
    }

    /// Waits for the result.
    pub(crate) fn join(self) -> Result<T, ThreadError<E>> {
        let given = self.0.map_err(ThreadError::NotStarted)?;
        given.recv().map_err(|_| ThreadError::Panicked)?.map_err(ThreadError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_gives_the_result_or_what_became_of_it() {
        let works = Thread::start("works", || Ok::<_, String>(7));
        let fails = Thread::start("fails", || Err::<u8, _>("no".to_owned()));
        let panics = Thread::start("panics", || -> Result<u8, String> { panic!("of a test") });
        assert_eq!(works.join().unwrap(), 7);
        assert!(matches!(fails.join(), Err(ThreadError::Failed(error)) if error == "no"));
        assert!(matches!(panics.join(), Err(ThreadError::Panicked)));
    }
}
