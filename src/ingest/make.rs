//! Makes one image: its media file and those of its masks and boxes, written aside.

use std::io;
use std::sync::Arc;

use super::beneath::Verdict;
use super::pipeline::Writing;
use super::unit::Material;
use crate::annotations::{MaskData, class_set, generated_labels};
use crate::decode::{DecodeError, ReadAt};
use crate::encode::EncodedImage;
use crate::media::{
    Annotation, Annotations, Description, Digest, Layers, MediaEntry, MediaFile, MediaId,
    Provenance, RunId, Sha256, Source,
};
use crate::plan::{ImagePlan, Making, MaskPlan, MaskReading};
use crate::render::{MaskError, RenderError, Rendered, Renderer, render_mask};
use crate::store::media_dir::{MediaFolder, Staged, media_path};

/// How often a dump whose reading fails is read again before it is given back.
const READ_AGAIN_MAX: u32 = 5;

/// The most class ids of a mask that labels are generated for: as many as 8 bits hold.
const LABELS_MAX: usize = 256;

/// Why an image that was held back can't be made of its dump any more.
pub(super) const CHANGED: &str = "its dump has another content than when it was held back";

/// An image, its files written aside.
pub(super) struct Made {
    pub(super) entry: Box<MediaEntry>,
    pub(super) staged: Vec<Staged>,
}

/// Why there is no image.
pub(super) enum Unmade {
    /// None can come of it, for this reason.
    Failed(String),
    /// The dump could not be read whole, for this reason; it may be later.
    Unread(String),
    /// The program stops and the disk takes nothing: it stays to be done.
    GivenUp,
}

/// An image to make.
pub(super) struct Order<'a> {
    pub(super) run: &'a RunId,
    pub(super) id: &'a MediaId,
    pub(super) description: &'a Description,
    pub(super) plan: &'a ImagePlan,
    pub(super) material: &'a Arc<Material>,
}

/// A media file in memory: what it is, and where it goes.
struct Piece {
    path: String,
    bytes: Vec<u8>,
}

/// Makes an image.
///
/// # Errors
/// Why there is none.
pub(super) fn make(
    order: &Order<'_>,
    renderer: &mut Renderer,
    writing: &Writing,
) -> Result<Made, Unmade> {
    let Order { run, id, description, plan, material } = order;
    let (file, piece, making) = picture(order, renderer, writing)?;
    // Most of it was read for the picture.
    let digest = read_again(|| material.dump.digest().map_err(Missed::Io))?;
    let is_other = |want: Digest| want.kind() == digest.kind() && want != digest;
    if material.source.digest().is_some_and(is_other) {
        return Err(Unmade::Failed(CHANGED.to_owned()));
    }
    let mut warnings = plan.annotations.warnings.clone();
    let (masks, mut pieces) = masks(order, writing, &mut warnings)?;
    if !material.dump.file.is_unchanged() {
        return Err(Unmade::Unread("the dump changed while it was read".to_owned()));
    }
    let mut boxes = Annotations::new();
    for set in &plan.annotations.boxes {
        let sha256 = Sha256::of(&set.file);
        let path = media_path(MediaFolder::Boxes, id, sha256, "boxes2D.json");
        let annotation = Annotation {
            path: path.clone(),
            sha256,
            size: set.file.len() as u64,
            class_labels: set.class_labels.clone(),
            source: None,
        };
        boxes.insert(set.name.clone(), annotation);
        pieces.push(Piece { path, bytes: set.file.clone() });
    }
    let in_order = plan.masks.iter().filter_map(|mask| masks.get(&mask.spec.name));
    let labels = in_order.map(|mask| &mask.class_labels);
    let classes = class_set(&plan.annotations, labels);
    let layers = Layers { classes, boxes, masks, warnings };

    pieces.insert(0, piece);
    let mut staged = Vec::with_capacity(pieces.len());
    for Piece { path, bytes } in &pieces {
        staged.push(writing.write(run, path, bytes).ok_or(Unmade::GivenUp)?);
    }
    renderer.take_back(pieces.swap_remove(0).bytes);
    let (xxh3, sha256) = digest.fields();
    let source = Source { sha256, xxh3, ..material.source.clone() };
    let description = (*description).clone();
    let entry = MediaEntry::image((*id).clone(), file, making, layers, description, source);
    Ok(Made { entry: Box::new(entry), staged })
}

/// The picture: made of a tensor, or the dump itself.
fn picture(
    order: &Order<'_>,
    renderer: &mut Renderer,
    writing: &Writing,
) -> Result<(MediaFile, Piece, Option<Provenance>), Unmade> {
    let Order { id, plan, material, .. } = order;
    match (&material.making, &material.storage) {
        (Making::Tensor(tensor), Some(storage)) => {
            let rendered = read_again(|| {
                let bytes = storage.bytes(&*material.dump, &writing.staging)?;
                renderer.render(&bytes, tensor, plan).map_err(|error| match error {
                    RenderError::Io(error) => Missed::Io(error),
                    RenderError::Encode(error) => Missed::Failed(error.to_string()),
                })
            })?;
            let Rendered { image, making } = rendered;
            let downscaled_from = plan.downscale.map(|_| (tensor.width, tensor.height));
            let path =
                media_path(MediaFolder::Images, id, image.sha256, image.file_type.extension());
            let file = media_file(&path, &image, downscaled_from);
            let piece = Piece { path, bytes: image.bytes };
            Ok((file, piece, Some(making)))
        }
        (Making::Keep(picture), _) => {
            let bytes = read_again(|| read_all(&*material.dump))?;
            let sha256 = Sha256::of(&bytes);
            let path = media_path(MediaFolder::Images, id, sha256, picture.file_type.extension());
            let file = MediaFile {
                path: path.clone(),
                file_type: picture.file_type,
                mode: picture.mode,
                width: picture.width,
                height: picture.height,
                size: bytes.len() as u64,
                sha256,
                downscaled_from: None,
            };
            Ok((file, Piece { path, bytes }, None))
        }
        (Making::Tensor(_), None) => unreachable!("a tensor has a storage"),
    }
}

