//! The class `wandb.Image`: its constants and class methods, under their own names.
//!
//! | here | in wandb 0.10.20 |
//! | --- | --- |
//! | [`MAX_ITEMS`], [`MAX_DIMENSION`], [`ARTIFACT_TYPE`] | `Image.MAX_ITEMS`, `.MAX_DIMENSION`, `.artifact_type` |
//! | [`guess_mode`], [`to_uint8`] | `Image.guess_mode(data)`, `Image.to_uint8(data)` |
//! | [`all_captions`], [`all_boxes`], [`all_masks`] | `Image.all_captions(images)`, `.all_boxes(…)`, `.all_masks(…)` |
//!
//! What wandb then makes of these values (a history row, an artifact, a run's config) is in the crate
//! `safelight-formats`.
//!
//! Source: `docs/spec/image.md` A, C and D; wandb 0.10.20 `sdk/data_types.py`, 0.28.2 and 0.31.0
//! `sdk/data_types/image.py`.

use serde_json::{Map, Value, json};

use crate::convert::{Decision, Elements, LayoutError, Scan, Wish, layout};
use crate::media::{
    Annotation, Annotations, ColorMode, CommittedImage, Json, MediaEntry, Profile, Rule, Stats,
};
use crate::tensor::{ByteOrder, DType, Shape, Writer};

/// Most images of one key and step: 108.
pub const MAX_ITEMS: u32 = 108;

/// Longest side of an image, in pixels: 65,500.
pub const MAX_DIMENSION: u32 = 65_500;

/// The `_type` of a logged image. wandb 0.28 calls it `_log_type`.
pub const ARTIFACT_TYPE: &str = "image-file";

/// Returns the mode that `wandb.Image` guesses for an array of this shape: `L`, `RGB` or `RGBA`.
///
/// If wandb refuses the shape, returns the mode that Safelight makes: `L`, `LA`, `RGB` or `RGBA`.
///
/// # Errors
/// If the shape makes no picture: an axis has length 0, or no order of the axes gives 1 to 4 channels.
///
/// # Examples
///
/// ```
/// use safelight_image::media::{ColorMode, Profile};
/// use safelight_image::tensor::{Shape, Writer};
/// use safelight_image::wandb::guess_mode;
///
/// let shape = Shape::new(vec![480, 640, 3]).ok_or("too many axes")?;
/// assert_eq!(guess_mode(&shape, Writer::NumPy, Profile::Wandb020)?, ColorMode::Rgb);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn guess_mode(
    shape: &Shape,
    writer: Writer,
    profile: Profile,
) -> Result<ColorMode, LayoutError> {
    let reading = layout::read(shape, writer, None, profile, None)?;
    let natural = ColorMode::natural(reading.n_channels).unwrap_or(ColorMode::L);
    Ok(reading.guessed_mode.unwrap_or(natural))
}

