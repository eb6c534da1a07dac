//! Finds finished dumps and new lines, plans what becomes of them, and hands them to the pipeline.
//!
//! ```text
//! events ─hint─▶ ┌────────┐ dumps ─▶ settle ─▶ ┌──────┐
//! timer ───────▶ │  scan  │                    │ plan │─▶ pipeline ─▶ store
//!                └────────┘ logs ──▶ tail ───▶ └──────┘
//! ```
//!
//! One thread runs the [`Engine`]. A scan is the truth and an event only a hint; plans are made in
//! order; a log that waits for a dump keeps its place while other logs go on.

mod beneath;
mod lines;
mod pipeline;
mod root;
mod run;
mod settle;
mod tail;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde::{Deserialize, Serialize};

use self::lines::RawLine;
use self::pipeline::{OpenDump, Pipeline, Progress, Task, Unit};
use self::root::Root;
use self::run::{Look, Run};
use self::settle::{Arrival, Due, QuietTimes, Settler};
use self::watch::Watch;
use crate::config::Config;
use crate::limits::StepUsage;
use crate::media::{Description, MediaEntry, MediaKey, RunId, Source, Step};
use crate::plan::{Earlier, PlannedItem, Verdict, plan};
use crate::record::pattern::DumpPath;
use crate::record::{
    DataRef, ImageOptions, Line, MediaRecord, RecordError, parse_line, parse_sidecar,
};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::{Reader, StoreError, Writer};

pub(crate) use self::pipeline::Progress as IngestProgress;

/// How often logs are looked at without an event.
const TICK: Duration = Duration::from_secs(1);

/// Lines of one log that are planned before the next log's turn.
const LINES_PER_TURN: usize = 64;

/// How long after a failed look at a dump the next one is.
const AGAIN: Duration = Duration::from_millis(500);

/// How often a dump that changes while it is read is read again before it is rejected.
const UNREAD_MAX: u32 = 10;

/// Every so many scans everything is looked at, not only what changed.
const SCANS_PER_FULL: u32 = 20;

/// A step's usage is remembered for so many steps.
const USAGE_MAX: usize = 4096;

/// What to do with a run directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Follow it until told to stop.
    Follow,
    /// Read what is there, and end.
    Once,
}

/// What the engine can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Go by this configuration from now on.
    Reload(Box<Config>),
    /// End. The stop flag is set too, for whoever waits for the disk.
    Stop,
}

/// What the engine does at the moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct View {
    /// The watched directories.
    pub watching: Vec<RootView>,
    /// Dumps that were seen and are not settled yet.
    pub n_settling: u64,
    /// What is waited for.
    pub waiting: Vec<Waiting>,
    /// Logs that end in a line without its newline: run, log, and the line's bytes so far.
    pub begun_lines: Vec<(RunId, String, u64)>,
    /// Lines and dumps between plan and commit.
    pub n_in_flight: u64,
    /// Bytes of media logs that are not acted on yet.
    pub log_bytes_behind: u64,
    /// Why nothing can be written, if so.
    pub trouble: Option<String>,
    /// Whether everything was looked at once.
    pub is_ready: bool,
}

/// A watched directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootView {
    /// The directory.
    pub path: PathBuf,
    /// `inotify` or `poll`.
    pub backend: String,
    /// Why it is polled, or can't be read, if so.
    pub problem: Option<String>,
    /// Run directories in it.
    pub n_runs: u64,
    /// Folders that are watched or polled in them.
    pub n_folders: u64,
}

/// A dump that is waited for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiting {
    /// The run.
    pub run: RunId,
    /// The log line or the dump that waits.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// What the engine and others share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<AtomicBool>,
    view: Arc<Mutex<View>>,
}

impl Shared {
    /// What the engine did when it last told.
    pub(crate) fn view(&self) -> View {
        let mut view = self
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        view.n_in_flight = self.progress.n_in_flight();
        view.trouble = self.progress.trouble();
        view
    }
}

/// A dump that speaks for itself: which run, which path.
type DumpId = (usize, String);

