//! One version of a dump that is described by its path: plans it in place of the version before.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Planner;
use super::planner::ImageRange;
use crate::ingest::again::DescribedDump;
use crate::ingest::dumps::{Comparing, OpenDump, OpenRecord};
use crate::ingest::pipeline::SourceBatch;
use crate::ingest::runs::RunReader;
use crate::media::{Description, Digest, HeldAt, MediaEntry, MediaId, Rejection, Source};
use crate::record::pattern::DumpPath;
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::{DumpRow, StoreError};

/// A version of a dump that is described by its path, and what the store has of earlier versions.
pub(super) struct DumpVersion<'a> {
    pub(super) path: &'a str,
    /// What its path says of it, or why it says too little.
    pub(super) description: &'a Result<DumpPath, String>,
    pub(super) stamp: Stamp,
    /// The sidecar's path and stamp.
    pub(super) sidecar: Option<(String, Stamp)>,
    /// What the store has of earlier versions.
    pub(super) row: DumpRow,
}

impl DumpVersion<'_> {
    fn source(&self) -> Source {
        let mtime_ns = i64::try_from(self.stamp.mtime_ns).ok();
        Source { path: self.path.to_owned(), mtime_ns, ..Source::default() }
    }

    /// The dump as its path describes it.
    pub(super) fn described(&self) -> DescribedDump<'_> {
        let Self { path, description, sidecar, .. } = self;
        DescribedDump { path, description, sidecar: sidecar.as_ref() }
    }

    fn sidecar_stamp(&self) -> Option<Stamp> {
        self.sidecar.as_ref().map(|(_, stamp)| *stamp)
    }

    /// The cursor of this version.
    pub(super) fn cursor(&self, digest: Option<Digest>) -> SourceCursor {
        let cursor = DumpCursor::new(self.path.to_owned(), self.stamp, self.sidecar_stamp());
        SourceCursor::Dump(cursor.with_digest(digest))
    }

    /// The batch of a version that no image can be made of now. `reserved` are the places of a version in
    /// the pipeline.
    pub(super) fn rejected(
        &self,
        run: &RunReader,
        why: Rejection,
        reserved: &mut Vec<ImageRange>,
        planner: &mut Planner,
    ) -> Result<SourceBatch, StoreError> {
        let entry = match self.description {
            Ok(path) => {
                let Stamp { size, mtime_ns, .. } = self.stamp;
                let held = why.is_waiting().then(|| HeldAt::new(0, size, mtime_ns));
                let source = Source { held, ..self.source() };
                let before = self.places(reserved);
                let place = (path.key.clone(), path.step, path.index);
                let (place, range) = planner.place_rejected(run.id(), place, &why, &before)?;
                if before.is_empty() {
                    reserved.extend(range);
                }
                MediaEntry::rejected(Some(place), why, Description::default(), source)
            }
            Err(_) => MediaEntry::rejected(None, why, Description::default(), self.source()),
        };
        let event = Event::Media(Box::new(entry));
        Ok(SourceBatch::of_event(&run.info, event, self.cursor(None)))
    }

    /// The places of earlier versions. A version in the pipeline is newer than the one in the store.
    fn places(&self, reserved: &[ImageRange]) -> Vec<ImageRange> {
        [reserved, &self.row.stands].concat()
    }

    /// Whether the store has a version with this stamp and sidecar.
    pub(super) fn is_known(&self) -> bool {
        let known = self.row.cursor.as_ref();
        known
            .is_some_and(|known| (known.stamp, known.sidecar) == (self.stamp, self.sidecar_stamp()))
    }

    /// Whether the store has a version with this content and sidecar. Returns `None` if more of the dump must be
    /// read.
    pub(super) fn has_known_content(
        &self,
        dump: &Arc<OpenDump>,
        comparing: &mut Comparing,
    ) -> Option<bool> {
        let sidecar = self.sidecar_stamp();
        let known = self.row.cursor.as_ref().filter(|cursor| cursor.sidecar == sidecar);
        let Some(known) = known.and_then(DumpCursor::digest) else { return Some(false) };
        match comparing.digest(dump, known.kind()) {
            Ok(digest) => digest.map(|digest| digest == known),
            Err(_) => Some(false),
        }
    }
}

/// Plans a version of a dump in place of the earlier version, if there was one.
pub(super) fn plan_version(
    run: &RunReader,
    dump: &DumpVersion<'_>,
    opened: OpenRecord,
    reserved: &mut Vec<ImageRange>,
    planner: &mut Planner,
) -> Result<SourceBatch, StoreError> {
    let before = dump.places(reserved);
    let mut batch = SourceBatch::new(&run.info, dump.cursor(None));
    let now = planner.plan_record(run.id(), run.files.dir(), opened, &before, &mut batch)?;
    // A version without any image leaves the images of the earlier one.
    if now.is_empty() {
        return Ok(batch);
    }
    for id in gone_images(&before, &now) {
        planner.free(run.id(), id.clone());
        batch.push_event(Event::Gone { id, path: Some(dump.path.to_owned()) });
    }
    *reserved = now;
    Ok(batch)
}

/// The images that the earlier version has and the new one has not.
pub(super) fn gone_images(before: &[ImageRange], now: &[ImageRange]) -> BTreeSet<MediaId> {
    let mut gone = BTreeSet::new();
    for (key, step, earlier) in before {
        let stays = now.iter().find(|now| (&now.0, now.1) == (key, *step));
        let stays = stays.map_or(0..0, |now| now.2.indices());
        let is_gone = |index: &u32| !stays.contains(index);
        let id = |index| MediaId { key: key.clone(), step: *step, index };
        gone.extend(earlier.indices().filter(is_gone).map(id));
    }
    gone
}
