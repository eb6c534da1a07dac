//! A record, a header and what the step has so far → which images to make, and how. Pure.
//!
//! Plans are made in order, so that limits fall the same way each time.

mod masks;
mod tensor;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::masks::Image;
pub use self::masks::{MaskContents, MaskPlan, MaskReading, MaskSource};
pub use self::tensor::{CHUNK_BYTES, Sheet, TensorPlan};
use crate::annotations::{self, ImageAnnotations};
use crate::convert::layout::LayoutError;
use crate::decode::picture::PictureHeader;
use crate::limits::{Admission, Limits, StepUsage, admit, scaled_to};
use crate::media::{Description, MediaId};
use crate::record::{ImageOptions, MediaRecord};
use crate::tensor::{TensorHeader, Writer};

/// What a record leads to: one tensor, or a picture.
#[derive(Debug, Clone)]
pub enum Found {
    /// A tensor, and who wrote it.
    Tensor(Writer, Box<TensorHeader>),
    /// An image file.
    Picture(PictureHeader),
}

/// How the images of a record are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Making {
    /// Of a tensor.
    Tensor(Box<TensorPlan>),
    /// Not at all: the file is kept as it is.
    Keep(PictureHeader),
}

/// How to make one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePlan {
    /// Which of the tensor's images.
    pub image_idx: u64,
    /// Width and height to scale it down to.
    pub downscale: Option<(u32, u32)>,
    /// The classes, boxes and masks that were given, the masks taken out.
    pub annotations: ImageAnnotations,
    /// The masks.
    pub masks: Vec<MaskPlan>,
    /// The memory that making it takes at most, in bytes.
    pub memory_bytes: u64,
}

/// What becomes of one image.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is made.
    Make(Box<ImagePlan>),
    /// It is held back, for this reason.
    Hold(String),
    /// It is rejected, for this reason.
    Reject(String),
}

/// One image of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedItem {
    /// Where it stands.
    pub id: MediaId,
    /// Which of the tensor's images it is.
    pub image_idx: u64,
    /// What the job said of it; its annotations only where it is not made.
    pub description: Description,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How its images are made.
    pub making: Making,
    /// Its images, in order.
    pub items: Vec<PlannedItem>,
    /// What their descriptions take in all, in bytes.
    pub description_bytes: usize,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    found: Found,
    masks: &[MaskSource],
    usage: &mut StepUsage,
    limits: &Limits,
    earlier: Option<Earlier>,
) -> Result<Plan, PlanError> {
    let making = Making::of(found, options, limits)?;
    let images = Images::of(&making, record, options, limits)?;

    let n_items = u32::try_from(images.n).unwrap_or(u32::MAX);
    // A version with more images than there is room for moves behind the others.
    let others = |earlier: &Earlier| {
        let grown = earlier.first..earlier.first.saturating_add(n_items);
        let mut taken = grown.filter(|&index| usage.is_taken(index));
        taken.any(|index| !earlier.indices().contains(&index))
    };
    let earlier = earlier.filter(|earlier| record.index.is_some() || !others(earlier));
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

    let (descriptions, description_bytes) = descriptions(&record.description, n_items as usize)?;
    let items = indices.zip(0..).zip(descriptions).map(|((index, image_idx), mut description)| {
        // An image that takes the place of an earlier one doesn't count twice.
        let before = usage.kept_at(index);
        usage.free(index);
        let outcome = images.outcome(image_idx, &description, masks, usage, limits);
        match outcome {
            Outcome::Make(_) => {
                description.annotations.clear();
                usage.take(index, true);
            }
            Outcome::Hold(_) => usage.take(index, false),
            // What is rejected has no place, and leaves what stood there.
            Outcome::Reject(_) => {
                if let Some(kept) = before {
                    usage.take(index, kept);
                }
            }
        }
        let id = MediaId { key: record.key.clone(), step: record.step, index };
        PlannedItem { id, image_idx, description, outcome }
    });
    Ok(Plan { items: items.collect(), making, description_bytes })
}

