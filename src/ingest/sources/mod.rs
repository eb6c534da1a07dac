//! Where input comes from: the watched directories, the runs in them, and their logs and dumps.
//!
//! | module | its one job |
//! | --- | --- |
//! | `scans` | scans watched directories in short turns |

mod scans;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::scans::Scan;
use crate::config::Live;
use crate::ingest::Mode;
use crate::ingest::folders::Arrival;
use crate::ingest::logs::LogSchedule;
use crate::ingest::planning::{LogBacklog, LogLines, PathDumps, PlanContext, Releases, follow_log};
use crate::ingest::runs::{
    IDENTITY_FILE, NotOpened, RootId, RunKey, RunReader, Runs, check_adoption,
};
use crate::ingest::surveys::Surveys;
use crate::ingest::watching::Watching;
use crate::media::RunId;
use crate::pulse;
use crate::store::{Reader, RunInfo, StoreError};

/// The watched directories, the runs in them, and their logs and dumps.
pub(in crate::ingest) struct Sources {
    watching: Watching,
    runs: Runs,
    /// Scans that are under way.
    scans: VecDeque<Scan>,
    /// Run directories that were closed and are opened again if they are there.
    to_reopen: Vec<PathBuf>,
    /// The names that directories gave to their runs when these were read first. `None` until it is needed.
    names: Option<HashMap<PathBuf, Vec<RunId>>>,
    lines: LogLines,
    dumps: PathDumps,
    surveys: Surveys,
}

impl Sources {
    /// Watches the configured directories, but for the store in them. Logs that may change without an event are read at
    /// each `tick`.
    pub(in crate::ingest) fn new(mode: Mode, config: &Live, store: &Path, tick: Duration) -> Self {
        Self {
            watching: Watching::new(mode, &config.watches, store),
            runs: Runs::default(),
            scans: VecDeque::new(),
            to_reopen: Vec::new(),
            names: None,
            lines: LogLines::new(LogSchedule::new(Instant::now(), tick)),
            dumps: PathDumps::new(),
            surveys: Surveys::new(),
        }
    }

    /// The watched directories.
    pub(in crate::ingest) fn watching(&self) -> &Watching {
        &self.watching
    }

    /// The run directories that are read.
    pub(in crate::ingest) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// The dumps that settle, and those in the pipeline.
    pub(in crate::ingest) fn dumps(&self) -> &PathDumps {
        &self.dumps
    }

    /// What the logs have left.
    pub(in crate::ingest) fn log_backlog(&self, now: Instant) -> LogBacklog {
        self.lines.backlog(&self.runs, now)
    }

    /// Runs with logs that cannot be read, and since when.
    pub(in crate::ingest) fn unreadable_logs(&self) -> Vec<(RunKey, Instant)> {
        self.lines.unreadable().collect()
    }

    /// Why logs cannot be read, each with its run.
    pub(in crate::ingest) fn unreadable_logs_in_words(&self) -> Vec<String> {
        let runs = self.lines.unreadable().filter_map(|(run, _)| self.runs.get(run));
        let in_words = |run: &RunReader| {
            let of_run = |(_, reason)| format!("run {}: {reason}", run.id());
            run.logs.unreadable().map(of_run).collect::<Vec<_>>()
        };
        runs.flat_map(in_words).collect()
    }

    /// Whether nothing is left that could become an item without a change of a file.
    pub(in crate::ingest) fn is_idle(&self) -> bool {
        self.dumps.is_idle() && !self.lines.has_lines()
    }

    /// Reads all logs once more in the next turn.
    pub(in crate::ingest) fn look_at_all_logs(&mut self, now: Instant) {
        self.runs.iter_mut().for_each(|run| run.logs.look_at_resting_now());
        self.lines.look_at_all(now);
    }

    /// Surveys runs that are due for what is passed over in them.
    pub(in crate::ingest) fn survey_due(&mut self, now: Instant) {
        self.surveys.turn(&mut self.runs, now);
    }

    /// Surveys all runs, once everything was read.
    pub(in crate::ingest) fn survey_all(&mut self, now: Instant) {
        self.surveys.finish(&mut self.runs, now);
    }

    /// Updates what the status shows of what is passed over.
    pub(in crate::ingest) fn update_passed_over(&mut self, mode: Mode, now: Instant) {
        self.surveys.update(mode, &self.runs, &mut self.watching, now);
    }

    /// When the next line or dump is due.
    pub(in crate::ingest) fn wake_at(&self) -> Option<Instant> {
        self.dumps.wake_at().into_iter().chain(self.lines.wake_at()).min()
    }

    /// Takes the hints of the kernel.
    pub(in crate::ingest) fn take_hints(&mut self) -> BTreeMap<PathBuf, Arrival> {
        self.watching.take_hints(Instant::now())
    }