/// The one that reads run directories.
pub(crate) struct Engine {
    mode: Mode,
    config: Config,
    reader: Reader,
    pipeline: Pipeline,
    shared: Shared,
    watch: Option<Watch>,
    roots: Vec<Root>,
    /// Runs by number; `None` once a run's directory is gone.
    runs: Vec<Option<Run>>,
    settler: Settler<DumpId>,
    /// Dumps in the pipeline, and the indices that they took.
    in_flight: HashMap<DumpId, InFlight>,
    usage: HashMap<(RunId, MediaKey, Step), StepUsage>,
    waiting: BTreeMap<DumpId, String>,
}

struct InFlight {
    stamp: Stamp,
    earlier: Option<Earlier>,
    n_unread: u32,
    is_done: bool,
}

/// What came of looking at a line or dump.
enum Attempt {
    /// It is planned, or there is nothing to do.
    Done,
    /// It waits for something, for this reason.
    Wait(String),
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
        let Shared { progress, stop, .. } = shared.clone();
        let pipeline = Pipeline::start(
            writer,
            config.n_threads,
            config.limits.memory_bytes_max,
            progress,
            stop,
        )?;
        let mut engine = Self {
            mode,
            config,
            reader,
            pipeline,
            shared,
            watch: None,
            roots: Vec::new(),
            runs: Vec::new(),
            settler: Settler::new(),
            in_flight: HashMap::new(),
            usage: HashMap::new(),
            waiting: BTreeMap::new(),
        };
        if mode == Mode::Follow {
            match Watch::new() {
                Ok(watch) => engine.watch = Some(watch),
                Err(error) => {
                    tracing::warn!(%error, "no events from the kernel, directories are polled")
                }
            }
        }
        engine.set_roots();
        Ok(engine)
    }

    fn set_roots(&mut self) {
        let has_watch = self.watch.is_some();
        let roots = self.config.watches.iter();
        self.roots = roots
            .map(|watch| Root::new(Arc::new(watch.clone()), has_watch, self.mode))
            .collect();
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
        let result = self.follow(commands);
        let writer = self.pipeline.finish();
        result.map(|()| writer)
    }

    fn follow(&mut self, commands: &Receiver<Command>) -> Result<(), StoreError> {
        loop {
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Stop => return Ok(()),
                    Command::Reload(config) => self.reload(*config),
                }
            }
            if self.is_stopped() {
                return Ok(());
            }
            let now = Instant::now();
            self.take_hints(now)?;
            self.scan_due_roots(now)?;
            self.take_back();
            let is_busy = self.turn(now)?;
            self.tell_view(!is_busy);
            if is_busy {
                continue;
            }
            if self.mode == Mode::Once && self.is_idle() {
                return Ok(());
            }
            self.sleep(commands, now);
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Whether nothing is left that could become an item by itself.
    fn is_idle(&self) -> bool {
        let has_lines = self
            .runs
            .iter()
            .flatten()
            .any(|run| run.tails.iter().any(|tail| tail.front().is_some()));
        self.settler.len() == 0 && self.in_flight.is_empty() && !has_lines
    }

    /// Waits for an event, a command, or the next thing's time.
    fn sleep(&self, commands: &Receiver<Command>, now: Instant) {
        let scans = self.roots.iter().filter_map(|root| root.next_scan);
        let has_logs = self.runs.iter().flatten().any(|run| !run.tails.is_empty());
        let tick = (has_logs || self.mode == Mode::Once).then(|| {
            now + if self.mode == Mode::Once {
                TICK / 50
            } else {
                TICK
            }
        });
        let in_flight = (!self.in_flight.is_empty()).then(|| now + TICK / 50);
        let wake_at = scans
            .chain(self.settler.wake_at())
            .chain(tick)
            .chain(in_flight)
            .min()
            .unwrap_or(now + TICK);
        let timeout = wake_at.saturating_duration_since(Instant::now());
        let never = crossbeam_channel::never();
        let wake = self.watch.as_ref().map_or(&never, Watch::wake);
        // A command stays in the channel for the next turn: only its coming counts here.
        let mut select = crossbeam_channel::Select::new();
        select.recv(commands);
        let heard = select.recv(wake);
        if select.ready_timeout(timeout) == Ok(heard) {
            wake.try_recv().ok();
        }
    }

    /// Goes by another configuration. What is in the pipeline is finished first, so that the store's
    /// cursors are those of all that was read.
    fn reload(&mut self, config: Config) {
        self.drain();
        if let Some(watch) = &mut self.watch {
            let roots = self
                .roots
                .iter()
                .flat_map(|root| root.folders.iter().cloned());
            let runs = self.runs.iter().flatten().flat_map(Run::folder_paths);
            roots.chain(runs).for_each(|folder| watch.remove(&folder));
        }
        self.config = config;
        self.runs.clear();
        self.settler = Settler::new();
        self.in_flight.clear();
        self.usage.clear();
        self.waiting.clear();
        self.set_roots();
    }

    /// Waits until the pipeline is empty.
    fn drain(&self) {
        while self.shared.progress.n_in_flight() > 0 && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(2));
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
            self.roots
                .iter_mut()
                .for_each(|root| root.scan_everything_at(now));
        }
        for (path, arrival) in sorted(hints.paths) {
            let run = path.ancestors().find_map(|above| self.run_at(above));
            let Some(number) = run else {
                // Something new beside the runs: perhaps a run.
                for root in &mut self.roots {
                    if path.starts_with(root.path()) {
                        root.next_scan = Some(now);
                    }
                }
                continue;
            };
            let Some(run) = &mut self.runs[number] else {
                continue;
            };
            let Some(inner) = path
                .strip_prefix(run.dir.path())
                .ok()
                .and_then(Path::to_str)
            else {
                continue;
            };
            let inner = inner.to_owned();
            if path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
                && run.dump_path(&inner).is_none()
            {
                let mut found = Vec::new();
                let result = run.list(&inner, &mut self.watch.as_mut(), &mut found);
                self.watched(number, result);
                for path in found {
                    self.consider(number, &path, Arrival::Found, now)?;
                }
            } else {
                self.consider(number, &inner, arrival, now)?;
            }
        }
        Ok(())
    }

    fn run_at(&self, path: &Path) -> Option<usize> {
        self.runs
            .iter()
            .position(|run| run.as_ref().is_some_and(|run| run.dir.path() == path))
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
            if self.roots[i].next_scan.is_none_or(|at| at > now) {
                continue;
            }
            let look = self.roots[i].next_look();
            let is_events = self.roots[i].uses_events();
            let mut watcher = self.watch.as_mut().filter(|_| is_events);
            let candidates = self.roots[i].find_runs(&mut watcher);
            for (path, name) in candidates {
                self.adopt(i, &path, &name);
            }
            for number in 0..self.runs.len() {
                self.scan_run(i, number, look, now)?;
            }
            let pause = if self.roots[i].uses_events() {
                self.config.times.scan
            } else {
                self.config.times.poll
            };
            self.roots[i].next_scan = (self.mode == Mode::Follow).then(|| Instant::now() + pause);
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
        let Some(run) = self.runs[number]
            .as_mut()
            .filter(|run| run.watch.path == *self.roots[root].path())
        else {
            return Ok(());
        };
        if !run.dir.is_in_place() {
            tracing::info!(run = %run.info.id, path = %run.dir.path().display(), "run directory is gone");
            self.runs[number] = None;
            return Ok(());
        }
        run.refresh_identity();
        let mut watcher = self.watch.as_mut().filter(|_| is_events);
        match run.scan(look, &mut watcher) {
            Ok(found) => {
                for path in found {
                    self.consider(number, &path, Arrival::Found, now)?;
                }
            }
            Err(error) => {
                self.watched(number, Err(error));
                return self.scan_run(root, number, look, now);
            }
        }
        Ok(())
    }

    /// Takes up a run directory, unless it is already.
    fn adopt(&mut self, root: usize, path: &Path, name: &str) {
        if self.run_at(path).is_some() {
            return;
        }
        // What an earlier directory of this name gave must be in the store's cursors.
        self.drain();
        let opened = Run::open(path, name, self.roots[root].watch.clone()).and_then(|mut run| {
            self.reader
                .check_source(&run.info)
                .map_err(|error| error.to_string())?;
            if let Some(other) = self
                .runs
                .iter()
                .flatten()
                .find(|other| other.info.id == run.info.id)
            {
                let (id, other) = (&run.info.id, other.dir.path().display());
                return Err(format!(
                    "{}: {other} has the run id {id} too",
                    path.display()
                ));
            }
            run.set_cursors(
                self.reader
                    .logs(&run.info.id)
                    .map_err(|error| error.to_string())?,
            );
            Ok(run)
        });
        match opened {
            Ok(run) => {
                tracing::info!(run = %run.info.id, path = %path.display(), "run directory is read");
                self.roots[root].problems.remove(path);
                self.runs.push(Some(run));
            }
            Err(error) => {
                let told = self.roots[root]
                    .problems
                    .insert(path.to_owned(), error.clone());
                if told.as_ref() != Some(&error) {
                    tracing::error!(%error, "run directory is not read");
                }
            }
        }
    }

    /// Looks at a path that was found or heard of: a log is followed, a dump is to settle.
    fn consider(
        &mut self,
        number: usize,
        path: &str,
        arrival: Arrival,
        now: Instant,
    ) -> Result<(), StoreError> {
        let Some(run) = &mut self.runs[number] else {
            return Ok(());
        };
        let count = self.mode == Mode::Once;
        let Some(dump) = run.dump_of(path) else {
            match run.follow(path, &self.config.limits, count) {
                Ok(n_lines) => self.shared.progress.expect(n_lines),
                Err(error) if run.is_log(path) => {
                    tracing::warn!(run = %run.info.id, %error, "log is not followed")
                }
                Err(_) => {}
            }
            return Ok(());
        };
        let Some(stamp) = run.dir.stat(&dump) else {
            return Ok(());
        };
        if self.is_known(number, &dump, stamp)? {
            return Ok(());
        }
        let quiet = QuietTimes {
            found: self.quiet(number),
            closed: self.config.times.close,
        };
        let n_before = self.settler.len();
        self.settler.saw(now, (number, dump), stamp, arrival, quiet);
        if self.settler.len() > n_before {
            self.shared.progress.expect(1);
        }
        Ok(())
    }

    /// How long a dump that was only found must stay the same: longer where events don't come from
    /// all writers.
    fn quiet(&self, number: usize) -> Duration {
        let settle = self.config.times.settle;
        let is_remote = self.runs[number].as_ref().is_some_and(|run| {
            self.roots
                .iter()
                .any(|root| *root.path() == run.watch.path && root.is_remote())
        });
        if is_remote {
            settle.max(Duration::from_secs(3))
        } else {
            settle
        }
    }

    /// Whether this version of a dump is in the store, or on its way there.
    fn is_known(&self, number: usize, path: &str, stamp: Stamp) -> Result<bool, StoreError> {
        let Some(run) = &self.runs[number] else {
            return Ok(true);
        };
        if self
            .in_flight
            .get(&(number, path.to_owned()))
            .is_some_and(|dump| dump.stamp == stamp)
        {
            return Ok(true);
        }
        let row = self.reader.dump(&run.info.id, path)?;
        let sidecar = run.sidecar(path).map(|(_, stamp)| stamp);
        Ok(row
            .and_then(|row| row.cursor)
            .is_some_and(|cursor| cursor.stamp == stamp && cursor.sidecar == sidecar))
    }

    /// Takes back what the pipeline did with dumps that speak for themselves.
    fn take_back(&mut self) {
        for done in self.shared.progress.take_dumps_done() {
            let number = self
                .runs
                .iter()
                .position(|run| run.as_ref().is_some_and(|run| run.info.id == done.run));
            let Some(number) = number else { continue };
            let id = (number, done.path);
            let Some(dump) = self.in_flight.get_mut(&id) else {
                continue;
            };
            match done.unread {
                None => {
                    self.in_flight.remove(&id);
                }
                Some(reason) => {
                    dump.n_unread += 1;
                    dump.is_done = true;
                    let now = Instant::now();
                    let due = Due {
                        id: id.clone(),
                        stamp: dump.stamp,
                        since: now,
                    };
                    tracing::debug!(run = %done.run, path = id.1, reason, "dump is read again");
                    self.settler.again(due, now + AGAIN);
                }
            }
        }
        if self.usage.len() > USAGE_MAX
            && self.shared.progress.n_in_flight() == 0
            && self.in_flight.is_empty()
        {
            self.usage.clear();
        }
    }

    /// Plans what is ready. Whether there may be more at once.
    fn turn(&mut self, now: Instant) -> Result<bool, StoreError> {
        let mut is_busy = false;
        for number in 0..self.runs.len() {
            is_busy |= self.take_lines(number, now)?;
        }
        let mut ready: Vec<(Option<DumpPath>, Due<DumpId>)> = Vec::new();
        for due in self.settler.ready(now) {
            let run = self.runs[due.id.0].as_ref();
            ready.push((run.and_then(|run| run.dump_path(&due.id.1)), due));
        }
        // Several that are ready at once come in the order of what they say, not of their names.
        ready.sort_by(|(a, a_due), (b, b_due)| {
            let order =
                |path: &Option<DumpPath>| path.as_ref().map(|p| (p.key.clone(), p.step, p.index));
            (a_due.id.0, order(a), &a_due.id.1).cmp(&(b_due.id.0, order(b), &b_due.id.1))
        });
        for (path, due) in ready {
            if self.is_stopped() {
                return Ok(false);
            }
            if let Some(path) = path {
                self.take_dump(&path, due, now)?;
            }
        }
        Ok(is_busy)
    }

    /// Plans the lines that wait in a run's logs, a few of each log.
    fn take_lines(&mut self, number: usize, now: Instant) -> Result<bool, StoreError> {
        let Some(mut run) = self.runs[number].take() else {
            return Ok(false);
        };
        let mut is_busy = false;
        let (has_lines, has_read) = run.poll_logs(now);
        is_busy |= has_read;
        if has_lines {
            let mut tails = std::mem::take(&mut run.tails);
            for tail in &mut tails {
                let what = (number, tail.path.clone());
                for _ in 0..LINES_PER_TURN {
                    let Some(line) = tail.front() else { break };
                    if self.is_stopped() {
                        break;
                    }
                    let patience = if self.mode == Mode::Once {
                        self.config.times.settle
                    } else {
                        self.config.times.wait
                    };
                    let is_over = tail
                        .front_since()
                        .is_some_and(|since| now.duration_since(since) >= patience);
                    let cursor = SourceCursor::Log(tail.cursor_after(line));
                    match self.take_line(&mut run, &tail.path, line, cursor, is_over)? {
                        Attempt::Done => {
                            self.waiting.remove(&what);
                            tail.pop();
                            is_busy = true;
                        }
                        Attempt::Wait(reason) => {
                            self.waiting
                                .insert(what.clone(), format!("line {}: {reason}", line.number));
                            break;
                        }
                    }
                }
            }
            run.tails = tails;
        }
        self.runs[number] = Some(run);
        Ok(is_busy)
    }

    fn take_line(
        &mut self,
        run: &mut Run,
        log: &str,
        line: &RawLine,
        cursor: SourceCursor,
        is_over: bool,
    ) -> Result<Attempt, StoreError> {
        let place = Source {
            log: Some(log.to_owned()),
            line: Some(line.number),
            ..Source::default()
        };
        let of_log = Source {
            path: log.to_owned(),
            ..place.clone()
        };
        let info = run.info.clone();
        let unit = |source: &Source, event: Event| Unit {
            run: info.clone(),
            dump: None,
            source: source.clone(),
            tasks: vec![Task::Tell(event)],
            cursor: cursor.clone(),
        };
        let reject = |source: &Source, record: Option<&MediaRecord>, reason: String| {
            let mut entry =
                MediaEntry::rejected(None, reason, Description::default(), source.clone());
            if let Some(record) = record {
                entry.key = Some(record.key.clone());
                (entry.step, entry.index) = (Some(record.step), record.index);
                entry.description = record.description.clone();
            }
            unit(source, Event::Media(Box::new(entry)))
        };
        if line.is_too_long {
            let (got, max) = (line.n_bytes, self.config.limits.line_bytes_max);
            let begin = String::from_utf8_lossy(&line.bytes);
            let reason = format!(
                "line of {got} bytes, limits.line_bytes_max is {max}; it begins {begin:.64}"
            );
            self.pipeline.submit(reject(&of_log, None, reason));
            return Ok(Attempt::Done);
        }
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Attempt::Done);
        }
        let record = match parse_line(&line.bytes) {
            Ok(Line::Media(record)) => record,
            Ok(Line::Commit(step)) => {
                self.pipeline.submit(unit(&of_log, Event::Commit { step }));
                return Ok(Attempt::Done);
            }
            Ok(Line::Finish) => {
                self.pipeline.submit(unit(&of_log, Event::Finish));
                return Ok(Attempt::Done);
            }
            Err(RecordError { column, message }) => {
                let reason = format!("{log}:{}:{column}: {message}", line.number);
                self.pipeline.submit(reject(&of_log, None, reason));
                return Ok(Attempt::Done);
            }
        };
        tell_unknown_fields(run, log, &record);
        let of_dump = Source {
            path: record.data.path.clone(),
            tensor: record.data.tensor.clone(),
            ..place
        };
        match run.open_dump(&record.data, &self.config.limits) {
            Err(Verdict::Wait(reason)) if !is_over => Ok(Attempt::Wait(reason)),
            Err(Verdict::Wait(reason) | Verdict::Reject(reason)) => {
                self.pipeline
                    .submit(reject(&of_dump, Some(&record), reason));
                Ok(Attempt::Done)
            }
            Ok((dump, header, path)) => {
                let source = Source { path, ..of_dump };
                let options = record.options.over(self.config.rules.options(&record.key));
                let limits = self.config.limits;
                let usage = self.usage_of(&run.info.id, &record)?;
                match plan(&record, options, header, usage, &limits, None) {
                    Err(error) => {
                        self.pipeline
                            .submit(reject(&source, Some(&record), error.to_string()))
                    }
                    Ok(plan) => {
                        let tasks = tasks(plan.items, &source);
                        let dump = Some((Arc::new(OpenDump::new(dump)), Arc::new(plan.tensor)));
                        self.pipeline.submit(Unit {
                            run: run.info.clone(),
                            dump,
                            source,
                            tasks,
                            cursor,
                        });
                    }
                }
                Ok(Attempt::Done)
            }
        }
    }

    fn usage_of(
        &mut self,
        run: &RunId,
        record: &MediaRecord,
    ) -> Result<&mut StepUsage, StoreError> {
        use std::collections::hash_map::Entry;
        match self
            .usage
            .entry((run.clone(), record.key.clone(), record.step))
        {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                Ok(entry.insert(self.reader.usage(run, &record.key, record.step)?))
            }
        }
    }

    /// Plans a dump that speaks for itself and has settled.
    fn take_dump(
        &mut self,
        path: &DumpPath,
        due: Due<DumpId>,
        now: Instant,
    ) -> Result<(), StoreError> {
        let (number, name) = due.id.clone();
        let Some(run) = &self.runs[number] else {
            return Ok(());
        };
        let Some(stamp) = run.dir.stat(&name) else {
            self.forget(&due.id);
            return Ok(());
        };
        if stamp != due.stamp {
            let quiet = QuietTimes {
                found: self.quiet(number),
                closed: self.config.times.close,
            };
            self.settler.saw(now, due.id, stamp, Arrival::Found, quiet);
            return Ok(());
        }
        if self
            .in_flight
            .get(&due.id)
            .is_some_and(|dump| !dump.is_done)
        {
            // An earlier version is on its way: this one follows it.
            self.settler.again(due, now + AGAIN);
            return Ok(());
        }
        if self.is_known(number, &name, stamp)? && !self.in_flight.contains_key(&due.id) {
            self.forget(&due.id);
            return Ok(());
        }
        let patience = if self.mode == Mode::Once {
            Duration::ZERO
        } else {
            self.config.times.wait
        };
        let n_unread = self.in_flight.get(&due.id).map_or(0, |dump| dump.n_unread);
        let is_over = now.duration_since(due.since) >= patience || n_unread > UNREAD_MAX;
        match self.plan_dump(number, path, &name, stamp, is_over)? {
            Attempt::Done => {
                self.waiting.remove(&due.id);
            }
            Attempt::Wait(reason) => {
                self.waiting.insert(due.id.clone(), reason);
                self.settler.again(due, now + AGAIN);
            }
        }
        Ok(())
    }

    fn forget(&mut self, id: &DumpId) {
        self.waiting.remove(id);
        self.in_flight.remove(id);
    }

    fn plan_dump(
        &mut self,
        number: usize,
        path: &DumpPath,
        name: &str,
        stamp: Stamp,
        is_over: bool,
    ) -> Result<Attempt, StoreError> {
        let Some(mut run) = self.runs[number].take() else {
            return Ok(Attempt::Done);
        };
        let attempt = self.plan_dump_of(&mut run, number, path, name, stamp, is_over);
        self.runs[number] = Some(run);
        attempt
    }

    fn plan_dump_of(
        &mut self,
        run: &mut Run,
        number: usize,
        path: &DumpPath,
        name: &str,
        stamp: Stamp,
        is_over: bool,
    ) -> Result<Attempt, StoreError> {
        let id = run.info.id.clone();
        let row = self.reader.dump(&id, name)?.unwrap_or_default();
        let in_flight = self.in_flight.remove(&(number, name.to_owned()));
        let n_unread = in_flight.as_ref().map_or(0, |dump| dump.n_unread);
        let earlier = in_flight
            .and_then(|dump| dump.earlier)
            .or_else(|| row.first.map(|first| Earlier { first, n: row.n }));
        let sidecar = run.sidecar(name);
        let sidecar_stamp = sidecar.as_ref().map(|(_, stamp)| *stamp);
        let cursor = DumpCursor {
            path: name.to_owned(),
            stamp,
            sidecar: sidecar_stamp,
            sha256: None,
        };
        let source = Source {
            path: name.to_owned(),
            ..Source::default()
        };
        let mut unit = Unit {
            run: run.info.clone(),
            dump: None,
            source: source.clone(),
            tasks: Vec::new(),
            cursor: SourceCursor::Dump(cursor),
        };
        let data = DataRef {
            path: name.to_owned(),
            tensor: None,
            dtype: None,
            raw: false,
        };
        let sidecar = sidecar.as_ref().map(|(path, _)| path.as_str());
        let record = read_sidecar(run, sidecar, path, data, self.config.limits.line_bytes_max);
        let opened = record.and_then(|record| {
            tell_unknown_fields(run, name, &record);
            let (dump, header, _) = run.open_dump(&record.data, &self.config.limits)?;
            Ok((record, dump, header))
        });
        let mut taken = None;
        match opened {
            Err(Verdict::Wait(reason)) if !is_over => {
                self.in_flight.extend(earlier.map(|earlier| {
                    let known = InFlight {
                        stamp,
                        earlier: Some(earlier),
                        n_unread,
                        is_done: true,
                    };
                    ((number, name.to_owned()), known)
                }));
                return Ok(Attempt::Wait(reason));
            }
            Err(Verdict::Wait(reason) | Verdict::Reject(reason)) => {
                unit.tasks
                    .push(Task::Tell(rejected_dump(path, reason, &source)));
            }
            Ok((record, dump, header)) => {
                let dump = OpenDump::new(dump);
                let known = row
                    .cursor
                    .as_ref()
                    .filter(|cursor| cursor.sidecar == sidecar_stamp);
                let is_same = known
                    .and_then(|cursor| cursor.sha256)
                    .is_some_and(|sha256| dump.digest() == Ok(sha256));
                let limits = self.config.limits;
                let options = record.options.over(self.config.rules.options(&record.key));
                if is_same {
                    // Written again with the same content: only the cursor moves.
                    if let SourceCursor::Dump(cursor) = &mut unit.cursor {
                        cursor.sha256 = known.and_then(|cursor| cursor.sha256);
                    }
                } else {
                    match plan(
                        &record,
                        options,
                        header,
                        self.usage_of(&id, &record)?,
                        &limits,
                        earlier,
                    ) {
                        Err(error) => unit.tasks.push(Task::Tell(rejected_dump(
                            path,
                            error.to_string(),
                            &source,
                        ))),
                        Ok(plan) => {
                            let first = plan.items.first().map_or(0, |item| item.id.index);
                            taken = Some(Earlier {
                                first,
                                n: u32::try_from(plan.items.len()).unwrap_or(u32::MAX),
                            });
                            unit.tasks = tasks(plan.items, &source);
                            unit.dump = Some((Arc::new(dump), Arc::new(plan.tensor)));
                        }
                    }
                }
            }
        }
        let in_flight = InFlight {
            stamp,
            earlier: taken.or(earlier),
            n_unread,
            is_done: false,
        };
        self.in_flight.insert((number, name.to_owned()), in_flight);
        self.pipeline.submit(unit);
        Ok(Attempt::Done)
    }

    /// Tells others what the engine does, now and then.
    fn tell_view(&self, is_at_rest: bool) {
        let mut view = self
            .shared
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let runs = || self.runs.iter().flatten();
        view.watching = self.roots.iter().map(|root| root.view(runs())).collect();
        view.n_settling = self.settler.len() as u64;
        let waiting = self
            .waiting
            .iter()
            .take(100)
            .filter_map(|((number, what), reason)| {
                let run = self.runs[*number].as_ref()?.info.id.clone();
                Some(Waiting {
                    run,
                    what: what.clone(),
                    reason: reason.clone(),
                })
            });
        view.waiting = waiting.collect();
        view.log_bytes_behind = runs()
            .flat_map(|run| &run.tails)
            .map(tail::Tail::n_behind)
            .sum();
        let begun = |run: &Run| {
            let tails = run.tails.iter().filter(|tail| tail.n_begun() > 0);
            tails
                .map(|tail| (run.info.id.clone(), tail.path.clone(), tail.n_begun()))
                .collect::<Vec<_>>()
        };
        view.begun_lines = runs().flat_map(begun).collect();
        view.is_ready |= is_at_rest;
    }
}

