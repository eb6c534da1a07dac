//! The contents of a record: media files, overlays and descriptions.

use crate::convert::Pixels;
use crate::encode::{self, Encoding};
use crate::formats::overlay;
use crate::formats::tfevents::markdown_escaped;
use crate::media::{Class, FileType};
use crate::overlays::{self, NotDrawn};
use crate::sinks::{Delivery, SinkError, read_file_now};
use crate::store::media_check::NamedFile;

/// The maximum size of a picture that is drawn on or encoded again, in pixels: 4096 × 4096.
const PIXELS_MAX: u64 = 1 << 24;

/// The maximum number of captions or classes in a description.
const NAMED_MAX: usize = 100;

/// Reads an item's media file. WebP is converted to PNG, because `TensorBoard` has no content type for WebP.
pub(super) fn file(item: &Delivery) -> Result<Vec<u8>, SinkError> {
    let bytes = read_file_now(item, (&item.file).into())?;
    match item.file.file_type {
        FileType::Png | FileType::Jpg | FileType::Jpeg | FileType::Bmp | FileType::Gif => Ok(bytes),
        // A large picture is not converted. Browsers show WebP without a content type too.
        FileType::Webp if n_pixels(item) > PIXELS_MAX => Ok(bytes),
        FileType::Webp => {
            let png = read(&bytes).and_then(|pixels| png(&pixels));
            png.map_err(|error| SinkError::reject(item, format!("{}: {error}", item.file.path)))
        }
        FileType::Tiff => Err(SinkError::reject(item, "TensorBoard shows no TIFF")),
    }
}

fn n_pixels(item: &Delivery) -> u64 {
    u64::from(item.file.width) * u64::from(item.file.height)
}

fn read(bytes: &[u8]) -> Result<Pixels, String> {
    encode::read(bytes, PIXELS_MAX).map_err(|error| error.to_string())
}

fn png(pixels: &Pixels) -> Result<Vec<u8>, String> {
    let encoded = encode::encode(pixels, Encoding::default());
    encoded.map(|encoded| encoded.bytes).map_err(|error| error.to_string())
}

/// Draws boxes and masks on copies of the pictures; `None` if no item has any. A picture without them is repeated, so that
/// the indices stay equal.
pub(super) fn overlays(items: &[&Delivery], files: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let has_layers = |item: &&Delivery| overlays::has_any(&item.layers);
    let drawn = |(item, file): (&&Delivery, &Vec<u8>)| {
        let drawn = has_layers(item).then(|| overlay(item, file));
        drawn.flatten().unwrap_or_else(|| file.clone())
    };
    items.iter().any(has_layers).then(|| items.iter().zip(files).map(drawn).collect())
}

/// Draws an item's boxes and masks on its picture. Unreadable ones are left out.
fn overlay(item: &Delivery, file: &[u8]) -> Option<Vec<u8>> {
    if n_pixels(item) > PIXELS_MAX {
        tracing::debug!(key = %item.id.key, step = %item.id.step, "picture is too large for an overlay");
        return None;
    }
    let log_error = |NotDrawn { path, reason: error }: NotDrawn| {
        let path = item.folder.join(path);
        tracing::warn!(path = %path.display(), %error, "file not readable, left out of an overlay");
    };
    let log_picture = |reason| log_error(NotDrawn { path: item.file.path.clone(), reason });
    let mut pixels = read(file).map_err(log_picture).ok()?;
    let size = (pixels.width, pixels.height);
    let read = |file: NamedFile<'_>| read_file_now(item, file);
    let left_out = overlays::draw(&mut pixels, size, &item.layers, PIXELS_MAX, read);
    left_out.into_iter().for_each(log_error);
    png(&pixels).ok()
}

/// Returns the description of a tag with the captions of its first step. `TensorBoard` has one description for all steps
/// of a tag, and none for an image.
pub(super) fn captions(step: i64, items: &[&Delivery]) -> String {
    let caption = |item: &&Delivery| {
        let caption = item.entry.description.caption.as_ref().filter(|text| !text.is_null())?;
        let text = caption.to_text().unwrap_or_else(|| caption.to_string());
        let text: String = text.chars().take(1000).collect();
        Some(format!("\n* {}: {}", item.id.index, markdown_escaped(&text)))
    };
    let captions: String = items.iter().filter_map(caption).take(NAMED_MAX).collect();
    if captions.is_empty() { captions } else { format!("Captions of step {step}:\n{captions}") }
}

/// Returns the description of an overlay tag with the colours of the classes.
pub(super) fn legend(items: &[&Delivery]) -> String {
    let classes = items.iter().find_map(|item| {
        let classes = item.layers.class_list();
        (!classes.is_empty()).then_some(classes)
    });
    let class = |Class { id, name }: &Class| {
        let [r, g, b] = overlay::class_color(id.as_i64()?);
        Some(format!("\n* `#{r:02x}{g:02x}{b:02x}` {} {}", id, markdown_escaped(name)))
    };
    let classes = classes.unwrap_or_default();
    let legend: String = classes.iter().filter_map(class).take(NAMED_MAX).collect();
    format!("Boxes and masks, drawn on the images.\n{legend}")
}
