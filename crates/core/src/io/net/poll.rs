//! Waiting for file descriptors.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

/// Waits until one of the descriptors is ready; returns `false` after the timeout.
pub(super) fn wait(
    descriptors: &[(BorrowedFd<'_>, PollFlags)],
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let mut descriptors: Vec<PollFd<'_>> =
        descriptors.iter().map(|(descriptor, flags)| PollFd::new(*descriptor, *flags)).collect();
    match nix::poll::ppoll(&mut descriptors, timeout.map(TimeSpec::from_duration), None) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
