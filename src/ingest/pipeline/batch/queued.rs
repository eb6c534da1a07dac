//! A batch that waits for its images and its turn to be committed.

use std::sync::Arc;

use super::tally::{BatchTally, id_of};
use super::{BatchPart, FilesToRepair, SourceBatch};
use crate::decode::Skipped;
use crate::ingest::dumps::SharedDigest;
use crate::ingest::pipeline::budget::Share;
use crate::ingest::pipeline::job::{BatchSlot, RenderJob, RenderOutcome};
use crate::ingest::pipeline::make::{CHANGED, MadeImage};
use crate::ingest::pipeline::results::{BatchResult, ItemOutcome};
use crate::media::{Digest, MediaId, RunId, Sha256, State};
use crate::store::journal::{Event, SourceCursor};
use crate::store::media_check::files_of;
use crate::store::media_dir::{Staged, Staging};
use crate::store::{Commit, RunInfo};

/// The most files of a batch that become durable in its commit. Those of a larger batch do before, a slice at a
/// time, so that other runs are committed in between.
const FILES_AT_ONCE_MAX: usize = 128;
const SYNC_SLICE_FILES: usize = 32;

/// A batch whose jobs were handed to the workers.
#[derive(Debug)]
pub(in crate::ingest::pipeline) struct QueuedBatch {
    run: Arc<RunInfo>,
    /// In the order of the plan. An image's event is `None` until the image is made.
    events: Vec<Option<Event>>,
    /// Images that are not made yet.
    n_to_make: usize,
    /// The staged files of the images.
    files: Vec<Staged>,
    /// How many of them were made durable ahead of the commit.
    n_synced: usize,
    cursor: SourceCursor,
    /// The number of events that are items.
    n_items: u64,
    /// The memory that its events take, in bytes.
    n_bytes: u64,
    /// Held until the batch is done.
    share: Share,
    /// Kept without the dump, so that the dump's file is closed once its images are made.
    digest: Option<SharedDigest>,
    /// Why the dump must be read again.
    unread: Option<String>,
    /// Images that could not be made.
    failed: Vec<MediaId>,
    /// The place of the waiting item that was tried again, if it has one.
    retried: Option<MediaId>,
    /// Whether an image lacks a mask that could not be made.
    lacks_mask: bool,
    /// Whether an image was given up, because the program stops while nothing can be written.
    is_given_up: bool,
    /// The dump and its entries that hold no picture, if it has any.
    skipped: Option<(String, Skipped)>,
    /// If the batch is an image of the store, which of its files are made again.
    repair: Option<FilesToRepair>,
}

impl QueuedBatch {
    /// Splits a batch into what waits for the commit and the jobs for the workers. `number` is the
    /// batch's place in the order of commits.
    pub(in crate::ingest::pipeline) fn new(
        number: u64,
        batch: SourceBatch,
        share: Share,
    ) -> (Self, Vec<(BatchSlot, RenderJob)>) {
        let (n_items, n_bytes) = (batch.n_items(), batch.n_bytes());
        let SourceBatch { run, digest, parts, cursor, skipped, retried, repair, .. } = batch;
        let (mut events, mut jobs) = (Vec::with_capacity(parts.len()), Vec::new());
        for (event_idx, part) in parts.into_iter().enumerate() {
            match part {
                BatchPart::Event(event) => events.push(Some(event)),
                BatchPart::Image(job) => {
                    events.push(None);
                    jobs.push((BatchSlot { batch: number, event_idx }, job));
                }
            }
        }
        let queued = Self {
            run,
            events,
            n_to_make: jobs.len(),
            files: Vec::new(),
            n_synced: 0,
            cursor,
            n_items,
            n_bytes,
            share,
            digest,
            unread: None,
            failed: Vec::new(),
            retried,
            lacks_mask: false,
            is_given_up: false,
            skipped,
            repair,
        };
        (queued, jobs)
    }

    /// A batch of one image that is being made, at index 0, and of the events in `batch`.
    #[cfg(test)]
    pub(in crate::ingest::pipeline) fn unmade(
        number: u64,
        batch: SourceBatch,
        share: Share,
    ) -> Self {
        let (mut queued, _) = Self::new(number, batch, share);
        queued.events.insert(0, None);
        (queued.n_to_make, queued.n_items) = (1, queued.n_items + 1);
        queued
    }

    /// The memory that its events take, in bytes.
    pub(in crate::ingest::pipeline) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The run.
    pub(in crate::ingest::pipeline) fn run(&self) -> &RunId {
        &self.run.id
    }

    /// Whether all its images are made, or failed.
    pub(in crate::ingest::pipeline) fn is_ready(&self) -> bool {
        self.n_to_make == 0
    }

