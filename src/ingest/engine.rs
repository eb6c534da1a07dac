//! The engine: one loop over one closed set of events.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError, never};

use super::folders::Arrival;
use super::pipeline::{BatchResult, Pipeline};
use super::planning::{Backlog, PlanContext, Planner, Releases, Retries};
use super::room::Room;
use super::sources::Sources;
use super::status::{StatusSources, StatusUpdates};
use super::{Command, Mode, Shared};
use crate::config::{Config, Live};
use crate::media::DigestKind;
use crate::pulse;
use crate::run_dir::{self, ReadOptions};
use crate::store::space::Space;
use crate::store::{Reader, StoreError, Writer};

/// How long hints are gathered after the first of them.
const COALESCE: Duration = Duration::from_millis(3);

/// The pause between two looks at logs without an event, and the longest sleep.
const TICK: Duration = Duration::from_secs(1);
const TICK_ONCE: Duration = Duration::from_millis(20);

/// The longest pause while everything waits for room in the pipeline. Results end it.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Reads run directories.
pub(crate) struct Engine {
    mode: Mode,
    config: Live,
    /// How an item records the content of its dump.
    dump_digest: DigestKind,
    shared: Shared,
    sources: Sources,
    releases: Releases,
    retries: Retries,
    planner: Planner,
    backlog: Backlog,
    pipeline: Pipeline,
    room: Room,
    status: StatusUpdates,
    /// Whether there may be more to do without an event.
    is_busy: bool,
    /// Whether all that is left to do waits for room in the pipeline.
    is_full: bool,
    /// In [`Mode::Once`], whether all logs were looked at since the last time that anything was read.
    has_swept: bool,
}

/// All that the engine acts on.
enum Event {
    /// Somebody sent a command.
    Command(Command),
    /// Files in watched folders have changed.
    Changes(BTreeMap<PathBuf, Arrival>),
    /// The pipeline is done with batches.
    Results(Vec<BatchResult>),
    /// It is time for a scan, a dump, a log or the status, or there is more to do at once.
    Timer,
}

/// What wakes the engine.
enum Wake {
    Command,
    Hints,
    Results,
    Timer,
}

