//! A record, a header and what the step has so far → which images to make, and how. Pure.
//!
//! Plans are made in order, so that limits fall the same way each time.

use std::ops::Range;

use serde_json::Value;

use crate::convert::layout::{self, LayoutError, Reading};
use crate::encode::encoded_bytes_max;
use crate::limits::{Admission, Limits, StepUsage, admit};
use crate::media::{ColorMode, Description, MediaId, Profile};
use crate::record::{CARRIED_LISTS, ImageOptions, MediaRecord};
use crate::tensor::{MemoryOrder, TensorHeader};

/// How to make one image of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePlan {
    /// Which of the tensor's images.
    pub image_idx: u64,
    /// Width and height to scale it down to.
    pub downscale: Option<(u32, u32)>,
}

/// How all images of a tensor are made.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorPlan {
    /// The tensor.
    pub header: TensorHeader,
    /// Which axis is which.
    pub reading: Reading,
    /// Whose rule makes bytes of values.
    pub profile: Profile,
    /// The values that become 0 and 255, whatever the profile.
    pub range: Option<(f64, f64)>,
    /// The mode to make.
    pub mode: ColorMode,
    /// The memory that making one image takes at most, in bytes.
    pub memory_bytes: u64,
}

impl TensorPlan {
    /// The mode of the tensor's own channels.
    #[must_use]
    pub fn natural_mode(&self) -> ColorMode {
        ColorMode::natural(self.reading.n_channels).unwrap_or(ColorMode::L)
    }
}

/// What becomes of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedItem {
    /// Where it stands.
    pub id: MediaId,
    /// What the job said of it.
    pub description: Description,
    /// How to make it, or why it is held back.
    pub plan: Result<ImagePlan, String>,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How its tensor is read.
    pub tensor: TensorPlan,
    /// Its images, in order.
    pub items: Vec<PlannedItem>,
}

/// Why nothing can be made of a record: its dump is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The axes make no sense.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The record asks for what can't be.
    #[error("{0}")]
    Record(String),
    /// The tensor asks for more than a protective limit allows.
    #[error("{0}")]
    OverLimit(String),
}

/// The indices that an earlier version of the same dump had: a new version takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The first of them.
    pub first: u32,
    /// How many.
    pub n: u32,
}

impl Earlier {
    /// The indices.
    #[must_use]
    pub fn indices(self) -> Range<u32> {
        self.first..self.first.saturating_add(self.n)
    }
}

/// Plans the images of one record and takes their indices in `usage`.
///
/// # Errors
/// If no image can come of it; `usage` is then as before.
pub fn plan(
    record: &MediaRecord,
    options: ImageOptions,
    header: TensorHeader,
    usage: &mut StepUsage,
    limits: &Limits,
    earlier: Option<Earlier>,
) -> Result<Plan, PlanError> {
    let profile = options.profile.unwrap_or_default();
    let reading = layout::read(&header.shape, options.format, profile, options.mode)?;
    let tensor = tensor_plan(header, reading, profile, options, limits)?;
    let Reading { n_images, width, height, .. } = reading;

    let n_items = u32::try_from(n_images).unwrap_or(u32::MAX);
    let first = match (earlier, record.index) {
        (Some(earlier), _) => Some(earlier.first),
        (None, Some(index)) => Some(index),
        (None, None) => usage.next_index(),
    };
    let indices = first
        .and_then(|first| Some(first..first.checked_add(n_items)?))
        .ok_or_else(|| PlanError::Record("no index is left in this step".to_owned()))?;
    let is_own = |index: u32| earlier.is_some_and(|earlier| earlier.indices().contains(&index));
    if let Some(index) = indices.clone().find(|&index| usage.is_taken(index) && !is_own(index)) {
        return Err(PlanError::Record(format!(
            "index {index} of this key and step is taken already"
        )));
    }

    let descriptions = descriptions(&record.description, n_items as usize)?;
    let items = indices.zip(0..).zip(descriptions).map(|((index, image_idx), description)| {
        // An image that takes the place of an earlier one doesn't count twice.
        usage.free(index);
        let plan = match admit(limits, usage, width, height) {
            Admission::Keep => Ok(ImagePlan { image_idx, downscale: None }),
            Admission::Downscale(width, height) => {
                Ok(ImagePlan { image_idx, downscale: Some((width, height)) })
            }
            Admission::Hold(reason) => Err(reason),
        };
        usage.take(index, plan.is_ok());
        PlannedItem {
            id: MediaId { key: record.key.clone(), step: record.step, index },
            description,
            plan,
        }
    });
    Ok(Plan { items: items.collect(), tensor })
}

