//! HTTP connections that are used again: opening a connection costs more than fetching a small file
//! over one that is open.
//!
//! Connections are kept for a short time only: an idle connection blocks a server with few threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::io::idle_pool::IdlePool;

/// How long connections are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeping {
    /// The longest idle time between two downloads.
    pub(super) idle_timeout: Duration,
    /// The age at which a connection is closed after a download.
    pub(super) max_lifetime: Duration,
}

/// The connections that are kept, shared by all downloads of a process.
pub(super) struct Connections<C> {
    open: fn() -> C,
    max_lifetime: Duration,
    idle: Arc<IdlePool<Kept<C>>>,
}

struct Kept<C> {
    origin: String,
    opened: Instant,
    has_served: bool,
    connection: C,
}

impl<C: Send + 'static> Connections<C> {
    /// Makes an empty set of connections; `open` makes a connection.
    pub(super) fn new(keeping: Keeping, open: fn() -> C) -> Self {
        let (max_lifetime, idle) = (keeping.max_lifetime, IdlePool::new(keeping.idle_timeout));
        Self { open, max_lifetime, idle }
    }

    /// Returns a lease for one download.
    pub(super) fn lease(&self) -> Lease<'_, C> {
        Lease { connections: self, kept: None, must_be_new: false }
    }
}

/// The connection of one download. Dropping the lease closes the connection: until then, the server
/// may have no thread for the next one.
pub(super) struct Lease<'a, C: Send + 'static> {
    connections: &'a Connections<C>,
    kept: Option<Kept<C>>,
    must_be_new: bool,
}

impl<C: Send + 'static> Lease<'_, C> {
    /// Returns a kept connection to `origin` (scheme, user, host and port), or a new connection.
    pub(super) fn connection(&mut self, origin: &str) -> &C {
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

    /// Whether the connection has served before; the server may have closed it since.
    pub(super) fn has_served(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.has_served)
    }

    /// Closes the connection; the next one that is returned is new.
    pub(super) fn close(&mut self) {
        self.kept = None;
        self.must_be_new = true;
    }

    /// Stops keeping connections, for all downloads.
    pub(super) fn keep_none(&self) {
        self.connections.idle.close();
    }

    /// Keeps the connection for another download, after this download has succeeded.
    pub(super) fn keep(mut self) {
        if let Some(mut kept) = self.kept.take()
            && kept.opened.elapsed() < self.connections.max_lifetime
        {
            kept.has_served = true;
            self.connections.idle.put(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Makes connections that are numbered in the order in which they are opened.
    fn numbered(max_lifetime: Duration) -> Connections<usize> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Connections::new(Keeping { idle_timeout: LONG, max_lifetime }, || {
            NEXT.fetch_add(1, Ordering::Relaxed)
        })
    }

    fn keep_one(connections: &Connections<usize>, origin: &str) -> usize {
        let mut lease = connections.lease();
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
        let mut lease = connections.lease();
        assert_eq!((*lease.connection("a"), lease.has_served()), (a, true));
        lease.close();
        assert_ne!(*lease.connection("a"), a);
        drop(lease);
        let mut lease = connections.lease();
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
        let mut lease = connections.lease();
        lease.connection("a");
        lease.keep_none();
        lease.keep();
        for origin in ["a", "b"] {
            assert!(!numbers.contains(&keep_one(&connections, origin)));
        }
    }
}
