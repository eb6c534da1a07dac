//! The journals → the targets.
//!
//! ```text
//! journal of a run ─page─▶ put, put, put ─▶ commit ─▶ STORE/sync/TARGET/RUN.json
//!      ▲                   as many at a time           the cursor and the sink's receipt
//!      └── cursor          as there are lanes
//! ```
//!
//! A target has no queue of its own: it is a cursor on each run's journal. A target that is named next month
//! begins at its start and catches up; one that is away for days costs nothing but the media files that wait for
//! it. Each target has a thread of its own, so that one that hangs holds up no other.
//!
//! An item leaves the backlog in one of three ways: delivered; refused for good, with the target's words; or set
//! aside because the target fails with it while it takes others, to be tried again for a week. All failures of
//! several items in a row are the target's: it is left alone for a while, and no item suffers.

mod backlog;
mod backoff;
mod board;
mod lanes;
mod state;
mod worker;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

pub(crate) use self::backlog::time_of;
use self::backlog::{Backlog, seconds};
pub use self::board::TargetView;
use self::board::{Board, Posted};
use self::state::{RunState, StateError};
use self::worker::{Control, Worker};
use crate::config::SyncConfig;
use crate::config::sync::TargetConfig;
use crate::durable::Disk;
use crate::media::RunId;
use crate::sinks::Target;
use crate::sinks::mlflow::MlflowTarget;
use crate::sinks::object_store::ObjectStoreTarget;
use crate::sinks::tensorboard::TensorboardTarget;
use crate::sinks::trackio::TrackioTarget;
use crate::sinks::wandb::WandbTarget;
use crate::store::journal::JournalOffset;
use crate::store::{Reader, StoreError};

/// How long the threads of targets may take to end.
const END_MAX: Duration = Duration::from_secs(6);

/// Why there is no delivery.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No such target.
    #[error("no target {got:?} in the configuration: it has {known}")]
    Unknown {
        /// The name.
        got: String,
        /// Those that there are.
        known: String,
    },
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What a target has can't be read.
    #[error("{0}")]
    State(String),
    /// No thread can be started.
    #[error("cannot start a thread for target {name}: {source}")]
    Thread {
        /// The target.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl From<StateError> for SyncError {
    fn from(error: StateError) -> Self {
        Self::State(error.to_string())
    }
}

/// The target's kind decides which sink it is.
async fn work(
    reader: Reader,
    config: SyncConfig,
    board: Board,
    control: &Control,
    is_once: bool,
) -> bool {
    let kind = config.kind.clone();
    let parts = (reader, config, board);
    match kind {
        TargetConfig::Wandb(settings) => {
            work_on::<WandbTarget>(parts, settings, control, is_once).await
        }
        TargetConfig::Tensorboard(settings) => {
            work_on::<TensorboardTarget>(parts, settings, control, is_once).await
        }
        TargetConfig::Mlflow(settings) => {
            work_on::<MlflowTarget>(parts, settings, control, is_once).await
        }
        TargetConfig::Trackio(settings) => {
            work_on::<TrackioTarget>(parts, settings, control, is_once).await
        }
        TargetConfig::ObjectStore(settings) => {
            work_on::<ObjectStoreTarget>(parts, settings, control, is_once).await
        }
    }
}

/// Runs a target's worker to its end. Returns whether all was delivered.
async fn work_on<T: Target>(
    (reader, config, board): (Reader, SyncConfig, Board),
    settings: T::Config,
    control: &Control,
    is_once: bool,
) -> bool {
    let worker = Worker::<T>::new(reader, config, settings, board);
    if is_once {
        return worker.once(control).await;
    }
    worker.keep_on(control).await;
    true
}

/// A target's thread.
struct Running {
    config: SyncConfig,
    control: Arc<Control>,
    board: Board,
    thread: JoinHandle<bool>,
}

impl Running {
    /// Starts a thread that waits for `begin`, and for the target's last thread that comes with it: two threads would
    /// deliver twice. If nothing comes, it ends without any work.
    fn start(
        reader: Reader,
        config: SyncConfig,
        is_once: bool,
        begin: Receiver<Option<JoinHandle<bool>>>,
    ) -> Result<Self, SyncError> {
        let (control, board) = (Arc::<Control>::default(), Board::default());
        let name = config.name.clone();
        let parts = (config.clone(), control.clone(), board.clone());
        let thread = thread::Builder::new().name(format!("sync-{name}")).spawn(move || {
            let (config, control, board) = parts;
            let Ok(last) = begin.recv() else { return false };
            // However it ended.
            drop(last.map(JoinHandle::join));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let all = runtime.block_on(work(reader, config, board, &control, is_once));
                    // A look-up of a name that hangs holds up nothing.
                    runtime.shutdown_background();
                    all
                }
                Err(error) => {
                    tracing::error!(target_name = config.name, %error, "target is not delivered to");
                    false
                }
            }
        });
        let thread = thread.map_err(|source| SyncError::Thread { name, source })?;
        Ok(Self { config, control, board, thread })
    }
}

