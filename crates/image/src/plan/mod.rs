//! Plans: a record, a header and the usage of its step → which images to make, and how.
//!
//! ```text
//! MediaRecord ─┐             ┌─ Recipe        how all images are made
//! Found ───────┼─▶ plan ─▶ Plan
//! StepUsage ───┘             └─ PlannedItem   one image: an ImageJob, held or rejected
//! ```
//!
//! Plans are made in order, so that limits fall the same way each time.

mod descriptions;
mod index_range;
mod item;
mod masks;
mod recipe;
mod record_images;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::descriptions::{DESCRIPTIONS_BYTES_MAX, descriptions_bytes_max};
pub use self::index_range::IndexRange;
pub use self::item::{ImageJob, ImagePlan, PlannedItem};
pub use self::masks::{MaskContents, MaskPlan, MaskReading, MaskSource};
pub use self::recipe::{Found, Recipe};
use self::record_images::{Decision, RecordImages};
pub use self::tensor::{CHUNK_BYTES, Sheet, TensorPlan};
use crate::convert::LayoutError;
use crate::limits::{Limits, StepUsage};
use crate::media::{Description, JsonFields, MediaId, Rejection, RejectionClass};
use crate::record::{ImageOptions, MediaRecord};
use crate::words::counted;

/// The images of a record, and how they are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How all its images are made.
    pub recipe: Recipe,
    /// Its images, in order.
    pub items: Vec<PlannedItem>,
    /// The length of their descriptions all together, in bytes.
    pub description_bytes: usize,
}

/// Why a record makes no image. Its dump is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The tensor's shape is no picture's.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The record wants something that is not possible.
    #[error("{0}")]
    Record(String),
    /// The data is over a protective limit.
    #[error("{0}")]
    OverLimit(String),
    /// The index that the record names belongs to another item.
    #[error("index {0} of this key and step is taken already")]
    TakenIndex(u32),
}

impl From<PlanError> for Rejection {
    /// What a setting or another item may change is tried again. A rule of the configuration may name the
    /// format of a shape that none fits by itself.
    fn from(error: PlanError) -> Self {
        let class = match error {
            PlanError::Layout(LayoutError::Absurd { .. })
            | PlanError::OverLimit(_)
            | PlanError::TakenIndex(_) => RejectionClass::Waiting,
            PlanError::Layout(_) | PlanError::Record(_) => RejectionClass::Final,
        };
        Self { class, reason: error.to_string() }
    }
}

/// Plans the images of one record and takes their indices in `usage`.
///
/// `earlier` are the indices that an earlier version of the same dump has: the new version takes its
/// place.
///
/// # Errors
/// If the record makes no image. `usage` is then unchanged.
pub fn plan(
    record: &MediaRecord,
    options: ImageOptions,
    found: Found,
    masks: &[MaskSource],
    usage: &mut StepUsage,
    limits: &Limits,
    earlier: Option<IndexRange>,
) -> Result<Plan, PlanError> {
    let recipe = Recipe::new(found, options, limits)?;
    let mut images = RecordImages::new(&recipe, record, options, limits)?;

    let n_items = u32::try_from(images.n()).unwrap_or(u32::MAX);
    // A version that has grown into the indices of other dumps moves behind them.
    let meets_others = |earlier: &IndexRange| {
        let grown = IndexRange { first: earlier.first, n: n_items };
        let mut taken = grown.indices().filter(|&index| usage.is_taken(index));
        taken.any(|index| !earlier.contains(index))
    };
    let earlier = earlier.filter(|earlier| record.index.is_some() || !meets_others(earlier));
    let first = match (earlier, record.index) {
        (Some(earlier), _) => Some(earlier.first),
        (None, Some(index)) => Some(index),
        (None, None) => usage.next_index(),
    };
    let indices = first
        .and_then(|first| Some(first..first.checked_add(n_items)?))
        .ok_or_else(|| PlanError::Record("no index is left in this step".to_owned()))?;
    let is_own = |index: u32| earlier.is_some_and(|earlier| earlier.contains(index));
    if let Some(index) = indices.clone().find(|&index| usage.is_taken(index) && !is_own(index)) {
        return Err(PlanError::TakenIndex(index));
    }

    let n_bytes_max = descriptions_bytes_max(limits);
    let descriptions = descriptions::split(&record.description, n_items as usize, n_bytes_max);
    images.warn(descriptions.warnings);
    let description_bytes = descriptions.n_bytes;
    let items = indices.zip(0..).zip(descriptions.each).map(|((index, image_idx), description)| {
        // An image that replaces an earlier one does not count twice.
        let before = usage.kept_at(index);
        usage.free(index);
        let decision = images.decide(image_idx, &description, masks, usage, limits);
        match &decision {
            Decision::Make(_) => usage.take(index, true),
            Decision::Hold(_) => usage.take(index, false),
            // A rejected image takes no index, and the image before it stays.
            Decision::Reject(_) => {
                if let Some(is_kept) = before {
                    usage.take(index, is_kept);
                }
            }
        }
        let id = MediaId { key: record.key.clone(), step: record.step, index };
        item(id, image_idx, description, decision)
    });
    Ok(Plan { items: items.collect(), recipe, description_bytes })
}

/// Plans held images of a record once more, each at its index.
///
/// `held` maps their indices to the images of the tensor. An image that the limits still do not admit,
/// or that cannot be made, stays held.
///
/// # Errors
/// If the record makes no image now. `usage` is then unchanged.
pub fn plan_held(
    record: &MediaRecord,
    options: ImageOptions,
    found: Found,
    masks: &[MaskSource],
    usage: &mut StepUsage,
    limits: &Limits,
    held: &BTreeMap<u32, u64>,
) -> Result<Plan, PlanError> {
    let recipe = Recipe::new(found, options, limits)?;
    let mut images = RecordImages::new(&recipe, record, options, limits)?;
    let n_images = usize::try_from(images.n()).unwrap_or(usize::MAX);
    let n_bytes_max = descriptions_bytes_max(limits);
    let descriptions = descriptions::split(&record.description, n_images, n_bytes_max);
    images.warn(descriptions.warnings);
    let description_bytes = descriptions.n_bytes;
    let items = held.iter().map(|(&index, &image_idx)| {
        let description = usize::try_from(image_idx).ok().and_then(|i| descriptions.each.get(i));
        let description = description.cloned().unwrap_or_default();
        let decision = if usage.kept_at(index) != Some(false) {
            Decision::Reject("the image is no longer held".to_owned())
        } else if image_idx >= images.n() {
            let images = counted(images.n(), "image");
            Decision::Reject(format!("with this configuration its dump makes {images}"))
        } else {
            images.decide(image_idx, &description, masks, usage, limits)
        };
        if matches!(decision, Decision::Make(_)) {
            usage.take(index, true);
        }
        let id = MediaId { key: record.key.clone(), step: record.step, index };
        item(id, image_idx, description, decision)
    });
    Ok(Plan { items: items.collect(), recipe, description_bytes })
}

fn item(
    id: MediaId,
    image_idx: u64,
    mut description: Description,
    decision: Decision,
) -> PlannedItem {
    match decision {
        Decision::Make(plan) => {
            // The plan has them.
            description.annotations = JsonFields::default();
            description.loaded = JsonFields::default();
            PlannedItem::Image(Box::new(ImageJob { id, description, plan }))
        }
        Decision::Hold(reason) => PlannedItem::Held { id, image_idx, description, reason },
        Decision::Reject(reason) => PlannedItem::Rejected { id, description, reason },
    }
}
