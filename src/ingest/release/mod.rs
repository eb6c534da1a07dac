//! Images that were held back and that the limits admit by now → batches.
//!
//! What described such an image, the line of a log or the path of a dump with its sidecar, is read and
//! planned once more, for those images alone. Each is a batch of its own, which takes the place of what
//! is held back in the journal's next line; what can't be made stays as it is, and nothing is
//! journaled. The engine takes up a few steps at a time, so that new lines and dumps have their turn.

mod numbered;
mod report;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;

use self::numbered::NumberedLog;
pub use self::report::{Admitting, KeyReport, Report};
use super::beneath::{Reading, Verdict};
use super::engine::Engine;
use super::opened::OpenDump;
use super::path_dumps::GONE;
use super::pipeline::{CHANGED, SourceBatch, held_at};
use super::run::Run;
use super::to_plan::{HeldImages, MOVED, ToPlan};
use crate::config::WatchConfig;
use crate::limits::{Admission, admit};
use crate::media::{HeldAt, MediaEntry, MediaId, MediaKey, RunId, Source, State, Step};
use crate::plan::PlannedItem;
use crate::pulse;
use crate::record::{Line, MediaRecord, parse_line};
use crate::store::journal::SourceCursor;
use crate::store::{Filter, StoreError};

/// Steps that are looked at before the next log's or dump's turn.
const STEPS_PER_TURN: usize = 8;

/// Logs that are kept open.
const LOGS_MAX: usize = 16;

/// What is to be released, and whom to tell what came of it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Of which run, key and steps.
    pub(crate) filter: Filter,
    /// What is said of run directories that the engine doesn't read.
    pub(crate) watches: Vec<WatchConfig>,
    pub(crate) told: Sender<Result<Report, String>>,
}

/// A release that is under way.
pub(super) struct Release {
    asked: Asked,
    /// Runs that were not looked at.
    runs: VecDeque<RunId>,
    at: Option<RunAtHand>,
    /// Images that are being made.
    n_in_flight: u64,
    report: Report,
}

/// The run that is looked at.
struct RunAtHand {
    id: RunId,
    /// Its directory, or why it can't be read.
    opened: Result<OpenedAgain, String>,
    /// Its steps that were not looked at, and how many images each has held back.
    steps: VecDeque<(MediaKey, Step, u64)>,
}

/// A run directory, opened once more.
struct OpenedAgain {
    run: Run,
    logs: HashMap<String, Result<NumberedLog, String>>,
}

/// Images of one tensor that are held back.
struct Group {
    source: Source,
    held: HeldAt,
    /// By index, which of the tensor's images each is.
    images: BTreeMap<u32, u64>,
}

impl Engine {
    /// Begins a release, unless one is under way.
    pub(super) fn begin_release(&mut self, asked: Asked) {
        let runs = match &asked.filter.run {
            Some(run) => Ok(vec![run.clone()]),
            None => self
                .reader
                .runs()
                .map(|runs| runs.into_iter().map(|run| run.run).collect::<Vec<_>>()),
        };
        let begun = if self.release.is_some() {
            Err("a release is under way: ask again later".to_owned())
        } else {
            runs.map_err(|error| error.to_string())
        };
        match begun {
            // Whoever asked may have gone.
            Err(reason) => drop(asked.told.try_send(Err(reason))),
            Ok(runs) => {
                let (runs, report) = (runs.into(), Report::new(&self.config.limits));
                self.release = Some(Release { asked, runs, at: None, n_in_flight: 0, report });
            }
        }
    }

