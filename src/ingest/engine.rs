//! The engine: looks, listens, and gives everything its turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::beneath::Reading;
use super::pipeline::{BatchResult, Pipeline};
use super::release::Release;
use super::root::Root;
use super::run::{IDENTITY_FILE, Look, Run};
use super::settle::{Arrival, Due, QuietTimes, Settler};
use super::troubles::Troubles;

use super::watch::Watch;
use super::{Command, Mode, Shared};
use crate::config::{Config, Live};
use crate::limits::StepUsage;
use crate::media::{DigestKind, MediaKey, RunId, Step};
use crate::plan::IndexRange;
use crate::pulse;
use crate::record::pattern::DumpPath;
use crate::store::journal::Stamp;
use crate::store::space::{Full, Space};
use crate::store::{Reader, StoreError, Writer};

/// How long events are gathered after the first of them.
const COALESCE: Duration = Duration::from_millis(3);

/// How often logs are looked at without an event.
const TICK: Duration = Duration::from_secs(1);

/// How long after a failed look at a dump the next one is.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Dumps that are settling at once: of a million that are met together, the rest is looked for again
/// when these are done, so that they take no more memory than a few. (Few in debug builds, so that the
/// tests come by.)
const SETTLING_MAX: usize = if cfg!(debug_assertions) { 256 } else { 131_072 };

/// The longest wait for a result before the engine looks whether it must stop.
const DRAIN_BEAT: Duration = Duration::from_millis(100);

/// A step's usage is remembered for so many steps.
const USAGE_MAX: usize = 4096;

/// A dump that speaks for itself: which run, which path.
pub(super) type DumpId = (usize, String);

/// Where images of a dump stand: key, step, indices.
pub(super) type Standing = (MediaKey, Step, IndexRange);

/// The one that reads run directories.
pub(crate) struct Engine {
    pub(super) mode: Mode,
    pub(super) config: Live,
    /// How an item records the content of its dump.
    pub(super) dump_digest: DigestKind,
    pub(super) reader: Reader,
    pub(super) pipeline: Pipeline,
    pub(super) shared: Shared,
    pub(super) watch: Option<Watch>,
    pub(super) roots: Vec<Root>,
    /// Runs by number; `None` once a run's directory is gone.
    pub(super) runs: Vec<Option<Run>>,
    pub(super) settler: Settler<DumpId>,
    /// Dumps in the pipeline, and the indices that they took.
    pub(super) in_flight: HashMap<DumpId, InFlight>,
    /// Dumps that were read, and closed by a writer after that: their content tells if they are the same.
    pub(super) to_compare: HashSet<DumpId>,
    pub(super) usage: HashMap<(RunId, MediaKey, Step), StepUsage>,
    pub(super) waiting: BTreeMap<DumpId, String>,
    pub(super) troubles: Troubles,
    /// What is being released.
    pub(super) release: Option<Release>,
    /// Why something can't be read at all.
    pub(super) problems: Vec<String>,
    /// Whether dumps were found that there was no room for.
    has_passed_over: bool,
    /// Why nothing more is kept at the moment, if so.
    pub(super) full: Option<Full>,
    space: Space,
    /// How often events were lost.
    pub(super) n_overflows: u64,
    /// When others were told last.
    pub(super) told_at: Option<Instant>,
    /// When they are to be told what has happened since, if anything has.
    pub(super) tell_at: Option<Instant>,
}

pub(super) struct InFlight {
    pub(super) stamp: Stamp,
    /// The keys, steps and indices that its images took.
    pub(super) reserved: Vec<Standing>,
    pub(super) n_unread: u32,
    pub(super) is_done: bool,
}

/// What came of looking at a line or dump.
pub(super) enum Attempt {
    /// It is planned, or there is nothing to do.
    Done,
    /// It waits a while for something, for this reason.
    Wait(String),
    /// It waits until the machine works again.
    Trouble(String),
}

