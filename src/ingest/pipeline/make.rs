//! Makes one image: its media file and those of its masks and boxes, all of them staged.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::batch::held_at;
use super::batch_values::{BatchValues, Making};
use super::media_writer::MediaWriter;
use super::retry::{ReadError, read_with_retries};
use crate::annotations::{MaskData, class_set, generated_labels};
use crate::convert::Extent;
use crate::decode::ReadAt;
use crate::encode::EncodedImage;
use crate::ingest::dumps::{MaskDump, OpenDump, OpenStorage};
use crate::media::{
    Annotation, Annotations, Digest, HeldAt, Layers, MediaEntry, MediaFile, MediaId, Provenance,
    Sha256, Source,
};
use crate::plan::{ImageJob, ImagePlan, MaskPlan, MaskReading, Recipe, TensorPlan};
use crate::render::{MaskError, RenderError, Rendered, Renderer, ValuesSeen, render_mask, settled};
use crate::run_dir::{ReadFailure, RunDir};
use crate::store::RunInfo;
use crate::store::media_dir::{MediaFolder, Staged, media_path};

/// An upper bound for the class ids of a mask that labels are generated for: those of 8 bits.
const LABELS_MAX: usize = 256;

/// Why a held image can't be released.
pub(in crate::ingest) const CHANGED: &str = "its dump has changed since it was held";

/// The most bytes of a dump that are read for its digest as soon as an image is made. If more is left, other
/// images are made in between.
const DIGEST_AT_ONCE_BYTES: u64 = 32 << 20;

/// What the images of one tensor or picture are made of.
#[derive(Debug)]
pub(super) struct Material {
    run: Arc<RunInfo>,
    dump: Arc<OpenDump>,
    recipe: Recipe,
    /// The bytes of the tensor's elements. `None` for a file that is copied.
    storage: Option<Arc<OpenStorage>>,
    masks: Vec<MaskDump>,
    dir: Arc<RunDir>,
    /// The source of the images. A digest in it is the dump's when the images were held.
    source: Source,
    /// If the images share a rule: what is known of their values.
    batch: Option<BatchValues>,
}

/// Why there is no image.
#[derive(Debug)]
pub(super) enum MakeError {
    /// The data makes none, for this reason.
    Failed(String),
    /// The dump could not be read whole now, for this reason.
    Unread(String),
    /// The program stops while nothing can be written.
    GivenUp,
}

impl From<ReadError> for MakeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Unread(format!("cannot read: {error}")),
            ReadError::Data(reason) => Self::Failed(reason),
        }
    }
}

/// An image that was made.
#[derive(Debug)]
pub(super) struct MadeImage {
    pub(super) entry: Box<MediaEntry>,
    /// Its files, staged.
    pub(super) files: Vec<Staged>,
    /// Whether a mask was left out, because it could not be made.
    pub(super) lacks_mask: bool,
    /// Whether its source has the digest of the dump.
    pub(super) has_digest: bool,
    /// What was seen of its values, if it was converted.
    values: ValuesSeen,
}

/// A media file in memory, and its path in the run's folder of the store.
struct FileInMemory {
    path: String,
    bytes: Vec<u8>,
}

impl Material {
    pub(super) fn new(
        run: Arc<RunInfo>,
        dump: Arc<OpenDump>,
        recipe: Recipe,
        storage: Option<Arc<OpenStorage>>,
        masks: Vec<MaskDump>,
        dir: Arc<RunDir>,
        source: Source,
    ) -> Self {
        Self { run, dump, recipe, storage, masks, dir, source, batch: None }
    }

    /// Says which images are made, for a tensor whose images share a rule.
    pub(super) fn making(self, making: Making) -> Self {
        let batch = self.recipe.shares_rule().then(|| BatchValues::new(making));
        Self { batch, ..self }
    }

    /// What is known of the values of all images, if they share a rule.
    pub(super) fn batch(&self) -> Option<&BatchValues> {
        self.batch.as_ref()
    }