/// Converts a whole little-endian tensor to 8 bits by the rule of `profile`.
///
/// Returns one byte for each element of `data`, in the same order, the rule that was chosen, and the
/// statistics of the values before conversion. With `range`, its ends become 0 and 255 under every
/// profile; `range.0` must be less than `range.1`.
///
/// # Panics
/// If `data` is not a whole number of elements.
///
/// # Examples
///
/// ```
/// use safelight_image::media::{Profile, Rule};
/// use safelight_image::tensor::DType;
/// use safelight_image::wandb::to_uint8;
///
/// let data: Vec<u8> = [0.0f32, 0.5, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
/// // wandb truncates, Safelight's own rule rounds to the nearest.
/// let (bytes, rule, stats) = to_uint8(DType::F32, &data, Profile::Wandb020, None);
/// assert_eq!((bytes.as_slice(), rule), (&[0, 127, 255][..], Rule::X255));
/// assert_eq!(stats.mean, Some(0.5));
/// let (bytes, ..) = to_uint8(DType::F32, &data, Profile::Auto, None);
/// assert_eq!(bytes, [0, 128, 255]);
/// ```
#[must_use]
pub fn to_uint8(
    dtype: DType,
    data: &[u8],
    profile: Profile,
    range: Option<(f64, f64)>,
) -> (Vec<u8>, Rule, Stats) {
    assert!(data.len().is_multiple_of(dtype.size()), "whole elements");
    let elements = Elements { dtype, byte_order: ByteOrder::Little };
    let mut chunk = data.to_vec();
    let mut scan = Scan::new(elements);
    scan.see(&mut chunk);
    let wish = Wish { profile, range, ..Wish::default() };
    let conversion = match scan.decide(wish) {
        Decision::Convert(conversion) => conversion,
        Decision::Measure(mut measure) => {
            measure.see(&mut chunk);
            measure.decide()
        }
    };
    let mut bytes = vec![0; chunk.len() / dtype.size()];
    conversion.convert(&chunk, &mut bytes);
    let n_clipped =
        if scan.is_clipped_by(&conversion) { conversion.count_clipped(&chunk) } else { 0 };
    (bytes, conversion.rule(), Stats { clipped: scan.share(n_clipped), ..scan.stats() })
}

/// Returns the caption of each image, `null` for an image without one. `None` if no image has one.
///
/// Entries that are not images are skipped, here and in [`all_boxes`] and [`all_masks`].
#[must_use]
pub fn all_captions(entries: &[MediaEntry]) -> Option<Value> {
    all(entries, |entry, _| entry.description.caption.as_ref().map(Json::to_value))
}

/// Returns the sets of boxes of each image by name, `null` for an image without boxes. `None` if no
/// image has any.
///
/// A set is `{"_type": "boxes2D", "sha256": …, "size": …, "path": …}`; the path is relative to the
/// run's folder.
#[must_use]
pub fn all_boxes(entries: &[MediaEntry]) -> Option<Value> {
    all(entries, |_, image| files(&image.layers.boxes, "boxes2D"))
}

/// Returns the masks of each image by name, `null` for an image without masks. `None` if no image has
/// any.
///
/// A mask is `{"_type": "mask", "sha256": …, "size": …, "path": …}`; the path is relative to the run's
/// folder.
#[must_use]
pub fn all_masks(entries: &[MediaEntry]) -> Option<Value> {
    all(entries, |_, image| files(&image.layers.masks, "mask"))
}

fn all(
    entries: &[MediaEntry],
    of: impl Fn(&MediaEntry, &CommittedImage) -> Option<Value>,
) -> Option<Value> {
    let images = entries.iter().filter_map(|entry| Some((entry, entry.as_image()?)));
    let values: Vec<Value> =
        images.map(|(entry, image)| of(entry, image).unwrap_or_default()).collect();
    values.iter().any(|value| !value.is_null()).then_some(Value::Array(values))
}

fn files(sets: &Annotations, kind: &str) -> Option<Value> {
    let file = |Annotation { path, sha256, size, .. }: &Annotation| json!({"_type": kind, "sha256": sha256, "size": size, "path": path});
    let files: Map<String, Value> =
        sets.iter().map(|(name, set)| (name.clone(), file(set))).collect();
    (!files.is_empty()).then_some(Value::Object(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_guessed_as_the_library_does() {
        let guess = |axes: &[u64], writer| {
            let shape = Shape::new(axes.to_vec()).unwrap_or_else(|| panic!("{axes:?}"));
            guess_mode(&shape, writer, Profile::Wandb020).ok()
        };
        assert_eq!(guess(&[5, 6], Writer::NumPy), Some(ColorMode::L));
        assert_eq!(guess(&[5, 6, 3], Writer::NumPy), Some(ColorMode::Rgb));
        assert_eq!(guess(&[1, 6, 3], Writer::NumPy), Some(ColorMode::L));
        assert_eq!(guess(&[4, 6, 5], Writer::Torch), Some(ColorMode::Rgba));
        assert_eq!(guess(&[6], Writer::NumPy), None);
    }
}