fn tensor_plan(
    header: TensorHeader,
    reading: Reading,
    profile: Profile,
    options: ImageOptions,
    limits: &Limits,
) -> Result<TensorPlan, PlanError> {
    let over = |what: &str, got: u64, name: &str, max: u64| {
        Err(PlanError::OverLimit(format!("{got} {what}, {name} is {max}")))
    };
    let Reading { n_images, width, height, .. } = reading;
    if n_images > limits.batch_max {
        return over("images in one dump", n_images, "limits.batch_max", limits.batch_max);
    }
    let n_pixels = width.saturating_mul(height);
    if n_pixels > limits.pixels_max {
        return over("pixels in one image", n_pixels, "limits.pixels_max", limits.pixels_max);
    }
    let natural = ColorMode::natural(reading.n_channels).unwrap_or(ColorMode::L);
    let mode = options.mode.or(reading.guessed_mode).unwrap_or(natural);
    if profile == Profile::Wandb010 && mode != natural {
        return Err(PlanError::Record(format!(
            "mode {mode} for {natural} data: profile wandb-0.10 would relabel the bytes, which scrambles \
             the picture; want {natural}, or another profile"
        )));
    }
    if profile == Profile::Auto && mode == ColorMode::I16 {
        let problem =
            "mode I;16 holds 0..255 unscaled, which only the profiles wandb-0.20 and wandb-0.29 do";
        return Err(PlanError::Record(problem.to_owned()));
    }
    let size = |mode: ColorMode| n_pixels.saturating_mul(mode.pixel_size() as u64);
    // Natural samples and converted ones, the encoded file and the encoder's own copy, and the
    // elements themselves where they must be put in order first.
    let reordered = match header.memory_order {
        MemoryOrder::C => 0,
        MemoryOrder::Fortran => reading.n_elements().saturating_mul(header.dtype.size() as u64),
    };
    // Scaling down goes by rows of four floats a pixel, first in one direction.
    let scaling = match admit(limits, &StepUsage::default(), width, height) {
        Admission::Downscale(_, new_height) => {
            width.saturating_mul(u64::from(new_height)).saturating_mul(16)
        }
        Admission::Keep | Admission::Hold(_) => 0,
    };
    let memory_bytes = [
        size(natural),
        if mode == natural { 0 } else { size(mode) },
        encoded_bytes_max(size(mode), height).saturating_mul(2),
        reordered,
        CHUNK_BYTES as u64,
        scaling,
    ]
    .into_iter()
    .fold(0, u64::saturating_add);
    if memory_bytes > limits.memory_bytes_max {
        let max = limits.memory_bytes_max;
        return over(
            "bytes of memory needed for one image",
            memory_bytes,
            "work.memory_bytes_max",
            max,
        );
    }
    Ok(TensorPlan { header, reading, profile, range: options.range, mode, memory_bytes })
}

/// How many bytes of a dump are read at once: a size that stays in a core's cache.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The most bytes that the descriptions of one batch may take in all. What a line says once may
/// stand with each of its images.
const DESCRIPTIONS_BYTES_MAX: usize = 64 << 20;

