//! What a record has of an item: its file, the overlay, and what is said of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::super::{Delivery, SinkError, check_size, unreadable};
use crate::convert::Pixels;
use crate::encode::{self, Encoding};
use crate::formats::overlay::{self, ClassIds};
use crate::formats::tfevents::markdown_escaped;
use crate::media::{Class, FileType};

/// The most pixels of a picture that is drawn on or encoded anew: 4096 × 4096.
const PIXELS_MAX: u64 = 1 << 24;

/// How many captions, or classes, a description names at most.
const NAMED_MAX: usize = 100;

/// An item's media file, of a kind that `TensorBoard` knows.
pub(super) fn file(item: &Delivery) -> Result<Vec<u8>, SinkError> {
    let path = item.path();
    let bytes = fs::read(&path).map_err(|error| unreadable(item, &path, &error))?;
    check_size(item, &path, bytes.len() as u64, item.file.size)?;
    match item.file.file_type {
        FileType::Png | FileType::Jpg | FileType::Jpeg | FileType::Bmp | FileType::Gif => Ok(bytes),
        // Browsers show it though it has no type; so large a picture is left as it is.
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

/// The same pictures with their boxes and masks on them; `None` if none has any. One without stands as it is, so
/// that each has the place of its picture.
pub(super) fn overlays(items: &[&Delivery], files: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let has_layers = |item: &&Delivery| {
        let layers = &item.layers;
        !layers.boxes.is_empty() || !layers.masks.is_empty()
    };
    let drawn = |(item, file): (&&Delivery, &Vec<u8>)| {
        let drawn = has_layers(item).then(|| overlay(item, file));
        drawn.flatten().unwrap_or_else(|| file.clone())
    };
    items.iter().any(has_layers).then(|| items.iter().zip(files).map(drawn).collect())
}

/// A picture with what lies on it. What can't be read isn't drawn: the picture matters more.
fn overlay(item: &Delivery, file: &[u8]) -> Option<Vec<u8>> {
    if n_pixels(item) > PIXELS_MAX {
        tracing::debug!(key = %item.id.key, step = %item.id.step, "picture is too large for an overlay");
        return None;
    }
    let unread = |path: &Path, error: &dyn std::fmt::Display| {
        tracing::warn!(path = %path.display(), %error, "left out of an overlay");
    };
    let mut pixels = read(file).map_err(|error| unread(&item.path(), &error)).ok()?;
    let layers = &item.layers;
    for mask in layers.masks.values() {
        let path = item.folder.join(&mask.path);
        let bytes = fs::read(&path).map_err(|error| error.to_string());
        let ids = bytes.and_then(|bytes| {
            encode::read_class_ids(&bytes, PIXELS_MAX).map_err(|error| error.to_string())
        });
        match ids {
            Ok((width, height, ids)) => {
                let ids = ClassIds { width, height, ids };
                overlay::blend_mask(&mut pixels, &ids, &mask.class_labels);
            }
            Err(error) => unread(&path, &error),
        }
    }
    for boxes in layers.boxes.values() {
        let path = item.folder.join(&boxes.path);
        match fs::read(&path) {
            Ok(file) => overlay::draw_boxes(&mut pixels, &file),
            Err(error) => unread(&path, &error),
        }
    }
    png(&pixels).ok()
}

/// What the description of a tag says of captions: those of its first step. There is one description for all
/// steps, and nothing for one image.
pub(super) fn captions(step: i64, items: &[&Delivery]) -> String {
    let caption = |item: &&Delivery| {
        let text = match item.entry.description.caption.as_ref()? {
            Value::String(text) => text.clone(),
            Value::Null => return None,
            other => other.to_string(),
        };
        let text: String = text.chars().take(1000).collect();
        Some(format!("\n* {}: {}", item.id.index, markdown_escaped(&text)))
    };
    let captions: String = items.iter().filter_map(caption).take(NAMED_MAX).collect();
    if captions.is_empty() { captions } else { format!("Captions of step {step}:\n{captions}") }
}

/// What the description of an overlay says: the colours of the classes.
pub(super) fn legend(items: &[&Delivery]) -> String {
    let classes = items.iter().find_map(|item| {
        let classes = &item.layers.classes;
        (!classes.is_empty()).then_some(classes)
    });
    let class = |Class { id, name }: &Class| {
        let [r, g, b] = overlay::class_color(id.as_i64()?);
        Some(format!("\n* `#{r:02x}{g:02x}{b:02x}` {} {}", id, markdown_escaped(name)))
    };
    let classes = classes.map_or(&[][..], Vec::as_slice);
    let legend: String = classes.iter().filter_map(class).take(NAMED_MAX).collect();
    format!("Boxes and masks, drawn on the images.\n{legend}")
}