/// Plans once more those images of a record that were `held` back: their indices, and which of the
/// tensor's images each of them is. What the limits still don't admit, and what can't be made, stays
/// held back.
///
/// # Errors
/// If no image can come of the record any more; `usage` is then as before.
pub fn plan_held(
    record: &MediaRecord,
    options: ImageOptions,
    found: Found,
    masks: &[MaskSource],
    usage: &mut StepUsage,
    limits: &Limits,
    held: &BTreeMap<u32, u64>,
) -> Result<Plan, PlanError> {
    let making = Making::of(found, options, limits)?;
    let images = Images::of(&making, record, options, limits)?;
    let n_images = usize::try_from(images.n).unwrap_or(usize::MAX);
    let (descriptions, description_bytes) = descriptions(&record.description, n_images)?;
    let items = held.iter().map(|(&index, &image_idx)| {
        let description = usize::try_from(image_idx).ok().and_then(|i| descriptions.get(i));
        let mut description = description.cloned().unwrap_or_default();
        let outcome = if usage.kept_at(index) != Some(false) {
            Outcome::Reject("it is no longer held back".to_owned())
        } else if image_idx >= images.n {
            let n = images.n;
            Outcome::Reject(format!("its dump makes {n} images by the configuration as it is now"))
        } else {
            images.outcome(image_idx, &description, masks, usage, limits)
        };
        if matches!(outcome, Outcome::Make(_)) {
            description.annotations.clear();
            usage.take(index, true);
        }
        let id = MediaId { key: record.key.clone(), step: record.step, index };
        PlannedItem { id, image_idx, description, outcome }
    });
    Ok(Plan { items: items.collect(), making, description_bytes })
}

impl Making {
    fn of(found: Found, options: ImageOptions, limits: &Limits) -> Result<Self, PlanError> {
        Ok(match found {
            Found::Tensor(writer, header) => {
                Self::Tensor(Box::new(tensor::plan(*header, writer, options, limits)?))
            }
            Found::Picture(picture) => Self::Keep(picture),
        })
    }
}

/// What all images of a record have in common.
struct Images {
    n: u64,
    /// Before scaling down.
    width: u64,
    height: u64,
    /// The longest side that was asked for.
    downscale: Option<u32>,
    is_sheet: bool,
    is_kept: bool,
    side_max: u32,
    memory_bytes: u64,
    warnings: Vec<String>,
}

impl Images {
    fn of(
        making: &Making,
        record: &MediaRecord,
        options: ImageOptions,
        limits: &Limits,
    ) -> Result<Self, PlanError> {
        Ok(match making {
            Making::Tensor(tensor) => Self {
                n: tensor.n_images(),
                width: tensor.width,
                height: tensor.height,
                downscale: options.downscale,
                is_sheet: tensor.sheet.is_some(),
                is_kept: false,
                side_max: tensor.encoding.file_type.side_max(),
                memory_bytes: tensor.memory_bytes,
                warnings: tensor.warnings.clone(),
            },
            Making::Keep(picture) => {
                let (got, max) = (picture.n_bytes, limits.memory_bytes_max);
                if got > max {
                    return Err(PlanError::OverLimit(format!(
                        "an image file of {got} bytes, work.memory_bytes_max is {max}"
                    )));
                }
                let n_pixels = u64::from(picture.width) * u64::from(picture.height);
                if n_pixels > limits.pixels_max {
                    let max = limits.pixels_max;
                    return Err(PlanError::OverLimit(format!(
                        "{n_pixels} pixels in one image, limits.pixels_max is {max}"
                    )));
                }
                let what = "options of the record have no effect: an image file is kept as it is";
                let has_options = record.options != ImageOptions::default();
                Self {
                    n: 1,
                    width: picture.width.into(),
                    height: picture.height.into(),
                    downscale: None,
                    is_sheet: false,
                    is_kept: true,
                    side_max: u32::MAX,
                    memory_bytes: got,
                    warnings: has_options.then(|| what.to_owned()).into_iter().collect(),
                }
            }
        })
    }

    /// What becomes of one of them; one that can't be planned is rejected.
    fn outcome(
        &self,
        image_idx: u64,
        description: &Description,
        masks: &[MaskSource],
        usage: &StepUsage,
        limits: &Limits,
    ) -> Outcome {
        self.plan(image_idx, description, masks, usage, limits)
            .unwrap_or_else(|error| Outcome::Reject(error.to_string()))
    }