fn media_file(path: &str, image: &EncodedImage, downscaled_from: Option<(u64, u64)>) -> MediaFile {
    MediaFile {
        path: path.to_owned(),
        file_type: image.file_type,
        mode: Some(image.mode),
        width: image.width,
        height: image.height,
        size: image.bytes.len() as u64,
        sha256: image.sha256,
        downscaled_from,
    }
}

/// The masks of an image, and their files.
fn masks(
    order: &Order<'_>,
    writing: &Writing,
    warnings: &mut Vec<String>,
) -> Result<(Annotations, Vec<Piece>), Unmade> {
    let Order { id, plan, material, .. } = order;
    let (mut masks, mut pieces) = (Annotations::new(), Vec::new());
    for MaskPlan { spec, source_idx, reading } in &plan.masks {
        let name = &spec.name;
        let field = match spec.data {
            MaskData::Tensor { .. } => "mask_data",
            MaskData::File(_) => "path",
        };
        let about = |unmade: Unmade| match unmade {
            Unmade::Failed(reason) => Unmade::Failed(format!("masks.{name}.{field}: {reason}")),
            unmade => unmade,
        };
        let dump = &material.masks[*source_idx];
        let file = read_again(|| {
            dump.reopen(&material.dir).map_err(|verdict| match verdict {
                Verdict::Wait(reason) | Verdict::Trouble(reason) => {
                    Missed::Io(io::Error::other(reason))
                }
                Verdict::Reject(reason) => Missed::Failed(reason),
            })
        })?;
        let (bytes, sha256, suffix, ids) = match (reading, &dump.storage) {
            (MaskReading::Tensor { .. }, Some(storage)) => {
                let rendered = read_again(|| {
                    let bytes = storage.bytes(&file, &writing.staging)?;
                    render_mask(&bytes, reading).map_err(|error| match error {
                        MaskError::Io(error) => Missed::Io(error),
                        error => Missed::Failed(error.to_string()),
                    })
                });
                let Some(mask) = rendered.map_err(about)? else { continue };
                let mut ids: Vec<i64> = mask.class_ids.into_iter().map(i64::from).collect();
                if ids.len() > LABELS_MAX && spec.class_labels.is_none() {
                    let n = ids.len();
                    let what = format!("labels are generated for at most {LABELS_MAX}");
                    warnings.push(format!("masks.{name}: {n} class ids without labels; {what}"));
                    ids.clear();
                }
                (mask.image.bytes, mask.image.sha256, "mask.png".to_owned(), ids)
            }
            (MaskReading::File(picture), _) => {
                let bytes = read_again(|| read_all(&file)).map_err(about)?;
                let sha256 = Sha256::of(&bytes);
                // No `.mask.png`, as in wandb: it may be of another type.
                (bytes, sha256, picture.file_type.extension().to_owned(), Vec::new())
            }
            (MaskReading::Tensor { .. }, None) => unreachable!("a tensor has a storage"),
        };
        file.give_back_cache();
        if !file.is_unchanged() {
            return Err(Unmade::Unread("the mask changed while it was read".to_owned()));
        }
        let path = media_path(MediaFolder::Masks, id, sha256, &suffix);
        let tensor = spec.data.data().tensor.clone();
        let annotation = Annotation {
            path: path.clone(),
            sha256,
            size: bytes.len() as u64,
            class_labels: spec.class_labels.clone().unwrap_or_else(|| generated_labels(ids)),
            source: Some(Source { path: dump.path.clone(), tensor, ..Source::default() }),
        };
        masks.insert(name.clone(), annotation);
        pieces.push(Piece { path, bytes });
    }
    Ok((masks, pieces))
}

/// Why something failed this time.
enum Missed {
    /// Reading failed; it may not the next time.
    Io(io::Error),
    Failed(String),
}

impl From<DecodeError> for Missed {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Does `action` again if reading fails: a mount that stalls for a moment must not cost the image.
fn read_again<T>(mut action: impl FnMut() -> Result<T, Missed>) -> Result<T, Unmade> {
    let mut attempt = 0;
    loop {
        match action() {
            Ok(value) => return Ok(value),
            Err(Missed::Failed(reason)) => return Err(Unmade::Failed(reason)),
            Err(Missed::Io(error)) => {
                attempt += 1;
                if error.kind() == io::ErrorKind::UnexpectedEof || attempt > READ_AGAIN_MAX {
                    return Err(Unmade::Unread(format!("cannot read: {error}")));
                }
                std::thread::sleep(super::pipeline::RETRY_FIRST * attempt);
            }
        }
    }
}

fn read_all(file: &impl ReadAt) -> Result<Vec<u8>, Missed> {
    let n = usize::try_from(file.n_bytes()).map_err(|error| Missed::Failed(error.to_string()))?;
    let mut bytes = vec![0; n];
    file.read_exact_at(&mut bytes, 0).map_err(Missed::Io)?;
    Ok(bytes)
}
