//! Makes images that were held and that the limits admit now.
//!
//! What described such an image, a line of a log or a dump's path with its sidecar, is read and planned
//! again for the held images alone. Each image is a batch of its own that replaces the held item in the
//! journal. An image that cannot be made stays held, and nothing is journaled. A few steps are looked at in
//! each turn, so that new lines and dumps have theirs.

mod report;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;

pub use self::report::{Admitting, KeyReport, Report};
use super::dump_version::{self, GONE};
use super::planner::{HeldImages, MOVED};
use super::{PlanContext, Planner};
use crate::config::WatchConfig;
use crate::ingest::dumps::{MissingFile, OpenDump, OpenRecord};
use crate::ingest::logs::NumberedLog;
use crate::ingest::pipeline::{CHANGED, SourceBatch, held_at};
use crate::ingest::runs::{RunReader, Runs};
use crate::limits::Limits;
use crate::media::{HeldAt, MediaEntry, MediaId, MediaKey, RunId, Source, State, Step};
use crate::plan::PlannedItem;
use crate::pulse;
use crate::record::{Line, MediaRecord, parse_line};
use crate::run_dir::ReadFailure;
use crate::store::journal::SourceCursor;
use crate::store::{Filter, StoreError};

/// Steps that are looked at in one turn.
const STEPS_PER_TURN: usize = 8;

/// Logs that stay open.
const LOGS_MAX: usize = 16;

/// A request to release held images.
#[derive(Debug)]
pub(crate) struct ReleaseRequest {
    /// The run, key and steps to release.
    pub(crate) filter: Filter,
    /// The settings of run directories that the engine does not watch.
    pub(crate) watches: Vec<WatchConfig>,
    /// Receives the report, or the reason why the release did not start.
    pub(crate) reply: Sender<Result<Report, String>>,
}

/// The release that is under way, if one is.
#[derive(Default)]
pub(crate) struct Releases {
    current: Option<Release>,
}

struct Release {
    request: ReleaseRequest,
    /// Runs that were not looked at yet.
    runs: VecDeque<RunId>,
    current: Option<ReleasedRun>,
    /// Images in the pipeline.
    n_in_flight: u64,
    report: Report,
}

/// The run whose held images are looked at.
struct ReleasedRun {
    id: RunId,
    /// The run directory, or why it cannot be read.
    opened: Result<ReopenedRun, String>,
    /// Steps that were not looked at yet, and how many held images each has.
    steps: VecDeque<(MediaKey, Step, u64)>,
}

/// A run directory that was opened again.
struct ReopenedRun {
    run: RunReader,
    logs: HashMap<String, Result<NumberedLog, String>>,
}

/// Held images of one tensor.
struct Group {
    source: Source,
    held: HeldAt,
    /// By index, which of the tensor's images each is.
    images: BTreeMap<u32, u64>,
}

impl Releases {
    /// Whether a release is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Begins a release, unless one is under way.
    pub(crate) fn begin(&mut self, request: ReleaseRequest, planner: &Planner) {
        let runs = match &request.filter.run {
            Some(run) => Ok(vec![run.clone()]),
            None => planner
                .reader()
                .runs()
                .map(|runs| runs.into_iter().map(|run| run.run).collect::<Vec<_>>()),
        };
        let begun = if self.current.is_some() {
            Err("a release is under way: try again later".to_owned())
        } else {
            runs.map_err(|error| error.to_string())
        };
        match begun {
            // The client may be gone.
            Err(reason) => drop(request.reply.try_send(Err(reason))),
            Ok(runs) => {
                let (runs, report) = (runs.into(), Report::new(planner.limits()));
                let current = None;
                self.current = Some(Release { request, runs, current, n_in_flight: 0, report });
            }
        }
    }

