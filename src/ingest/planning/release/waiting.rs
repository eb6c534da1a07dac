//! Tries one waiting item again, or one image that lacks masks or annotations whose files were missing.
//!
//! What described a waiting item is read again. What comes of it takes the item's place: the journal notes
//! that the item was tried again and, in the same batch, the items that came of it. If it still waits for
//! the same reason, nothing is journaled.
//!
//! An image that lacks something is made again once one of the files is there, and replaces itself.

use std::collections::BTreeMap;

use super::super::dump_version::gone_images;
use super::super::line::version_at;
use super::super::planner::ImageRange;
use super::super::sessions::{Sessions, Standing};
use super::super::{PathDumps, PlanContext};
use super::{Release, ReleasedRun, Scope, reopen};
use crate::ingest::again::{
    HeldImages, MOVED, MissingFile, NamedItem, OpenRecord, ReopenedRun, plan_again,
};
use crate::ingest::pipeline::SourceBatch;
use crate::ingest::runs::{Runs, SourceId};
use crate::media::{MediaEntry, MediaId, Rejection, RunId, Session, Source};
use crate::plan::IndexRange;
use crate::pulse;
use crate::store::journal::{Event, SourceCursor};
use crate::store::{StoreError, WaitingItem};

/// A waiting item, and what the store has of its source.
struct Waiting {
    entry: MediaEntry,
    /// Its place among the images of its step, if it has one.
    place: Option<MediaId>,
    /// Its dump, if the dump's path describes it.
    dump: Option<String>,
}

/// What came of a waiting item that was read again.
enum Retried {
    /// It waits for the same reason.
    StillWaits(String),
    /// One image of a tensor, the others of which were made.
    Image(SourceBatch),
    /// All that the line, dump or tensor makes, and where these items are.
    Items(SourceBatch, Vec<ImageRange>),
}

impl Release {
    /// Tries a waiting item again.
    pub(super) fn retry(
        &mut self,
        item: &WaitingItem,
        runs: &Runs,
        dumps: &mut PathDumps,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        pulse::beat();
        let Self { report, n_in_flight, current, watches, scope, .. } = self;
        let Some(ReleasedRun { id, opened, .. }) = current else { return Ok(()) };
        let entry = match context.planner.reader().entry(id, item.row) {
            Ok(entry) => entry,
            Err(error) => {
                report.waiting(id, item.said.as_ref().map(|(key, _)| key), &error.to_string());
                return Ok(());
            }
        };
        if entry.as_image().is_some() {
            return self.complete(&entry, runs, context);
        }
        let live = runs.with_id(id).and_then(|key| Some((key, runs.get(key)?)));
        if *scope == Scope::ChangedWaiting
            && live.is_none_or(|(_, run)| {
                version_at(run.files.dir(), &entry.source.path) == entry.source.held
                    || entry.source.log.as_ref() == Some(&entry.source.path)
            })
        {
            return Ok(());
        }
        let place = if item.is_placed { entry.id() } else { None };
        let dump = entry.source.log.is_none().then(|| entry.source.path.clone());
        let waiting = Waiting { entry, place, dump };
        let key = waiting.entry.key().cloned();
        let source = live.zip(waiting.dump.clone()).map(|((run, _), path)| (run, path));
        if source.as_ref().is_some_and(|source| dumps.is_in_flight(source)) {
            // A new version of its dump replaces it.
            report.waiting(id, key.as_ref(), waiting.reason());
            return Ok(());
        }
        let opened = opened.get_or_insert_with(|| reopen(id, runs, watches, context));
        let retried = match opened {
            Ok(opened) => waiting.read_again(id, opened, context)?,
            Err(reason) => Retried::StillWaits(reason.clone()),
        };
        match retried {
            Retried::StillWaits(reason) => report.waiting(id, key.as_ref(), &reason),
            Retried::Image(batch) => {
                batch.into_releases().for_each(|batch| {
                    *n_in_flight += 1;
                    context.pipeline.submit(batch);
                });
            }
            Retried::Items(mut batch, places) => {
                batch.retries(item.row.place, waiting.dump, waiting.place);
                if let Some(source) = source {
                    begin_retry(dumps, runs, source, places);
                }
                *n_in_flight += 1;
                context.pipeline.submit(batch);
            }
        }
        Ok(())
    }

