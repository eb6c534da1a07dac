//! A batch that waits for its images and its turn to be committed.

use std::sync::Arc;

use super::{BatchPart, SourceBatch};
use crate::ingest::opened::SharedDigest;
use crate::ingest::pipeline::budget::Share;
use crate::ingest::pipeline::counts::BatchCounts;
use crate::ingest::pipeline::job::{BatchSlot, RenderJob, RenderOutcome};
use crate::ingest::pipeline::results::BatchResult;
use crate::media::{Digest, MediaId, Source, State};
use crate::store::journal::{Event, SourceCursor};
use crate::store::media_dir::Staged;
use crate::store::{Commit, RunInfo};

/// An upper bound for the rejections of one batch that are logged.
const REJECTIONS_LOGGED_MAX: usize = 3;

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
    cursor: SourceCursor,
    /// The number of events that are items.
    n_items: u64,
    /// Held until the batch is done.
    share: Share,
    /// Kept without the dump, so that the dump's file is closed once its images are made.
    digest: Option<SharedDigest>,
    /// Why the dump must be read again.
    unread: Option<String>,
    /// Images that could not be made.
    failed: Vec<MediaId>,
    /// Whether an image was given up, because the program stops while nothing can be written.
    is_given_up: bool,
}

/// What a batch that is done counts for.
#[derive(Debug)]
pub(in crate::ingest::pipeline) struct BatchTally {
    counts: BatchCounts,
    results: Vec<BatchResult>,
    /// The source and reason of the first rejected items, to log them.
    rejections: Vec<(Source, Option<String>)>,
    /// Given back when dropped.
    _share: Share,
}

impl QueuedBatch {
    /// Splits a batch into what waits for the commit and the jobs for the workers. `number` is the
    /// batch's place in the order of commits.
    pub(in crate::ingest::pipeline) fn new(
        number: u64,
        batch: SourceBatch,
        share: Share,
    ) -> (Self, Vec<(BatchSlot, RenderJob)>) {
        let n_items = batch.n_items();
        let SourceBatch { run, digest, parts, cursor, .. } = batch;
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
            cursor,
            n_items,
            share,
            digest,
            unread: None,
            failed: Vec::new(),
            is_given_up: false,
        };
        (queued, jobs)
    }

    /// The number of events.
    pub(in crate::ingest::pipeline) fn n_events(&self) -> u64 {
        self.events.len() as u64
    }

    /// Whether all its images are made, or failed.
    pub(in crate::ingest::pipeline) fn is_ready(&self) -> bool {
        self.n_to_make == 0
    }

    /// Whether an image was given up. Such a batch is not committed, nor is any batch after it.
    pub(in crate::ingest::pipeline) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Stores the outcome of one of its jobs.
    pub(in crate::ingest::pipeline) fn place(&mut self, event_idx: usize, outcome: RenderOutcome) {
        self.n_to_make = self.n_to_make.saturating_sub(1);
        let entry = match outcome {
            RenderOutcome::Made { entry, files } => {
                self.files.extend(files);
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
    /// There is none for an image that could not be released, which stays held, and for a dump that is
    /// described by its path and must be read again.
    pub(in crate::ingest::pipeline) fn finish(mut self) -> (Option<Commit>, BatchTally) {
        let counts = BatchCounts { n_items: self.n_items, ..BatchCounts::default() };
        let (results, rejections) = (Vec::new(), Vec::new());
        let mut tally = BatchTally { counts, results, rejections, _share: self.share };
        let digest = self.digest.as_ref().and_then(|digest| digest.get().copied());
        let run = &self.run.id;
        match &mut self.cursor {
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
                // A rejected item may become an image although the dump stays the same: the cursor
                // must not make such a dump known by its digest.
                let has_rejected = self.events.iter().flatten().any(is_rejected);
                let known = digest.or(cursor.digest()).filter(|_| !has_rejected);
                *cursor = cursor.clone().with_digest(known);
            }
            SourceCursor::Log(_) => {
                let failed = self.failed.into_iter();
                let failed = failed.map(|id| BatchResult::ImageFailed { run: run.clone(), id });
                tally.results.extend(failed);
            }
        }
        let mut events: Vec<Event> = self.events.into_iter().flatten().collect();
        if let Some(digest) = digest {
            events.iter_mut().for_each(|event| note_digest(event, digest));
        }
        events.iter().for_each(|event| tally.count(event));
        (Some(Commit { run: self.run, events, files: self.files, cursor: self.cursor }), tally)
    }
}

impl BatchTally {
    fn count(&mut self, event: &Event) {
        let Event::Media(entry) = event else { return };
        match entry.state() {
            State::Image => self.counts.n_image += 1,
            State::Held => self.counts.n_held += 1,
            State::Rejected => {
                self.counts.n_rejected += 1;
                if self.rejections.len() < REJECTIONS_LOGGED_MAX {
                    self.rejections.push((entry.source.clone(), entry.reason().map(str::to_owned)));
                }
            }
        }
    }

    fn given_back(mut self) -> Self {
        self.counts.n_given_back = self.counts.n_items;
        self
    }

    /// Logs the first rejections, and returns the counts and the results. Gives the share of the event
    /// budget back.
    pub(in crate::ingest::pipeline) fn close(self) -> (BatchCounts, Vec<BatchResult>) {
        for (Source { path, log, line, .. }, reason) in &self.rejections {
            tracing::info!(path, log, line, reason, "rejected");
        }
        (self.counts, self.results)
    }
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
