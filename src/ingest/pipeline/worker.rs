//! Makes images, bundle by bundle.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::budget::Budget;
use super::job::{BatchSlot, Outcomes, RenderJob, RenderOutcome};
use super::job_queue::{Bundle, JobQueue, Taken};
use super::media_writer::MediaWriter;
use crate::pulse::idle;
use crate::render::Renderer;

/// The outcomes of a bundle. Some may come with a later one: see [`batch_values`](super::batch_values).
pub(super) type BundleOutcomes = Vec<(BatchSlot, RenderOutcome)>;

/// A thread that makes images.
pub(super) struct Worker {
    pub(super) jobs: Arc<JobQueue>,
    pub(super) outcomes: Sender<BundleOutcomes>,
    /// Bytes of images in the making, of all workers.
    pub(super) memory: Arc<Budget>,
    pub(super) media_writer: MediaWriter,
}

impl Worker {
    /// Works until the queue is closed and empty.
    pub(super) fn work_all(&self) {
        let (mut renderer, mut made) = (Renderer::default(), Outcomes::default());
        loop {
            let taken = if made.has_undigested() {
                self.jobs.try_take()
            } else {
                idle(|| self.jobs.take())
            };
            match taken {
                Taken::Bundle(bundle) => self.work(bundle, &mut renderer, &mut made),
                Taken::Closed if !made.has_undigested() => return,
                Taken::Closed | Taken::Nothing => {}
            }
            made.digest(self.media_writer.is_stopped());
            let done = std::mem::take(&mut made.done);
            // The committer is gone only if it gave up.
            if !done.is_empty() && idle(|| self.outcomes.send(done)).is_err() {
                return;
            }
        }
    }

    fn work(&self, bundle: Bundle, renderer: &mut Renderer, made: &mut Outcomes) {
        // The images are made one after the other.
        let n_bytes = bundle.iter().map(|(_, job)| job.memory_bytes()).max().unwrap_or(0);
        let _memory = idle(|| self.memory.take(n_bytes));
        for (slot, job) in bundle {
            RenderJob::run(job, slot, renderer, &self.media_writer, made);
        }
    }
}
