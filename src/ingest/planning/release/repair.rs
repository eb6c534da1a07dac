//! Makes missing and damaged media files again from their dumps.
//!
//! What described an image is read and planned again, as for a held item. A file that comes out with exactly
//! its journaled digest is put in its place; nothing is journaled. A damaged file stays until then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};

use super::super::PlanContext;
use super::{STEPS_PER_TURN, reopen};
use crate::config::WatchConfig;
use crate::ingest::again::{HeldImages, MissingFile, NamedItem, ReopenedRun, plan_again};
use crate::ingest::pipeline::{FilesToRepair, SourceBatch};
use crate::ingest::runs::Runs;
use crate::media::{MediaEntry, MediaId, RunId, Sha256, Source};
use crate::plan::PlannedItem;
use crate::pulse;
use crate::store::journal::SourceCursor;
use crate::store::media_check::{MediaFiles, files_of};
use crate::store::media_dir::make_way;
use crate::store::{Filter, StateFilter, StoreError};

/// A request to repair the media files of images.
#[derive(Debug)]
pub(crate) struct RepairRequest {
    pub(crate) run: RunId,
    pub(crate) images: Vec<MediaId>,
    /// The settings of run directories that the engine does not watch.
    pub(crate) watches: Vec<WatchConfig>,
    /// Receives the result of each image, or the reason why the repair did not start.
    pub(crate) reply: Sender<Result<Vec<RepairResult>, String>>,
}

/// What came of the repair of an image's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairResult {
    /// The image.
    pub image: MediaId,
    /// Why not all of its files could be made again. `None` if they were made.
    pub reason: Option<String>,
}

/// The repair that is under way, if one is.
#[derive(Default)]
pub(super) struct Repairs(Option<Repair>);

struct Repair {
    run: RunId,
    /// The run directory, or why it cannot be read. `None` if nothing was read of it yet.
    opened: Option<Result<ReopenedRun, String>>,
    /// Images that were not looked at yet.
    images: VecDeque<MediaId>,
    /// Images in the pipeline.
    n_in_flight: u64,
    watches: Vec<WatchConfig>,
    results: Vec<RepairResult>,
    reply: Sender<Result<Vec<RepairResult>, String>>,
}

impl Repairs {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a repair, unless another one is under way.
    pub(super) fn begin(&mut self, request: RepairRequest) {
        let RepairRequest { run, images, watches, reply } = request;
        if self.0.is_some() {
            // The client may be gone.
            reply.try_send(Err("a repair is under way: try again later".to_owned())).ok();
            return;
        }
        self.0 = Some(Repair {
            run,
            opened: None,
            images: images.into(),
            n_in_flight: 0,
            watches,
            results: Vec::new(),
            reply,
        });
    }

    /// Continues the repair. Returns whether there may be more to do at once.
    pub(super) fn turn(
        &mut self,
        runs: &Runs,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let Some(repair) = &mut self.0 else { return Ok(false) };
        for _ in 0..STEPS_PER_TURN {
            if context.is_stopped() {
                return Ok(true);
            }
            let Some(image) = repair.images.pop_front() else { break };
            match repair.submit(&image, runs, context)? {
                Ok(true) => repair.n_in_flight += 1,
                Ok(false) => repair.results.push(RepairResult { image, reason: None }),
                Err(reason) => {
                    repair.results.push(RepairResult { image, reason: Some(reason) });
                }
            }
        }
        if !repair.images.is_empty() {
            return Ok(true);
        }
        if repair.n_in_flight == 0
            && let Some(Repair { reply, results, .. }) = self.0.take()
        {
            // The client may be gone.
            reply.try_send(Ok(results)).ok();
        }
        Ok(false)
    }

    /// Notes what came of an image in the pipeline.
    pub(super) fn done(&mut self, image: MediaId, result: Result<(), String>) {
        if let Some(repair) = &mut self.0 {
            repair.n_in_flight = repair.n_in_flight.saturating_sub(1);
            repair.results.push(RepairResult { image, reason: result.err() });
        }
    }
}