fn sorted(paths: HashMap<PathBuf, Arrival>) -> BTreeMap<PathBuf, Arrival> {
    paths.into_iter().collect()
}

/// What is to become of a plan's items.
fn tasks(items: Vec<PlannedItem>, source: &Source) -> Vec<Task> {
    let task = |item: PlannedItem| {
        let PlannedItem {
            id,
            description,
            plan,
        } = item;
        match plan {
            Ok(plan) => Task::Make {
                id,
                description,
                plan,
            },
            Err(reason) => {
                let entry = MediaEntry::held(id, reason, description, source.clone());
                Task::Tell(Event::Media(Box::new(entry)))
            }
        }
    };
    items.into_iter().map(task).collect()
}

fn rejected_dump(path: &DumpPath, reason: String, source: &Source) -> Event {
    let mut entry = MediaEntry::rejected(None, reason, Description::default(), source.clone());
    (entry.key, entry.step, entry.index) = (Some(path.key.clone()), Some(path.step), path.index);
    Event::Media(Box::new(entry))
}

/// What a dump's path and its sidecar, if it has one, say of it.
fn read_sidecar(
    run: &Run,
    sidecar: Option<&str>,
    path: &DumpPath,
    data: DataRef,
    bytes_max: u64,
) -> Result<MediaRecord, Verdict> {
    let Some(name) = sidecar else {
        return Ok(MediaRecord {
            key: path.key.clone(),
            step: path.step,
            index: path.index,
            data,
            options: ImageOptions::default(),
            description: Description::default(),
        });
    };
    let file = run.dir.open_file(name)?;
    if file.stamp.size > bytes_max {
        let reason = format!(
            "sidecar {name:?} has {} bytes, limits.line_bytes_max is {bytes_max}",
            file.stamp.size
        );
        return Err(Verdict::Reject(reason));
    }
    let text = io::read_to_string(file.into_file())
        .map_err(|error| Verdict::Wait(format!("sidecar {name:?}: {error}")))?;
    // A sidecar that can't be read may be half written.
    parse_sidecar(text.as_bytes(), path, data)
        .map_err(|error| Verdict::Wait(format!("sidecar {name:?}, {error}")))
}

/// Fields that this version doesn't know are kept with the item, and told of once for each run.
fn tell_unknown_fields(run: &mut Run, place: &str, record: &MediaRecord) {
    /// Known, and carried along as they are.
    const CARRIED: [&str; 3] = ["classes", "boxes", "masks"];
    for field in record.description.extra.keys() {
        if !CARRIED.contains(&field.as_str()) && run.unknown_fields.insert(field.clone()) {
            tracing::warn!(run = %run.info.id, place, field, "unknown field is kept with the item and has no effect");
        }
    }
}
