//! UDP sockets that are used again: for many small files, opening sockets would be a large part of
//! the work.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::{Destinations, SendSocket};
use crate::io::idle_pool::IdlePool;

const IDLE_TIMEOUT: Duration = Duration::from_millis(20);

static IDLE: LazyLock<Arc<IdlePool<SendSocket>>> = LazyLock::new(|| IdlePool::new(IDLE_TIMEOUT));

/// Takes a socket that was opened for these destinations, if there is one.
pub(super) fn take_idle_socket(
    destinations: &Destinations,
    segmentation: bool,
) -> Option<SendSocket> {
    IDLE.take(|idle| idle.is_for(destinations, segmentation))
}

/// Keeps a socket for 20 to 40 ms.
pub(super) fn keep_idle_socket(socket: SendSocket) {
    IDLE.put(socket);
}

/// Closes the idle sockets after sending what they have deferred.
pub(crate) fn close_idle_sockets() {
    IDLE.close();
}