    /// Whether an image was given up. Such a batch is not committed, nor is any batch after it.
    pub(in crate::ingest::pipeline) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Whether so many of its files are not durable yet that a commit of them would take long.
    pub(in crate::ingest::pipeline) fn is_large(&self) -> bool {
        self.files.len() - self.n_synced > FILES_AT_ONCE_MAX
    }

    /// Makes some of its files durable ahead of the commit. If that fails, the commit tries again.
    pub(in crate::ingest::pipeline) fn sync_slice(&mut self, staging: &Staging) {
        let slice = self.files.iter().skip(self.n_synced).take(SYNC_SLICE_FILES);
        let mut n_synced = 0;
        for file in slice {
            n_synced += 1;
            if let Err(error) = staging.sync(file) {
                tracing::debug!(%error, "media file not durable yet");
            }
        }
        self.n_synced += n_synced;
    }

    /// Stores the outcome of one of its jobs.
    pub(in crate::ingest::pipeline) fn place(&mut self, event_idx: usize, outcome: RenderOutcome) {
        self.n_to_make = self.n_to_make.saturating_sub(1);
        let entry = match outcome {
            RenderOutcome::Made(MadeImage { entry, files, lacks_mask, .. }) => {
                self.files.extend(files);
                self.lacks_mask |= lacks_mask;
                entry
            }
            RenderOutcome::Failed(entry) => {
                self.failed.extend(entry.id());
                entry
            }
            RenderOutcome::Unread { entry, reason } => {
                self.unread = Some(reason);
                self.failed.extend(entry.id());
                entry
            }
            RenderOutcome::GivenUp => {
                self.is_given_up = true;
                return;
            }
        };
        self.events[event_idx] = Some(Event::Media(entry));
    }

    /// Returns the commit, if there is one, and the tally.
    ///
    /// There is none for an image that could not be released, which stays held, for a waiting item whose
    /// dump could not be read whole, and for a dump that is described by its path and must be read again.
    pub(in crate::ingest::pipeline) fn finish(mut self) -> (Option<Commit>, BatchTally) {
        if let Some(repair) = self.repair.take() {
            return self.finish_repair(repair);
        }
        let mut tally = BatchTally::new(self.n_items, self.share);
        let digest = self.digest.as_ref().and_then(|digest| digest.get().copied());
        let run = &self.run.id;
        let not_made = |id| BatchResult::NotMade { run: run.clone(), id };
        match &mut self.cursor {
            SourceCursor::None
                if let Some(Some(Event::Retried { path, .. })) = self.events.first() =>
            {
                let path = path.clone();
                let result = match self.unread {
                    Some(reason) => Err(reason),
                    None => Ok(self.events.iter().flatten().filter_map(item_outcome).collect()),
                };
                let is_unread = result.is_err();
                tally.results.push(BatchResult::Retried { run: run.clone(), path, result });
                if is_unread {
                    // All that the batch would have placed or removed stays as it is.
                    let ids = self.events.iter().flatten().filter_map(id_of).chain(self.retried);
                    tally.results.extend(ids.map(not_made));
                    return (None, tally.given_back());
                }
                tally.results.extend(self.failed.into_iter().map(not_made));
            }
            SourceCursor::None => {
                if let Some(Some(Event::Media(entry))) = self.events.first()
                    && let Some(id) = entry.id()
                {
                    let result = entry.reason().map_or(Ok(()), |reason| Err(reason.to_owned()));
                    let is_image = result.is_ok();
                    tally.results.push(BatchResult::Released { run: run.clone(), id, result });
                    if !is_image {
                        return (None, tally.given_back());
                    }
                }
            }
            SourceCursor::Dump(cursor) => {
                let (path, unread) = (cursor.path.clone(), self.unread);
                let is_unread = unread.is_some();
                tally.results.push(BatchResult::Dump { run: run.clone(), path, unread });
                if is_unread {
                    return (None, tally.given_back());
                }
                // A rejected item may become an image although the dump stays the same, and a mask may
                // be fixed: the cursor must not make such a dump known by its digest.
                let has_rejected = self.events.iter().flatten().any(is_rejected);
                let may_change = has_rejected || self.lacks_mask;
                let known = digest.or(cursor.digest()).filter(|_| !may_change);
                *cursor = cursor.clone().with_digest(known);
            }
            SourceCursor::Log(_) => {
                tally.results.extend(self.failed.into_iter().map(not_made));
            }
        }
        let mut events: Vec<Event> = self.events.into_iter().flatten().collect();
        if let Some(digest) = digest {
            events.iter_mut().for_each(|event| note_digest(event, digest));
        }
        events.iter().for_each(|event| tally.count(event));
        tally.skipped = self.skipped.map(|(dump, skipped)| (self.run.id.clone(), dump, skipped));
        (Some(Commit { run: self.run, events, files: self.files, cursor: self.cursor }), tally)
    }
}