    /// Watches the configured directories. Directories whose settings are the same are read on.
    pub(in crate::ingest) fn set_watches(&mut self, context: &mut PlanContext<'_>) {
        for gone in self.watching.set_watches(&context.config.watches) {
            self.scans.retain(|scan| scan.root != gone.id());
            for run in self.runs.of_root(gone.id()) {
                if let Some((_, reader)) = self.forget_run(run, context) {
                    self.watching.unwatch(&reader);
                }
            }
        }
    }

    /// Looks where files have changed.
    pub(in crate::ingest) fn on_changes(
        &mut self,
        changes: BTreeMap<PathBuf, Arrival>,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        for (path, arrival) in changes {
            match self.runs.around(&path) {
                Some(run) => self.on_change_in_run(run, &path, arrival, context)?,
                None if path.is_dir() || path.ends_with(IDENTITY_FILE) => {
                    // There may be a new run.
                    self.open_runs_near(&path, context)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn on_change_in_run(
        &mut self,
        key: RunKey,
        path: &Path,
        arrival: Arrival,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        let Some(root) = self.runs.root_of(key) else { return Ok(()) };
        let Some(run) = self.runs.get_mut(key) else { return Ok(()) };
        let inner = path.strip_prefix(run.path()).ok().and_then(Path::to_str);
        let Some(inner) = inner.map(str::to_owned) else { return Ok(()) };
        // As in a listing, hidden files do not count.
        if inner.split('/').any(|part| part.starts_with('.')) {
            return Ok(());
        }
        if !run.files.dir().is_in_place() || inner == IDENTITY_FILE && run.refresh_identity() {
            self.reopen(key, context);
            return Ok(());
        }
        // A log may have grown, or the dump that a line waits for may be there.
        self.lines.look_now(key, context.now);
        let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if !is_dir || run.files.dump_path(&inner).is_some() {
            self.notice(key, &inner, arrival, context)?;
            if let Some(root) = self.watching.root_mut(root) {
                root.note_announced(&(key, inner));
            }
            return Ok(());
        }
        let found = self.watching.scan_new_folder(root, run, &inner);
        self.surveys.run_scanned(key, run, context.now);
        for path in found {
            self.notice(key, &path, Arrival::Found, context)?;
        }
        Ok(())
    }

    /// Notes a file that was found or that an event announced: a log is followed, a dump settles. Returns
    /// whether it is a dump that is new.
    fn notice(
        &mut self,
        key: RunKey,
        path: &str,
        arrival: Arrival,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        pulse::beat();
        let Some(run) = self.runs.get_mut(key) else { return Ok(false) };
        if !run.passed_over.has_input {
            run.passed_over.has_input = true;
            self.surveys.note_change();
        }
        if let Some(dump) = run.files.dump_of(path) {
            return self.dumps.notice(key, run, dump, arrival, context);
        }
        follow_log(run, path, context);
        self.lines.look_now(key, context.now);
        Ok(false)
    }

    /// Opens a run directory, unless it is open already.
    fn open_run(&mut self, root: RootId, path: &Path, name: &str, context: &mut PlanContext<'_>) {
        if let Some(key) = self.runs.at(path) {
            if self.runs.get(key).is_some_and(|run| run.files.dir().is_in_place()) {
                return;
            }
            self.forget_run(key, context);
        }
        let Some((watch, is_remote)) =
            self.watching.root(root).map(|root| (root.watch().clone(), root.is_remote()))
        else {
            return;
        };
        let options = context.read_options.clone();
        let name = self.name_in_store(path, name, context.planner.reader());
        let opened = name.map_err(NotOpened::from).and_then(|name| {
            let mut run = RunReader::open(path, &name, watch, options)?;
            // The cursors of an earlier directory of this name must be in the store.
            context.drain_run(run.id());
            if context.pipeline.n_in_flight_of(run.id()) == 0 {
                context.planner.reader().left_out().set_clear_of(run.id());
            }
            let reader = context.planner.reader();
            reader.check_source(&run.info)?;
            if let Some(other) = self.runs.with_id(run.id()).and_then(|key| self.runs.get(key)) {
                let (id, other) = (run.id(), other.path().display());
                return Err(NotOpened::IdTaken(format!(
                    "{}: the run id {id} is taken: {other} has it too; give one of them another \"id\" in safelight.json",
                    path.display()
                )));
            }
            check_adoption(&run, reader)?;
            run.set_cursors(reader.logs(run.id())?);
            run.is_remote = is_remote;
            run.passed_over.has_input = reader.has_items(run.id())?;
            Ok(run)
        });
        let result = opened.map(|run| {
            tracing::info!(run = %run.id(), path = %path.display(), "run directory is read");
            let key = self.runs.insert(root, run);
            if let Some(run) = self.runs.get(key) {
                self.surveys.add(key, run);
            }
        });
        if let Some(root) = self.watching.root_mut(root) {
            root.note_opened(path, result);
        }
    }

    /// The name of the run in a directory: the one that it got when it was read first. `ingest ROOT` names a run by its
    /// path from there, and `ingest ROOT/a/b` by its folder.
    fn name_in_store(
        &mut self,
        path: &Path,
        name: &str,
        reader: &Reader,
    ) -> Result<String, StoreError> {
        let Ok(source) = path.canonicalize() else { return Ok(name.to_owned()) };
        let names = match &mut self.names {
            Some(names) => names,
            none => none.insert(names_of(reader)?),
        };
        let of_source = names.entry(source.clone()).or_default();
        let is_other = of_source.iter().all(|known| known.as_str() != name);
        for known in of_source.iter().filter(|_| is_other) {
            // A run may have moved since. An id that was in `safelight.json` is no name of the directory.
            let is_name = |info: RunInfo| {
                let id = info.identity.get("id");
                info.source == source && id.is_none_or(serde_json::Value::is_null)
            };
            if reader.run_info(known).ok().flatten().is_some_and(is_name) {
                return Ok(known.as_str().to_owned());
            }
        }
        of_source.extend(RunId::new(name).ok().filter(|_| is_other));
        Ok(name.to_owned())
    }

    /// Closes a run whose directory is gone or has another identity. It is opened again if it is there.
    fn reopen(&mut self, key: RunKey, context: &mut PlanContext<'_>) {
        if let Some((_, run)) = self.forget_run(key, context) {
            self.to_reopen.push(run.path().to_owned());
        }
    }

    /// Closes a run whose files in the store fail. Its lines and dumps are read again when they work.
    pub(in crate::ingest) fn leave_out(&mut self, run: &RunId, context: &mut PlanContext<'_>) {
        if let Some(key) = self.runs.with_id(run) {
            self.reopen(key, context);
        }
    }

    /// Closes a run.
    fn forget_run(
        &mut self,
        key: RunKey,
        context: &mut PlanContext<'_>,
    ) -> Option<(RootId, RunReader)> {
        self.dumps.forget_run(key);
        self.lines.forget_run(key);
        context.backlog.forget_run(key);
        let (root, run) = self.runs.remove(key)?;
        self.surveys.note_change();
        if let Some(root) = self.watching.root_mut(root) {
            tracing::info!(run = %run.id(), path = %run.path().display(), "run directory is gone or has changed");
            root.note_closed(run.folders.len());
        }
        Some((root, run))
    }

    /// Plans the lines of logs that are due. Returns whether there may be more to do at once.
    pub(in crate::ingest) fn plan_lines(
        &mut self,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        self.lines.plan_due(&mut self.runs, &self.watching, context)
    }

    /// Whether lines of logs wait to be planned.
    pub(in crate::ingest) fn has_lines(&self) -> bool {
        self.lines.has_lines()
    }

    /// Continues the release that is under way, if one is. Returns whether there may be more to do at once.
    pub(in crate::ingest) fn release(
        &mut self,
        releases: &mut Releases,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        releases.turn(&self.runs, &mut self.dumps, context)
    }

    /// Notes that waiting items of a dump were tried again.
    pub(in crate::ingest) fn retry_done(&mut self, run: &RunId, path: String) {
        if let Some(key) = self.runs.with_id(run) {
            self.dumps.retry_done(&(key, path));
        }
    }

    /// Plans the dumps that have settled. Returns whether there is more to do at once.
    pub(in crate::ingest) fn plan_dumps(
        &mut self,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        self.dumps.plan_settled(&mut self.runs, context)
    }

    /// The runs that have a dump in the pipeline.
    pub(in crate::ingest) fn runs_in_flight(&self) -> HashSet<RunId> {
        let keys = self.dumps.runs_in_flight().into_iter();
        keys.filter_map(|key| self.runs.get(key)).map(|run| run.id().clone()).collect()
    }

    /// Notes that the batch of a dump is done.
    pub(in crate::ingest) fn dump_done(
        &mut self,
        run: &RunId,
        path: String,
        unread: Option<String>,
    ) {
        if let Some(key) = self.runs.with_id(run) {
            self.dumps.batch_done(run, (key, path), unread);
        }
    }
}

/// The runs of the store, by their directories.
fn names_of(reader: &Reader) -> Result<HashMap<PathBuf, Vec<RunId>>, StoreError> {
    let mut names: HashMap<PathBuf, Vec<RunId>> = HashMap::new();
    for summary in reader.runs()? {
        names.entry(summary.source).or_default().push(summary.run);
    }
    Ok(names)
}
