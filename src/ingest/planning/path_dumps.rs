//! Plans dumps that are described by their paths, and by a sidecar if they have one.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::dump_version::{DumpVersion, plan_version};
use super::planner::ImageRange;
use super::{PlanContext, PlanResult, Planner, SLICE};
use crate::config::IngestTimes;
use crate::ingest::Mode;
use crate::ingest::dumps::{MissingFile, OpenRecord};
use crate::ingest::folders::Arrival;
use crate::ingest::pipeline::{Pipeline, SourceBatch};
use crate::ingest::runs::{RunKey, RunReader, Runs, SourceId};
use crate::ingest::watching::{Due, QuietTimes, Settler};
use crate::media::{Rejection, RunId};
use crate::record::pattern::DumpPath;
use crate::run_dir::ReadFailure;
use crate::store::journal::Stamp;
use crate::store::{DumpRow, StoreError};

/// The first and the longest pause before a dump that cannot be read is tried again.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How often a dump that changes while it is read is read again before it is rejected.
const UNREAD_MAX: u32 = 10;

/// How long a found dump must not change at least, where other machines may write without an event.
const REMOTE_SETTLE_MIN: Duration = Duration::from_secs(3);

/// Dumps that settle at the same time. If a million dumps are found at once, the others are found again by
/// a later scan, so that the memory stays bounded: a dump takes about 700 bytes. (Few in debug builds, so that tests
/// reach it.)
const SETTLING_MAX: usize = if cfg!(debug_assertions) { 256 } else { 65_536 };

/// The others are looked for once so few are left. A scan of a million dumps takes seconds, so it must find many that
/// there is room for.
const SETTLING_FEW: usize = SETTLING_MAX / 8;

/// The dumps that are described by their paths: those that settle, and those in the pipeline.
#[derive(Debug)]
pub(crate) struct PathDumps {
    settler: Settler<SourceId>,
    /// Dumps that have settled and are not planned yet, by their run, in the order of what their paths say.
    settled: BTreeMap<RunKey, VecDeque<SettledDump>>,
    /// The dumps among them.
    queued: HashSet<SourceId>,
    /// The run whose dump was planned last.
    last: Option<RunKey>,
    /// Dumps in the pipeline.
    in_flight: HashMap<SourceId, InFlight>,
    /// Dumps that were read, and that a writer closed after that. Their content decides whether they have
    /// changed.
    to_compare: HashSet<SourceId>,
    /// Whether dumps were found that could not settle because too many did.
    has_skipped: bool,
}

/// A dump in the pipeline.
#[derive(Debug)]
struct InFlight {
    stamp: Stamp,
    /// Where its images are.
    reserved: Vec<ImageRange>,
    /// How often it could not be read whole.
    n_unread: u32,
    /// Whether it left the pipeline without being read whole.
    is_done: bool,
}

/// A dump whose quiet time is over, and what its path says of it.
#[derive(Debug)]
struct SettledDump {
    description: Result<DumpPath, String>,
    due: Due<SourceId>,
    /// Whether its content decides if it has changed.
    is_compared: bool,
}

impl PathDumps {
    /// No dumps.
    pub(crate) fn new() -> Self {
        Self {
            settler: Settler::new(),
            settled: BTreeMap::new(),
            queued: HashSet::new(),
            last: None,
            in_flight: HashMap::new(),
            to_compare: HashSet::new(),
            has_skipped: false,
        }
    }

    /// The number of dumps that settle, or have settled and are not planned yet.
    pub(crate) fn n_settling(&self) -> usize {
        self.settler.len() + self.queued.len()
    }