    /// Measures images that share a rule.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn measure(
        &self,
        images: &Range<u64>,
        renderer: &mut Renderer,
        writer: &MediaWriter,
    ) -> Result<Option<Extent>, MakeError> {
        let (Recipe::Convert(tensor), Some(storage)) = (&self.recipe, &self.storage) else {
            return Ok(None);
        };
        let extent = read_with_retries(|| {
            let bytes = storage.bytes(&*self.dump, writer.staging())?;
            renderer.measure(&bytes, tensor, images.clone()).map_err(ReadError::Io)
        })?;
        Ok(extent)
    }

    /// The number of images that the tensor makes.
    pub(super) fn n_images(&self) -> u64 {
        match &self.recipe {
            Recipe::Convert(tensor) => tensor.n_images(),
            Recipe::Copy(_) => 1,
        }
    }

    /// Finishes an image now that the extent of all images is known. Returns `None` if it was made by
    /// another rule than theirs.
    ///
    /// # Errors
    /// If the values of all images show that they are no pictures.
    pub(super) fn finished(
        &self,
        mut made: MadeImage,
        batch: Option<Extent>,
    ) -> Result<Option<MadeImage>, MakeError> {
        let Recipe::Convert(tensor) = &self.recipe else { return Ok(Some(made)) };
        let image = made.entry.as_image();
        let Some(provenance) = image.and_then(|image| image.provenance.as_ref()) else {
            return Ok(Some(made));
        };
        let settled = settled(tensor, provenance, &made.values, batch);
        let settled = settled.map_err(|error| MakeError::Failed(error.to_string()))?;
        let Some(warnings) = settled else { return Ok(None) };
        made.entry.warn(warnings);
        Ok(Some(made))
    }

    /// Reads on for the digest of the dump, at most about `n_bytes_max`. Returns `None` if more is left.
    ///
    /// # Errors
    /// If the dump cannot be read, or is not the one that the images were held of.
    pub(super) fn digest_slice(&self, n_bytes_max: u64) -> Result<Option<Digest>, MakeError> {
        let digest =
            read_with_retries(|| self.dump.digest_slice(n_bytes_max).map_err(ReadError::Io))?;
        let Some(digest) = digest else { return Ok(None) };
        let is_other = |want: Digest| want.kind() == digest.kind() && want != digest;
        if self.source.digest().is_some_and(is_other) {
            return Err(MakeError::Failed(CHANGED.to_owned()));
        }
        Ok(Some(digest))
    }

    /// Checks that the dump is as it was when it was opened.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn check_unchanged(&self) -> Result<(), MakeError> {
        if self.dump.file.is_unchanged() {
            return Ok(());
        }
        Err(MakeError::Unread("the dump changed while it was read".to_owned()))
    }

    /// The source of the images.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The version of the dump, and an image of it.
    pub(super) fn held_at(&self, image_idx: u64) -> HeldAt {
        held_at(&self.dump, image_idx)
    }

    /// The work that one image takes, in pixels or bytes.
    pub(super) fn cost(&self) -> u64 {
        self.recipe.cost()
    }
}

impl MadeImage {
    /// Adds the digest of the dump.
    pub(super) fn set_digest(&mut self, digest: Digest) {
        let source = &mut self.entry.source;
        (source.xxh3, source.sha256) = digest.fields();
        self.has_digest = true;
    }

    /// The extent of its values.
    pub(super) fn extent(&self) -> Option<Extent> {
        self.values.extent
    }
}

