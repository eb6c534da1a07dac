//! The tensor that an item was made from: found again, and proved to be the same.
//!
//! The dump is opened beneath the run directory, without links, and what described it is planned again, as for a
//! release. What was proved of a dump holds while the dump keeps its inode, size, modification and change time.

mod known;
mod proof;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(super) use self::known::Origins;
use self::known::{Found, KnownItem};
use self::proof::{extent_of_rule, prove};
use super::Shared;
use super::api::Proof;
use super::params::Place;
use super::problem::Failure;
use super::shown::TensorBytes;
use crate::config::Live;
use crate::convert::Extent;
use crate::ingest::again::{
    HeldImages, Lookup, MOVED, MissingFile, NamedItem, OpenDump, OpenRecord, ReopenedRun, part_of,
};
use crate::limits::{Admission, Limits, StepUsage, admit};
use crate::media::{Digest, DigestKind, Fate, MediaEntry, Source, State};
use crate::plan::{Recipe, TensorPlan};
use crate::record::DataRef;
use crate::render::Renderer;
use crate::run_dir::{ReadOptions, RunDir, RunFile};
use crate::store::journal::Stamp;
use crate::store::{Filter, StoreError};
use crate::words::counted;

/// An item's tensor, with its dump open.
pub(super) struct Origin {
    pub(super) dump: Arc<OpenDump>,
    pub(super) tensor: Arc<FoundTensor>,
}

/// The tensor that an item was made from.
#[derive(Debug)]
pub(super) struct FoundTensor {
    file: DumpFile,
    /// The tensor's name, if the dump holds several.
    pub(super) name: Option<String>,
    /// What the record says of the dump.
    pub(super) data: DataRef,
    /// How its images are made.
    pub(super) recipe: Recipe,
    /// Which of its images the item is.
    pub(super) image_idx: u64,
    /// Width and height that the image is scaled down to.
    pub(super) downscale: Option<(u32, u32)>,
    pub(super) proof: Proof,
}

/// A version of a dump.
#[derive(Debug, Clone)]
struct DumpFile {
    dir: Arc<RunDir>,
    /// Relative to the run directory.
    path: String,
    stamp: Stamp,
}

/// Why an item's tensor is not found.
enum Missing {
    /// It may be found later.
    Now(String),
    /// It is not found until the dump is another one.
    WithThis(DumpFile, String),
}

impl From<String> for Missing {
    fn from(reason: String) -> Self {
        Self::Now(reason)
    }
}

impl DumpFile {
    fn of(record: &OpenRecord, dir: &Arc<RunDir>) -> Self {
        let (path, stamp) = (record.source.path.clone(), record.dump.file.stamp());
        Self { dir: dir.clone(), path, stamp }
    }

    /// Opens the dump, unless it is another version, or its run directory was moved away.
    fn open(&self) -> Option<RunFile> {
        if !self.dir.is_in_place() {
            return None;
        }
        let file = self.dir.open_file(&self.path).ok();
        file.filter(|file| file.stamp() == self.stamp)
    }
}

impl FoundTensor {
    /// The dump's absolute path.
    pub(super) fn path(&self) -> String {
        self.file.dir.path().join(&self.file.path).to_string_lossy().into_owned()
    }
}

/// Finds an item's tensor. The inner error says, for people, why its values are not to be had.
///
/// # Errors
/// If the store fails.
pub(super) fn find(
    shared: &Shared,
    place: &Place,
    entry: &MediaEntry,
) -> Result<Result<Origin, String>, Failure> {
    if !shared.config.dumps {
        return Ok(Err(
            "the values of dumps are not served here: `gallery.dumps` is false".to_owned()
        ));
    }
    if entry.state() == State::Rejected {
        return Ok(Err("the item was rejected".to_owned()));
    }
    if shared.fleet().is_some() {
        // The path of its run directory is one of another machine.
        return Ok(Err(
            "its dump is on the box that made it, where `safelight gallery` shows its values"
                .to_owned(),
        ));
    }
    let live = shared.in_effect.get();
    match shared.origins.item(&live, place, &entry.source) {
        Some(Found::Tensor(tensor)) => {
            if let Some(file) = tensor.file.open() {
                let dump = Arc::new(OpenDump::new(file, DigestKind::Xxh3));
                return Ok(Ok(Origin { dump, tensor }));
            }
        }
        Some(Found::Other(file, reason)) if file.open().is_some() => return Ok(Err(reason)),
        _ => {}
    }
    let remember = |found| {
        let (place, source) = (place.clone(), entry.source.clone());
        shared.origins.remember_item(&live, KnownItem { place, source, found });
    };
    Ok(match search(shared, &live, place, entry)? {
        Ok(origin) => {
            remember(Found::Tensor(origin.tensor.clone()));
            Ok(origin)
        }
        Err(Missing::Now(reason)) => Err(reason),
        Err(Missing::WithThis(file, reason)) => {
            remember(Found::Other(file, reason.clone()));
            Err(reason)
        }
    })
}