    /// Makes an image again that lacks masks or annotations, if a file of them is there now.
    fn complete(
        &mut self,
        entry: &MediaEntry,
        runs: &Runs,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        let Self { n_in_flight, current, watches, .. } = self;
        let Some(ReleasedRun { id: run, opened, .. }) = current else { return Ok(()) };
        let opened = opened.get_or_insert_with(|| reopen(run, runs, watches, context));
        let (Ok(opened), Some(id)) = (opened, entry.id()) else { return Ok(()) };
        let dir = opened.run.files.dir().clone();
        if !entry.source.missing.iter().any(|path| version_at(&dir, path).is_some()) {
            return Ok(());
        }
        let source = Source { image: None, missing: Vec::new(), ..entry.source.clone() };
        let (item, lookup) = (NamedItem::of(entry), context.planner.lookup());
        let Ok(mut record) = opened.read_again(&source, item, MissingFile::Drop, lookup)? else {
            return Ok(());
        };
        if record.source.missing == entry.source.missing {
            return Ok(());
        }
        let images = BTreeMap::from([(id.index, entry.source.image.unwrap_or(0))]);
        let image = HeldImages { key: &id.key, step: id.step, source: &source, images: &images };
        if let Ok(plan) = plan_again(&mut record, &image, context.planner.lookup()) {
            // The digest of the dump stays: an image of other content must not replace this one.
            let source = Source { missing: record.source.missing, ..source };
            let mut batch = SourceBatch::new(&opened.run.info, SourceCursor::None);
            batch.push_plan(plan, &record.dump, &record.masks, &dir, &source);
            batch.into_releases().for_each(|batch| {
                *n_in_flight += 1;
                context.pipeline.submit(batch);
            });
        }
        Ok(())
    }
}

impl Waiting {
    fn reason(&self) -> &str {
        self.entry.reason().unwrap_or_default()
    }

    /// Reads again what described the item, and plans it.
    fn read_again(
        &self,
        run: &RunId,
        opened: &mut ReopenedRun,
        context: &mut PlanContext<'_>,
    ) -> Result<Retried, StoreError> {
        let source = Source { held: None, image: None, tensor: None, ..self.entry.source.clone() };
        let batch = SourceBatch::new(&opened.run.info, SourceCursor::None);
        let (item, lookup) = (NamedItem::of(&self.entry), context.planner.lookup());
        match opened.read_again(&source, item, MissingFile::Drop, lookup)? {
            Err(why) => self.rejected(run, why, opened, batch, context),
            Ok(record) => match (self.entry.source.image, &self.place) {
                (Some(image), Some(place)) => {
                    self.plan_image(run, image, place, record, opened, batch, context)
                }
                _ => self.plan(run, record, opened, batch, context),
            },
        }
    }

    /// The item is rejected again.
    fn rejected(
        &self,
        run: &RunId,
        why: Rejection,
        opened: &ReopenedRun,
        mut batch: SourceBatch,
        context: &mut PlanContext<'_>,
    ) -> Result<Retried, StoreError> {
        if why.is_waiting() && why.reason == self.reason() {
            return Ok(Retried::StillWaits(why.reason));
        }
        let own = self.own_range();
        let mut place = self.entry.key().cloned().zip(self.entry.step()).map(|(key, step)| {
            let claimed = self.entry.index().filter(|_| why.is_waiting());
            (key, step, claimed)
        });
        if let Some(said) = place.take() {
            place = Some(context.planner.place_rejected(run, said, &why, &own)?.0);
        }
        if !why.is_waiting() {
            self.free(run, context);
        }
        let held = version_at(opened.run.files.dir(), &self.entry.source.path);
        let held = held.filter(|_| why.is_waiting());
        let source = Source { held, ..self.entry.source.clone() };
        batch.push_entry(MediaEntry::rejected(place, why, self.entry.description.clone(), source));
        Ok(Retried::Items(batch, own))
    }

    /// Plans one image of a tensor, at its place.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of one plan")]
    fn plan_image(
        &self,
        run: &RunId,
        image: u64,
        place: &MediaId,
        mut record: OpenRecord,
        opened: &ReopenedRun,
        mut batch: SourceBatch,
        context: &mut PlanContext<'_>,
    ) -> Result<Retried, StoreError> {
        let images = BTreeMap::from([(place.index, image)]);
        let MediaId { key, step, .. } = place;
        let held = HeldImages { key, step: *step, source: &self.entry.source, images: &images };
        match context.planner.plan_held(run, &mut record, &held)? {
            Ok(plan) => {
                let source = Source { held: None, image: None, ..self.entry.source.clone() };
                let dir = opened.run.files.dir();
                batch.push_plan(plan, &record.dump, &record.masks, dir, &source);
                Ok(Retried::Image(batch))
            }
            Err(reason) => Ok(Retried::StillWaits(reason)),
        }
    }