    /// Continues the release, if one is under way. Returns whether there may be more to do at once.
    pub(crate) fn turn(
        &mut self,
        runs: &Runs,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let Some(release) = &mut self.current else { return Ok(false) };
        for _ in 0..STEPS_PER_TURN {
            if context.is_stopped() {
                return Ok(true);
            }
            let next = release.current.as_mut().and_then(|current| current.steps.pop_front());
            if let Some((key, step, n)) = next {
                release.release_step(&key, step, n, context)?;
            } else if let Some(id) = release.runs.pop_front() {
                let reader = context.planner.reader();
                let steps = reader.held_steps(&id, &release.request.filter)?;
                release.current = if steps.is_empty() {
                    None
                } else {
                    let opened = ReopenedRun::open(&id, runs, &release.request.watches, context);
                    Some(ReleasedRun { id, opened, steps: steps.into() })
                };
            } else if release.n_in_flight > 0 {
                return Ok(false);
            } else {
                self.current.take().into_iter().for_each(Release::finish);
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Counts an image whose release was tried.
    pub(crate) fn image_done(
        &mut self,
        run: &RunId,
        id: MediaId,
        result: Result<(), String>,
        planner: &mut Planner,
    ) {
        let MediaId { key, step, index } = id;
        if result.is_err() {
            planner.take_held(run, &key, step, index);
        }
        if let Some(release) = &mut self.current {
            release.n_in_flight = release.n_in_flight.saturating_sub(1);
            match result {
                Ok(()) => release.report.released(run, &key),
                Err(reason) => release.report.failed(run, &key, &reason, 1),
            }
        }
    }
}

impl Release {
    fn finish(self) {
        let Report { released, held, failed, .. } = self.report;
        tracing::info!(released, held, failed, "release is done");
        // The client may be gone.
        self.request.reply.try_send(Ok(self.report.in_order())).ok();
    }

    /// Releases what the limits admit of a step that has `n` held images.
    fn release_step(
        &mut self,
        key: &MediaKey,
        step: Step,
        n: u64,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        let Self { report, n_in_flight, current, .. } = self;
        let Some(ReleasedRun { id, opened, .. }) = current else { return Ok(()) };
        // If a step is full, no dump needs to be read.
        if let Some(reason) = context.planner.full_reason(id, key, step)? {
            report.held(id, key, &reason, n);
            return Ok(());
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                report.failed(id, key, reason, n);
                return Ok(());
            }
        };
        let (steps, state) = (Some((step.0, step.0)), Some(State::Held));
        let filter = Filter { run: Some(id.clone()), key: Some(key.clone()), steps, state };
        let mut items = context.planner.reader().items(&filter)?.peekable();
        while let Some(item) = items.next() {
            pulse::beat();
            let entry = match item {
                Ok((_, entry)) => entry,
                Err(error) => {
                    report.failed(id, key, &error.to_string(), 1);
                    break;
                }
            };
            let Some(mut group) = Group::of(&entry) else {
                let reason = "an earlier version held it, and recorded too little of its dump";
                report.failed(id, key, reason, 1);
                continue;
            };
            while items
                .next_if(|item| item.as_ref().is_ok_and(|(_, next)| group.add(next)))
                .is_some()
            {}
            let n = group.images.len() as u64;
            if let Some(reason) = context.planner.full_reason(id, key, step)? {
                report.held(id, key, &reason, n);
                continue;
            }
            let mut record = match opened.read_again(&group, context.planner)? {
                Ok(record) => record,
                Err(reason) => {
                    report.failed(id, key, &reason, n);
                    continue;
                }
            };
            let Group { source, images, .. } = &group;
            let held = HeldImages { key, step, source, images };
            let plan = match context.planner.plan_held(id, &mut record, &held)? {
                Ok(plan) => plan,
                Err(reason) => {
                    report.failed(id, key, &reason, n);
                    continue;
                }
            };
            for item in &plan.items {
                match item {
                    PlannedItem::Image(_) => *n_in_flight += 1,
                    PlannedItem::Held { reason, .. } => report.held(id, key, reason, 1),
                    PlannedItem::Rejected { reason, .. } => report.failed(id, key, reason, 1),
                }
            }
            let mut batch = SourceBatch::new(&opened.run.info, SourceCursor::None);
            batch.push_plan(plan, &record.dump, &record.masks, opened.run.files.dir(), source);
            batch.into_releases().for_each(|batch| context.pipeline.submit(batch));
        }
        Ok(())
    }
}

impl ReopenedRun {
    /// Opens a run directory where the store read it from. Follows no link: another run's directory may lie
    /// there now.
    fn open(
        id: &RunId,
        runs: &Runs,
        unwatched: &[WatchConfig],
        context: &PlanContext<'_>,
    ) -> Result<Self, String> {
        let live = runs.with_id(id).and_then(|key| runs.get(key));
        let known = context.planner.reader().run_info(id).map_err(|error| error.to_string())?;
        let known = live.map(|live| live.info.clone()).or(known.map(Arc::new));
        let info = known.ok_or("the store does not say where the run came from")?;
        let is_of = |watch: &&WatchConfig| {
            let canonical = std::fs::canonicalize(&watch.path);
            info.source.starts_with(&watch.path)
                || canonical.is_ok_and(|path| info.source.starts_with(path))
        };
        let watch = match live {
            Some(live) => (**live.files.watch()).clone(),
            None => match context.config.watches.iter().chain(unwatched).find(is_of) {
                Some(watch) => watch.clone(),
                None => WatchConfig::of_run(info.source.clone()),
            },
        };
        let watch = WatchConfig { path: Path::new("/").to_owned(), ..watch };
        let options = context.read_options.clone();
        let mut run = RunReader::open(&info.source, id.as_str(), Arc::new(watch), options)?;
        if run.id() != id {
            return Err(format!("{} is the run {} now", info.source.display(), run.id()));
        }
        if live.is_some() {
            run.info = info;
        }
        Ok(Self { run, logs: HashMap::new() })
    }

    /// Reads again what described images, and their dump, which must be unchanged.
    fn read_again(
        &mut self,
        group: &Group,
        planner: &Planner,
    ) -> Result<Result<OpenRecord, String>, StoreError> {
        let Group { source, held, .. } = group;
        if self.run.files.dir().stat(&source.path).is_none() {
            return Ok(Err(GONE.to_owned()));
        }
        let opened = match (&source.log, source.line) {
            (Some(log), Some(number)) => self.read_line(log, number, source, planner.limits()),
            _ => dump_version::reopen(&mut self.run, &source.path, planner)?,
        };
        Ok(opened.and_then(|opened| {
            let is_unchanged = is_unchanged(&opened.dump, source, *held)?;
            is_unchanged.then_some(opened).ok_or_else(|| CHANGED.to_owned())
        }))
    }

    fn read_line(
        &mut self,
        log: &str,
        number: u64,
        source: &Source,
        limits: &Limits,
    ) -> Result<OpenRecord, String> {
        let dir = self.run.files.dir().clone();
        let record = self.record(log, number, limits.line_bytes_max)?;
        if dir.relative(&record.data.path).as_ref() != Ok(&source.path) {
            return Err(MOVED.to_owned());
        }
        let opened = self.run.last_dump.open(&dir, &record.data, limits);
        let opened = opened.and_then(|dump| {
            OpenRecord::new(&dir, record, dump, source.clone(), true, MissingFile::Wait, limits)
        });
        opened.map_err(ReadFailure::reason)
    }

    /// The record on a line of a log.
    fn record(
        &mut self,
        log: &str,
        number: u64,
        line_bytes_max: u64,
    ) -> Result<MediaRecord, String> {
        if self.logs.len() >= LOGS_MAX && !self.logs.contains_key(log) {
            self.logs.clear();
        }
        let open = || NumberedLog::open(self.run.files.dir(), log, line_bytes_max);
        let opened = self.logs.entry(log.to_owned()).or_insert_with(open);
        let line = opened.as_mut().map_err(|reason| reason.clone())?.line(number)?;
        let line = line.filter(|line| !line.is_too_long);
        match line.map(|line| parse_line(&line.bytes)) {
            Some(Ok(Line::Media(record))) => Ok(*record),
            _ => Err(MOVED.to_owned()),
        }
    }
}

impl Group {
    /// The group that begins with an item. `None` if the item says too little of its dump.
    fn of(entry: &MediaEntry) -> Option<Self> {
        let held = entry.source.held?;
        let source = Source { held: None, ..entry.source.clone() };
        let images = BTreeMap::from([(entry.index()?, held.image)]);
        Some(Self { source, held, images })
    }

    /// Adds the next item if it comes from the same tensor. Returns whether it does.
    fn add(&mut self, entry: &MediaEntry) -> bool {
        let is_same = Self::of(entry).filter(|next| {
            let HeldAt { n_bytes, mtime_ns, .. } = next.held;
            next.source == self.source
                && (n_bytes, mtime_ns) == (self.held.n_bytes, self.held.mtime_ns)
        });
        is_same.map(|next| self.images.extend(next.images)).is_some()
    }
}

/// Whether a dump has the content that it had when images of it were held. If its size and time are the
/// same, the digest is compared when the image is made.
fn is_unchanged(dump: &OpenDump, source: &Source, held: HeldAt) -> Result<bool, String> {
    if held_at(dump, held.image) == held {
        return Ok(true);
    }
    match source.digest() {
        // A copy, or a dump that was only touched.
        Some(want) => dump
            .digest_by(want.kind())
            .map(|got| got == want)
            .map_err(|error| format!("its dump cannot be read: {error}")),
        None => Err("its dump was written to since it was held".to_owned()),
    }
}
