//! Batches, and the jobs of the last of them, that are handed over together.

use std::time::Instant;

use super::batch::QueuedBatch;
use super::job::{BatchSlot, RenderJob};

/// An upper bound for the batches that are sent to the committer together, and for the jobs of a bundle.
const TOGETHER_MAX: usize = 64;

/// An upper bound for the [cost](RenderJob::cost) of a bundle of several jobs. Many small images fit, so
/// that handing them over costs little beside making them; two large ones don't.
const BUNDLE_COST_MAX: u64 = 128 << 10;

/// Collects batches and jobs until there are enough for one message each.
#[derive(Debug, Default)]
pub(super) struct Handover {
    batches: Vec<QueuedBatch>,
    /// When the first of them came.
    since: Option<Instant>,
    jobs: Vec<(BatchSlot, RenderJob)>,
    /// The cost of all jobs together.
    cost: u64,
    /// The memory that the largest job needs, in bytes.
    memory_bytes: u64,
}

impl Handover {
    pub(super) fn push_batch(&mut self, batch: QueuedBatch) {
        self.since.get_or_insert_with(Instant::now);
        self.batches.push(batch);
    }

    /// Whether the jobs must be handed over before another one of this cost.
    pub(super) fn has_no_room_for(&self, job: &RenderJob) -> bool {
        let is_over = self.cost.saturating_add(job.cost()) > BUNDLE_COST_MAX;
        self.jobs.len() == TOGETHER_MAX || !self.jobs.is_empty() && is_over
    }

    pub(super) fn push_job(&mut self, slot: BatchSlot, job: RenderJob) {
        self.cost = self.cost.saturating_add(job.cost());
        self.memory_bytes = self.memory_bytes.max(job.memory_bytes());
        self.jobs.push((slot, job));
    }

    /// Whether the batches must be handed over.
    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= TOGETHER_MAX
    }

    /// When the first of the batches came.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Takes the batches.
    pub(super) fn take_batches(&mut self) -> Vec<QueuedBatch> {
        self.since = None;
        std::mem::take(&mut self.batches)
    }

    /// Takes the jobs, and the memory that making them one after the other needs, in bytes.
    pub(super) fn take_jobs(&mut self) -> (Vec<(BatchSlot, RenderJob)>, u64) {
        self.cost = 0;
        (std::mem::take(&mut self.jobs), std::mem::take(&mut self.memory_bytes))
    }
}
