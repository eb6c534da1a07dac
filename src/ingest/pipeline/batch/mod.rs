//! Everything that came of one line or dump, from the plan to the commit.

mod queued;
mod tally;

use std::collections::HashMap;
use std::sync::Arc;

pub(super) use self::queued::QueuedBatch;
pub(super) use self::tally::BatchTally;
use super::batch_values::Making;
use super::job::RenderJob;
use super::make::Material;
use crate::decode::Skipped;
use crate::ingest::dumps::{MaskDump, OpenDump, OpenStorage, SharedDigest};
use crate::media::{HeldAt, MediaEntry, MediaId, Sha256, Source, State};
use crate::plan::{Plan, PlannedItem, Recipe};
use crate::run_dir::RunDir;
use crate::store::RunInfo;
use crate::store::journal::{Event, JournalOffset, SourceCursor};
use crate::tensor::Storage;

/// The memory that an event takes beside its texts, in bytes. Measured: 1 to 2 KiB.
const EVENT_BYTES: u64 = 1 << 10;

/// Everything that came of one line or dump: it is committed at once, or not at all.
#[derive(Debug)]
pub(in crate::ingest) struct SourceBatch {
    run: Arc<RunInfo>,
    /// The dump's digest, for held images. It is set once the dump was read.
    digest: Option<SharedDigest>,
    parts: Vec<BatchPart>,
    cursor: SourceCursor,
    /// Opens each storage once: thousands of tensors may be views of the same one.
    storages: HashMap<Storage, Arc<OpenStorage>>,
    /// The dump and its entries that hold no picture, if it has any.
    skipped: Option<(String, Skipped)>,
    /// The place of the waiting item that was tried again, if it has one.
    retried: Option<MediaId>,
    /// If the batch is an image of the store, which of its files are made again.
    repair: Option<FilesToRepair>,
}

/// Damaged files of an image that are made again.
#[derive(Debug)]
pub(in crate::ingest) struct FilesToRepair {
    pub(in crate::ingest) image: MediaId,
    /// Relative to the run's folder in the store, each with its journaled digest.
    pub(in crate::ingest) files: Vec<(String, Sha256)>,
}

/// One event of a batch.
#[derive(Debug)]
enum BatchPart {
    /// The entry of an image that must be made first.
    Image(RenderJob),
    /// An event that is journaled as it is.
    Event(Event),
}

impl SourceBatch {
    /// Creates a batch that only moves the cursor of its source.
    pub(in crate::ingest) fn new(run: &Arc<RunInfo>, cursor: SourceCursor) -> Self {
        let (parts, storages) = (Vec::new(), HashMap::new());
        Self {
            run: run.clone(),
            digest: None,
            parts,
            cursor,
            storages,
            skipped: None,
            retried: None,
            repair: None,
        }
    }

    /// Creates a batch of one event.
    pub(in crate::ingest) fn of_event(
        run: &Arc<RunInfo>,
        event: Event,
        cursor: SourceCursor,
    ) -> Self {
        Self { parts: vec![BatchPart::Event(event)], ..Self::new(run, cursor) }
    }

    /// Adds an event.
    pub(in crate::ingest) fn push_event(&mut self, event: Event) {
        self.parts.push(BatchPart::Event(event));
    }

    /// Adds events before all others.
    pub(in crate::ingest) fn push_events_first(&mut self, events: impl IntoIterator<Item = Event>) {
        self.parts.splice(0..0, events.into_iter().map(BatchPart::Event));
    }

    /// Adds a held or rejected item.
    pub(in crate::ingest) fn push_entry(&mut self, entry: MediaEntry) {
        self.push_event(Event::Media(Box::new(entry)));
    }

    /// Notes the entries of a dump that hold no picture.
    pub(in crate::ingest) fn set_skipped(&mut self, dump: &str, skipped: Skipped) {
        self.skipped = (skipped.n > 0).then(|| (dump.to_owned(), skipped));
    }

