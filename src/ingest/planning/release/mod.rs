//! Makes images of items that were held or wait, and that can be made now ([`held`], [`waiting`]).
//!
//! What described such an item, a line of a log or a dump's path with its sidecar, is read and planned
//! again. Each held image is a batch of its own that replaces the held item in the journal; one that cannot
//! be made stays held, and nothing is journaled. A waiting item may become several items, which are one
//! batch ([`waiting`]). A few steps are looked at in each turn, so that new lines and dumps have theirs.
//!
//! A media file that is missing or damaged is made again the same way ([`repair`]).
//!
//! A person asks for it (`safelight release`), or [`Retries`] does: the engine tries waiting items again by
//! itself.

mod held;
mod repair;
mod report;
mod retries;
mod waiting;

use std::collections::VecDeque;
use std::path::Path;

use crossbeam_channel::Sender;

pub(crate) use self::repair::RepairRequest;
pub use self::repair::RepairResult;
use self::repair::Repairs;
pub use self::report::{Admitting, KeyReport, Report};
pub(crate) use self::retries::Retries;
use super::{PathDumps, PlanContext, Planner};
use crate::config::WatchConfig;
use crate::ingest::again::ReopenedRun;
use crate::ingest::pipeline::ItemOutcome;
use crate::ingest::runs::Runs;
use crate::media::{MediaId, MediaKey, RunId, State, Step};
use crate::store::{Filter, StoreError, WaitingItem};

/// Steps and waiting items that are looked at in one turn.
const STEPS_PER_TURN: usize = 8;

/// A request to release held images and to try waiting items again.
#[derive(Debug)]
pub(crate) struct ReleaseRequest {
    /// The run, key and steps to release.
    pub(crate) filter: Filter,
    /// The settings of run directories that the engine does not watch.
    pub(crate) watches: Vec<WatchConfig>,
    /// Receives the report, or the reason why the release did not start.
    pub(crate) reply: Sender<Result<Report, String>>,
}

/// The releases that are under way or asked for.
#[derive(Default)]
pub(crate) struct Releases {
    current: Option<Release>,
    /// A person's request that comes after the current release.
    next: Option<Release>,
    repairs: Repairs,
}

/// Which items a release tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Held and waiting items.
    All,
    /// Waiting items.
    Waiting,
    /// Waiting items whose dump has changed.
    ChangedWaiting,
}

struct Release {
    filter: Filter,
    scope: Scope,
    /// The settings of run directories that the engine does not watch.
    watches: Vec<WatchConfig>,
    /// Receives the report. `None` if the engine itself began the release.
    reply: Option<Sender<Result<Report, String>>>,
    /// Runs that were not looked at yet.
    runs: VecDeque<RunId>,
    current: Option<ReleasedRun>,
    /// Images and waiting items in the pipeline.
    n_in_flight: u64,
    report: Report,
}

/// The run whose held and waiting items are looked at.
struct ReleasedRun {
    id: RunId,
    /// The run directory, or why it cannot be read. `None` if nothing was read of it yet.
    opened: Option<Result<ReopenedRun, String>>,
    /// Steps that were not looked at yet, and how many held images each has.
    steps: VecDeque<(MediaKey, Step, u64)>,
    /// Waiting items that were not looked at yet.
    waiting: VecDeque<WaitingItem>,
}