    /// Goes on with a release, if one is under way. Whether there may be more to do at once.
    pub(super) fn go_on_releasing(&mut self) -> Result<bool, StoreError> {
        let Some(mut release) = self.release.take() else { return Ok(false) };
        let mut is_busy = true;
        for _ in 0..STEPS_PER_TURN {
            if self.is_stopped() {
                break;
            }
            if let Some(mut at) = release.at.take() {
                if let Some((key, step, n)) = at.steps.pop_front() {
                    self.release_step(&mut release, &mut at, &key, step, n)?;
                    release.at = Some(at);
                }
            } else if let Some(id) = release.runs.pop_front() {
                let steps = self.reader.held_steps(&id, &release.asked.filter)?;
                release.at = (!steps.is_empty()).then(|| {
                    let opened = self.open_once_more(&id, &release.asked.watches);
                    RunAtHand { id, opened, steps: steps.into() }
                });
            } else if release.n_in_flight > 0 {
                is_busy = false;
                break;
            } else {
                let Report { released, held, failed, .. } = release.report;
                tracing::info!(released, held, failed, "release is done");
                release.asked.told.try_send(Ok(release.report.in_order())).ok();
                return Ok(true);
            }
        }
        self.release = Some(release);
        Ok(is_busy)
    }

    /// Counts an image whose release was tried.
    pub(super) fn was_released(&mut self, run: &RunId, id: MediaId, result: Result<(), String>) {
        let MediaId { key, step, index } = id;
        if result.is_err() {
            let step = (run.clone(), key.clone(), step);
            self.usage.entry(step).and_modify(|usage| usage.take(index, false));
        }
        if let Some(release) = &mut self.release {
            release.n_in_flight = release.n_in_flight.saturating_sub(1);
            match result {
                Ok(()) => release.report.released(run, &key),
                Err(reason) => release.report.failed(run, &key, &reason, 1),
            }
        }
    }

    /// Opens a run directory once more, where the store has it from. No link is followed: it may be
    /// another one's by now.
    fn open_once_more(&self, id: &RunId, watches: &[WatchConfig]) -> Result<OpenedAgain, String> {
        let live = self.runs.iter().flatten().find(|run| run.info.id == *id);
        let known = self.reader.run_info(id).map_err(|error| error.to_string())?;
        let known = live.map(|live| live.info.clone()).or(known.map(Arc::new));
        let info = known.ok_or("the store doesn't say where the run came from")?;
        let is_of = |watch: &&WatchConfig| {
            let canonical = std::fs::canonicalize(&watch.path);
            info.source.starts_with(&watch.path)
                || canonical.is_ok_and(|path| info.source.starts_with(path))
        };
        let watch = match live {
            Some(live) => (*live.watch).clone(),
            None => match self.config.watches.iter().chain(watches).find(is_of) {
                Some(watch) => watch.clone(),
                None => WatchConfig::of_run(info.source.clone()),
            },
        };
        let watch = WatchConfig { path: Path::new("/").to_owned(), ..watch };
        let reading = Reading { pace: self.shared.pace.clone(), digest: self.dump_digest };
        let mut run = Run::open(&info.source, id.as_str(), Arc::new(watch), reading)?;
        if run.info.id != *id {
            let (path, now) = (info.source.display(), &run.info.id);
            return Err(format!("{path} is the run {now} by now"));
        }
        if live.is_some() {
            run.info = info;
        }
        Ok(OpenedAgain { run, logs: HashMap::new() })
    }

    /// Releases what the limits admit of a step that has `n` images held back.
    fn release_step(
        &mut self,
        release: &mut Release,
        at: &mut RunAtHand,
        key: &MediaKey,
        step: Step,
        n: u64,
    ) -> Result<(), StoreError> {
        let Release { report, n_in_flight, .. } = release;
        let RunAtHand { id, opened, .. } = at;
        // Where a step is full, no dump needs be looked at.
        if let Some(reason) = self.is_full(id, key, step)? {
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
        let mut items = self.reader.items(&filter)?.peekable();
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
                let reason = "an earlier version held it back, and noted too little of its dump";
                report.failed(id, key, reason, 1);
                continue;
            };
            while items
                .next_if(|item| item.as_ref().is_ok_and(|(_, next)| group.add(next)))
                .is_some()
            {}
            let n = group.images.len() as u64;
            if let Some(reason) = self.is_full(id, key, step)? {
                report.held(id, key, &reason, n);
                continue;
            }
            let mut to_plan = match self.read_once_more(opened, &group)? {
                Ok(to_plan) => to_plan,
                Err(reason) => {
                    report.failed(id, key, &reason, n);
                    continue;
                }
            };
            let Group { source, images, .. } = &group;
            let held = HeldImages { key, step, source, images };
            let plan = match self.plan_held(id, &mut to_plan, &held)? {
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
            let ToPlan { dump, masks, .. } = &to_plan;
            batch.push_plan(plan, dump, masks, &opened.run.dir, source);
            batch.into_releases().for_each(|batch| self.pipeline.submit(batch));
        }
        Ok(())
    }

