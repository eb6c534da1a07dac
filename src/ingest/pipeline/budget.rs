//! A limited amount of memory that many tasks share, in bytes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::locks::lock;

/// An amount of which shares are taken, in the order in which they are asked for, and given back.
#[derive(Debug)]
pub(super) struct Budget {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// The number of those who asked, and of those of them who were served. A large share must not wait for ever
    /// behind small ones.
    n_asked: u64,
    n_served: u64,
}

/// A share of a budget. It is given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    n: u64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Arc<Self> {
        let state = Mutex::new(State { free: total, n_asked: 0, n_served: 0 });
        Arc::new(Self { total, state, changed: Condvar::new() })
    }

    /// Waits until `n` are free and all who asked before are served, and takes them. Takes all there is if `n` is
    /// more than that.
    pub(super) fn take(self: &Arc<Self>, n: u64) -> Share {
        let n = n.min(self.total);
        let mut state = lock(&self.state);
        let number = state.n_asked;
        state.n_asked += 1;
        while state.n_served < number || state.free < n {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.n_served += 1;
        state.free -= n;
        // The next one may find enough, too.
        self.wake(&state);
        Share { budget: self.clone(), n }
    }

    /// Takes `n`, or all there is if that is less, if they are free and nobody waits.
    pub(super) fn try_take(self: &Arc<Self>, n: u64) -> Option<Share> {
        let n = n.min(self.total);
        let mut state = lock(&self.state);
        if state.n_served < state.n_asked {
            return None;
        }
        state.free = state.free.checked_sub(n)?;
        Some(Share { budget: self.clone(), n })
    }

    /// Wakes those who wait, if anybody does: a call of the kernel takes longer than everything else here.
    fn wake(&self, state: &State) {
        if state.n_served < state.n_asked {
            self.changed.notify_all();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = lock(&self.budget.state);
        state.free += self.n;
        self.budget.wake(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

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
        drop(small);
        assert!(budget.try_take(11).is_some(), "more than all is all");
    }

    #[test]
    fn a_large_share_does_not_wait_behind_later_small_ones() {
        let budget = Budget::new(10);
        let small = budget.take(1);
        thread::scope(|scope| {
            scope.spawn(|| drop(budget.take(10)));
            while budget.try_take(1).is_some() {
                thread::yield_now();
            }
            drop(small);
        });
        assert!(budget.try_take(10).is_some());
    }
}