impl Repair {
    /// Submits an image whose files are damaged. Returns whether there is anything to repair. The inner error
    /// says, for people, why it cannot be repaired.
    fn submit(
        &mut self,
        id: &MediaId,
        runs: &Runs,
        context: &mut PlanContext<'_>,
    ) -> Result<Result<bool, String>, StoreError> {
        pulse::beat();
        let Some(entry) = self.entry(id, context)? else {
            return Ok(Err("the item is no image any more, or was pruned".to_owned()));
        };
        let files = match self.damaged_files(&entry, context) {
            Ok(files) if files.is_empty() => return Ok(Ok(false)),
            Ok(files) => files,
            Err(reason) => return Ok(Err(reason)),
        };
        let (run, watches) = (&self.run, &self.watches);
        let opened = self.opened.get_or_insert_with(|| reopen(run, runs, watches, context));
        let opened = match opened {
            Ok(opened) => opened,
            Err(reason) => return Ok(Err(reason.clone())),
        };
        let source = Source { held: None, image: None, ..entry.source.clone() };
        let (item, lookup) = (NamedItem::of(&entry), context.planner.lookup());
        let read = opened.read_again(&source, item, MissingFile::Drop, lookup)?;
        let mut record = match read {
            Ok(record) => record,
            Err(why) => return Ok(Err(why.reason)),
        };
        if let Some(want) = source.digest() {
            // Rendering the image compares a digest of the configured kind.
            let is_other_kind = want.kind() != context.read_options.digest;
            match is_other_kind.then(|| record.dump.digest_by(want.kind())) {
                Some(Ok(got)) if got != want => return Ok(Err(CHANGED.to_owned())),
                Some(Err(error)) => return Ok(Err(format!("its dump cannot be read: {error}"))),
                Some(Ok(_)) | None => {}
            }
        }
        let images = BTreeMap::from([(id.index, entry.source.image.unwrap_or(0))]);
        let image = HeldImages { key: &id.key, step: id.step, source: &source, images: &images };
        let plan = match plan_again(&mut record, &image, context.planner.lookup()) {
            Ok(plan) => plan,
            Err(reason) => return Ok(Err(reason)),
        };
        match plan.items.first() {
            Some(PlannedItem::Image(_)) => {}
            Some(PlannedItem::Held { reason, .. } | PlannedItem::Rejected { reason, .. }) => {
                return Ok(Err(format!("with this configuration it is no image: {reason}")));
            }
            None => return Ok(Err("with this configuration it is no image".to_owned())),
        }
        let mut batch = SourceBatch::new(&opened.run.info, SourceCursor::None);
        batch.push_plan(plan, &record.dump, &record.masks, opened.run.files.dir(), &source);
        batch.repairs(FilesToRepair { image: id.clone(), files });
        context.pipeline.submit(batch);
        Ok(Ok(true))
    }

    /// The image as the store has it, unless it was replaced by something else or pruned.
    fn entry(
        &self,
        id: &MediaId,
        context: &PlanContext<'_>,
    ) -> Result<Option<MediaEntry>, StoreError> {
        let filter = Filter {
            run: Some(self.run.clone()),
            key: Some(id.key.clone()),
            steps: Some((id.step.0, id.step.0)),
            state: Some(StateFilter::Image),
        };
        let items = context.planner.reader().items(&filter)?.filter_map(Result::ok);
        let entry = items.map(|(_, entry)| entry).find(|entry| entry.index() == Some(id.index));
        Ok(entry.filter(|entry| entry.as_image().is_some_and(|image| !image.pruned)))
    }

    /// An image's files that are missing or damaged, each with nothing in the way of a new file.
    fn damaged_files(
        &self,
        entry: &MediaEntry,
        context: &PlanContext<'_>,
    ) -> Result<Vec<(String, Sha256)>, String> {
        let Some(image) = entry.as_image() else { return Ok(Vec::new()) };
        let folder = context.planner.reader().run_folder(&self.run);
        let pace = Arc::clone(&context.read_options.pace);
        let files = MediaFiles::open(&folder, pace).map_err(|damage| {
            format!("the run's folder in the store: {damage}: {}", folder.display())
        })?;
        let damaged = files_of(image).filter(|file| files.check(*file).is_err());
        damaged
            .map(|file| make_way(&folder, file.path).map(|()| (file.path.to_owned(), file.sha256)))
            .collect::<Result<_, _>>()
    }
}

/// Why an image cannot be made again.
const CHANGED: &str = "its dump has changed since the image was made";