    /// Why a step takes no more images, if so.
    fn is_full(
        &mut self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<Option<String>, StoreError> {
        let limits = self.config.limits;
        // The smallest image there is.
        match admit(&limits, self.usage_at(run, key, step)?, 1, 1) {
            Admission::Hold(reason) => Ok(Some(reason)),
            Admission::Keep | Admission::Downscale(..) => Ok(None),
        }
    }

    /// Reads once more what described images and their dump, which must be as it was.
    fn read_once_more(
        &self,
        at: &mut OpenedAgain,
        group: &Group,
    ) -> Result<Result<ToPlan, String>, StoreError> {
        let Group { source, held, .. } = group;
        if at.run.dir.stat(&source.path).is_none() {
            return Ok(Err(GONE.to_owned()));
        }
        let to_plan = match (&source.log, source.line) {
            (Some(log), Some(number)) => self.read_line_once_more(at, log, number, source),
            _ => self.reopen_path_dump(&mut at.run, &source.path)?,
        };
        Ok(to_plan.and_then(|to_plan| {
            let is_same = is_as_then(&to_plan.dump, source, *held)?;
            is_same.then_some(to_plan).ok_or_else(|| CHANGED.to_owned())
        }))
    }

    fn read_line_once_more(
        &self,
        at: &mut OpenedAgain,
        log: &str,
        number: u64,
        source: &Source,
    ) -> Result<ToPlan, String> {
        let limits = &self.config.limits;
        let dir = at.run.dir.clone();
        let record = at.record(log, number, limits.line_bytes_max)?;
        if dir.relative(&record.data.path).as_ref() != Ok(&source.path) {
            return Err(MOVED.to_owned());
        }
        let opened = at.run.last_opened.open(&dir, &record.data, limits);
        let to_plan = opened
            .and_then(|opened| ToPlan::read(&dir, record, opened, source.clone(), true, limits));
        to_plan.map_err(Verdict::reason)
    }
}

impl OpenedAgain {
    /// The record that a line of a log is.
    fn record(
        &mut self,
        log: &str,
        number: u64,
        line_bytes_max: u64,
    ) -> Result<MediaRecord, String> {
        if self.logs.len() >= LOGS_MAX && !self.logs.contains_key(log) {
            self.logs.clear();
        }
        let open = || NumberedLog::open(&self.run.dir, log, line_bytes_max);
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
    /// The group that an image begins; `None` if too little is known of it.
    fn of(entry: &MediaEntry) -> Option<Self> {
        let held = entry.source.held?;
        let source = Source { held: None, ..entry.source.clone() };
        let images = BTreeMap::from([(entry.index()?, held.image)]);
        Some(Self { source, held, images })
    }

    /// Adds the next image if it comes from the same tensor. Whether it does.
    fn add(&mut self, entry: &MediaEntry) -> bool {
        let is_same = Self::of(entry).filter(|next| {
            let HeldAt { n_bytes, mtime_ns, .. } = next.held;
            next.source == self.source
                && (n_bytes, mtime_ns) == (self.held.n_bytes, self.held.mtime_ns)
        });
        is_same.map(|next| self.images.extend(next.images)).is_some()
    }
}

/// Whether a dump has the content that it had when images of it were held back. Where it looks as it
/// did, whoever makes them compares its digest with the one that was noted.
fn is_as_then(dump: &OpenDump, source: &Source, held: HeldAt) -> Result<bool, String> {
    if held_at(dump, held.image) == held {
        return Ok(true);
    }
    match source.digest() {
        // A copy, or one that was only touched.
        Some(want) => dump
            .digest_by(want.kind())
            .map(|got| got == want)
            .map_err(|error| format!("its dump cannot be read: {error}")),
        None => Err("its dump was written since it was held back".to_owned()),
    }
}