/// One description for each image of a batch: fields that may be lists of that length are split.
fn descriptions(given: &Description, n: usize) -> Result<Vec<Description>, PlanError> {
    let mut common = given.clone();
    let mut lists: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut split = |name: &'static str, value: Option<Value>| match value {
        Some(Value::Array(values)) if values.len() == n => {
            lists.push((name, values));
            Ok(None)
        }
        Some(Value::Array(values)) if n > 1 => {
            let problem = format!("{name} has {} entries for {n} images", values.len());
            Err(PlanError::Record(problem))
        }
        value => Ok(value),
    };
    common.caption = split("caption", common.caption.take())?;
    common.grouping = split("grouping", common.grouping.take())?;
    for name in CARRIED_LISTS {
        if let Some(value) = split(name, common.extra.shift_remove(name))? {
            common.extra.insert(name.to_owned(), value);
        }
    }
    let n_bytes = serde_json::to_string(&common).map_or(0, |text| text.len());
    if n_bytes.saturating_mul(n) > DESCRIPTIONS_BYTES_MAX {
        let problem = format!(
            "a description of {n_bytes} bytes for each of {n} images, want {DESCRIPTIONS_BYTES_MAX} bytes at most in all"
        );
        return Err(PlanError::OverLimit(problem));
    }
    let mut each = vec![common; n];
    for (name, values) in lists {
        for (description, value) in each.iter_mut().zip(values) {
            match name {
                "caption" => description.caption = Some(value).filter(|value| !value.is_null()),
                "grouping" => description.grouping = Some(value).filter(|value| !value.is_null()),
                _ => drop(description.extra.insert(name.to_owned(), value)),
            }
        }
    }
    Ok(each)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::media::{MediaKey, Step};
    use crate::record::DataRef;
    use crate::tensor::{ByteOrder, DType, Shape};

    fn record(index: Option<u32>, caption: Value) -> MediaRecord {
        MediaRecord {
            key: MediaKey::new("k").unwrap_or_else(|error| panic!("{error}")),
            step: Step(1),
            index,
            data: DataRef { path: "x.npy".to_owned(), tensor: None, dtype: None, raw: false },
            options: ImageOptions::default(),
            description: Description { caption: Some(caption), ..Description::default() },
        }
    }

    fn header(axes: &[u64]) -> TensorHeader {
        let shape = Shape::new(axes.to_vec()).unwrap_or_else(|| panic!("{axes:?}"));
        let n_bytes = shape.n_elements();
        TensorHeader {
            dtype: DType::U8,
            byte_order: ByteOrder::Little,
            memory_order: MemoryOrder::C,
            shape,
            data_offset: 0,
            n_bytes,
        }
    }

    fn plan_of(
        record: &MediaRecord,
        axes: &[u64],
        usage: &mut StepUsage,
        earlier: Option<Earlier>,
    ) -> Result<Vec<(u32, bool)>, String> {
        plan(record, record.options, header(axes), usage, &Limits::default(), earlier)
            .map(|plan| plan.items.iter().map(|item| (item.id.index, item.plan.is_ok())).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_batch_fills_the_step_in_order() {
        let mut usage = StepUsage::default();
        let plain = record(None, json!("c"));
        let first = plan_of(&plain, &[100, 4, 5], &mut usage, None).unwrap_or_default();
        assert_eq!(first, (0..100).map(|i| (i, true)).collect::<Vec<_>>());
        let second = plan_of(&plain, &[100, 4, 5], &mut usage, None).unwrap_or_default();
        assert_eq!(second, (100..200).map(|i| (i, i < 108)).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_version_takes_the_place_of_the_old() {
        let mut usage = StepUsage::default();
        let plain = record(None, json!("c"));
        assert_eq!(plan_of(&plain, &[4, 5], &mut usage, None), Ok(vec![(0, true)]));
        assert_eq!(plan_of(&plain, &[4, 5], &mut usage, None), Ok(vec![(1, true)]));
        assert_eq!(
            plan_of(&plain, &[4, 5], &mut usage, Some(Earlier { first: 0, n: 1 })),
            Ok(vec![(0, true)])
        );
        assert_eq!(usage.n_kept(), 2);
        let taken = plan_of(&record(Some(1), json!("c")), &[4, 5], &mut usage, None);
        assert_eq!(taken, Err("index 1 of this key and step is taken already".to_owned()));
        assert_eq!(
            plan_of(&record(Some(7), json!("c")), &[4, 5], &mut usage, None),
            Ok(vec![(7, true)])
        );
        assert_eq!(plan_of(&plain, &[4, 5], &mut usage, None), Ok(vec![(8, true)]));
    }

    #[test]
    fn lists_are_split_over_a_batch() {
        let record = record(None, json!(["a", null, ["c"]]));
        let plan = plan(
            &record,
            record.options,
            header(&[3, 8, 9]),
            &mut StepUsage::default(),
            &Limits::default(),
            None,
        );
        assert_eq!(plan.map(|p| p.items.len()), Ok(1), "channels first: one image, one list");
        let options =
            ImageOptions { format: Some(crate::media::DataFormat::Nhw), ..record.options };
        let plan = super::plan(
            &record,
            options,
            header(&[3, 8, 9]),
            &mut StepUsage::default(),
            &Limits::default(),
            None,
        );
        let captions =
            plan.map(|p| p.items.into_iter().map(|i| i.description.caption).collect::<Vec<_>>());
        assert_eq!(captions, Ok(vec![Some(json!("a")), None, Some(json!(["c"]))]));
        let refused = super::plan(
            &record,
            options,
            header(&[2, 8, 9]),
            &mut StepUsage::default(),
            &Limits::default(),
            None,
        );
        assert_eq!(
            refused.map_err(|e| e.to_string()).map(|_| ()),
            Err("caption has 3 entries for 2 images".to_owned())
        );
    }

    #[test]
    fn protective_limits_reject() {
        let refused = |axes: &[u64], limits: Limits| {
            let record = record(None, Value::Null);
            plan(&record, record.options, header(axes), &mut StepUsage::default(), &limits, None)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            refused(&[9, 8, 8], Limits { batch_max: 8, ..Limits::default() }),
            Err("9 images in one dump, limits.batch_max is 8".to_owned())
        );
        assert_eq!(
            refused(&[8, 8], Limits { pixels_max: 63, ..Limits::default() }),
            Err("64 pixels in one image, limits.pixels_max is 63".to_owned())
        );
        let memory = refused(&[8, 8], Limits { memory_bytes_max: 1000, ..Limits::default() });
        assert!(memory.is_err_and(|error| error.contains("work.memory_bytes_max is 1000")));
    }
}
