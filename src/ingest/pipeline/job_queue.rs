//! Jobs that wait for a worker: those of a run in their order, the runs in turn.
//!
//! A dump of thousands of images therefore delays the images of other runs by no more than a bundle.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::job::{BatchSlot, RenderJob};
use crate::locks::lock;
use crate::media::RunId;

/// An upper bound for the jobs of a bundle, and for the batches that are handed over together.
pub(super) const TOGETHER_MAX: usize = 64;

/// An upper bound for the [cost](RenderJob::cost) of a bundle of several jobs. Many small images fit, so
/// that taking them costs little beside making them; two large ones don't.
pub(super) const BUNDLE_COST_MAX: u64 = 128 << 10;

/// Images that one worker makes one after the other. Small images are taken together, because waking a thread
/// costs as much as making one.
pub(super) type Bundle = Vec<(BatchSlot, RenderJob)>;

/// The jobs that no worker has taken yet.
#[derive(Debug, Default)]
pub(super) struct JobQueue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    of_runs: HashMap<RunId, VecDeque<(BatchSlot, RenderJob)>>,
    /// The runs that have jobs. The next bundle is one of the first run.
    turns: VecDeque<RunId>,
    is_closed: bool,
}

/// What a worker finds in the queue.
#[derive(Debug)]
pub(super) enum Taken {
    Bundle(Bundle),
    /// There is no job now.
    Nothing,
    /// There is no job, and none will come.
    Closed,
}

impl JobQueue {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Adds jobs of a run.
    pub(super) fn push(&self, run: &RunId, jobs: impl IntoIterator<Item = (BatchSlot, RenderJob)>) {
        let mut inner = lock(&self.inner);
        if let Some(of_run) = inner.of_runs.get_mut(run) {
            of_run.extend(jobs);
        } else {
            let of_run: VecDeque<_> = jobs.into_iter().collect();
            if of_run.is_empty() {
                return;
            }
            inner.of_runs.insert(run.clone(), of_run);
            inner.turns.push_back(run.clone());
        }
        self.changed.notify_all();
    }

    /// Says that no more jobs come.
    pub(super) fn close(&self) {
        lock(&self.inner).is_closed = true;
        self.changed.notify_all();
    }

    /// Takes the first jobs of the run whose turn it is, without waiting.
    pub(super) fn try_take(&self) -> Taken {
        lock(&self.inner).take()
    }

    /// Takes the first jobs of the run whose turn it is. Waits until there are any, or none will come.
    pub(super) fn take(&self) -> Taken {
        let mut inner = lock(&self.inner);
        loop {
            match inner.take() {
                Taken::Nothing => {
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
                taken => return taken,
            }
        }
    }
}

impl Inner {
    fn take(&mut self) -> Taken {
        let Some(run) = self.turns.pop_front() else {
            return if self.is_closed { Taken::Closed } else { Taken::Nothing };
        };
        let Some(jobs) = self.of_runs.get_mut(&run) else { return Taken::Nothing };
        let bundle = first_of(jobs, RenderJob::cost);
        if jobs.is_empty() {
            self.of_runs.remove(&run);
        } else {
            self.turns.push_back(run);
        }
        Taken::Bundle(bundle)
    }
}

/// Removes and returns the first jobs, at least one.
fn first_of<T>(
    jobs: &mut VecDeque<(BatchSlot, T)>,
    cost: impl Fn(&T) -> u64,
) -> Vec<(BatchSlot, T)> {
    let mut sum = 0u64;
    let fits = |(_, job): &&(BatchSlot, T)| {
        let is_first = sum == 0;
        sum = sum.saturating_add(cost(job).max(1));
        is_first || sum <= BUNDLE_COST_MAX
    };
    let n = jobs.iter().take(TOGETHER_MAX).take_while(fits).count();
    jobs.drain(..n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_jobs_are_taken_together_and_a_large_one_alone() {
        let taken = |costs: &[u64]| {
            let slot = |event_idx| BatchSlot { batch: 0, event_idx };
            let mut jobs: VecDeque<_> =
                costs.iter().enumerate().map(|(i, cost)| (slot(i), *cost)).collect();
            let mut sizes = Vec::new();
            while !jobs.is_empty() {
                sizes.push(first_of(&mut jobs, |cost| *cost).len());
            }
            sizes
        };
        assert_eq!(taken(&[1; 150]), [64, 64, 22]);
        assert_eq!(taken(&[BUNDLE_COST_MAX / 2; 3]), [2, 1]);
        assert_eq!(taken(&[0, 1, u64::MAX, u64::MAX, 1]), [2, 1, 1, 1]);
    }

    #[test]
    fn a_closed_queue_says_so_to_all_workers() {
        let queue = JobQueue::new();
        assert!(matches!(queue.try_take(), Taken::Nothing));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(matches!(queue.take(), Taken::Closed)));
            }
            queue.close();
        });
    }
}