    /// Adds the items of a plan.
    pub(in crate::ingest) fn push_plan(
        &mut self,
        plan: Plan,
        dump: &Arc<OpenDump>,
        masks: &[MaskDump],
        dir: &Arc<RunDir>,
        source: &Source,
    ) {
        let Plan { recipe, items, .. } = plan;
        self.digest.get_or_insert_with(|| dump.shared_digest());
        let n_images = items.iter().filter(|item| matches!(item, PlannedItem::Image(_))).count();
        let memory_bytes = items.iter().map(PlannedItem::memory_bytes).max().unwrap_or(0);
        let material = (n_images > 0).then(|| {
            let storage = self.storage_of(&recipe);
            let (run, dump, dir, masks) =
                (self.run.clone(), dump.clone(), dir.clone(), masks.to_vec());
            let material = Material::new(run, dump, recipe, storage, masks, dir, source.clone());
            // Released images are committed one by one.
            let is_one_batch = !matches!(self.cursor, SourceCursor::None);
            let is_all = is_one_batch && n_images as u64 == material.n_images();
            let making = if is_all { Making::All { n_images, memory_bytes } } else { Making::Some };
            Arc::new(material.making(making))
        });
        for item in items {
            match item {
                PlannedItem::Image(image) => {
                    let job = material.as_ref().map(|material| RenderJob::new(image, material));
                    self.parts.extend(job.map(BatchPart::Image));
                }
                PlannedItem::Held { id, image_idx, description, reason } => {
                    // If all of the dump was read already, the commit adds the digest.
                    dump.note_digest();
                    let held = Some(held_at(dump, image_idx));
                    let source = Source { held, ..source.clone() };
                    self.push_entry(MediaEntry::held(id, reason, description, source));
                }
                PlannedItem::Rejected { id, description, reason } => {
                    let place = Some((id.key, id.step, Some(id.index)));
                    let source = source.clone();
                    self.push_entry(MediaEntry::rejected(place, reason, description, source));
                }
            }
        }
    }

    fn storage_of(&mut self, recipe: &Recipe) -> Option<Arc<OpenStorage>> {
        let Recipe::Convert(tensor) = recipe else { return None };
        let storage = &tensor.header.storage;
        let known = self.storages.entry(storage.clone());
        Some(known.or_insert_with(|| Arc::new(OpenStorage::new(storage.clone()))).clone())
    }

    /// The reason of the batch's only item, if that is an item that waits.
    pub(in crate::ingest) fn sole_waiting_reason(&self) -> Option<&str> {
        match &self.parts[..] {
            [BatchPart::Event(Event::Media(entry))] if entry.is_waiting() => entry.reason(),
            _ => None,
        }
    }

    /// Says that the batch is what came of a waiting item, the line of which begins at `place`. `path` is its
    /// dump, if its path describes it, and `id` its place in the step, if it has one.
    pub(in crate::ingest) fn retries(
        &mut self,
        place: JournalOffset,
        path: Option<String>,
        id: Option<MediaId>,
    ) {
        self.parts.insert(0, BatchPart::Event(Event::Retried { place, path }));
        self.retried = id;
    }

    /// Says that the batch's only image is made to repair files of the store. Nothing of it is journaled.
    pub(in crate::ingest) fn repairs(&mut self, files: FilesToRepair) {
        self.repair = Some(files);
    }

    /// Splits off a batch for each image to make. Drops everything else.
    ///
    /// The images were held, and are released one by one. The batches have no cursor, because their
    /// source was read before.
    pub(in crate::ingest) fn into_releases(self) -> impl Iterator<Item = Self> {
        let Self { run, digest, parts, .. } = self;
        let is_image = |part: &BatchPart| matches!(part, BatchPart::Image(_));
        parts.into_iter().filter(is_image).map(move |part| {
            let (digest, parts) = (digest.clone(), vec![part]);
            Self { digest, parts, ..Self::new(&run, SourceCursor::None) }
        })
    }

    /// Whether nothing came of the source but rejected items.
    pub(in crate::ingest) fn is_rejected(&self) -> bool {
        let is_rejected = |part: &BatchPart| matches!(part, BatchPart::Event(Event::Media(entry)) if entry.state() == State::Rejected);
        !self.parts.is_empty() && self.parts.iter().all(is_rejected)
    }

    /// The memory that its events take until the commit, in bytes: their texts, and a fixed size for each.
    pub(super) fn n_bytes(&self) -> u64 {
        let text_bytes = |part: &BatchPart| match part {
            BatchPart::Image(job) => job.text_bytes(),
            BatchPart::Event(Event::Media(entry)) => {
                let text = entry.source.text.as_ref().map_or(0, String::len);
                (entry.description.n_bytes() + text) as u64
            }
            BatchPart::Event(_) => 0,
        };
        self.parts.iter().map(|part| EVENT_BYTES + text_bytes(part)).sum()
    }

    /// The number of items: events of images, held and rejected ones.
    pub(super) fn n_items(&self) -> u64 {
        let is_item = |part: &&BatchPart| {
            matches!(part, BatchPart::Image(_) | BatchPart::Event(Event::Media(_)))
        };
        self.parts.iter().filter(is_item).count() as u64
    }
}

/// Returns what identifies the version of a dump of which an image is held.
pub(in crate::ingest) fn held_at(dump: &OpenDump, image: u64) -> HeldAt {
    let stamp = dump.file.stamp();
    HeldAt::new(image, stamp.size, stamp.mtime_ns)
}
