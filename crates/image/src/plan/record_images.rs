//! The images of one record, and the decision on each of them.

use super::masks::{self, Image, MaskPlan, MaskReading, MaskSource};
use super::{ImagePlan, PlanError, Recipe};
use crate::annotations::{self, ImageAnnotations, class_set};
use crate::limits::{Admission, Limits, StepUsage, admit, scaled_to};
use crate::media::{Description, Json, JsonFields};
use crate::record::{ImageOptions, MediaRecord};

/// The properties that all images of a record share.
pub(super) struct RecordImages {
    n: u64,
    /// Width and height before scaling down.
    width: u64,
    height: u64,
    /// The longest side that the record wants.
    downscale: Option<u32>,
    is_sheet: bool,
    /// Whether the image is a file that is copied unchanged.
    is_copy: bool,
    /// The longest side that the file type allows.
    side_max: u32,
    memory_bytes: u64,
    warnings: Vec<String>,
    /// The annotations that were read last. Often those of all images are the same.
    last_read: Option<ReadAnnotations>,
}

/// What was read of the annotations of an image.
#[derive(Clone)]
struct ReadAnnotations {
    given: JsonFields,
    annotations: ImageAnnotations,
    classes: Option<Json>,
}

/// The decision on one image.
pub(super) enum Decision {
    /// Make it.
    Make(ImagePlan),
    /// Hold it, for this reason.
    Hold(String),
    /// Reject it, for this reason.
    Reject(String),
}

impl RecordImages {
    /// Collects them.
    ///
    /// # Errors
    /// If an image file is over a protective limit.
    pub(super) fn new(
        recipe: &Recipe,
        record: &MediaRecord,
        options: ImageOptions,
        limits: &Limits,
    ) -> Result<Self, PlanError> {
        let images = match recipe {
            Recipe::Convert(tensor) => Self {
                n: tensor.n_images(),
                width: tensor.width,
                height: tensor.height,
                downscale: options.downscale,
                is_sheet: tensor.sheet.is_some(),
                is_copy: false,
                side_max: tensor.encoding.file_type.side_max(),
                memory_bytes: tensor.memory_bytes,
                warnings: tensor.warnings.clone(),
                last_read: None,
            },
            Recipe::Copy(picture) => {
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
                let what =
                    "options of the record have no effect: an image file is copied unchanged";
                let has_options = record.options != ImageOptions::default();
                Self {
                    n: 1,
                    width: picture.width.into(),
                    height: picture.height.into(),
                    downscale: None,
                    is_sheet: false,
                    is_copy: true,
                    side_max: u32::MAX,
                    memory_bytes: got,
                    warnings: has_options.then(|| what.to_owned()).into_iter().collect(),
                    last_read: None,
                }
            }
        };
        let warnings = [record.warnings.as_slice(), &images.warnings].concat();
        Ok(Self { warnings, ..images })
    }

    /// The number of images.
    pub(super) fn n(&self) -> u64 {
        self.n
    }

    /// Adds warnings to all images.
    pub(super) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// Decides on the image at `image_idx` of the batch. An image that cannot be planned is rejected.
    pub(super) fn decide(
        &mut self,
        image_idx: u64,
        description: &Description,
        masks: &[MaskSource],
        usage: &StepUsage,
        limits: &Limits,
    ) -> Decision {
        self.plan(image_idx, description, masks, usage, limits)
            .unwrap_or_else(|error| Decision::Reject(error.to_string()))
    }

    /// Reads the annotations of an image.
    fn read(&mut self, given: &JsonFields) -> ReadAnnotations {
        if let Some(last) = self.last_read.as_ref().filter(|last| last.given == *given) {
            return last.clone();
        }
        let mut annotations = annotations::read(given, self.width, self.height);
        if self.is_sheet && !(annotations.boxes.is_empty() && annotations.masks.is_empty()) {
            annotations.boxes.clear();
            annotations.masks.clear();
            let problem = "boxes and masks dropped: they can't lie on a contact sheet, want them \
                           without grid";
            annotations.warnings.push(problem.to_owned());
        }
        let classes = class_set(&annotations, std::iter::empty());
        let read = ReadAnnotations { given: given.clone(), annotations, classes };
        self.last_read = Some(read.clone());
        read
    }

    fn plan(
        &mut self,
        image_idx: u64,
        description: &Description,
        masks: &[MaskSource],
        usage: &StepUsage,
        limits: &Limits,
    ) -> Result<Decision, PlanError> {
        let (width, height) = (self.width, self.height);
        let wanted = self.downscale.filter(|&side| width.max(height) > side.into());
        let wanted = wanted.map(|side| scaled_to(width, height, side.into()));
        let (new_width, new_height) =
            wanted.map_or((width, height), |(width, height)| (width.into(), height.into()));
        let downscale = match admit(limits, usage, new_width, new_height) {
            Admission::Keep => wanted,
            Admission::Downscale(..) if self.is_copy => {
                return Ok(Decision::Hold(format!(
                    "max_dimension: an image file of {width} × {height} pixels, which is copied \
                     unchanged; a side may have {}",
                    limits.max_dimension
                )));
            }
            Admission::Downscale(width, height) => Some((width, height)),
            Admission::Hold(reason) => return Ok(Decision::Hold(reason)),
        };
        let longest = downscale.map_or(width.max(height), |(w, h)| u64::from(w.max(h)));
        if longest > self.side_max.into() {
            let max = self.side_max;
            let problem = format!("a side of {longest} pixels, the file type holds at most {max}");
            return Err(PlanError::Record(problem));
        }
        let ReadAnnotations { annotations: mut given, classes, .. } =
            self.read(&description.annotations);
        let image = Image { idx: image_idx, n_images: self.n, width, height };
        let made = downscale.map_or((width, height), |(w, h)| (w.into(), h.into()));
        let mut memory_bytes = self.memory_bytes;
        let (mut planned, mut lacks_mask) = (Vec::new(), false);
        for spec in std::mem::take(&mut given.masks) {
            let mask = masks::plan(spec, masks, image, limits).and_then(|mask| {
                let with_mask = memory_bytes.saturating_add(mask.reading.memory_bytes());
                let max = limits.memory_bytes_max;
                if with_mask > max {
                    return Err(format!(
                        "masks.{}: {with_mask} bytes of memory needed for the image and its masks, \
                         work.memory_bytes_max is {max}",
                        mask.spec.name
                    ));
                }
                memory_bytes = with_mask;
                Ok(mask)
            });
            match mask {
                Ok(mask) => {
                    given.warnings.extend(warnings_of(&mask, made));
                    planned.push(mask);
                }
                Err(problem) => {
                    lacks_mask = true;
                    given.warnings.push(format!("{problem}; mask dropped"));
                }
            }
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
        let plan = ImagePlan {
            image_idx,
            downscale,
            annotations: given,
            classes,
            masks: planned,
            lacks_mask,
            memory_bytes,
        };
        Ok(Decision::Make(plan))
    }
}

/// What is odd about a mask on an image of this width and height.
fn warnings_of(mask: &MaskPlan, made: (u64, u64)) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = &mask.spec.name;
    let (width, height) = mask.reading.size();
    if (width, height) != made {
        warnings.push(format!(
            "masks.{name}: {width} × {height} pixels on a picture of {} × {}",
            made.0, made.1
        ));
    }
    if let MaskReading::File(picture) = &mask.reading {
        let doubt = masks::doubt(picture);
        warnings.extend(doubt.map(|doubt| format!("masks.{name}: {doubt}")));
    }
    warnings
}
