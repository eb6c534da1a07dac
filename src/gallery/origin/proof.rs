//! Proofs that a dump is the one that an item was made from.

use std::sync::Arc;

use crate::convert::Extent;
use crate::decode::ReadAt;
use crate::encode::{encode, read_samples};
use crate::gallery::Shared;
use crate::gallery::api::Proof;
use crate::gallery::files::RunFiles;
use crate::gallery::params::Place;
use crate::gallery::problem::Failure;
use crate::gallery::shown::TensorBytes;
use crate::ingest::again::OpenDump;
use crate::media::{CommittedImage, DigestKind, MediaEntry, Rule, RunId};
use crate::plan::{Recipe, TensorPlan};
use crate::render::pixels_in_batch;
use crate::store::media_check::NamedFile;

/// Larger dumps are read whole for a proof only if the image takes too much memory to be made again.
const DIGEST_BYTES_MAX: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// Even then, larger ones are not.
const LARGE_DIGEST_BYTES_MAX: u64 = 1 << 30;

/// Proves that a dump is the one that an item was made from. `None` if it is another. The error says why that is
/// unknown.
pub(super) fn prove(
    shared: &Shared,
    place: &Place,
    entry: &MediaEntry,
    dump: &Arc<OpenDump>,
    recipe: &Recipe,
    image_idx: u64,
) -> Result<Option<Proof>, String> {
    // Whether a held item's dump is unchanged was checked when it was opened.
    let Some(image) = entry.as_image() else { return Ok(Some(Proof::Held)) };
    let unread = |error| format!("its dump cannot be read: {error}");
    let is_too_large = |tensor: &TensorPlan| tensor.memory_bytes > shared.memory_bytes();
    let bytes_max = match recipe {
        Recipe::Convert(tensor) if is_too_large(tensor) => LARGE_DIGEST_BYTES_MAX,
        _ => DIGEST_BYTES_MAX,
    };
    if let Some(want) = entry.source.digest().filter(|_| dump.n_bytes() <= bytes_max) {
        let got = dump.digest_by(want.kind()).map_err(unread)?;
        return Ok((got == want).then_some(Proof::Digest));
    }
    let is_same = match recipe {
        Recipe::Copy(_) => {
            let digest = dump.digest_by(DigestKind::Sha256).map_err(unread)?;
            digest.fields().1 == Some(image.file.sha256)
        }
        Recipe::Convert(tensor) => {
            has_stored_pixels(shared, &place.run, image, dump, tensor, image_idx)?
        }
    };
    Ok(is_same.then_some(Proof::Pixels))
}

/// Whether an image that is made again has the pixels of the stored one. Reads no other image of the tensor.
fn has_stored_pixels(
    shared: &Shared,
    run: &RunId,
    image: &CommittedImage,
    dump: &Arc<OpenDump>,
    tensor: &TensorPlan,
    image_idx: u64,
) -> Result<bool, String> {
    let Some(made) = &image.provenance else { return Ok(false) };
    let (needed, allowed) = (tensor.memory_bytes, shared.memory_bytes());
    if needed > allowed {
        return Err(format!(
            "its dump is too large for a digest, and to make the image again takes {needed} bytes of memory: \
             gallery.memory_bytes_max allows {allowed}"
        ));
    }
    let detail = |failure: Failure| failure.problem().detail.clone();
    let bytes = TensorBytes::open(dump, &tensor.header.storage, allowed).map_err(detail)?;
    let downscale = image.file.downscaled_from.map(|_| (image.file.width, image.file.height));
    let batch = extent_of_rule(made.rule).filter(|_| tensor.shares_rule());
    let (pixels, again) = pixels_in_batch(&bytes, tensor, image_idx, downscale, batch)
        .map_err(|error| format!("its dump cannot be read: {error}"))?;
    if again.rule != made.rule {
        return Ok(false);
    }
    let again = encode(&pixels, tensor.encoding).map_err(|error| error.to_string())?;
    if again.sha256 == image.file.sha256 {
        return Ok(true);
    }
    // Another version may have encoded the same pixels otherwise.
    let file =
        NamedFile { path: &image.file.path, size: image.file.size, sha256: image.file.sha256 };
    let stored = RunFiles::open(shared, run).and_then(|files| files.read(file)).map_err(detail)?;
    let n_pixels = u64::from(image.file.width) * u64::from(image.file.height);
    match (read_samples(&again.bytes, n_pixels), read_samples(&stored, n_pixels)) {
        (Ok(again), Ok(stored)) => Ok(again == stored),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}

/// An extent of other images of a batch with which the rule for all of them is this one.
pub(super) fn extent_of_rule(rule: Rule) -> Option<Extent> {
    match rule {
        Rule::X255 | Rule::X65535 => Some(Extent { min: 0.0, max: 1.0 }),
        Rule::Clip => Some(Extent { min: 0.0, max: f64::MAX }),
        Rule::Sym => Some(Extent { min: -1.0, max: 1.0 }),
        _ => None,
    }
}
