//! Makes images, bundle by bundle.

use crossbeam_channel::{Receiver, RecvError, Sender, TryRecvError};

use super::budget::Share;
use super::job::{BatchSlot, Outcomes, RenderJob, RenderOutcome};
use super::media_writer::MediaWriter;
use crate::pulse::idle;
use crate::render::Renderer;

/// Images that one worker makes one after the other. Small images are handed over together, because
/// waking a thread costs as much as making one.
#[derive(Debug)]
pub(super) struct Bundle {
    jobs: Vec<(BatchSlot, RenderJob)>,
    /// Memory for the largest of them. Given back when dropped.
    _memory: Share,
}

impl Bundle {
    pub(super) fn new(jobs: Vec<(BatchSlot, RenderJob)>, memory: Share) -> Self {
        Self { jobs, _memory: memory }
    }
}

/// The outcomes of a bundle. Some may come with a later one: see [`batch_values`](super::batch_values).
pub(super) type BundleOutcomes = Vec<(BatchSlot, RenderOutcome)>;

/// Works until the channel of bundles is closed.
pub(super) fn work_all(
    bundles: &Receiver<Bundle>,
    outcomes: &Sender<BundleOutcomes>,
    writer: &MediaWriter,
) {
    let (mut renderer, mut made) = (Renderer::default(), Outcomes::default());
    loop {
        let bundle = if made.has_undigested() {
            bundles.try_recv()
        } else {
            idle(|| bundles.recv()).map_err(|RecvError| TryRecvError::Disconnected)
        };
        match bundle {
            Ok(Bundle { jobs, _memory }) => {
                for (slot, job) in jobs {
                    job.run(slot, &mut renderer, writer, &mut made);
                }
            }
            Err(TryRecvError::Disconnected) if !made.has_undigested() => return,
            Err(TryRecvError::Disconnected | TryRecvError::Empty) => {}
        }
        made.digest(writer.is_stopped());
        let done = std::mem::take(&mut made.done);
        // The committer is gone only if it gave up.
        if !done.is_empty() && idle(|| outcomes.send(done)).is_err() {
            return;
        }
    }
}
