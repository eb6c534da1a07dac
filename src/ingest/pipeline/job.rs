//! One image on its way through the workers: the job, and its outcome.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use super::make::{MadeImage, MakeError, Material, make};
use super::media_writer::MediaWriter;
use crate::media::{MediaEntry, Rejection};
use crate::plan::ImageJob;
use crate::render::Renderer;

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

    /// An upper bound of the memory that making the image takes, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.image.plan.memory_bytes
    }

    /// Makes the image and stages its files.
    pub(super) fn run(self, renderer: &mut Renderer, writer: &MediaWriter) -> RenderOutcome {
        let Self { image, material } = self;
        // A panic in a decoder is a bug. It must not cost more than the image that it met.
        let made =
            panic::catch_unwind(AssertUnwindSafe(|| make(&image, &material, renderer, writer)));
        let made = made.unwrap_or_else(|_| {
            *renderer = Renderer::default();
            Err(MakeError::Failed("the conversion panicked, which is a bug".to_owned()))
        });
        let rejected = |why: Rejection| {
            let ImageJob { id, description, plan } = *image;
            let place = (id.key, id.step, Some(id.index));
            let mut source = material.source().clone();
            if why.is_waiting() {
                source.image = Some(plan.image_idx);
                source.held = Some(material.held_at(plan.image_idx));
            }
            Box::new(MediaEntry::rejected(Some(place), why, description, source))
        };
        match made {
            Ok(made) => RenderOutcome::Made(made),
            Err(MakeError::Failed(reason)) => RenderOutcome::Failed(rejected(reason.into())),
            Err(MakeError::Unread(reason)) => {
                let entry = rejected(Rejection::waiting(reason.clone()));
                RenderOutcome::Unread { entry, reason }
            }
            Err(MakeError::GivenUp) => RenderOutcome::GivenUp,
        }
    }
}