    /// When the dump that settles longest changed last.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.settler.oldest()
    }

    /// When the next dump is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.settler.wake_at()
    }

    /// The runs that have a dump in the pipeline.
    pub(crate) fn runs_in_flight(&self) -> HashSet<RunKey> {
        self.in_flight.keys().map(|(run, _)| *run).collect()
    }

    /// Whether this dump is in the pipeline.
    pub(super) fn is_in_flight(&self, id: &SourceId) -> bool {
        self.in_flight.contains_key(id)
    }

    /// Notes that waiting items of a dump are in the pipeline, which take these places.
    pub(super) fn begin_retry(&mut self, id: SourceId, stamp: Stamp, reserved: Vec<ImageRange>) {
        self.in_flight.insert(id, InFlight { stamp, reserved, n_unread: 0, is_done: false });
    }

    /// Notes that waiting items of a dump were tried again.
    pub(crate) fn retry_done(&mut self, id: &SourceId) {
        self.in_flight.remove(id);
    }

    /// Whether no dump is left to be read.
    pub(crate) fn is_idle(&self) -> bool {
        self.n_settling() == 0 && !self.has_skipped && self.in_flight.is_empty()
    }

    /// Whether dumps were skipped and there is room for them now. A full scan must find them again.
    pub(crate) fn take_rescan(&mut self) -> bool {
        let is_due = self.has_skipped && self.n_settling() < SETTLING_FEW;
        self.has_skipped &= !is_due;
        is_due
    }

    /// Forgets the dumps of a run.
    pub(crate) fn forget_run(&mut self, run: RunKey) {
        self.in_flight.retain(|id, _| id.0 != run);
        self.to_compare.retain(|id| id.0 != run);
        self.settled.remove(&run);
        self.queued.retain(|id| id.0 != run);
    }

    /// Notes a dump that was found or that an event announced. Returns whether it is new.
    pub(crate) fn notice(
        &mut self,
        key: RunKey,
        run: &RunReader,
        dump: String,
        arrival: Arrival,
        context: &PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let Some(stamp) = run.files.dir().stat(&dump) else { return Ok(false) };
        // A memory map is closed at its full length before its first byte is written.
        let is_whole = arrival == Arrival::Found || !run.files.dir().may_be_unfilled(&dump);
        let arrival = if is_whole { arrival } else { Arrival::Found };
        let id = (key, dump);
        if self.queued.contains(&id) && arrival != Arrival::Closed {
            // Whether it has changed is seen when it is planned.
            return Ok(false);
        }
        let is_in_pipeline = self.in_flight.get(&id).is_some_and(|dump| dump.stamp == stamp);
        if is_in_pipeline || is_known(run, &id.1, stamp, &row_of(run, &id.1, context.planner)?) {
            if arrival != Arrival::Closed {
                return Ok(false);
            }
            // Writes to a memory map leave no trace but its close at the end.
            self.to_compare.insert(id.clone());
        }
        let n_before = self.settler.len();
        if self.n_settling() >= SETTLING_MAX && !self.settler.contains(&id) {
            self.has_skipped = true;
            return Ok(false);
        }
        self.settler.saw(context.now, id, stamp, arrival, quiet_times(run, &context.config.times));
        let is_new = self.settler.len() > n_before;
        if is_new {
            context.shared.progress.expect(1);
        }
        Ok(is_new)
    }

    /// Plans the dumps that have settled, one of each run in turn, for at most [`SLICE`]. Those of a run are in the
    /// order of what their paths say: key, step, index. Returns whether there is more to do at once.
    pub(crate) fn plan_settled(
        &mut self,
        runs: &mut Runs,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        self.take_settled(runs, context.now);
        let start = Instant::now();
        while start.elapsed() < SLICE && !context.is_stopped() {
            let has_room = |key: &RunKey, pipeline: &mut Pipeline| {
                runs.get(*key).is_none_or(|run| pipeline.has_room_for(run.id()))
            };
            let later = self.last.map_or(Bound::Unbounded, Bound::Excluded);
            let mut in_turn = self.settled.range((later, Bound::Unbounded));
            let mut first = self.settled.keys();
            let next =
                in_turn.find(|(key, _)| has_room(key, context.pipeline)).map(|(key, _)| *key);
            let next = next.or_else(|| first.find(|key| has_room(key, context.pipeline)).copied());
            let Some(key) = next else { break };
            self.last = Some(key);
            let Some(settled) = self.next_of(key) else { continue };
            if let Some(run) = runs.get_mut(key) {
                self.plan(run, settled, context)?;
            }
        }
        Ok(!self.settled.is_empty())
    }

    /// Takes the next dump of a run that has settled.
    fn next_of(&mut self, run: RunKey) -> Option<SettledDump> {
        let of_run = self.settled.get_mut(&run)?;
        let next = of_run.pop_front();
        if of_run.is_empty() {
            self.settled.remove(&run);
        }
        if let Some(next) = &next {
            self.queued.remove(&next.due.id);
        }
        next
    }

    /// Queues the dumps that have settled.
    fn take_settled(&mut self, runs: &Runs, now: Instant) {
        let mut settled = Vec::new();
        for due in self.settler.take_due(now) {
            let description = runs.get(due.id.0).and_then(|run| run.files.dump_path(&due.id.1));
            let is_compared = false;
            let dump = |description| SettledDump { description, due, is_compared };
            settled.extend(description.map(dump));
        }
        settled.sort_by(|a, b| {
            let order = |dump: &SettledDump| {
                let path = dump.description.as_ref().ok();
                path.map(|path| (path.key.clone(), path.step, path.index))
            };
            (a.due.id.0, order(a), &a.due.id.1).cmp(&(b.due.id.0, order(b), &b.due.id.1))
        });
        for dump in settled {
            if self.queued.insert(dump.due.id.clone()) {
                self.settled.entry(dump.due.id.0).or_default().push_back(dump);
            }
        }
    }

    /// Plans a dump that has settled, or lets it settle again if it has changed.
    fn plan(
        &mut self,
        run: &mut RunReader,
        settled: SettledDump,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        let SettledDump { description, due, is_compared } = settled;
        let now = context.now;
        let Some(stamp) = run.files.dir().stat(&due.id.1) else {
            self.forget(run, &due.id, context);
            return Ok(());
        };
        if stamp != due.stamp {
            let quiet = quiet_times(run, &context.config.times);
            context.backlog.changed(&due.id, now);
            self.settler.saw(now, due.id, stamp, Arrival::Found, quiet);
            return Ok(());
        }
        let in_flight = self.in_flight.get(&due.id);
        if in_flight.is_some_and(|dump| !dump.is_done) {
            // An earlier version is in the pipeline: this one follows it.
            self.settler.retry(due, now + RETRY);
            return Ok(());
        }
        let is_compared = self.to_compare.remove(&due.id) || is_compared;
        let row = row_of(run, &due.id.1, context.planner)?;
        if in_flight.is_none() && !is_compared && is_known(run, &due.id.1, stamp, &row) {
            self.forget(run, &due.id, context);
            return Ok(());
        }
        let patience = match context.mode {
            Mode::Once => Duration::ZERO,
            Mode::Follow => context.config.times.incomplete,
        };
        let n_unread = in_flight.map_or(0, |dump| dump.n_unread);
        let waited = now.saturating_duration_since(due.since);
        let is_over = waited >= patience || n_unread > UNREAD_MAX;
        // A dump that stays incomplete is tried less and less often.
        let pause = (waited / 8).clamp(RETRY, RETRY_MAX);
        match self.plan_dump(run, &due.id, &description, (stamp, row), is_over, context)? {
            PlanResult::Done => context.backlog.done(run.id(), &due.id),
            PlanResult::Compared => {
                let dump = SettledDump { description, due, is_compared: true };
                self.queued.insert(dump.due.id.clone());
                self.settled.entry(dump.due.id.0).or_default().push_front(dump);
            }
            PlanResult::Retry(reason) if context.mode == Mode::Once => {
                // The next `ingest` reads it.
                context.backlog.give_up(reason);
                self.forget(run, &due.id, context);
            }
            PlanResult::Retry(reason) => {
                context.backlog.retry(run.id(), &due.id, reason, due.since);
                self.settler.retry(due, now + pause);
            }
            PlanResult::Wait(reason) => {
                context.backlog.wait(&due.id, reason, due.since);
                self.settler.retry(due, now + pause);
            }
        }
        Ok(())
    }

    /// Forgets a dump that is gone or was read before.
    fn forget(&mut self, run: &RunReader, id: &SourceId, context: &mut PlanContext<'_>) {
        context.backlog.done(run.id(), id);
        self.in_flight.remove(id);
    }

    /// Notes that the batch of a dump is done. A dump that could not be read whole is read again.
    pub(crate) fn batch_done(&mut self, run: &RunId, id: SourceId, unread: Option<String>) {
        let Some(dump) = self.in_flight.get_mut(&id) else { return };
        let Some(reason) = unread else {
            self.in_flight.remove(&id);
            return;
        };
        dump.n_unread += 1;
        dump.is_done = true;
        tracing::debug!(%run, reason, path = id.1, "dump is read again");
        let now = Instant::now();
        let due = Due { stamp: dump.stamp, since: now, id };
        self.settler.retry(due, now + RETRY);
    }

    fn plan_dump(
        &mut self,
        run: &mut RunReader,
        id: &SourceId,
        description: &Result<DumpPath, String>,
        (stamp, row): (Stamp, DumpRow),
        is_over: bool,
        context: &mut PlanContext<'_>,
    ) -> Result<PlanResult, StoreError> {
        let sidecar = run.files.sidecar(&id.1);
        let dump = DumpVersion { path: &id.1, description, stamp, sidecar, row };
        let before = self.in_flight.get(id);
        let n_unread = before.map_or(0, |before| before.n_unread);
        let mut reserved = before.map(|before| before.reserved.clone()).unwrap_or_default();
        let missing_file = if is_over { MissingFile::Drop } else { MissingFile::Wait };
        let opened = dump.described().open(run, missing_file, context.planner.limits());
        let is_unfinished = |opened: &OpenRecord| opened.unfinished.is_some() && !is_over;
        let has_known_content = match &opened {
            Ok(opened) if dump.is_known() || n_unread <= UNREAD_MAX && !is_unfinished(opened) => {
                match dump.has_known_content(&opened.dump, context.planner.comparing()) {
                    Some(has_known_content) => has_known_content,
                    None => return Ok(PlanResult::Compared),
                }
            }
            _ => false,
        };
        let batch = match opened {
            Err(ReadFailure::Wait(reason)) if !is_over => return Ok(PlanResult::Wait(reason)),
            Err(ReadFailure::Retry(reason)) => return Ok(PlanResult::Retry(reason)),
            Err(failure) => dump.rejected(run, failure.into(), &mut reserved, context.planner)?,
            Ok(_) if dump.is_known() && has_known_content => return Ok(PlanResult::Done),
            Ok(OpenRecord { unfinished: Some(reason), .. }) if !is_over => {
                return Ok(PlanResult::Wait(reason));
            }
            Ok(OpenRecord { record, dump: open, .. })
                if n_unread <= UNREAD_MAX && has_known_content =>
            {
                // Written again with the same content: only the cursor moves.
                tracing::debug!(run = %run.id(), key = %record.key, path = id.1, "dump has the same content");
                SourceBatch::new(&run.info, dump.cursor(open.digest().ok()))
            }
            Ok(_) if n_unread > UNREAD_MAX => {
                let reason = "the dump changes whenever it is read, or cannot be read whole";
                dump.rejected(run, Rejection::waiting(reason), &mut reserved, context.planner)?
            }
            Ok(opened) => plan_version(run, &dump, opened, &mut reserved, context.planner)?,
        };
        self.in_flight.insert(id.clone(), InFlight { stamp, reserved, n_unread, is_done: false });
        run.has_submitted = true;
        context.pipeline.submit(batch);
        Ok(PlanResult::Done)
    }
}

/// What the store knows of a dump.
fn row_of(run: &RunReader, path: &str, planner: &Planner) -> Result<DumpRow, StoreError> {
    Ok(planner.reader().dump(run.id(), path)?.unwrap_or_default())
}

/// Whether this version of a dump is in the store.
fn is_known(run: &RunReader, path: &str, stamp: Stamp, row: &DumpRow) -> bool {
    let cursor = row.cursor.as_ref().filter(|cursor| cursor.stamp == stamp);
    // The sidecar is looked at only if it decides.
    let sidecar = || run.files.sidecar(path).map(|(_, stamp)| stamp);
    cursor.is_some_and(|cursor| cursor.sidecar == sidecar())
}

/// How long a dump must not change before it is read: longer where other machines may write without an
/// event.
fn quiet_times(run: &RunReader, times: &IngestTimes) -> QuietTimes {
    let found = if run.is_remote { times.settle.max(REMOTE_SETTLE_MIN) } else { times.settle };
    QuietTimes { found, closed: times.close }
}
