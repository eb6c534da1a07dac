//! Batches, and their jobs, that are handed over together.

use std::time::Instant;

use super::batch::QueuedBatch;
use super::job::{BatchSlot, RenderJob};
use super::job_queue::{BUNDLE_COST_MAX, TOGETHER_MAX};
use crate::media::RunId;

/// The jobs of a batch.
type Jobs = Vec<(BatchSlot, RenderJob)>;

/// Collects batches and jobs until there are enough for one message.
#[derive(Debug, Default)]
pub(super) struct Handover {
    batches: Vec<QueuedBatch>,
    /// When the first of them came.
    since: Option<Instant>,
    /// The jobs of the batches.
    jobs: Vec<(RunId, Jobs)>,
    n_jobs: usize,
    /// The [cost](RenderJob::cost) of all jobs together.
    cost: u64,
}

impl Handover {
    pub(super) fn push(&mut self, batch: QueuedBatch, jobs: Jobs) {
        self.since.get_or_insert_with(Instant::now);
        if !jobs.is_empty() {
            self.n_jobs += jobs.len();
            let cost = jobs.iter().map(|(_, job)| job.cost()).fold(0, u64::saturating_add);
            self.cost = self.cost.saturating_add(cost);
            match self.jobs.last_mut().filter(|(run, _)| run == batch.run()) {
                Some((_, of_run)) => of_run.extend(jobs),
                None => self.jobs.push((batch.run().clone(), jobs)),
            }
        }
        self.batches.push(batch);
    }

    /// Whether there are enough: many batches, or jobs for a bundle.
    pub(super) fn is_full(&self) -> bool {
        self.batches.len().max(self.n_jobs) >= TOGETHER_MAX || self.cost >= BUNDLE_COST_MAX
    }

    /// When the first of the batches came.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Takes the batches, and their jobs by run.
    pub(super) fn take(&mut self) -> (Vec<QueuedBatch>, Vec<(RunId, Jobs)>) {
        let Self { batches, jobs, .. } = std::mem::take(self);
        (batches, jobs)
    }
}
