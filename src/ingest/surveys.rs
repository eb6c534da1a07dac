//! When runs are surveyed for what is passed over, and what of it the status shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Mode;
use super::passed_over::{PassedOverInRuns, PassedOverKind, RunPassedOver, Summary};
use super::runs::{RootId, RunKey, RunReader, Runs};
use super::watching::Watching;

/// The time of one turn that surveys may take. The pause after it is a multiple of the time taken, but not longer than a
/// second: on a busy machine the time tells little.
const TURN_MAX: Duration = Duration::from_millis(10);
const PAUSE_PER_TURN: u32 = 50;
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pause between two surveys of a run is at least this for each run that is read.
const PAUSE_PER_RUN: Duration = Duration::from_secs(1);

/// How soon a run with unread lines is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// The pause between two updates of the status, in multiples of the time that the last one took. An update goes
/// through all runs.
const PAUSE_PER_UPDATE: u32 = 100;
const UPDATE_PAUSE_MAX: Duration = Duration::from_secs(10);

/// An update that takes less time may follow at once.
const SHORT_UPDATE: Duration = Duration::from_millis(5);

/// Runs whose findings the status lists.
const RUNS_MAX: usize = 100;

/// Runs without input that are named.
const WITHOUT_INPUT_MAX: usize = 3;

/// Surveys of all runs.
#[derive(Debug)]
pub(super) struct Surveys {
    /// When runs are due. An entry counts only if the run has that time, too.
    queue: BTreeSet<(Instant, RunKey)>,
    /// When the next turn may begin.
    allowed_at: Option<Instant>,
    /// Whether the status must be updated.
    is_changed: bool,
    /// When the status may be updated next.
    update_at: Option<Instant>,
    is_update_short: bool,
    /// What was logged.
    logged: BTreeSet<(RootId, PassedOverKind)>,
}