    fn plan(
        &self,
        image_idx: u64,
        description: &Description,
        masks: &[MaskSource],
        usage: &StepUsage,
        limits: &Limits,
    ) -> Result<Outcome, PlanError> {
        let (width, height) = (self.width, self.height);
        let asked = self.downscale.filter(|&side| width.max(height) > side.into());
        let asked = asked.map(|side| scaled_to(width, height, side.into()));
        let (new_width, new_height) =
            asked.map_or((width, height), |(width, height)| (width.into(), height.into()));
        let downscale = match admit(limits, usage, new_width, new_height) {
            Admission::Keep => asked,
            Admission::Downscale(..) if self.is_kept => {
                return Ok(Outcome::Hold(format!(
                    "max_dimension: an image file of {width} × {height} pixels, which is kept as it \
                     is; a side may have {}",
                    limits.max_dimension
                )));
            }
            Admission::Downscale(width, height) => Some((width, height)),
            Admission::Hold(reason) => return Ok(Outcome::Hold(reason)),
        };
        let longest = downscale.map_or(width.max(height), |(w, h)| u64::from(w.max(h)));
        if longest > self.side_max.into() {
            let max = self.side_max;
            let problem = format!("a side of {longest} pixels, the file type holds at most {max}");
            return Err(PlanError::Record(problem));
        }
        let mut given = annotations::read(&description.annotations, width, height)
            .map_err(|error| PlanError::Record(error.to_string()))?;
        if self.is_sheet && !(given.boxes.is_empty() && given.masks.is_empty()) {
            let problem = "boxes and masks can't lie on a contact sheet: want them without grid";
            return Err(PlanError::Record(problem.to_owned()));
        }
        let image = Image { idx: image_idx, n_images: self.n, width, height };
        let specs = std::mem::take(&mut given.masks).into_iter();
        let masks = specs.map(|spec| masks::plan(spec, masks, image, limits));
        let masks = masks.collect::<Result<Vec<_>, _>>()?;
        let mut memory_bytes = self.memory_bytes;
        for mask in &masks {
            memory_bytes = memory_bytes.saturating_add(mask.reading.memory_bytes());
            let (got_width, got_height) = mask.reading.size();
            let made = downscale.map_or((width, height), |(w, h)| (w.into(), h.into()));
            if (got_width, got_height) != made {
                given.warnings.push(format!(
                    "masks.{}: {got_width} × {got_height} pixels on a picture of {} × {}",
                    mask.spec.name, made.0, made.1
                ));
            }
        }
        if memory_bytes > limits.memory_bytes_max {
            let max = limits.memory_bytes_max;
            return Err(PlanError::OverLimit(format!(
                "{memory_bytes} bytes of memory needed for one image and its masks, \
                 work.memory_bytes_max is {max}"
            )));
        }
        if let Some((new_width, new_height)) = downscale {
            for set in given.boxes.iter().filter(|set| set.has_pixels) {
                given.warnings.push(format!(
                    "boxes.{}: in pixels of the picture before it was scaled down from {width} × \
                     {height} to {new_width} × {new_height}",
                    set.name
                ));
            }
        }
        given.warnings.splice(0..0, self.warnings.iter().cloned());
        let plan = ImagePlan { image_idx, downscale, annotations: given, masks, memory_bytes };
        Ok(Outcome::Make(Box::new(plan)))
    }
}

/// The most bytes that the descriptions of one dump's images may take in all. What a line says once may
/// stand with each of its images.
pub const DESCRIPTIONS_BYTES_MAX: usize = 64 << 20;