fn search(
    shared: &Shared,
    live: &Arc<Live>,
    place: &Place,
    entry: &MediaEntry,
) -> Result<Result<Origin, Missing>, Failure> {
    let lookup = Lookup { reader: &shared.reader, limits: &live.limits, rules: &live.rules };
    let source = Source { held: None, image: None, ..entry.source.clone() };
    let (mut record, dir) = match read(shared, live, place, entry, lookup)? {
        Ok(read) => read,
        Err(reason) => return Ok(Err(reason.into())),
    };
    let file = DumpFile::of(&record, &dir);
    let images = BTreeMap::new();
    let images = HeldImages { key: &place.key, step: place.step, source: &source, images: &images };
    let Some((of_image, found, options)) = part_of(&mut record, &images, lookup.rules) else {
        return Ok(Err(MOVED.to_owned().into()));
    };
    let found = found.map_err(|why| why.reason);
    let recipe = found.and_then(|found| {
        Recipe::new(found, options, lookup.limits).map_err(|error| error.to_string())
    });
    let recipe = match recipe.and_then(|recipe| check_size(&recipe, entry).map(|()| recipe)) {
        Ok(recipe) => recipe,
        Err(reason) => return Ok(Err(Missing::WithThis(file, reason))),
    };
    let image_idx = match image_idx(shared, place, entry, recipe.n_images())? {
        Ok(image_idx) => image_idx,
        Err(reason) => return Ok(Err(reason.into())),
    };
    let proof = match prove(shared, place, entry, &record.dump, &recipe, image_idx) {
        Ok(Some(proof)) => proof,
        Ok(None) => {
            let reason = "its dump has changed since the image was made".to_owned();
            return Ok(Err(Missing::WithThis(file, reason)));
        }
        Err(reason) => return Ok(Err(reason.into())),
    };
    if !record.dump.file.is_unchanged() {
        return Ok(Err("its dump changed while it was read".to_owned().into()));
    }
    let downscale = downscale(entry, &recipe, lookup.limits);
    let data = of_image.data;
    let name = source.tensor;
    let tensor = FoundTensor { file, name, data, recipe, image_idx, downscale, proof };
    Ok(Ok(Origin { dump: record.dump, tensor: Arc::new(tensor) }))
}

/// Reads again what described an item, and opens its dump.
fn read(
    shared: &Shared,
    live: &Arc<Live>,
    place: &Place,
    entry: &MediaEntry,
    lookup: Lookup<'_>,
) -> Result<Result<(OpenRecord, Arc<RunDir>), String>, Failure> {
    let is_held = entry.state() == State::Held;
    if is_held && entry.source.held.is_none() {
        let reason = "an earlier version held it, and recorded too little of its dump";
        return Ok(Err(reason.to_owned()));
    }
    let source = Source { held: None, image: None, ..entry.source.clone() };
    let read = |run: &mut ReopenedRun| -> Result<Result<OpenRecord, String>, StoreError> {
        if let Some(held) = entry.source.held.filter(|_| is_held) {
            return run.read_held(&source, &place.key, held, lookup);
        }
        let record = run.read_again(&source, NamedItem::of(entry), MissingFile::Drop, lookup)?;
        Ok(record.map_err(|why| why.reason))
    };
    let origins = &shared.origins;
    if let Some(mut run) = origins.take_run(live, &place.run)
        && run.run.files.dir().is_in_place()
        && let Ok(record) = read(&mut run)?
    {
        let dir = run.run.files.dir().clone();
        origins.remember_run(live, run);
        return Ok(Ok((record, dir)));
    }
    // A run directory that stayed known may be another one now, and its logs may have grown.
    let kind = source.digest().map_or(DigestKind::Xxh3, Digest::kind);
    let options = ReadOptions { pace: shared.pace.clone(), digest: kind };
    let watch_of = |source: &Path| live.watch_of(source);
    let run = ReopenedRun::open(&place.run, None, watch_of, options, &shared.reader);
    let mut run = match run {
        Ok(run) => run,
        Err(reason) => return Ok(Err(reason)),
    };
    let record = read(&mut run)?;
    let dir = run.run.files.dir().clone();
    origins.remember_run(live, run);
    Ok(record.map(|record| (record, dir)))
}