impl QueuedBatch {
    /// Returns the repaired files, without anything to journal, and the tally. A file counts only with its
    /// journaled digest.
    fn finish_repair(self, repair: FilesToRepair) -> (Option<Commit>, BatchTally) {
        let Self { run, events, mut files, share, n_items, .. } = self;
        let made = match events.into_iter().flatten().next() {
            Some(Event::Media(entry)) => Some(entry),
            _ => None,
        };
        let image = made.as_ref().and_then(|entry| entry.as_image());
        let is_made = |(path, sha256): &&(String, Sha256)| {
            image.is_some_and(|image| {
                files_of(image).any(|file| (file.path, file.sha256) == (path, *sha256))
            })
        };
        let FilesToRepair { image: id, files: wanted } = repair;
        let (made_again, missing): (Vec<_>, Vec<_>) = wanted.iter().partition(is_made);
        files.retain(|file| made_again.iter().any(|(path, _)| file.is_at(&run.id, path)));
        let reason = match (missing.first(), made.as_ref().and_then(|entry| entry.reason())) {
            (None, _) => None,
            (Some(_), Some(CHANGED)) => {
                Some("its dump has changed since the image was made".to_owned())
            }
            (Some(_), Some(reason)) => Some(reason.to_owned()),
            (Some((path, _)), None) => Some(match image.map(|image| &image.layers.warnings[..]) {
                // A mask that could not be made says why in a warning.
                Some([.., warning]) if *path != image.map_or("", |image| &image.file.path) => {
                    format!("the dump makes another file now: {warning}")
                }
                _ => "its dump makes another file now: the settings or the version of Safelight \
                      have changed"
                    .to_owned(),
            }),
        };
        let mut tally = BatchTally::new(n_items, share);
        tally.results.push(BatchResult::Repaired { id, result: reason.map_or(Ok(()), Err) });
        let commit = Commit { run, events: Vec::new(), files, cursor: SourceCursor::None };
        (Some(commit), tally.given_back())
    }
}

fn item_outcome(event: &Event) -> Option<ItemOutcome> {
    let Event::Media(entry) = event else { return None };
    Some(ItemOutcome {
        key: entry.key().cloned(),
        state: entry.state(),
        is_waiting: entry.is_waiting(),
        reason: entry.reason().map(str::to_owned),
    })
}

fn is_rejected(event: &Event) -> bool {
    matches!(event, Event::Media(entry) if entry.state() == State::Rejected)
}

