//! One image on its way through the workers: the job, and its outcome.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use super::batch_values::{BatchValues, KeptBack};
use super::make::{MadeImage, MakeError, Material, make};
use super::media_writer::MediaWriter;
use super::worker::BundleOutcomes;
use crate::convert::Extent;
use crate::media::{Description, Json, MediaEntry, MediaId, Rejection};
use crate::plan::ImageJob;
use crate::render::Renderer;

/// The bytes of a dump that are read for its digest between two bundles.
const DIGEST_SLICE_BYTES: u64 = 32 << 20;

/// An image to make, and what it is made of.
#[derive(Debug)]
pub(super) struct RenderJob {
    image: Box<ImageJob>,
    /// Shared by all images of a tensor.
    material: Arc<Material>,
}

/// Where the event of an image belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSlot {
    /// The number of the batch.
    pub(super) batch: u64,
    /// The event's place in the batch.
    pub(super) event_idx: usize,
}

/// The outcome of a job.
#[derive(Debug)]
pub(super) enum RenderOutcome {
    /// The image.
    Made(MadeImage),
    /// A rejected item: the data makes no image.
    Failed(Box<MediaEntry>),
    /// The dump could not be read whole now. The item waits, unless the dump is read again.
    Unread { entry: Box<MediaEntry>, reason: String },
    /// Nothing: the program stops while nothing can be written. The image is made after the next start.
    GivenUp,
}

impl RenderJob {
    pub(super) fn new(image: Box<ImageJob>, material: &Arc<Material>) -> Self {
        Self { image, material: material.clone() }
    }

    /// The work that the image takes, in pixels or bytes.
    pub(super) fn cost(&self) -> u64 {
        self.material.cost()
    }

    /// The length of the texts that the image's entry has, in bytes.
    pub(super) fn text_bytes(&self) -> u64 {
        let ImageJob { description, plan, .. } = &*self.image;
        let labels =
            |labels: &Option<Json>| labels.as_ref().map_or(0, |labels| labels.text().len());
        let of_boxes = plan.annotations.boxes.iter();
        let n_boxes: usize = of_boxes.map(|set| set.file.len() + labels(&set.class_labels)).sum();
        let n_masks: usize = plan.masks.iter().map(|mask| labels(&mask.spec.class_labels)).sum();
        (description.n_bytes() + n_boxes + n_masks + labels(&plan.classes)) as u64
    }

    /// An upper bound of the memory that making the image takes, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        let of_batch = self.material.batch().map_or(0, BatchValues::memory_bytes);
        self.image.plan.memory_bytes.max(of_batch)
    }

    /// Makes the image, stages its files, and adds the outcome to `outcomes`. An image that shares its rule
    /// with others may be kept back; the last of these adds the outcomes of all.
    pub(super) fn run(
        self,
        slot: BatchSlot,
        renderer: &mut Renderer,
        writer: &MediaWriter,
        outcomes: &mut Outcomes,
    ) {
        let Self { image, material } = self;
        let mut worker = Worker { material: &material, renderer, writer };
        match material.batch() {
            Some(batch) if batch.keeps_back() => {
                let made = worker.make(&image, batch.extent());
                if let Some((images, extent)) = batch.keep(KeptBack { slot, image, made }) {
                    worker.finish_all(images, extent, outcomes);
                }
            }
            batch => {
                let extent = batch.map_or(Ok(None), |batch| {
                    batch.measured(|| worker.measure(&(0..material.n_images())))
                });
                let made = extent.and_then(|extent| {
                    let made = worker.make(&image, extent);
                    worker.finish(&image, made, extent)
                });
                outcomes.push(slot, outcome(image, &material, made), &material);
            }
        }
    }
}

/// What came of the jobs of a worker.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) done: BundleOutcomes,
    /// Images of dumps of which much is left to be read for the digest. Other jobs are done in between.
    undigested: VecDeque<Undigested>,
}

/// An image without the digest of its dump.
#[derive(Debug)]
struct Undigested {
    slot: BatchSlot,
    made: MadeImage,
    material: Arc<Material>,
}

impl Outcomes {
    fn push(&mut self, slot: BatchSlot, outcome: RenderOutcome, material: &Arc<Material>) {
        match outcome {
            RenderOutcome::Made(made) if !made.has_digest => {
                let material = material.clone();
                self.undigested.push_back(Undigested { slot, made, material });
            }
            outcome => self.done.push((slot, outcome)),
        }
    }

    /// Whether images wait for the digest of their dump.
    pub(super) fn has_undigested(&self) -> bool {
        !self.undigested.is_empty()
    }