    /// Plans all that the line, dump or tensor makes, from the item's place on.
    fn plan(
        &self,
        run: &RunId,
        mut record: OpenRecord,
        opened: &ReopenedRun,
        mut batch: SourceBatch,
        context: &mut PlanContext<'_>,
    ) -> Result<Retried, StoreError> {
        let tensor = &self.entry.source.tensor;
        if let Some(tensor) = tensor
            && !context.planner.keep_tensor(&mut record, tensor)
        {
            return Ok(Retried::StillWaits(MOVED.to_owned()));
        }
        let Some(replaced) = self.replaced(run, &mut record, context)? else {
            self.free(run, context);
            batch.push_event(Event::Superseded);
            return Ok(Retried::Items(batch, Vec::new()));
        };
        // If no tensor of a dump could be read, an earlier version may have images that stay until now.
        let before = match &self.dump {
            Some(dump) if tensor.is_none() => {
                let row = context.planner.reader().dump(run, dump)?;
                row.map(|row| row.stands).unwrap_or_default()
            }
            _ => self.own_range(),
        };
        let dir = opened.run.files.dir();
        let now = context.planner.plan_record(run, dir, record, &before, &mut batch)?;
        if let Some(reason) = batch.sole_waiting_reason()
            && reason == self.reason()
            && now.iter().all(|range| before.contains(range))
        {
            return Ok(Retried::StillWaits(reason.to_owned()));
        }
        if now.is_empty() {
            self.free(run, context);
            return Ok(Retried::Items(batch, now));
        }
        for id in gone_images(&before, &now) {
            context.planner.free(run, id.clone());
            if self.dump.is_some() && Some(&id) != self.place.as_ref() {
                batch.push_event(Event::Gone { id, path: self.dump.clone() });
            }
        }
        for id in replaced {
            let is_here = |(key, step, range): &ImageRange| {
                (key, *step) == (&id.key, id.step) && range.contains(id.index)
            };
            if !now.iter().any(is_here) {
                context.planner.free(run, id.clone());
                batch.push_event(Event::Gone { id, path: None });
            }
        }
        Ok(Retried::Items(batch, now))
    }

    /// The images of earlier sessions of the job that those of the item replace. `None` if a later session has
    /// replaced the item.
    fn replaced(
        &self,
        run: &RunId,
        record: &mut OpenRecord,
        context: &mut PlanContext<'_>,
    ) -> Result<Option<Vec<MediaId>>, StoreError> {
        let Some((session, rank)) = self.entry.source.writer() else { return Ok(Some(Vec::new())) };
        let session = Session { id: session.to_owned(), rank };
        // Once all of the run is committed, the index knows the sessions of all its items.
        context.drain_run(run);
        let (step, n_done) = (record.record.step, context.pipeline.n_received());
        let (mut sessions, index) = (Sessions::default(), context.planner.reader());
        let parts = &mut record.parts;
        Ok(match sessions.compare(run, &session, parts, step, n_done, index)? {
            Standing::Current(replaced) => {
                let ids = replaced.into_iter().flat_map(|(key, indices)| {
                    let id = move |index| MediaId { key: key.clone(), step, index };
                    indices.into_iter().map(id)
                });
                Some(ids.collect())
            }
            Standing::Superseded => None,
            Standing::Unclear => Some(Vec::new()),
        })
    }

    /// The place of the item, as a range of indices.
    fn own_range(&self) -> Vec<ImageRange> {
        let range = |id: &MediaId| (id.key.clone(), id.step, IndexRange { first: id.index, n: 1 });
        self.place.iter().map(range).collect()
    }

    /// Frees the index of the item.
    fn free(&self, run: &RunId, context: &mut PlanContext<'_>) {
        if let Some(id) = &self.place {
            context.planner.free(run, id.clone());
        }
    }
}

/// Notes that items of a dump are in the pipeline: a new version of the dump must follow them.
fn begin_retry(dumps: &mut PathDumps, runs: &Runs, source: SourceId, places: Vec<ImageRange>) {
    let stamp = runs.get(source.0).and_then(|run| run.files.dir().stat(&source.1));
    if let Some(stamp) = stamp {
        dumps.begin_retry(source, stamp, places);
    }
}