impl Engine {
    /// Makes an engine that reads what `config` watches.
    ///
    /// # Errors
    /// If its threads cannot be started.
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
        let engine = Self {
            mode,
            sources: Sources::new(mode, &config.live, &config.boot.store, tick(mode)),
            releases: Releases::default(),
            retries: Retries::new(mode, Instant::now()),
            planner: Planner::new(&config.live, reader),
            backlog: Backlog::default(),
            pipeline,
            room: Room::new(space),
            status: StatusUpdates::default(),
            is_busy: true,
            is_full: false,
            has_swept: false,
            config: config.live,
            dump_digest: config.boot.dump_digest,
            shared,
        };
        engine.set_pace_and_room();
        Ok(engine)
    }

    /// Reads until a command says to stop or, in [`Mode::Once`], until everything is read. Then returns the
    /// writer, with everything committed that was submitted.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn run(
        mut self,
        commands: &Receiver<Command>,
    ) -> Result<Option<Writer>, StoreError> {
        self.shared.pulses.watch_this_thread("ingest");
        let result = self.run_loop(commands);
        let writer = self.pipeline.finish();
        result.map(|()| writer)
    }

    fn run_loop(&mut self, commands: &Receiver<Command>) -> Result<(), StoreError> {
        while !self.is_stopped() && self.pipeline.is_alive() {
            match self.next_event(commands) {
                Event::Command(Command::Stop) => break,
                Event::Command(Command::Reload(live, done)) => {
                    if let Ok(live) = live.recv() {
                        self.reload(live);
                        // The caller may have stopped waiting.
                        done.try_send(()).ok();
                    }
                }
                Event::Command(Command::Release(request)) => {
                    self.releases.begin(request, &self.planner);
                }
                Event::Command(Command::Repair(request)) => self.releases.begin_repair(request),
                Event::Changes(changes) => {
                    let (sources, mut context, _) = self.parts(Instant::now());
                    sources.on_changes(changes, &mut context)?;
                }
                Event::Results(results) => self.on_results(results),
                Event::Timer => {}
            }
            self.turn(Instant::now())?;
            if self.mode == Mode::Once && !self.is_busy && commands.is_empty() && self.is_done() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the next event. Commands come before all others.
    fn next_event(&mut self, commands: &Receiver<Command>) -> Event {
        pulse::beat();
        let no_commands = never();
        let mut commands = commands;
        loop {
            match commands.try_recv() {
                Ok(command) => return Event::Command(command),
                Err(TryRecvError::Empty) => {}
                // A closed channel would always be ready.
                Err(TryRecvError::Disconnected) => commands = &no_commands,
            }
            match self.wait(commands) {
                Wake::Command => {}
                Wake::Hints => {
                    if !self.is_busy {
                        // Events come in groups: one look does for all of a group.
                        std::thread::sleep(COALESCE);
                    }
                    return Event::Changes(self.sources.take_hints());
                }
                Wake::Results => return Event::Results(self.pipeline.take_results()),
                Wake::Timer => return Event::Timer,
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self, commands: &Receiver<Command>) -> Wake {
        let no_hints = never();
        let hints = self.sources.watching().wake().unwrap_or(&no_hints);
        let mut select = Select::new();
        let on_command = select.recv(commands);
        let on_hints = select.recv(hints);
        let on_results = select.recv(self.pipeline.results());
        let timeout = self.timeout(Instant::now());
        match pulse::idle(|| select.ready_timeout(timeout)) {
            Ok(ready) if ready == on_command => Wake::Command,
            Ok(ready) if ready == on_hints => Wake::Hints,
            Ok(ready) if ready == on_results => Wake::Results,
            _ => Wake::Timer,
        }
    }

    /// How long there is nothing to do without an event.
    fn timeout(&self, now: Instant) -> Duration {
        if self.is_busy {
            return if self.is_full { FULL_PAUSE } else { Duration::ZERO };
        }
        // Without room, no line or dump is due.
        let sources = self.sources.wake_at().filter(|_| self.room.full().is_none());
        let watching = self.sources.watching().wake_at();
        let wake_at = [sources, watching, self.status.wake_at(), Some(now + tick(self.mode))];
        let wake_at = wake_at.into_iter().flatten().min();
        wake_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// The sources, what planning needs beside them, and the releases.
    fn parts(&mut self, now: Instant) -> (&mut Sources, PlanContext<'_>, &mut Releases) {
        let context = PlanContext {
            mode: self.mode,
            config: &self.config,
            read_options: ReadOptions { pace: self.shared.pace.clone(), digest: self.dump_digest },
            now,
            planner: &mut self.planner,
            pipeline: &mut self.pipeline,
            backlog: &mut self.backlog,
            shared: &self.shared,
        };
        (&mut self.sources, context, &mut self.releases)
    }

    /// Uses another configuration. Directories whose settings are the same are read on.
    fn reload(&mut self, config: Live) {
        self.planner.set_config(&config);
        self.retries.set_all_due();
        self.config = config;
        self.set_pace_and_room();
        let (sources, mut context, _) = self.parts(Instant::now());
        sources.set_watches(&mut context);
    }

    /// Sets the configured pace and room. `ingest` is not paced: somebody waits for it.
    fn set_pace_and_room(&self) {
        self.shared.set_free_bytes_min(self.config.free_bytes_min);
        let rate = self.config.read_bytes_per_s_max;
        let is_paced = self.mode == Mode::Follow && rate > 0;
        self.shared.pace.set(is_paced.then_some(rate));
    }

    /// Acts on what the pipeline has done.
    fn on_results(&mut self, results: Vec<BatchResult>) {
        for result in results {
            match result {
                BatchResult::NotMade { run, id } => self.planner.restore(&run, &id),
                BatchResult::Retried { run, path, result } => {
                    self.releases.retried(&run, result);
                    if let Some(path) = path {
                        self.sources.retry_done(&run, path);
                    }
                }
                BatchResult::Released { run, id, result } => {
                    self.releases.image_done(&run, &id, result, &mut self.planner);
                }
                BatchResult::Repaired { id, result } => self.releases.repaired(id, result),
                BatchResult::LeftOut { run } => {
                    let (sources, mut context, _) = self.parts(Instant::now());
                    sources.leave_out(&run, &mut context);
                }
                BatchResult::Dump { run, path, unread } => {
                    self.sources.dump_done(&run, path, unread);
                }
            }
        }
    }

    /// Gives each part its turn.
    fn turn(&mut self, now: Instant) -> Result<(), StoreError> {
        let (sources, mut context, _) = self.parts(now);
        let is_scanning = sources.scan_due(&mut context)?;
        // Results that were received while a run's batches were waited for.
        let results = self.pipeline.take_results();
        self.on_results(results);
        if self.planner.has_much_usage() {
            self.forget_usage();
        }
        if self.pipeline.n_in_flight() == 0 {
            self.planner.reader().left_out().set_clear();
        }
        let n_before = self.pipeline.n_submitted();
        self.is_busy = self.room.check() && self.plan(now)?;
        self.is_busy |= is_scanning;
        let has_submitted = self.pipeline.n_submitted() > n_before;
        self.is_full = self.pipeline.take_was_full() && !has_submitted && !is_scanning;
        self.has_swept &= !self.is_busy;
        if self.mode == Mode::Follow && !self.is_busy {
            self.sources.survey_due(now);
        }
        if self.status.is_due(now) {
            self.update_status(now);
        }
        run_dir::close_unused(now);
        if self.is_busy {
            self.pipeline.flush_due(Instant::now());
        } else {
            self.pipeline.flush();
        }
        Ok(())
    }

    /// Forgets what the steps of runs have that nothing is in the pipeline of: the index knows it. The others
    /// rest until all is committed that was planned.
    fn forget_usage(&mut self) {
        let mut kept = self.planner.runs_with_usage();
        kept.retain(|run| self.pipeline.rest(run));
        kept.extend(self.sources.runs_in_flight());
        self.planner.forget_usage_but_of(&kept);
    }

    /// Plans what is due. Returns whether there may be more to do at once.
    fn plan(&mut self, now: Instant) -> Result<bool, StoreError> {
        self.retries.begin_due(now, &mut self.releases, self.sources.runs(), &self.planner)?;
        let (sources, mut context, releases) = self.parts(now);
        let has_more_lines = sources.plan_lines(&mut context)?;
        let start = Instant::now();
        let has_more_releases = sources.release(releases, &mut context)?;
        let cost = start.elapsed();
        // Of directories at rest, dumps come after all lines, so that their order is the same each time.
        let is_once = context.mode == Mode::Once;
        let has_lines = is_once && (has_more_lines || sources.has_lines());
        let has_more_dumps = !has_lines && sources.plan_dumps(&mut context)?;
        let has_more = has_more_lines || has_more_releases || has_more_dumps;
        let has_more = has_more && !context.is_stopped();
        self.retries.had_turn(cost, &self.releases, self.planner.reader());
        Ok(has_more)
    }

    fn update_status(&mut self, now: Instant) {
        self.sources.update_passed_over(self.mode, now);
        let sources = StatusSources {
            watching: self.sources.watching(),
            runs: self.sources.runs(),
            logs: self.sources.log_backlog(now),
            dumps: self.sources.dumps(),
            backlog: &self.backlog,
            unreadable_logs: self.sources.unreadable_logs(),
            patience: self.config.times.wait,
            full: self.room.full().map(|full| full.to_string()),
        };
        self.status.update(now, sources, &self.shared.status);
    }

    /// In [`Mode::Once`], whether everything is read. Then the status is final.
    fn is_done(&mut self) -> bool {
        let now = Instant::now();
        if let Some(full) = self.room.full() {
            self.backlog.give_up(full.to_string());
            // The pipeline gives up what waits for room.
            self.shared.stop.store(true, Ordering::Relaxed);
        } else if !self.sources.is_idle()
            || self.releases.is_under_way()
            || self.pipeline.n_in_flight() > 0
            || self.retries.is_due_at_end(self.planner.reader())
        {
            return false;
        } else if !self.has_swept {
            // A log that was read may have grown.
            self.sources.look_at_all_logs(now);
            self.has_swept = true;
            return false;
        }
        for reason in self.sources.unreadable_logs_in_words() {
            self.backlog.give_up(reason);
        }
        self.sources.survey_all(now);
        self.update_status(now);
        true
    }
}

fn tick(mode: Mode) -> Duration {
    match mode {
        Mode::Once => TICK_ONCE,
        Mode::Follow => TICK,
    }
}