    /// Reads on for the digest of a dump. If the program stops, the image is made after the next start.
    pub(super) fn digest(&mut self, is_stopped: bool) {
        let Some(Undigested { slot, mut made, material }) = self.undigested.pop_front() else {
            return;
        };
        if is_stopped {
            return self.done.push((slot, RenderOutcome::GivenUp));
        }
        let digest = material.digest_slice(DIGEST_SLICE_BYTES);
        let digest = digest.and_then(|digest| {
            // A dump that was changed needs no digest.
            material.check_unchanged().map(|()| digest)
        });
        match digest {
            Ok(Some(digest)) => {
                made.set_digest(digest);
                self.done.push((slot, RenderOutcome::Made(made)));
            }
            Ok(None) => self.undigested.push_back(Undigested { slot, made, material }),
            Err(error) => {
                let MadeImage { entry, .. } = made;
                let MediaEntry { description, source, .. } = &*entry;
                let image_idx = source.image.unwrap_or(0);
                let failed = entry
                    .id()
                    .map(|id| failure(id, image_idx, description.clone(), &material, error));
                self.done.extend(failed.map(|outcome| (slot, outcome)));
            }
        }
    }
}

/// Makes images of one tensor.
struct Worker<'a> {
    material: &'a Arc<Material>,
    renderer: &'a mut Renderer,
    writer: &'a MediaWriter,
}

impl Worker<'_> {
    fn make(&mut self, image: &ImageJob, extent: Option<Extent>) -> Result<MadeImage, MakeError> {
        self.caught(|worker| make(image, worker.material, extent, worker.renderer, worker.writer))
    }

    fn measure(&mut self, images: &Range<u64>) -> Result<Option<Extent>, MakeError> {
        self.caught(|worker| worker.material.measure(images, worker.renderer, worker.writer))
    }

    /// A panic in a decoder is a bug. It must not cost more than the image that it met.
    fn caught<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, MakeError>,
    ) -> Result<T, MakeError> {
        panic::catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            *self.renderer = Renderer::default();
            Err(MakeError::Failed("the conversion panicked, which is a bug".to_owned()))
        })
    }

    /// Finishes an image, now that the extent of all images that share its rule is known. Makes it again if
    /// it was made by another rule.
    fn finish(
        &mut self,
        image: &ImageJob,
        made: Result<MadeImage, MakeError>,
        extent: Option<Extent>,
    ) -> Result<MadeImage, MakeError> {
        if let Some(made) = self.material.finished(made?, extent)? {
            return Ok(made);
        }
        let again = self.make(image, extent)?;
        let changed = || MakeError::Unread("the dump changed while it was read".to_owned());
        self.material.finished(again, extent)?.ok_or_else(changed)
    }

    /// Finishes all images that share a rule. `extent` is that of those that were made.
    fn finish_all(
        &mut self,
        images: Vec<KeptBack>,
        mut extent: Option<Extent>,
        outcomes: &mut Outcomes,
    ) {
        let mut n_unread = 0;
        for KeptBack { image, made, .. } in &images {
            // If the program stops, nothing of the batch is committed.
            if matches!(made, Err(MakeError::Failed(_) | MakeError::Unread(_))) {
                let image_idx = image.plan.image_idx;
                match self.measure(&(image_idx..image_idx + 1)) {
                    Ok(of_image) => extent = Extent::join(extent, of_image),
                    Err(_) => n_unread += 1,
                }
            }
        }
        for KeptBack { slot, image, made } in images {
            let made = self.finish(&image, made, extent).map(|mut made| {
                made.entry.warn((n_unread > 0).then(|| {
                    format!(
                        "{n_unread} other images of the batch could not be read: the rule for the \
                         values is chosen without them"
                    )
                }));
                made
            });
            outcomes.push(slot, outcome(image, self.material, made), self.material);
        }
    }
}

fn outcome(
    image: Box<ImageJob>,
    material: &Material,
    made: Result<MadeImage, MakeError>,
) -> RenderOutcome {
    match made {
        Ok(made) => RenderOutcome::Made(made),
        Err(error) => {
            let ImageJob { id, description, plan } = *image;
            failure(id, plan.image_idx, description, material, error)
        }
    }
}

/// The outcome of an image that cannot be made.
fn failure(
    id: MediaId,
    image_idx: u64,
    description: Description,
    material: &Material,
    error: MakeError,
) -> RenderOutcome {
    let rejected = |why: Rejection| {
        let place = (id.key, id.step, Some(id.index));
        let mut source = material.source().clone();
        if why.is_waiting() {
            source.image = Some(image_idx);
            source.held = Some(material.held_at(image_idx));
        }
        Box::new(MediaEntry::rejected(Some(place), why, description, source))
    };
    match error {
        MakeError::Failed(reason) => RenderOutcome::Failed(rejected(reason.into())),
        MakeError::Unread(reason) => {
            let entry = rejected(Rejection::waiting(reason.clone()));
            RenderOutcome::Unread { entry, reason }
        }
        MakeError::GivenUp => RenderOutcome::GivenUp,
    }
}
