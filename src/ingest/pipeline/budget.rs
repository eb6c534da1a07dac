//! What all renders, or all units, share: bytes of memory, or events.

use std::sync::{Arc, Condvar, Mutex};

use super::lock;

/// A number of something, of which shares are taken.
#[derive(Debug)]
pub(super) struct Budget {
    free: Mutex<u64>,
    freed: Condvar,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    n: u64,
}

impl Budget {
    pub(super) fn new(n: u64) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(n), freed: Condvar::new() })
    }

    /// Waits until `n` are free, and takes them.
    pub(super) fn take(self: &Arc<Self>, n: u64) -> Share {
        let mut free = lock(&self.free);
        while *free < n {
            free = self.freed.wait(free).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *free -= n;
        Share { budget: self.clone(), n }
    }

    /// Takes `n` if they are free.
    pub(super) fn try_take(self: &Arc<Self>, n: u64) -> Option<Share> {
        let mut free = lock(&self.free);
        *free = free.checked_sub(n)?;
        Some(Share { budget: self.clone(), n })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *lock(&self.budget.free) += self.n;
        self.budget.freed.notify_one();
    }
}