impl Engine {
    /// An engine that will read what `config` watches.
    ///
    /// # Errors
    /// If its threads can't be started.
    pub(crate) fn new(
        mode: Mode,
        config: Config,
        writer: Writer,
        reader: Reader,
        shared: Shared,
    ) -> io::Result<Self> {
        let space = Space::new(&config.boot.store, shared.free_bytes_min.clone());
        let memory_bytes_max = config.boot.memory_bytes_max;
        let pipeline =
            Pipeline::start(writer, config.boot.n_threads, memory_bytes_max, &space, &shared)?;
        let mut engine = Self {
            mode,
            config: config.live,
            dump_digest: config.boot.dump_digest,
            reader,
            pipeline,
            shared,
            watch: None,
            roots: Vec::new(),
            runs: Vec::new(),
            settler: Settler::new(),
            in_flight: HashMap::new(),
            to_compare: HashSet::new(),
            usage: HashMap::new(),
            waiting: BTreeMap::new(),
            troubles: Troubles::default(),
            release: None,
            problems: Vec::new(),
            has_passed_over: false,
            full: None,
            space,
            n_overflows: 0,
            told_at: None,
            tell_at: None,
        };
        engine.set_bounds();
        if mode == Mode::Follow {
            match Watch::new() {
                Ok(watch) => engine.watch = Some(watch),
                Err(error) => {
                    tracing::warn!(%error, "no events from the kernel, directories are polled");
                }
            }
        }
        engine.set_roots();
        Ok(engine)
    }

    fn set_roots(&mut self) {
        let has_watch = self.watch.is_some();
        let roots = self.config.watches.iter();
        let mut before = std::mem::take(&mut self.roots);
        self.roots = roots
            .map(|watch| match before.iter().position(|root| *root.watch == *watch) {
                Some(i) => before.swap_remove(i),
                None => Root::new(Arc::new(watch.clone()), has_watch, self.mode),
            })
            .collect();
        for gone in before {
            self.let_go(&gone);
        }
    }

    /// Goes by the configured pace and room. Whoever runs `ingest` waits for it: only the daemon takes
    /// its time.
    fn set_bounds(&self) {
        self.shared.set_free_bytes_min(self.config.free_bytes_min);
        let rate = self.config.read_bytes_per_s_max;
        let is_paced = self.mode == Mode::Follow && rate > 0;
        self.shared.pace.set(is_paced.then_some(rate));
    }

    /// Reads no more in a root.
    fn let_go(&mut self, root: &Root) {
        let numbers = 0..self.runs.len();
        let is_in = |run: &Run| Arc::ptr_eq(&run.watch, &root.watch);
        let runs: Vec<usize> =
            numbers.filter(|&number| self.runs[number].as_ref().is_some_and(is_in)).collect();
        if let Some(watch) = &mut self.watch {
            let of_runs = runs.iter().flat_map(|&number| &self.runs[number]);
            let folders = of_runs.flat_map(Run::folder_paths);
            root.folders.keys().cloned().chain(folders).for_each(|folder| watch.remove(&folder));
        }
        for number in runs {
            self.runs[number] = None;
            self.forget_run(number);
        }
    }

    fn forget_run(&mut self, number: usize) {
        self.in_flight.retain(|id, _| id.0 != number);
        self.to_compare.retain(|id| id.0 != number);
        self.waiting.retain(|id, _| id.0 != number);
        self.troubles.forget_run(number);
    }