/// Started threads of new targets, which wait for [`Targets::apply`].
pub(crate) struct PreparedTargets {
    /// The targets whose threads stay.
    unchanged: Vec<String>,
    new: Vec<(Running, Sender<Option<JoinHandle<bool>>>)>,
}

/// The targets of a daemon.
pub(crate) struct Targets {
    reader: Reader,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    running: BTreeMap<String, Running>,
    /// Those that were told to stop, by their targets' names.
    ending: BTreeMap<String, JoinHandle<bool>>,
}

impl Threads {
    /// Tells a target's thread to stop.
    fn stop(&mut self, name: &str) {
        if let Some(Running { control, thread, .. }) = self.running.remove(name) {
            control.stop.cancel();
            self.ending.insert(name.to_owned(), thread);
        }
    }
}

impl Targets {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, threads: Mutex::default() }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the threads that these targets need. They wait for [`Self::apply`], and end if the result is dropped.
    ///
    /// # Errors
    /// If a thread cannot be started. Nothing has changed then.
    pub(crate) fn prepare(&self, configs: &[SyncConfig]) -> Result<PreparedTargets, SyncError> {
        let threads = self.threads();
        let mut prepared = PreparedTargets { unchanged: Vec::new(), new: Vec::new() };
        for config in configs {
            let running = threads.running.get(&config.name);
            if running.is_some_and(|it| it.config == *config && !it.thread.is_finished()) {
                prepared.unchanged.push(config.name.clone());
                continue;
            }
            let (begins, begin) = bounded(1);
            let started = Running::start(self.reader.clone(), config.clone(), false, begin)?;
            prepared.new.push((started, begins));
        }
        Ok(prepared)
    }

    /// Delivers to the prepared targets from now on, and to no others. Unchanged targets go on undisturbed.
    pub(crate) fn apply(&self, prepared: PreparedTargets) {
        let mut threads = self.threads();
        let names = threads.running.keys().filter(|name| !prepared.unchanged.contains(name));
        let others: Vec<String> = names.cloned().collect();
        others.iter().for_each(|name| threads.stop(name));
        for (started, begins) in prepared.new {
            let name = started.config.name.clone();
            // The thread waits for it, and has room for it.
            drop(begins.send(threads.ending.remove(&name)));
            threads.running.insert(name, started);
        }
    }

    /// How each target gets on.
    pub(crate) fn views(&self) -> Vec<TargetView> {
        self.threads().running.values().map(|running| running.board.view()).collect()
    }

    /// The targets whose threads died.
    pub(crate) fn dead(&self) -> Vec<String> {
        let threads = self.threads();
        let dead = threads.running.iter().filter(|(_, running)| running.thread.is_finished());
        dead.map(|(name, _)| name.clone()).collect()
    }

    /// Has some targets, or all, look at once whether there is anything for them, and try what waits; with
    /// `retry` also what is set aside. Returns how each of them was when it had done so, or was at it for `patience`.
    pub(crate) fn poke(
        &self,
        names: &[String],
        retry: bool,
        patience: Duration,
    ) -> Result<Vec<TargetView>, SyncError> {
        let chosen: Vec<(Board, Arc<Control>)> = {
            let running = &self.threads().running;
            check_names(running.keys(), names)?;
            let chosen =
                running.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
            chosen.map(|(_, running)| (running.board.clone(), running.control.clone())).collect()
        };
        let start = Instant::now();
        let before: Vec<u64> = chosen.iter().map(|(board, _)| board.n_passes()).collect();
        for (_, control) in &chosen {
            control.retry.fetch_or(retry, Ordering::Relaxed);
            control.wake.notify_one();
        }
        for ((board, _), before) in chosen.iter().zip(before) {
            // The pass that was woken, and one that sees that nothing is left or what failed.
            let is_seen = || {
                let view = board.view();
                board.n_passes() >= before + 2 && (view.pending == 0 || view.trouble.is_some())
            };
            while !is_seen() && start.elapsed() < patience {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(chosen.iter().map(|(board, _)| board.view()).collect())
    }

    /// Ends all threads; one that takes too long is left behind.
    pub(crate) fn stop(&self) {
        let mut threads = std::mem::take(&mut *self.threads());
        let names: Vec<String> = threads.running.keys().cloned().collect();
        names.iter().for_each(|name| threads.stop(name));
        let start = Instant::now();
        while threads.ending.values().any(|thread| !thread.is_finished())
            && start.elapsed() < END_MAX
        {
            thread::sleep(Duration::from_millis(5));
        }
        for (name, _) in threads.ending.iter().filter(|(_, thread)| !thread.is_finished()) {
            tracing::warn!(target_name = name, "target's thread is left behind: it does not end");
        }
    }
}

fn check_names<'a>(
    known: impl Iterator<Item = &'a String>,
    names: &[String],
) -> Result<(), SyncError> {
    let known: Vec<&String> = known.collect();
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(got) => {
            let known: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(SyncError::Unknown { got: got.clone(), known })
        }
    }
}

