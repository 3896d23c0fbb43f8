//! Mutexes whose content outlives a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic is told by whoever joins its thread; what that thread had written stays valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