/// Makes an image. Leaves out a mask that cannot be made, with a warning.
///
/// `batch` is the extent of all images if they share a rule, as far as it is known. [`Material::finished`]
/// must be called afterwards.
///
/// # Errors
/// If there is none: see [`MakeError`].
pub(super) fn make(
    job: &ImageJob,
    material: &Material,
    batch: Option<Extent>,
    renderer: &mut Renderer,
    writer: &MediaWriter,
) -> Result<MadeImage, MakeError> {
    let ImageJob { id, description, plan } = job;
    let Picture { file, in_memory: picture, provenance, values } =
        picture(job, material, batch, renderer, writer)?;
    // Most of the dump was read, and hashed, for the picture.
    let digest = material.digest_slice(DIGEST_AT_ONCE_BYTES)?;
    let mut warnings = plan.annotations.warnings.clone();
    let (masks, mask_files) = masks(job, material, writer, &mut warnings)?;
    let lacks_mask = plan.lacks_mask || masks.len() < plan.masks.len();
    material.check_unchanged()?;
    let (boxes, box_files) = boxes(id, plan);
    let in_order = plan.masks.iter().filter_map(|mask| masks.get(&mask.spec.name));
    let labels = in_order.filter_map(|mask| mask.class_labels.as_ref());
    let classes =
        if masks.is_empty() { plan.classes.clone() } else { class_set(&plan.annotations, labels) };
    let layers = Layers { classes, boxes, masks, warnings };

    let mut staged = Vec::with_capacity(1 + mask_files.len() + box_files.len());
    for FileInMemory { path, bytes } in [&picture].into_iter().chain(&mask_files).chain(&box_files)
    {
        staged.push(writer.write(&material.run.id, path, bytes).ok_or(MakeError::GivenUp)?);
    }
    renderer.take_back(picture.bytes);
    let image = (plan.image_idx > 0).then_some(plan.image_idx);
    let source = Source { image, ..material.source.clone() };
    let entry =
        MediaEntry::image(id.clone(), file, provenance, layers, description.clone(), source);
    let (entry, has_digest) = (Box::new(entry), digest.is_some());
    let mut made = MadeImage { entry, files: staged, lacks_mask, has_digest, values };
    if let Some(digest) = digest {
        made.set_digest(digest);
    }
    Ok(made)
}

/// The picture of an image.
struct Picture {
    file: MediaFile,
    in_memory: FileInMemory,
    /// `None` if the file is copied.
    provenance: Option<Provenance>,
    values: ValuesSeen,
}

/// Makes the picture: converts the tensor, or copies the file.
fn picture(
    job: &ImageJob,
    material: &Material,
    batch: Option<Extent>,
    renderer: &mut Renderer,
    writer: &MediaWriter,
) -> Result<Picture, MakeError> {
    let ImageJob { id, plan, .. } = job;
    match (&material.recipe, &material.storage) {
        (Recipe::Convert(tensor), Some(storage)) => {
            let rendered = read_with_retries(|| {
                let bytes = storage.bytes(&*material.dump, writer.staging())?;
                renderer.render(&bytes, tensor, plan, batch).map_err(|error| match error {
                    RenderError::Io(error) => ReadError::Io(error),
                    error => ReadError::Data(error.to_string()),
                })
            })?;
            let Rendered { image, provenance, values } = rendered;
            let path =
                media_path(MediaFolder::Images, id, image.sha256, image.file_type.extension());
            let file = rendered_file(&path, &image, tensor, plan);
            let in_memory = FileInMemory { path, bytes: image.bytes };
            Ok(Picture { file, in_memory, provenance: Some(provenance), values })
        }
        (Recipe::Copy(picture), _) => {
            let bytes = read_with_retries(|| read_all(&*material.dump))?;
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
            let (in_memory, values) = (FileInMemory { path, bytes }, ValuesSeen::default());
            Ok(Picture { file, in_memory, provenance: None, values })
        }
        (Recipe::Convert(_), None) => unreachable!("a tensor has a storage"),
    }
}

fn rendered_file(
    path: &str,
    image: &EncodedImage,
    tensor: &TensorPlan,
    plan: &ImagePlan,
) -> MediaFile {
    MediaFile {
        path: path.to_owned(),
        file_type: image.file_type,
        mode: Some(image.mode),
        width: image.width,
        height: image.height,
        size: image.bytes.len() as u64,
        sha256: image.sha256,
        downscaled_from: plan.downscale.map(|_| (tensor.width, tensor.height)),
    }
}

/// The box files of an image, which the plan has made already.
fn boxes(id: &MediaId, plan: &ImagePlan) -> (Annotations, Vec<FileInMemory>) {
    let (mut boxes, mut files) = (Annotations::new(), Vec::new());
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
        files.push(FileInMemory { path, bytes: set.file.to_vec() });
    }
    (boxes, files)
}