/// The targets of these names; all, if none are named.
///
/// # Errors
/// If one is not there.
pub(crate) fn choose(
    configs: &[SyncConfig],
    names: &[String],
) -> Result<Vec<SyncConfig>, SyncError> {
    check_names(configs.iter().map(|config| &config.name), names)?;
    let chosen = configs.iter().filter(|config| names.is_empty() || names.contains(&config.name));
    Ok(chosen.cloned().collect())
}

/// Delivers to targets what there is or, without `is_once`, for ever. `see` is shown how they get on, again and again.
/// Returns how each of them is at the end, and whether it has all that it can have.
///
/// # Errors
/// If a thread can't be started.
pub(crate) fn deliver(
    reader: &Reader,
    configs: Vec<SyncConfig>,
    is_once: bool,
    see: impl Fn(&[TargetView]),
) -> Result<Vec<(TargetView, bool)>, SyncError> {
    let start = |config| {
        let (begins, begin) = bounded(1);
        // Nothing runs before it.
        drop(begins.send(None));
        Running::start(reader.clone(), config, is_once, begin)
    };
    let running: Vec<Running> = configs.into_iter().map(start).collect::<Result<_, _>>()?;
    while !running.iter().all(|running| running.thread.is_finished()) {
        let views: Vec<TargetView> = running.iter().map(|running| running.board.view()).collect();
        see(&views);
        thread::sleep(Duration::from_millis(50));
    }
    let ended = running.into_iter().map(|Running { board, thread, .. }| {
        let is_done = thread.join().unwrap_or(false);
        (board.view(), is_done)
    });
    Ok(ended.collect())
}

/// How each target is, as the store says: while no thread delivers.
///
/// # Errors
/// If the store can't be read.
pub(crate) fn views(reader: &Reader, configs: &[SyncConfig]) -> Result<Vec<TargetView>, SyncError> {
    let mut views = Vec::new();
    for config in configs {
        let mut posted = Posted::new(config);
        for (run, extent) in reader.extents()? {
            if !config.selection.has_run(&run) {
                continue;
            }
            match RunState::load(reader.root(), &config.name, &run) {
                Ok(state) => {
                    let backlog = Backlog { reader, run: &run, selection: &config.selection };
                    let pending = backlog.tally(state.cursor.place, extent.end)?;
                    posted.add(&state, pending, backlog.oldest(state.cursor, extent.end)?);
                }
                Err(error) => posted.view.trouble = Some(error.to_string()),
            }
        }
        views.push(posted.into_view());
    }
    Ok(views)
}

/// Has all that targets have set aside tried again the next time that they are delivered to. Returns how much
/// that is.
///
/// # Errors
/// If the store can't be read or written.
pub(crate) fn retry(reader: &Reader, configs: &[SyncConfig]) -> Result<u64, SyncError> {
    let mut n = 0;
    for config in configs {
        for (run, _) in reader.extents()? {
            let mut state = RunState::load(reader.root(), &config.name, &run)?;
            if state.parked.is_empty() {
                continue;
            }
            let now = seconds(SystemTime::now());
            for parked in &mut state.parked {
                (parked.since, parked.next) = (now, Some(now));
            }
            n += state.parked.len() as u64;
            state.save(&Disk::default(), reader.root(), &config.name)?;
        }
    }
    Ok(n)
}

/// What a target has of a run: nothing of one that it doesn't get counts as missing.
#[derive(Debug)]
pub(crate) struct Delivered(String, Option<RunState>);

impl Delivered {
    /// Of a target that has all before a place.
    #[cfg(test)]
    pub(crate) fn until(target: &str, place: JournalOffset) -> Self {
        let run = RunId::new("run").expect("a run");
        let nothing = Path::new("/nowhere");
        let mut state = RunState::load(nothing, target, &run).expect("a state");
        state.cursor.place = place;
        Self(target.to_owned(), Some(state))
    }

    /// The target's name.
    pub(crate) fn target(&self) -> &str {
        &self.0
    }

    /// Whether it has what stands at a place of the run's journal, or never gets it.
    pub(crate) fn has(&self, place: JournalOffset) -> bool {
        self.1.as_ref().is_none_or(|state| state.has(place))
    }
}

/// What each target has of a run.
///
/// # Errors
/// If that can't be read: then nobody knows.
pub(crate) fn delivered(
    store: &Path,
    configs: &[SyncConfig],
    run: &RunId,
) -> Result<Vec<Delivered>, SyncError> {
    let of = |config: &SyncConfig| {
        let is_selected = config.selection.has_run(run);
        let state = is_selected.then(|| RunState::load(store, &config.name, run)).transpose()?;
        Ok(Delivered(config.name.clone(), state))
    };
    configs.iter().map(of).collect()
}
