//! One image of a plan: a job, or the reason why there is none.

use super::masks::MaskPlan;
use crate::annotations::ImageAnnotations;
use crate::media::{Description, Json, MediaId};

/// How one image is made.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePlan {
    /// Which of the tensor's images, from 0.
    pub image_idx: u64,
    /// Width and height to scale it down to.
    pub downscale: Option<(u32, u32)>,
    /// The image's classes and boxes. Its masks are in `masks`.
    pub annotations: ImageAnnotations,
    /// The labels of its boxes and its own classes, as [`class_set`](crate::annotations::class_set) joins them.
    pub classes: Option<Json>,
    /// The masks.
    pub masks: Vec<MaskPlan>,
    /// Whether a mask was left out, because it could not be planned.
    pub lacks_mask: bool,
    /// An upper bound of the memory that making the image takes, in bytes.
    pub memory_bytes: u64,
}

/// An image to make.
///
/// It moves from the plan to the worker that makes the image, and its parts from there into the media
/// entry.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageJob {
    /// The image's key, step and index.
    pub id: MediaId,
    /// The job's description of the image, without the annotations: `plan` has them.
    pub description: Description,
    /// How it is made.
    pub plan: ImagePlan,
}

/// One image of a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum PlannedItem {
    /// It is made.
    Image(Box<ImageJob>),
    /// A limit holds it back.
    Held {
        /// Its key, step and index.
        id: MediaId,
        /// Which of the tensor's images, from 0.
        image_idx: u64,
        /// The job's description of it.
        description: Description,
        /// The limit.
        reason: String,
    },
    /// It cannot be made.
    Rejected {
        /// The key, step and index that it would have had.
        id: MediaId,
        /// The job's description of it.
        description: Description,
        /// Why.
        reason: String,
    },
}

impl PlannedItem {
    /// Its key, step and index.
    #[must_use]
    pub fn id(&self) -> &MediaId {
        match self {
            Self::Image(job) => &job.id,
            Self::Held { id, .. } | Self::Rejected { id, .. } => id,
        }
    }

    /// An upper bound of the memory that making the image takes, in bytes. 0 if it is not made.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::Image(job) => job.plan.memory_bytes,
            Self::Held { .. } | Self::Rejected { .. } => 0,
        }
    }

    /// Whether it takes an index of its step: an image or a held item does.
    #[must_use]
    pub fn takes_index(&self) -> bool {
        !matches!(self, Self::Rejected { .. })
    }
}