/// Makes the masks of an image. Leaves out those that cannot be made, with a warning each.
fn masks(
    job: &ImageJob,
    material: &Material,
    writer: &MediaWriter,
    warnings: &mut Vec<String>,
) -> Result<(Annotations, Vec<FileInMemory>), MakeError> {
    let (mut masks, mut files) = (Annotations::new(), Vec::new());
    for mask in &job.plan.masks {
        let name = &mask.spec.name;
        match make_mask(&job.id, mask, material, writer, warnings) {
            Ok(Some((annotation, file))) => {
                masks.insert(name.clone(), annotation);
                files.push(file);
            }
            Ok(None) => {}
            Err(MakeError::Failed(reason) | MakeError::Unread(reason)) => {
                warnings.push(format!("masks.{name}.{}: {reason}; mask dropped", field_of(mask)));
            }
            Err(MakeError::GivenUp) => return Err(MakeError::GivenUp),
        }
    }
    Ok((masks, files))
}

/// The field of the record that names the dump of a mask.
fn field_of(mask: &MaskPlan) -> &'static str {
    match mask.spec.data {
        MaskData::Tensor { .. } => "mask_data",
        MaskData::File(_) => "path",
    }
}

fn make_mask(
    id: &MediaId,
    mask: &MaskPlan,
    material: &Material,
    writer: &MediaWriter,
    warnings: &mut Vec<String>,
) -> Result<Option<(Annotation, FileInMemory)>, MakeError> {
    let MaskPlan { spec, source_idx, reading } = mask;
    let name = &spec.name;
    let dump = &material.masks[*source_idx];
    let file = read_with_retries(|| {
        dump.reopen(&material.dir).map_err(|failure| match failure {
            ReadFailure::Wait(reason) | ReadFailure::Retry(reason) => {
                ReadError::Io(io::Error::other(reason))
            }
            ReadFailure::OverLimit(reason) | ReadFailure::Reject(reason) => ReadError::Data(reason),
        })
    })?;
    let (bytes, sha256, suffix, ids) = match (reading, &dump.storage) {
        (MaskReading::Tensor { .. }, Some(storage)) => {
            let rendered = read_with_retries(|| {
                let bytes = storage.bytes(&file, writer.staging())?;
                render_mask(&bytes, reading).map_err(|error| match error {
                    MaskError::Io(error) => ReadError::Io(error),
                    error => ReadError::Data(error.to_string()),
                })
            });
            let Some(mask) = rendered? else { return Ok(None) };
            let mut ids: Vec<i64> = mask.class_ids.into_iter().map(i64::from).collect();
            if ids.len() > LABELS_MAX && spec.class_labels.is_none() {
                let n = ids.len();
                let what = format!("labels are generated for at most {LABELS_MAX}");
                warnings.push(format!("masks.{name}: {n} class ids without labels; {what}"));
                ids.clear();
            }
            (mask.image.bytes, mask.image.sha256, "mask.png", ids)
        }
        (MaskReading::File(picture), _) => {
            let bytes = read_with_retries(|| read_all(&file))?;
            let sha256 = Sha256::of(&bytes);
            // Not `.mask.png`: the file may be of another type. wandb does the same.
            (bytes, sha256, picture.file_type.extension(), Vec::new())
        }
        (MaskReading::Tensor { .. }, None) => unreachable!("a tensor has a storage"),
    };
    file.give_back_cache();
    if !file.is_unchanged() {
        return Err(MakeError::Unread("the mask changed while it was read".to_owned()));
    }
    let path = media_path(MediaFolder::Masks, id, sha256, suffix);
    let tensor = spec.data.data().tensor.clone();
    let annotation = Annotation {
        path: path.clone(),
        sha256,
        size: bytes.len() as u64,
        class_labels: match &spec.class_labels {
            Some(labels) => Some(labels.clone()).filter(|labels| labels.text() != "{}"),
            None => generated_labels(ids),
        },
        source: Some(Source { path: dump.path.clone(), tensor, ..Source::default() }),
    };
    Ok(Some((annotation, FileInMemory { path, bytes })))
}

fn read_all(file: &impl ReadAt) -> Result<Vec<u8>, ReadError> {
    let n = usize::try_from(file.n_bytes()).map_err(|error| ReadError::Data(error.to_string()))?;
    let mut bytes = vec![0; n];
    file.read_exact_at(&mut bytes, 0).map_err(ReadError::Io)?;
    Ok(bytes)
}
