//! Coalescing of wake-ups: sockets are waited for without a change of context for every datagram.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::poll::wait;

/// So many waits shorter than this in a row mean a stream whose every datagram would cost a
/// change of context.
const SHORT_WAIT: Duration = Duration::from_micros(100);
const SHORT_WAITS: u32 = 4;
const PAUSE: Duration = Duration::from_micros(200);

/// Lets datagrams gather where they come one by one and fast, as a network card's interrupt
/// moderation does.
#[derive(Debug, Default)]
pub(super) struct Coalescing {
    short_waits: u32,
}

impl Coalescing {
    /// Waits until one of the descriptors is ready, at most `timeout`.
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