/// Adds the dump's digest to the source of a held item.
fn note_digest(event: &mut Event, digest: Digest) {
    if let Event::Media(entry) = event
        && entry.state() == State::Held
    {
        (entry.source.xxh3, entry.source.sha256) = digest.fields();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::ingest::pipeline::budget::Budget;
    use crate::ingest::pipeline::counts::BatchCounts;
    use crate::media::{Description, MediaEntry, MediaKey, Source, Step};
    use crate::store::journal::{DumpCursor, Fingerprint, JournalOffset, LogCursor, Stamp};

    const REASON: &str = "all its values are the same";

    fn run() -> Arc<RunInfo> {
        let id = RunId::new("r").unwrap_or_else(|error| panic!("{error}"));
        Arc::new(RunInfo { id, source: "/runs/r".into(), identity: Map::new() })
    }

    fn id(index: u32) -> MediaId {
        let key = MediaKey::new("k").unwrap_or_else(|error| panic!("{error}"));
        MediaId { key, step: Step(1), index }
    }

    fn rejected(index: u32) -> Box<MediaEntry> {
        let MediaId { key, step, index } = id(index);
        let place = Some((key, step, Some(index)));
        let (description, source) = (Description::default(), Source::default());
        Box::new(MediaEntry::rejected(place, REASON.to_owned(), description, source))
    }

    fn held(index: u32) -> Event {
        let (description, source) = (Description::default(), Source::default());
        let entry = MediaEntry::held(id(index), "max_items".to_owned(), description, source);
        Event::Media(Box::new(entry))
    }

    /// A batch of one image, at index 0, and these events.
    fn batch(cursor: SourceCursor, events: Vec<Event>) -> QueuedBatch {
        let mut batch = SourceBatch::new(&run(), cursor);
        events.into_iter().for_each(|event| batch.push_event(event));
        let queued = QueuedBatch::unmade(7, batch, Budget::new(1).take(1));
        assert!(!queued.is_ready());
        queued
    }

    fn dump_cursor() -> SourceCursor {
        let stamp = Stamp { size: 9, mtime_ns: 1, ctime_ns: 1, ino: 1 };
        SourceCursor::Dump(DumpCursor::new("1.npy".to_owned(), stamp, None))
    }

    fn log_cursor() -> SourceCursor {
        SourceCursor::Log(LogCursor {
            path: "x.media.jsonl".to_owned(),
            dev: 1,
            ino: 1,
            offset: 20,
            line: 1,
            head: Fingerprint::default(),
            tail: Fingerprint::default(),
            content: None,
            mtime_ns: None,
            generation: None,
            session: None,
            read: None,
        })
    }

    #[test]
    fn an_image_that_cannot_be_released_stays_held_and_nothing_is_committed() {
        let mut batch = batch(SourceCursor::None, vec![]);
        batch.place(0, RenderOutcome::Failed(rejected(0)));
        assert!(batch.is_ready());
        let (commit, tally) = batch.finish();
        assert!(commit.is_none());
        let (counts, results) = tally.close();
        assert_eq!(counts, BatchCounts { n_items: 1, n_given_back: 1, ..BatchCounts::default() });
        let (run, result) = (run().id.clone(), Err(REASON.to_owned()));
        assert_eq!(results, [BatchResult::Released { run, id: id(0), result }]);
    }

    #[test]
    fn a_waiting_item_that_could_not_be_read_whole_gives_all_its_places_back() {
        let mut of_item = SourceBatch::new(&run(), SourceCursor::None);
        of_item.push_event(held(1));
        of_item.push_event(Event::Gone { id: id(5), path: None });
        of_item.retries(JournalOffset::START, Some("1.npy".to_owned()), Some(id(9)));
        let (mut batch, _) = QueuedBatch::new(7, of_item, Budget::new(1).take(1));
        batch.events.push(None);
        batch.n_to_make = 1;
        let reason = "the dump changed while it was read".to_owned();
        batch.place(3, RenderOutcome::Unread { entry: rejected(0), reason: reason.clone() });
        let (commit, tally) = batch.finish();
        assert!(commit.is_none());
        let (_, results) = tally.close();
        let run = || run().id.clone();
        let retried = BatchResult::Retried {
            run: run(),
            path: Some("1.npy".to_owned()),
            result: Err(reason),
        };
        let not_made = [1, 5, 0, 9].map(|n| BatchResult::NotMade { run: run(), id: id(n) });
        assert_eq!(results[0], retried);
        assert_eq!(results[1..], not_made);
    }

    #[test]
    fn a_dump_that_could_not_be_read_whole_is_not_committed() {
        let mut batch = batch(dump_cursor(), vec![held(1)]);
        let reason = "the dump changed while it was read".to_owned();
        batch.place(0, RenderOutcome::Unread { entry: rejected(0), reason: reason.clone() });
        let (commit, tally) = batch.finish();
        assert!(commit.is_none());
        let (counts, results) = tally.close();
        assert_eq!(counts, BatchCounts { n_items: 2, n_given_back: 2, ..BatchCounts::default() });
        let (run, path, unread) = (run().id.clone(), "1.npy".to_owned(), Some(reason));
        assert_eq!(results, [BatchResult::Dump { run, path, unread }]);
    }

    #[test]
    fn the_failed_image_of_a_line_frees_its_index() {
        let mut batch = batch(log_cursor(), vec![held(1)]);
        batch.place(0, RenderOutcome::Failed(rejected(0)));
        let (commit, tally) = batch.finish();
        assert_eq!(commit.map(|commit| commit.events.len()), Some(2));
        let (counts, results) = tally.close();
        let want = BatchCounts { n_items: 2, n_held: 1, n_rejected: 1, ..BatchCounts::default() };
        assert_eq!(counts, want);
        assert_eq!(results, [BatchResult::NotMade { run: run().id.clone(), id: id(0) }]);
    }

    #[test]
    fn a_dump_with_a_rejected_item_is_not_known_by_its_digest() {
        let digest = Digest::Sha256(Sha256::of(b"dump"));
        for has_rejected in [false, true] {
            let mut batch = batch(dump_cursor(), vec![held(1)]);
            batch.digest = Some(Arc::new(digest.into()));
            if has_rejected {
                batch.place(0, RenderOutcome::Failed(rejected(0)));
            }
            let (commit, _) = batch.finish();
            let commit = commit.unwrap_or_else(|| panic!("no commit"));
            let SourceCursor::Dump(cursor) = &commit.cursor else { panic!("{commit:?}") };
            assert_eq!(cursor.digest(), (!has_rejected).then_some(digest));
            let Some(Event::Media(held)) = commit.events.last() else { panic!("{commit:?}") };
            assert_eq!(held.source.digest(), Some(digest), "a held item names its dump");
        }
    }
}
