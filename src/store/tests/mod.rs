//! Tests of the whole store: damaged files, disks that fail, and long use.

mod churn;
mod damage;
mod faults;
mod left_out;
mod links;
mod named_files;
mod pages;
mod scrub;
mod steps;

use crate::media::{
    ColorMode, Description, FileType, Layers, MediaEntry, MediaFile, MediaId, Sha256, Source,
};

/// Returns the entry of a picture of 1 × 1 pixels at this path, as if its file had these bytes.
fn image_at(id: MediaId, path: String, bytes: &[u8], source: Source) -> MediaEntry {
    let file = MediaFile {
        path,
        file_type: FileType::Png,
        mode: Some(ColorMode::L),
        width: 1,
        height: 1,
        size: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        downscaled_from: None,
    };
    MediaEntry::image(id, file, None, Layers::default(), Description::default(), source)
}
