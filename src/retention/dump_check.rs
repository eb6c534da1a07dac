//! Checks that the whole dump is in the store, before the dump is removed.
//!
//! The error of each check is the reason why the dump must stay.

use std::collections::HashSet;
use std::io::Read;

use serde_json::Value;

use super::line_parts;
use crate::config::retention::SkippedRetention;
use crate::decode::{self, Contents, Coverage, DecodeOptions, ReadAt};
use crate::media::{CommittedImage, Digest, DigestKind, MediaEntry, MediaId, RunId, Sha256};
use crate::run_dir::{RunDir, RunFile};
use crate::store::Reader;
use crate::store::media_check::{MediaFiles, files_of};
use crate::tensor::DType;

/// Limit of a header and of a sidecar, in bytes.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// Types that an npy header cannot name, one of each element size. They stand for all such types.
const UNNAMED_TYPES: [DType; 2] = [DType::BF16, DType::F8E5M2];

/// Reads the current entries of a dump's images.
pub(super) fn images(
    reader: &Reader,
    run: &RunId,
    ids: &[MediaId],
) -> Result<Vec<MediaEntry>, String> {
    let image = |id: &MediaId| {
        let entry =
            reader.item(run, &id.key, id.step, id.index).map_err(|error| error.to_string())?;
        match entry {
            Some(entry) if entry.as_image().is_some_and(|image| !image.pruned) => Ok(entry),
            _ => Err("its images are pruned: it is their only copy".to_owned()),
        }
    };
    ids.iter().map(image).collect()
}

/// Checks that the items cover the whole dump, with or without its skipped entries. Reads the dump's headers or log
/// lines again; a line may have `line_bytes_max` bytes.
pub(super) fn all_is_read(
    dir: &RunDir,
    (path, dump): (&str, &RunFile),
    images: &[MediaEntry],
    skipped: SkippedRetention,
    line_bytes_max: u64,
) -> Result<(), String> {
    if is_raw(path) && images.iter().any(|image| image.source.log.is_some()) {
        return line_parts::all_is_named(dir, path, dump.n_bytes(), images, line_bytes_max);
    }
    let has_offset = sidecar_offset(dir, path)?;
    if has_offset == Some(true) {
        return Err("its sidecar names an offset: it has bytes outside its tensor".to_owned());
    }
    if is_raw(path) {
        // Without an offset, raw bytes are accepted only if their number fits the shape exactly.
        return has_offset.map(drop).ok_or_else(|| "its sidecar is missing".to_owned());
    }
    let result = all_is_read_as(None, dump, images, skipped);
    let is_read_as = |dtype| all_is_read_as(Some(dtype), dump, images, skipped).is_ok();
    if result.is_ok() || UNNAMED_TYPES.into_iter().any(is_read_as) { Ok(()) } else { result }
}

fn all_is_read_as(
    dtype: Option<DType>,
    dump: &RunFile,
    images: &[MediaEntry],
    skipped: SkippedRetention,
) -> Result<(), String> {
    let options = DecodeOptions {
        header_bytes_max: HEADER_BYTES_MAX,
        storage_bytes_max: u64::MAX,
        dtype,
        raw: None,
    };
    let unreadable = |error| format!("it cannot be read: {error}");
    let contents = decode::contents(dump, &options).map_err(unreadable)?;
    match contents.coverage() {
        Coverage::Whole => {}
        Coverage::Skipped(_) if skipped == SkippedRetention::Remove => {}
        Coverage::Skipped(entries) => {
            return Err(format!(
                "it has skipped entries without a picture, such as {}; [retention] skipped = \"remove\" if they are not wanted",
                entries.names()
            ));
        }
        Coverage::Unread(what) => return Err(format!("it contains {what}")),
    }
    let names: HashSet<&str> =
        images.iter().filter_map(|entry| entry.source.tensor.as_deref()).collect();
    let is_known = match &contents {
        Contents::Picture(_) => {
            images.iter().filter_map(MediaEntry::as_image).any(|image| is_whole(image, dump))
        }
        Contents::Tensors { tensors, .. } => {
            let is_known = |name: &Option<String>| {
                name.as_ref().is_some_and(|name| names.contains(name.as_str()))
            };
            let mut pictures = tensors.iter().filter(|tensor| !tensor.is_no_picture());
            !images.is_empty()
                && (tensors.len() == 1 || pictures.all(|tensor| is_known(&tensor.name)))
        }
    };
    if is_known { Ok(()) } else { Err("it contains more than its images".to_owned()) }
}

/// Whether the dump is an image file that is stored unchanged, judged by its length. [`is_read_back`] compares the
/// digests.
fn is_whole(image: &CommittedImage, dump: &RunFile) -> bool {
    image.provenance.is_none() && image.file.size == dump.n_bytes()
}

/// Whether the name of a dump says that it is raw bytes.
pub(super) fn is_raw(path: &str) -> bool {
    [".bin", ".raw"].iter().any(|ending| path.ends_with(ending))
}

/// Whether the sidecar of a dump names an offset; `None` without a sidecar.
fn sidecar_offset(dir: &RunDir, path: &str) -> Result<Option<bool>, String> {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let names = [format!("{path}.json"), format!("{stem}.json")];
    let Some(name) = names.iter().find(|name| dir.stat(name).is_some()) else { return Ok(None) };
    let unreadable = |error: &dyn std::fmt::Display| format!("its sidecar cannot be read: {error}");
    let file = dir.open_file(name).map_err(|failure| unreadable(&failure.reason()))?;
    let text = std::io::read_to_string(file.into_file().take(HEADER_BYTES_MAX));
    let text = text.map_err(|error| unreadable(&error))?;
    let sidecar: Value = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    Ok(Some(sidecar.get("offset").or_else(|| sidecar.pointer("/data/offset")).is_some()))
}

/// Reads each file of the images back and compares its digest with the journal. Notes files that are missing or damaged.
pub(super) fn is_read_back(
    store: &MediaFiles,
    (reader, run): (&Reader, &RunId),
    dump: &RunFile,
    images: &[MediaEntry],
) -> Result<(), String> {
    let mut n_wrong = 0u64;
    for image in images.iter().filter_map(MediaEntry::as_image) {
        for file in files_of(image) {
            if let Err(damage) = store.check(file) {
                let (path, want) = (file.path, file.sha256);
                tracing::warn!(path, got = %damage, %want, "media file differs from the journal, its dump stays");
                reader.findings().note(run, &image.id, file.path, &damage);
                n_wrong += 1;
            }
        }
    }
    if n_wrong > 0 {
        return Err("media files of its images are missing or damaged: `safelight verify --repair` makes them again".to_owned());
    }
    let is_stored = |image: &CommittedImage| is_whole(image, dump);
    let stored = images.iter().filter_map(MediaEntry::as_image).filter(|image| is_stored(image));
    let stored: Vec<Sha256> = stored.map(|image| image.file.sha256).collect();
    let is_same = |got: Digest| matches!(got, Digest::Sha256(got) if stored.contains(&got));
    if stored.is_empty() || dump.digest(DigestKind::Sha256).is_ok_and(is_same) {
        Ok(())
    } else {
        Err("it is an image file, and the store has other bytes".to_owned())
    }
}
