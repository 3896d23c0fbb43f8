//! The coalescing of wake-ups: a wait for a socket does not cost a context switch for each
//! datagram.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::poll::wait;

/// This many waits in a row, each shorter than this time, show a stream in which each datagram
/// would cost a context switch.
const SHORT_WAIT: Duration = Duration::from_micros(100);
const SHORT_WAITS: u32 = 4;
const PAUSE: Duration = Duration::from_micros(200);

/// The count of short waits. In a fast stream of single datagrams the thread sleeps briefly, so
/// that datagrams gather, as a network card's interrupt moderation does.
#[derive(Debug, Default)]
pub(super) struct Coalescing {
    short_waits: u32,
}

impl Coalescing {
    /// Waits until one of the descriptors is ready, but not longer than `timeout`.
    pub(super) fn wait(
        &mut self,
        descriptors: &[(BorrowedFd<'_>, PollFlags)],
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if self.short_waits >= SHORT_WAITS && timeout.is_none_or(|left| left > PAUSE) {
            std::thread::sleep(PAUSE);
        }
        let started = Instant::now();
        wait(descriptors, timeout)?;
        let is_short = started.elapsed() < SHORT_WAIT;
        self.short_waits = if is_short { self.short_waits + 1 } else { 0 };
        Ok(())
    }
}