/// One description for each image of a batch: fields that may be lists of that length are split.
/// Also returns what they take in all, in bytes.
fn descriptions(given: &Description, n: usize) -> Result<(Vec<Description>, usize), PlanError> {
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
    for name in ["boxes", "masks"] {
        if let Some(value) = split(name, common.annotations.shift_remove(name))? {
            common.annotations.insert(name.to_owned(), value);
        }
    }
    let n_bytes = serde_json::to_string(&common).map_or(0, |text| text.len());
    let in_lists = lists.iter().flat_map(|(_, values)| values);
    let n_in_lists: usize = in_lists.map(|value| value.to_string().len()).sum();
    let n_all = n_bytes.saturating_mul(n).saturating_add(n_in_lists);
    if n_all > DESCRIPTIONS_BYTES_MAX {
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
                _ => drop(description.annotations.insert(name.to_owned(), value)),
            }
        }
    }
    Ok((each, n_all))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::media::{MediaKey, Step};
    use crate::record::DataRef;
    use crate::tensor::{ByteOrder, DType, Shape, Storage};

    fn record(index: Option<u32>, caption: Value) -> MediaRecord {
        MediaRecord {
            key: MediaKey::new("k").unwrap_or_else(|error| panic!("{error}")),
            step: Step(1),
            index,
            data: DataRef::of_path("x.npy"),
            options: ImageOptions::default(),
            description: Description { caption: Some(caption), ..Description::default() },
        }
    }

    fn header(axes: &[u64]) -> Found {
        let shape = Shape::new(axes.to_vec()).unwrap_or_else(|| panic!("{axes:?}"));
        let (strides, n_bytes) = (shape.c_strides(), shape.n_elements());
        let storage = Storage::plain(0, n_bytes);
        let header = TensorHeader::new(DType::U8, ByteOrder::Little, shape, strides, storage, 0);
        let header = header.unwrap_or_else(|error| panic!("{error:?}"));
        Found::Tensor(Writer::NumPy, Box::new(header))
    }

    fn is_made(item: &PlannedItem) -> bool {
        matches!(item.outcome, Outcome::Make(_))
    }

    fn plan_of(
        record: &MediaRecord,
        axes: &[u64],
        usage: &mut StepUsage,
        earlier: Option<Earlier>,
    ) -> Result<Vec<(u32, bool)>, String> {
        plan(record, record.options, header(axes), &[], usage, &Limits::default(), earlier)
            .map(|plan| plan.items.iter().map(|item| (item.id.index, is_made(item))).collect())
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
    fn what_was_held_back_is_planned_where_it_stands() {
        let mut usage = StepUsage::default();
        let plain = record(None, json!(["a", "b", "c", "d"]));
        let options = ImageOptions { format: Some(crate::media::DataFormat::Nhw), ..plain.options };
        // Two more that are kept come first, and one of the batch was rejected and is free again.
        usage.take(0, true);
        usage.take(1, true);
        [2, 3, 5].into_iter().for_each(|index| usage.take(index, false));
        let held = [2, 3, 4, 5, 9].map(|index| (index, u64::from(index) - 2));
        let limits = Limits { max_items: 4, ..Limits::default() };
        let plan = plan_held(
            &plain,
            options,
            header(&[4, 8, 9]),
            &[],
            &mut usage,
            &limits,
            &BTreeMap::from(held),
        );
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        let got: Vec<_> = plan
            .items
            .iter()
            .map(|item| {
                let outcome = match &item.outcome {
                    Outcome::Make(plan) => format!("image {}", plan.image_idx),
                    Outcome::Hold(reason) | Outcome::Reject(reason) => reason.clone(),
                };
                (item.id.index, item.description.caption.clone(), outcome)
            })
            .collect();
        let full = "max_items: 4 images of this key and step are kept";
        let none = "it is no longer held back";
        let want = [
            (2, Some(json!("a")), "image 0".to_owned()),
            (3, Some(json!("b")), "image 1".to_owned()),
            (4, Some(json!("c")), none.to_owned()),
            (5, Some(json!("d")), full.to_owned()),
            (9, None, none.to_owned()),
        ];
        assert_eq!(got, want);
        assert_eq!((usage.n_kept(), usage.kept_at(5), usage.is_taken(4)), (4, Some(false), false));
    }

    #[test]
    fn lists_are_split_over_a_batch() {
        let record = record(None, json!(["a", null, ["c"]]));
        let plan = plan(
            &record,
            record.options,
            header(&[3, 8, 9]),
            &[],
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
            &[],
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
            &[],
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
            plan(
                &record,
                record.options,
                header(axes),
                &[],
                &mut StepUsage::default(),
                &limits,
                None,
            )
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
