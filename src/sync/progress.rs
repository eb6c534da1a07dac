//! The progress of targets: posted by their threads, awaited by others.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::status::{TargetProgress, TargetStatus};

use crate::locks::lock;

/// Wakes threads that wait for a change of any target of a group. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeSignal(Arc<(Mutex<u64>, Condvar)>);

impl ChangeSignal {
    fn n_changes(&self) -> MutexGuard<'_, u64> {
        lock(&self.0.0)
    }

    fn notify(&self) {
        *self.n_changes() += 1;
        self.0.1.notify_all();
    }

    /// Waits until `is_done` returns true, or until the deadline. Calls `is_done` at once and after each change,
    /// without holding a lock.
    pub(super) fn wait_until(&self, deadline: Option<Instant>, mut is_done: impl FnMut() -> bool) {
        loop {
            let n_seen = *self.n_changes();
            if is_done() {
                return;
            }
            let (n_changes, is_same) = (self.n_changes(), |n: &mut u64| *n == n_seen);
            let Some(deadline) = deadline else {
                let woken = self.0.1.wait_while(n_changes, is_same);
                drop(woken.unwrap_or_else(PoisonError::into_inner));
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let woken = self.0.1.wait_timeout_while(n_changes, left, is_same);
            if woken.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
                return;
            }
        }
    }
}

/// What a target's thread posted last.
#[derive(Debug, Default)]
struct Posted {
    progress: TargetProgress,
    /// Since when deliveries fail.
    failing_since: Option<Instant>,
    is_ended: bool,
}

/// Where a target's thread posts its progress. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct ProgressBoard {
    posted: Arc<Mutex<Posted>>,
    changes: ChangeSignal,
}

impl ProgressBoard {
    /// Creates a board that signals each change through `changes`.
    pub(super) fn new(changes: ChangeSignal) -> Self {
        Self { posted: Arc::default(), changes }
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        lock(&self.posted)
    }

    pub(super) fn post(&self, progress: TargetProgress) {
        let mut posted = self.posted();
        let since = posted.failing_since.unwrap_or_else(Instant::now);
        posted.failing_since = progress.view.trouble.is_some().then_some(since);
        posted.progress = progress;
        drop(posted);
        self.changes.notify();
    }

    /// Posts that a pass over all runs found no change.
    pub(super) fn post_pass(&self, n_passes: u64) {
        self.posted().progress.n_passes = n_passes;
        self.changes.notify();
    }

    /// Marks the thread as ended when the result is dropped, also after a panic.
    pub(super) fn end_on_drop(&self) -> EndOnDrop {
        EndOnDrop(self.clone())
    }

    pub(super) fn is_ended(&self) -> bool {
        self.posted().is_ended
    }

    pub(super) fn n_passes(&self) -> u64 {
        self.posted().progress.n_passes
    }

    /// The target's status now.
    pub(super) fn view(&self) -> TargetStatus {
        let (progress, since) = {
            let posted = self.posted();
            (posted.progress.clone(), posted.failing_since)
        };
        let trouble_s = since.map(|since| since.elapsed().as_secs_f64());
        TargetStatus { trouble_s, ..progress.into_view() }
    }
}

/// See [`ProgressBoard::end_on_drop`].
pub(super) struct EndOnDrop(ProgressBoard);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.posted().is_ended = true;
        self.0.changes.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_waiting_thread_wakes_at_a_post_and_at_the_end_of_a_thread_that_panics() {
        let changes = ChangeSignal::default();
        let board = ProgressBoard::new(changes.clone());
        let posting = board.clone();
        let run = move || {
            let _end = posting.end_on_drop();
            posting.post(TargetProgress { n_passes: 1, ..TargetProgress::default() });
            panic!("a bug");
        };
        let thread =
            thread::Builder::new().name("posting".to_owned()).spawn(run).expect("a thread");
        let mut n_calls = 0;
        changes.wait_until(None, || {
            n_calls += 1;
            board.is_ended()
        });
        assert_eq!(board.n_passes(), 1);
        assert!((1..=3).contains(&n_calls), "{n_calls}");
        assert!(thread.join().is_err());
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(30);
        ChangeSignal::default().wait_until(Some(deadline), || false);
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
