//! A limited amount of memory that many tasks share, in bytes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::locks::lock;

/// An amount of which shares are taken and given back.
#[derive(Debug)]
pub(super) struct Budget {
    free: Mutex<u64>,
    freed: Condvar,
}

/// A share of a budget. It is given back when dropped.
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
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_dropped_can_be_taken_again() {
        let budget = Budget::new(10);
        let share = budget.take(7);
        assert!(budget.try_take(4).is_none());
        let small = budget.try_take(3);
        assert!(small.is_some());
        drop(share);
        assert!(budget.try_take(7).is_some());
    }
}
