//! Boxes and masks of an image, drawn on a copy of its picture.

use crate::convert::Pixels;
use crate::encode;
use crate::formats::overlay::{self, ClassIds};
use crate::media::Layers;
use crate::store::media_check::NamedFile;

/// A file of boxes or a mask that was not drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotDrawn {
    /// Relative to the run's folder in the store.
    pub(crate) path: String,
    pub(crate) reason: String,
}

/// Returns whether an image has boxes or masks.
pub(crate) fn has_any(layers: &Layers) -> bool {
    !layers.boxes.is_empty() || !layers.masks.is_empty()
}

/// Draws masks, then boxes, on a picture that had `width` × `height` pixels when the job logged it, and may have been
/// scaled since. `read` reads a file of the image. A mask may have `pixels_max` pixels. Returns the files that are left
/// out, because they cannot be read.
pub(crate) fn draw<E: ToString>(
    pixels: &mut Pixels,
    (width, height): (u32, u32),
    layers: &Layers,
    pixels_max: u64,
    read: impl Fn(NamedFile<'_>) -> Result<Vec<u8>, E>,
) -> Vec<NotDrawn> {
    let mut left_out = Vec::new();
    let mut leave_out = |path: &str, reason: String| {
        left_out.push(NotDrawn { path: path.to_owned(), reason });
    };
    for mask in layers.masks.values() {
        let bytes = read(mask.into()).map_err(|error| error.to_string());
        let ids = bytes.and_then(|bytes| {
            encode::read_class_ids(&bytes, pixels_max).map_err(|error| error.to_string())
        });
        match ids {
            Ok((width, height, ids)) => {
                let ids = ClassIds { width, height, ids };
                overlay::blend_mask(pixels, &ids, &mask.labels());
            }
            Err(reason) => leave_out(&mask.path, reason),
        }
    }
    for boxes in layers.boxes.values() {
        match read(boxes.into()) {
            Ok(file) => overlay::draw_boxes(pixels, (width, height), &file),
            Err(error) => leave_out(&boxes.path, error.to_string()),
        }
    }
    left_out
}