impl Releases {
    /// Whether a release or a repair is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.current.is_some() || self.repairs.is_under_way()
    }

    /// Begins a repair of media files, unless another one is under way.
    pub(crate) fn begin_repair(&mut self, request: RepairRequest) {
        self.repairs.begin(request);
    }

    /// Notes what came of the repair of an image's files.
    pub(crate) fn repaired(&mut self, image: MediaId, result: Result<(), String>) {
        self.repairs.done(image, result);
    }

    /// Begins a release that a person asked for, unless another one is under way.
    pub(crate) fn begin(&mut self, request: ReleaseRequest, planner: &Planner) {
        let runs = match &request.filter.run {
            Some(run) => Ok(vec![run.clone()]),
            None => planner
                .reader()
                .runs()
                .map(|runs| runs.into_iter().map(|run| run.run).collect::<Vec<_>>()),
        };
        let is_busy = self.next.is_some()
            || self.current.as_ref().is_some_and(|release| release.reply.is_some());
        let begun = if is_busy {
            Err("a release is under way: try again later".to_owned())
        } else {
            runs.map_err(|error| error.to_string())
        };
        let ReleaseRequest { filter, watches, reply } = request;
        match begun {
            // The client may be gone.
            Err(reason) => drop(reply.try_send(Err(reason))),
            Ok(runs) => {
                let mut release = Release::new(Scope::All, runs, planner);
                (release.filter, release.watches, release.reply) = (filter, watches, Some(reply));
                match self.current {
                    None => self.current = Some(release),
                    Some(_) => self.next = Some(release),
                }
            }
        }
    }

    /// Continues the repair and the release, if they are under way. Returns whether there may be more to do
    /// at once.
    pub(crate) fn turn(
        &mut self,
        runs: &Runs,
        dumps: &mut PathDumps,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let has_more_repairs = self.repairs.turn(runs, context)?;
        Ok(self.turn_of_release(runs, dumps, context)? || has_more_repairs)
    }

    fn turn_of_release(
        &mut self,
        runs: &Runs,
        dumps: &mut PathDumps,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let Some(release) = &mut self.current else { return Ok(false) };
        for _ in 0..STEPS_PER_TURN {
            if context.is_stopped() {
                return Ok(true);
            }
            let current = release.current.as_mut();
            let next = current.map(|run| (run.steps.pop_front(), run.waiting.pop_front()));
            let (step, waiting) = next.unwrap_or_default();
            let is_any = step.is_some() || waiting.is_some();
            if let Some((key, step, n)) = step {
                release.release_step(&key, step, n, runs, context)?;
            }
            if let Some(item) = waiting {
                release.retry(&item, runs, dumps, context)?;
            }
            if is_any {
                continue;
            }
            if let Some(id) = release.runs.pop_front() {
                release.begin_run(id, context)?;
            } else if release.n_in_flight > 0 {
                return Ok(false);
            } else {
                let next = self.next.take();
                std::mem::replace(&mut self.current, next).into_iter().for_each(Release::finish);
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Counts an image whose release was tried.
    pub(crate) fn image_done(
        &mut self,
        run: &RunId,
        id: &MediaId,
        result: Result<(), String>,
        planner: &mut Planner,
    ) {
        if result.is_err() {
            planner.restore(run, id);
        }
        if let Some(release) = &mut self.current {
            release.n_in_flight = release.n_in_flight.saturating_sub(1);
            match result {
                Ok(()) => release.report.released(run, &id.key),
                Err(reason) => release.report.failed(run, Some(&id.key), &reason, 1),
            }
        }
    }

    /// Counts what came of a waiting item.
    pub(crate) fn retried(&mut self, run: &RunId, result: Result<Vec<ItemOutcome>, String>) {
        let Some(Release { n_in_flight, report, .. }) = &mut self.current else { return };
        *n_in_flight = n_in_flight.saturating_sub(1);
        let items = match result {
            Ok(items) => items,
            Err(reason) => return report.waiting(run, None, &reason),
        };
        for ItemOutcome { key, state, is_waiting, reason } in &items {
            let reason = reason.as_deref().unwrap_or_default();
            match (state, key) {
                (State::Image, Some(key)) => report.released(run, key),
                (State::Held, Some(key)) => report.held(run, key, reason, 1),
                (_, key) if *is_waiting => report.waiting(run, key.as_ref(), reason),
                (_, key) => report.failed(run, key.as_ref(), reason, 1),
            }
        }
    }
}

impl Release {
    fn new(scope: Scope, runs: Vec<RunId>, planner: &Planner) -> Self {
        Self {
            filter: Filter::default(),
            scope,
            watches: Vec::new(),
            reply: None,
            runs: runs.into(),
            current: None,
            n_in_flight: 0,
            report: Report::new(planner.limits()),
        }
    }

    fn begin_run(&mut self, id: RunId, context: &PlanContext<'_>) -> Result<(), StoreError> {
        let reader = context.planner.reader();
        let steps = match self.scope {
            Scope::All => reader.held_steps(&id, &self.filter)?,
            Scope::Waiting | Scope::ChangedWaiting => Vec::new(),
        };
        let waiting = reader.tried_again(&id, &self.filter)?;
        let run = ReleasedRun { id, opened: None, steps: steps.into(), waiting: waiting.into() };
        self.current = Some(run);
        Ok(())
    }

    fn finish(self) {
        let Report { released, held, waiting, failed, .. } = self.report;
        match self.reply {
            // The client may be gone.
            Some(reply) => {
                tracing::info!(released, held, waiting, failed, "release is done");
                reply.try_send(Ok(self.report.in_order())).ok();
            }
            None if released + failed > 0 => {
                tracing::info!(released, waiting, failed, "waiting items were tried again");
            }
            None => {}
        }
    }
}

/// Opens the run directory of items that are made again. `unwatched` are the settings of run directories that the
/// engine does not watch.
fn reopen(
    id: &RunId,
    runs: &Runs,
    unwatched: &[WatchConfig],
    context: &PlanContext<'_>,
) -> Result<ReopenedRun, String> {
    let live = runs.with_id(id).and_then(|key| runs.get(key));
    let watch_of = |source: &Path| {
        let is_of = |watch: &&WatchConfig| {
            let canonical = std::fs::canonicalize(&watch.path);
            source.starts_with(&watch.path) || canonical.is_ok_and(|path| source.starts_with(path))
        };
        let watch = context.config.watches.iter().chain(unwatched).find(is_of).cloned();
        watch.unwrap_or_else(|| WatchConfig::of_run(source.to_owned()))
    };
    let options = context.read_options.clone();
    ReopenedRun::open(id, live, watch_of, options, context.planner.reader())
}