    /// Reads until it is told to stop or, in [`Mode::Once`], until all is read. Then gives the writer
    /// back, all that was handed in being committed.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn run(
        mut self,
        commands: &Receiver<Command>,
    ) -> Result<Option<Writer>, StoreError> {
        self.shared.pulses.watch_this_thread("ingest");
        let result = self.follow(commands);
        let writer = self.pipeline.finish();
        result.map(|()| writer)
    }

    fn follow(&mut self, commands: &Receiver<Command>) -> Result<(), StoreError> {
        loop {
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Stop => return Ok(()),
                    Command::Reload(live, done) => {
                        if let Ok(live) = live.recv() {
                            self.reload(live);
                            // The caller may have stopped waiting.
                            done.try_send(()).ok();
                        }
                    }
                    Command::Release(asked) => self.begin_release(asked),
                }
            }
            if self.is_stopped() || !self.pipeline.is_alive() {
                return Ok(());
            }
            pulse::beat();
            let now = Instant::now();
            self.take_hints(now)?;
            self.scan_due_roots(now)?;
            self.take_back();
            if self.has_passed_over && self.settler.len() < SETTLING_MAX / 2 {
                self.has_passed_over = false;
                self.roots.iter_mut().for_each(|root| root.scan_everything_at(now));
            }
            if self.usage.len() > USAGE_MAX {
                // Once all is in the store, the index knows what the steps have.
                self.drain();
                self.take_back();
                if self.in_flight.is_empty() {
                    self.usage.clear();
                }
            }
            self.roots.iter_mut().for_each(|root| root.judge_events(now));
            let is_busy = self.has_room() && self.turn(now)?;
            self.tell_view(false);
            if is_busy {
                continue;
            }
            self.pipeline.flush();
            if self.mode == Mode::Once && (self.is_idle() || self.full.is_some()) {
                if let Some(full) = self.full {
                    self.problems.push(full.to_string());
                    // What waits for room is given up.
                    self.shared.stop.store(true, Ordering::Relaxed);
                }
                self.tell_view(true);
                return Ok(());
            }
            self.sleep(commands, now);
        }
    }

    /// Whether the store's disk has room for more.
    fn has_room(&mut self) -> bool {
        let full = self.space.check().err();
        match (&self.full, &full) {
            (None, Some(full)) => tracing::error!(error = %full, "nothing more is kept"),
            (Some(_), None) => tracing::info!("the store's disk has room again"),
            _ => {}
        }
        self.full = full;
        full.is_none()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Whether nothing is left that could become an item by itself.
    fn is_idle(&self) -> bool {
        let has_lines = self
            .runs
            .iter()
            .flatten()
            .any(|run| run.tails.iter().any(|tail| tail.front().is_some()));
        let has_dumps = self.settler.len() > 0 || self.has_passed_over;
        !has_dumps && self.in_flight.is_empty() && !has_lines && self.release.is_none()
    }

    /// Waits for an event, a command, a result of the pipeline, or the next deadline.
    fn sleep(&self, commands: &Receiver<Command>, now: Instant) {
        let scans = self.roots.iter().filter_map(|root| root.next_scan);
        let has_logs = self.runs.iter().flatten().any(|run| !run.tails.is_empty());
        let tick = (has_logs || self.mode == Mode::Once)
            .then(|| now + if self.mode == Mode::Once { TICK / 50 } else { TICK });
        let judgements = self.roots.iter().filter_map(|root| root.evidence.wake_at());
        // Without room nothing is due.
        let due = self.settler.wake_at().filter(|_| self.full.is_none());
        let tick = tick.or_else(|| self.full.map(|_| now + TICK));
        let wake_at = scans
            .chain(self.tell_at)
            .chain(judgements)
            .chain(due)
            .chain(tick)
            .min()
            .unwrap_or(now + TICK);
        let timeout = wake_at.saturating_duration_since(Instant::now());
        let never = crossbeam_channel::never();
        let wake = self.watch.as_ref().map_or(&never, Watch::wake);
        // Commands and results stay in their channels for the next turn.
        let mut select = crossbeam_channel::Select::new();
        select.recv(commands);
        let heard = select.recv(wake);
        select.recv(self.pipeline.results());
        if pulse::idle(|| select.ready_timeout(timeout)) == Ok(heard) {
            // Much comes at once: a moment later one look does for all of it.
            std::thread::sleep(COALESCE);
            wake.try_recv().ok();
        }
    }

    /// Goes by another configuration. Directories of which it says the same are read on.
    fn reload(&mut self, config: Live) {
        self.config = config;
        self.set_bounds();
        self.set_roots();
    }

    /// Waits until all that was submitted is done and its results are received.
    fn drain(&mut self) {
        self.pipeline.flush();
        while self.pipeline.n_in_flight() > 0 && !self.is_stopped() && self.pipeline.is_alive() {
            pulse::beat();
            self.pipeline.wait(DRAIN_BEAT);
        }
    }

    /// Acts on what was heard of.
    fn take_hints(&mut self, now: Instant) -> Result<(), StoreError> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        let hints = watch.take();
        if hints.scan_all {
            tracing::warn!("events were lost, everything is looked at");
            self.n_overflows += 1;
            self.roots.iter_mut().for_each(|root| root.scan_everything_at(now));
        }
        for (path, arrival) in sorted(hints.paths) {
            match path.ancestors().find_map(|above| self.run_at(above)) {
                Some(number) => self.take_hint(number, &path, arrival, now)?,
                None if path.is_dir() || path.ends_with(IDENTITY_FILE) => {
                    // Something new beside the runs: perhaps a run.
                    let roots = self.roots.iter_mut().filter(|root| path.starts_with(root.path()));
                    roots.for_each(|root| root.next_scan = Some(now));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Acts on what was heard of in a run directory.
    fn take_hint(
        &mut self,
        number: usize,
        path: &Path,
        arrival: Arrival,
        now: Instant,
    ) -> Result<(), StoreError> {
        let Some(run) = &mut self.runs[number] else { return Ok(()) };
        let inner = path.strip_prefix(run.dir.path()).ok().and_then(Path::to_str);
        let Some(inner) = inner.map(str::to_owned) else { return Ok(()) };
        // As in a listing: what is hidden is not there yet.
        if inner.split('/').any(|part| part.starts_with('.')) {
            return Ok(());
        }
        if !run.dir.is_in_place() || inner == IDENTITY_FILE && run.refresh_identity() {
            let roots = self.roots.iter_mut().filter(|root| *root.path() == run.watch.path);
            roots.for_each(|root| root.next_scan = Some(now));
            self.drop_run(number);
            return Ok(());
        }
        let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if !is_dir || run.dump_path(&inner).is_some() {
            let watch = run.watch.clone();
            self.consider(number, &inner, arrival, now)?;
            let roots = self.roots.iter_mut().filter(|root| Arc::ptr_eq(&root.watch, &watch));
            roots.for_each(|root| root.evidence.announced(&(number, inner.clone())));
            return Ok(());
        }
        let mut found = Vec::new();
        // A new folder may have the inode of one that was removed, whose watch is gone.
        run.forget_folder(&inner);
        let result = run.list(&inner, Look::All, &mut self.watch.as_mut(), &mut found);
        self.watched(number, result);
        for path in &found {
            self.consider(number, path, Arrival::Found, now)?;
        }
        Ok(())
    }

    /// Lets go of a run directory.
    fn drop_run(&mut self, number: usize) {
        if let Some(run) = self.runs[number].take() {
            let path = run.dir.path().display();
            tracing::info!(run = %run.info.id, %path, "run directory is gone or has changed");
        }
        self.forget_run(number);
    }

    fn run_at(&self, path: &Path) -> Option<usize> {
        self.runs.iter().position(|run| run.as_ref().is_some_and(|run| run.dir.path() == path))
    }

    /// A folder was to be watched. If the kernel allows no more, its root is polled from now on.
    fn watched(&mut self, run: usize, result: io::Result<()>) {
        let Err(error) = result else { return };
        let Some(path) = self.runs[run].as_ref().map(|run| run.watch.path.clone()) else {
            return;
        };
        for root in self.roots.iter_mut().filter(|root| *root.path() == path) {
            root.poll_because(&error.to_string());
        }
    }

    /// Scans the roots whose time has come.
    fn scan_due_roots(&mut self, now: Instant) -> Result<(), StoreError> {
        for i in 0..self.roots.len() {
            let due = self.roots[i].next_scan;
            if due.is_none_or(|at| at > now) {
                continue;
            }
            self.roots[i].next_scan = None;
            let is_there = self.roots[i].tell_presence();
            let (look, start) = (self.roots[i].next_look(now), Instant::now());
            let is_events = self.roots[i].uses_events();
            let mut watcher = self.watch.as_mut().filter(|_| is_events);
            let candidates = self.roots[i].find_runs(&mut watcher);
            for (path, name) in candidates {
                self.adopt(i, &path, &name);
            }
            for number in 0..self.runs.len() {
                self.scan_run(i, number, look, now)?;
            }
            if look == Look::All {
                self.roots[i].looked(start, Instant::now());
            }
            self.roots[i].is_catching_up = false;
            let pause = if !is_there {
                // No event tells that it comes.
                TICK
            } else if self.roots[i].uses_events() {
                self.config.times.scan
            } else {
                self.config.times.poll
            };
            let next = (self.mode == Mode::Follow).then(|| Instant::now() + pause);
            // A run that must be taken up anew asks for a look at once.
            self.roots[i].next_scan = self.roots[i].next_scan.or(next);
        }
        Ok(())
    }

    fn scan_run(
        &mut self,
        root: usize,
        number: usize,
        look: Look,
        now: Instant,
    ) -> Result<(), StoreError> {
        let is_events = self.roots[root].uses_events();
        let Some(run) =
            self.runs[number].as_mut().filter(|run| run.watch.path == *self.roots[root].path())
        else {
            return Ok(());
        };
        if !run.dir.is_in_place() || run.refresh_identity() {
            self.drop_run(number);
            self.roots[root].next_scan = Some(now);
            return Ok(());
        }
        let mut watcher = self.watch.as_mut().filter(|_| is_events);
        let mut found = Vec::new();
        let is_evidence = is_events && run.is_scanned && !self.roots[root].is_catching_up;
        let watched = if is_evidence { run.folder_names() } else { HashSet::new() };
        let result = run.scan(look, &mut watcher, &mut found);
        let is_again = result.is_err();
        run.is_scanned |= !is_again;
        self.watched(number, result);
        for path in &found {
            let is_new = self.consider(number, path, Arrival::Found, now)?;
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if is_new && watched.contains(folder) {
                self.roots[root].evidence.found((number, path.clone()), now);
            }
        }
        if is_again {
            // Without events, from the folder on where they ended.
            return self.scan_run(root, number, look, now);
        }
        Ok(())
    }

    /// Takes up a run directory, unless it is already.
    fn adopt(&mut self, root: usize, path: &Path, name: &str) {
        if let Some(number) = self.run_at(path) {
            let is_in_place = |run: &Run| run.dir.is_in_place();
            if self.runs[number].as_ref().is_some_and(is_in_place) {
                return;
            }
            self.drop_run(number);
        }
        // What an earlier directory of this name gave must be in the store's cursors.
        self.drain();
        let watch = self.roots[root].watch.clone();
        let reading = Reading { pace: self.shared.pace.clone(), digest: self.dump_digest };
        let opened = Run::open(path, name, watch, reading).and_then(|mut run| {
            self.reader.check_source(&run.info).map_err(|error| error.to_string())?;
            if let Some(other) =
                self.runs.iter().flatten().find(|other| other.info.id == run.info.id)
            {
                let (id, other) = (&run.info.id, other.dir.path().display());
                return Err(format!("{}: {other} has the run id {id} too", path.display()));
            }
            run.set_cursors(self.reader.logs(&run.info.id).map_err(|error| error.to_string())?);
            Ok(run)
        });
        match opened {
            Ok(run) => {
                tracing::info!(run = %run.info.id, path = %path.display(), "run directory is read");
                self.roots[root].problems.remove(path);
                self.runs.push(Some(run));
            }
            Err(error) => {
                let told = self.roots[root].problems.insert(path.to_owned(), error.clone());
                if told.as_ref() != Some(&error) {
                    tracing::error!(%error, "run directory is not read");
                }
            }
        }
    }

    /// Looks at a path that was found or heard of: a log is followed, a dump is to settle. Whether
    /// it is a dump that was not known.
    fn consider(
        &mut self,
        number: usize,
        path: &str,
        arrival: Arrival,
        now: Instant,
    ) -> Result<bool, StoreError> {
        pulse::beat();
        let Some(run) = &mut self.runs[number] else {
            return Ok(false);
        };
        let Some(dump) = run.dump_of(path) else {
            if let Some(mut run) = self.runs[number].take() {
                self.follow_log(&mut run, path);
                self.runs[number] = Some(run);
            }
            return Ok(false);
        };
        let Some(stamp) = run.dir.stat(&dump) else {
            return Ok(false);
        };
        // A memory map is closed at its full length before its first byte is written.
        let is_whole = arrival == Arrival::Found || !run.dir.may_be_unfilled(&dump);
        let arrival = if is_whole { arrival } else { Arrival::Found };
        if self.is_known(number, &dump, stamp)? {
            if arrival != Arrival::Closed {
                return Ok(false);
            }
            // A memory map is written to without a sign but its close at the end.
            self.to_compare.insert((number, dump.clone()));
        }
        let quiet = QuietTimes { found: self.quiet(number), closed: self.config.times.close };
        let (id, n_before) = ((number, dump), self.settler.len());
        if n_before >= SETTLING_MAX && !self.settler.contains(&id) {
            self.has_passed_over = true;
            return Ok(false);
        }
        self.settler.saw(now, id, stamp, arrival, quiet);
        if self.settler.len() > n_before {
            self.shared.progress.expect(1);
            return Ok(true);
        }
        Ok(false)
    }

    /// How long a dump that was only found must stay the same: longer where events don't come from
    /// all writers.
    pub(super) fn quiet(&self, number: usize) -> Duration {
        let settle = self.config.times.settle;
        let is_remote = self.runs[number].as_ref().is_some_and(|run| {
            self.roots.iter().any(|root| *root.path() == run.watch.path && root.is_remote())
        });
        if is_remote { settle.max(Duration::from_secs(3)) } else { settle }
    }

    /// Whether this version of a dump is in the store, or on its way there.
    pub(super) fn is_known(
        &self,
        number: usize,
        path: &str,
        stamp: Stamp,
    ) -> Result<bool, StoreError> {
        let Some(run) = &self.runs[number] else {
            return Ok(true);
        };
        if self.in_flight.get(&(number, path.to_owned())).is_some_and(|dump| dump.stamp == stamp) {
            return Ok(true);
        }
        let cursor = self.reader.dump(&run.info.id, path)?.and_then(|row| row.cursor);
        let cursor = cursor.filter(|cursor| cursor.stamp == stamp);
        // Only now is it worth a look at the disk.
        let sidecar = || run.sidecar(path).map(|(_, stamp)| stamp);
        Ok(cursor.is_some_and(|cursor| cursor.sidecar == sidecar()))
    }

    /// Acts on the results of the pipeline.
    fn take_back(&mut self) {
        for result in self.pipeline.take_results() {
            match result {
                BatchResult::ImageFailed { run, id } => {
                    let step = (run, id.key, id.step);
                    self.usage.entry(step).and_modify(|usage| usage.free(id.index));
                }
                BatchResult::Released { run, id, result } => self.was_released(&run, id, result),
                BatchResult::Dump { run, path, unread } => self.dump_done(&run, path, unread),
            }
        }
    }

    /// Forgets a dump whose batch is committed, or reads it again if it could not be read whole.
    fn dump_done(&mut self, run: &RunId, path: String, unread: Option<String>) {
        let is_of = |of: &Option<Run>| of.as_ref().is_some_and(|of| of.info.id == *run);
        let Some(number) = self.runs.iter().position(is_of) else { return };
        let id = (number, path);
        let Some(dump) = self.in_flight.get_mut(&id) else { return };
        let Some(reason) = unread else {
            self.in_flight.remove(&id);
            return;
        };
        dump.n_unread += 1;
        dump.is_done = true;
        let now = Instant::now();
        let due = Due { id: id.clone(), stamp: dump.stamp, since: now };
        tracing::debug!(%run, path = id.1, reason, "dump is read again");
        self.settler.again(due, now + AGAIN);
    }

    /// Plans what is ready. Whether there may be more at once.
    fn turn(&mut self, now: Instant) -> Result<bool, StoreError> {
        let mut is_busy = false;
        for number in 0..self.runs.len() {
            is_busy |= self.take_lines(number, now)?;
        }
        is_busy |= self.go_on_releasing()?;
        let mut ready: Vec<(Result<DumpPath, String>, Due<DumpId>)> = Vec::new();
        for due in self.settler.ready(now) {
            let says = self.runs[due.id.0].as_ref().and_then(|run| run.dump_path(&due.id.1));
            ready.extend(says.map(|says| (says, due)));
        }
        // Several that are ready at once come in the order of what they say, not of their names.
        ready.sort_by(|(a, a_due), (b, b_due)| {
            let order = |says: &Result<DumpPath, String>| {
                says.as_ref().ok().map(|says| (says.key.clone(), says.step, says.index))
            };
            (a_due.id.0, order(a), &a_due.id.1).cmp(&(b_due.id.0, order(b), &b_due.id.1))
        });
        for (says, due) in ready {
            if self.is_stopped() {
                return Ok(false);
            }
            self.take_dump(&says, due, now)?;
        }
        Ok(is_busy)
    }
}

fn sorted(paths: HashMap<PathBuf, Arrival>) -> BTreeMap<PathBuf, Arrival> {
    paths.into_iter().collect()
}