impl Surveys {
    pub(super) fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
            allowed_at: None,
            is_changed: true,
            update_at: None,
            is_update_short: true,
            logged: BTreeSet::new(),
        }
    }

    /// Notes that a run was opened, found its first input, or is gone.
    pub(super) fn note_change(&mut self) {
        self.is_changed = true;
        if self.is_update_short {
            self.update_at = None;
        }
    }

    /// Queues a run that was opened.
    pub(super) fn add(&mut self, key: RunKey, run: &RunReader) {
        self.queue.insert((run.passed_over.due, key));
        self.is_changed = true;
    }

    /// Counts anew what is passed over in a run that was scanned, if that has changed.
    pub(super) fn run_scanned(&mut self, key: RunKey, run: &mut RunReader, now: Instant) {
        if run.folders.take_has_new_findings() {
            self.summarize(run, now, false);
            self.hurry(key, run, now, true);
        }
    }

    /// Surveys runs that are due, for a short time.
    pub(super) fn turn(&mut self, runs: &mut Runs, now: Instant) {
        if self.allowed_at.is_some_and(|at| at > now) {
            return;
        }
        let start = Instant::now();
        let mut n_surveyed = 0;
        while start.elapsed() < TURN_MAX
            && let Some(&(due, key)) = self.queue.first()
            && due <= now
        {
            self.queue.pop_first();
            let pause_min =
                PAUSE_PER_RUN.saturating_mul(u32::try_from(runs.len()).unwrap_or(u32::MAX));
            let Some(run) = runs.get_mut(key).filter(|run| run.passed_over.due == due) else {
                continue;
            };
            if run.logs.tails().iter().any(|tail| tail.front().is_some()) {
                // These lines may name what would be passed over.
                run.passed_over.due = now + RETRY;
                self.queue.insert((run.passed_over.due, key));
                continue;
            }
            n_surveyed += 1;
            let is_first = run.passed_over.is_new();
            run.survey(now);
            if !is_first {
                run.passed_over.due = run.passed_over.due.max(now + pause_min);
            }
            self.queue.insert((run.passed_over.due, key));
            self.summarize(run, now, false);
            self.hurry(key, run, now, false);
        }
        if n_surveyed > 0 {
            let pause = start.elapsed().saturating_mul(PAUSE_PER_TURN);
            self.allowed_at = Some(now + pause.min(PAUSE_MAX));
        }
    }

    /// Surveys all runs. Nothing is expected to follow.
    pub(super) fn finish(&mut self, runs: &mut Runs, now: Instant) {
        for run in runs.iter_mut() {
            run.survey(now);
            self.summarize(run, now, true);
        }
    }

    fn summarize(&mut self, run: &mut RunReader, now: Instant, is_final: bool) {
        let before = run.passed_over.summary().clone();
        run.summarize_passed_over(now, is_final);
        self.is_changed |= before != *run.passed_over.summary();
    }

    fn hurry(&mut self, key: RunKey, run: &mut RunReader, now: Instant, has_changed: bool) {
        if run.passed_over.hurry(now, has_changed) {
            self.queue.insert((run.passed_over.due, key));
        }
    }

    /// Updates what the status shows, if that has changed.
    pub(super) fn update(
        &mut self,
        mode: Mode,
        runs: &Runs,
        watching: &mut Watching,
        now: Instant,
    ) {
        for root in watching.roots_mut() {
            self.is_changed |= root.has_news_outside_runs();
        }
        let is_soon = self.update_at.is_some_and(|at| now < at);
        if !self.is_changed || mode == Mode::Follow && is_soon {
            return;
        }
        let start = Instant::now();
        self.is_changed = false;
        let mut of_roots: BTreeMap<RootId, Vec<&RunReader>> = BTreeMap::new();
        for (root, run) in runs.iter() {
            let runs_of_root = of_roots.entry(root).or_default();
            if !run.passed_over.has_input || !run.passed_over.summary().is_empty() {
                runs_of_root.push(run);
            }
        }
        for root in watching.roots_mut() {
            let mut runs = of_roots.remove(&root.id()).unwrap_or_default();
            runs.sort_by(|a, b| a.id().cmp(b.id()));
            let mut summary = root.passed_over_outside_runs();
            let in_runs = in_runs(root.path(), &runs, &mut summary);
            if mode == Mode::Follow {
                self.log(root.id(), root.path(), &summary);
            }
            root.set_passed_over(in_runs);
        }
        let took = start.elapsed();
        self.is_update_short = took < SHORT_UPDATE;
        let pause = took.saturating_mul(PAUSE_PER_UPDATE);
        self.update_at = Some(now + pause.min(UPDATE_PAUSE_MAX));
    }

    /// Logs each kind once for each watched directory.
    fn log(&mut self, id: RootId, root: &Path, summary: &Summary) {
        for found in summary.to_list() {
            // Each folder that cannot be listed is logged by itself.
            if found.kind != PassedOverKind::Unlisted && self.logged.insert((id, found.kind)) {
                let example = found.examples.first();
                let (path, note) = example.map_or(("", ""), |one| (&one.path, &one.note));
                tracing::warn!(
                    kind = found.kind.label(), n = found.n, example = path, note,
                    root = %root.display(), "passed over, see `safelight status`: {}", found.advice
                );
            }
        }
    }
}

/// What is passed over in the runs of a watched directory. Adds to `summary`, which begins with what is passed over
/// outside of the runs.
fn in_runs(root: &Path, runs: &[&RunReader], summary: &mut Summary) -> PassedOverInRuns {
    let path_of = |run: &RunReader| {
        let inner = run.path().strip_prefix(root).unwrap_or(run.path());
        inner.to_string_lossy().into_owned()
    };
    let mut in_each = Vec::new();
    for run in runs.iter().filter(|run| !run.passed_over.summary().is_empty()) {
        let of_run = run.passed_over.summary();
        summary.add_run(&path_of(run), of_run);
        if in_each.len() < RUNS_MAX {
            in_each.push(RunPassedOver { run: run.id().clone(), passed_over: of_run.to_list() });
        }
    }
    let without_input = runs.iter().filter(|run| !run.passed_over.has_input);
    PassedOverInRuns {
        in_all: summary.to_list(),
        in_each: Arc::new(in_each),
        n_without_input: without_input.clone().count() as u64,
        without_input: without_input.take(WITHOUT_INPUT_MAX).map(|run| path_of(run)).collect(),
        unlisted: summary.unlisted_input(),
    }
}