/// Checks that a tensor makes an image of the stored size and order of axes.
fn check_size(recipe: &Recipe, entry: &MediaEntry) -> Result<(), String> {
    let (Recipe::Convert(tensor), Some(image)) = (recipe, entry.as_image()) else { return Ok(()) };
    let file = (u64::from(image.file.width), u64::from(image.file.height));
    let (want, got) = (image.file.downscaled_from.unwrap_or(file), (tensor.width, tensor.height));
    if got != want {
        return Err(format!(
            "its dump makes an image of {} × {} pixels now, the stored one has {} × {}",
            got.0, got.1, want.0, want.1
        ));
    }
    match &image.provenance {
        Some(made) if made.format != tensor.reading.format => Err(format!(
            "with this configuration its dump is read as {}, the image was made as {}",
            tensor.reading.format, made.format
        )),
        _ => Ok(()),
    }
}

/// Which image of its tensor an item is. Earlier versions did not record it: then the item's rank among those of the
/// same tensor tells, if there are as many as the tensor has images.
fn image_idx(
    shared: &Shared,
    place: &Place,
    entry: &MediaEntry,
    n_images: u64,
) -> Result<Result<u64, String>, Failure> {
    let recorded = match &entry.fate {
        Fate::Held { .. } => entry.source.held.map(|held| held.image),
        _ => entry.source.image,
    };
    let within = |image: u64| {
        let images = counted(n_images, "image");
        let reason = || format!("its dump makes {images} now, and it was number {image}");
        if image < n_images { Ok(image) } else { Err(reason()) }
    };
    if let Some(image) = recorded {
        return Ok(within(image));
    }
    if n_images == 1 {
        return Ok(Ok(0));
    }
    let filter = Filter {
        run: Some(place.run.clone()),
        key: Some(place.key.clone()),
        steps: Some((place.step.0, place.step.0)),
        state: None,
    };
    let of_dump = |source: &Source| {
        (source.path.clone(), source.tensor.clone(), source.log.clone(), source.line)
    };
    let same = of_dump(&entry.source);
    let (mut n, mut rank, mut is_recorded) = (0u64, 0u64, false);
    for item in shared.reader.items(&filter)? {
        let (_, other) = item?;
        let Some(index) = other.index().filter(|_| of_dump(&other.source) == same) else {
            continue;
        };
        n += 1;
        rank += u64::from(index < place.index);
        is_recorded |= other.source.image.is_some();
    }
    if is_recorded {
        // The first image of a tensor has no number.
        return Ok(Ok(0));
    }
    let unknown = || {
        format!(
            "an earlier version did not record which image of its dump it is: the dump makes {n_images}, the step \
             has {n} of them"
        )
    };
    Ok(if n == n_images { Ok(rank) } else { Err(unknown()) })
}

/// Width and height that an image is scaled down to, as a plan would decide.
fn downscale(entry: &MediaEntry, recipe: &Recipe, limits: &Limits) -> Option<(u32, u32)> {
    let Recipe::Convert(tensor) = recipe else { return None };
    if let Some(image) = entry.as_image() {
        return image.file.downscaled_from.map(|_| (image.file.width, image.file.height));
    }
    match admit(limits, &StepUsage::default(), tensor.width, tensor.height) {
        Admission::Downscale(width, height) => Some((width, height)),
        Admission::Keep | Admission::Hold(_) => None,
    }
}

/// The extent of the values of all images by which the rule of an item is chosen.
///
/// # Errors
/// If the dump cannot be read.
pub(super) fn batch_extent(
    entry: &MediaEntry,
    bytes: &TensorBytes,
    tensor: &TensorPlan,
) -> io::Result<Option<Extent>> {
    if !tensor.shares_rule() {
        return Ok(None);
    }
    match entry.as_image().and_then(|image| image.provenance.as_ref()) {
        Some(made) => Ok(extent_of_rule(made.rule)),
        None => Renderer::default().measure(bytes, tensor, 0..tensor.n_images()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::item::entry_at;
    use crate::gallery::testing::{TestFile, TestStore};
    use crate::media::FileType;

    #[test]
    fn in_older_stores_the_rank_tells_which_image_it_is() {
        let mut store = TestStore::new();
        // The index of the first image of a dump may be any.
        for index in [3, 4, 5] {
            let file = TestFile::new(FileType::Png, b"picture", (1, 1));
            store.image(("k", 7, index), file);
        }
        let gallery = store.gallery();
        let image_of = |index: u32, n_images: u64| {
            let id = TestStore::id("k", 7, index);
            let place = Place { run: store.run.clone(), key: id.key, step: id.step, index };
            let entry = entry_at(&gallery.0, &place).expect("an item");
            image_idx(&gallery.0, &place, &entry, n_images).expect("a store")
        };
        assert_eq!([3, 4, 5].map(|index| image_of(index, 3)), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(image_of(3, 1), Ok(0));
        let why = image_of(4, 2).expect_err("no image");
        assert!(why.ends_with("the dump makes 2, the step has 3 of them"), "{why}");
    }
}
