//! The worker of one target: delivers the backlog of each run, and decides when to retry.

mod failure;
mod trouble;
mod transfer;
mod batch_wait;
mod run;
mod parked;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::failure::{DeliveryError, FAILURES_MAX, RetryPause, TRIES_MAX};
use self::run::RunWork;
use self::transfer::Transfer;
use self::trouble::text_of;
use super::backlog::{Backlog, unix_seconds};
use super::progress::ProgressBoard;
use super::state::{RunState, StateError, TargetCursor};
use super::status::TargetProgress;
use crate::config::SyncConfig;
use crate::durable::Disk;
use crate::media::RunId;
use crate::pace::Pace;
use crate::sinks::Target;
use crate::store::{Extent, Reader};

/// How often an idle worker checks whether a journal grew.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How often a waiting worker posts its progress.
const POST_INTERVAL: Duration = Duration::from_secs(2);

/// How many sinks may be open between two deliveries. More runs close theirs at once, because a sink may hold files open.
const SINKS_MAX: usize = 256;

/// How long a step of a sink may go on after the worker was stopped.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Controls a worker from other threads.
#[derive(Debug, Default)]
pub(super) struct WorkerControl {
    /// Ends the pause before the next pass.
    pub(super) wake: Notify,
    /// Makes the next pass after a wake retry all parked items.
    pub(super) retries_parked: AtomicBool,
    pub(super) stop: CancellationToken,
}

/// Waits until the worker was stopped some time ago.
async fn stop_overdue(control: &WorkerControl) {
    control.stop.cancelled().await;
    sleep(STOP_GRACE).await;
}

/// Delivers to one target.
pub(super) struct Worker<T: Target> {
    reader: Reader,
    disk: Disk,
    config: SyncConfig,
    settings: T::Config,
    target: Option<T>,
    runs: BTreeMap<RunId, RunWork<T::Run>>,
    /// Runs whose state can't be read, with the errors.
    broken: BTreeMap<RunId, String>,
    transfer: Transfer,
    /// The number of open sinks at the start of the pass, and of those opened since.
    n_sinks: usize,
    /// [`Reader::n_changes`] when the runs were last refreshed.
    n_changes_seen: Option<u64>,
    pause: RetryPause,
    /// Whether the next pass retries all parked items.
    retries_parked: bool,
    /// Whether the worker ends when the backlog is delivered. Then it does not wait for items to settle.
    is_once: bool,
    n_passes: u64,
    board: ProgressBoard,
}

impl<T: Target> Worker<T> {
    pub(super) fn new(
        reader: Reader,
        config: SyncConfig,
        settings: T::Config,
        board: ProgressBoard,
    ) -> Self {
        let pace = Pace::default();
        pace.set(config.bytes_per_s_max.map(NonZeroU64::get));
        let worker = Self {
            reader,
            disk: Disk::default(),
            transfer: Transfer::new(config.concurrency_max.get(), pace),
            config,
            settings,
            target: None,
            runs: BTreeMap::new(),
            broken: BTreeMap::new(),
            n_sinks: 0,
            n_changes_seen: None,
            pause: RetryPause::default(),
            retries_parked: false,
            is_once: false,
            n_passes: 0,
            board,
        };
        worker.post();
        worker
    }

    /// Delivers the backlog and everything that is committed later, until it is stopped.
    pub(super) async fn deliver_until_stopped(mut self, control: &WorkerControl) {
        let mut is_failing = false;
        while !control.stop.is_cancelled() {
            let did = self.pass(control).await;
            self.log_transition(&mut is_failing);
            if did {
                continue;
            }
            // A worker that waits for a retry keeps posting, so that its backlog and the time left are current.
            let pause =
                if self.is_waiting() { POST_INTERVAL.min(self.next_try()) } else { CHECK_INTERVAL };
            tokio::select! {
                () = sleep(pause.max(Duration::from_millis(20))) => {}
                () = control.stop.cancelled() => {}
                () = control.wake.notified() => self.wake(control),
            }
        }
    }

    /// Delivers the backlog. Returns whether all of it was delivered, apart from parked items.
    pub(super) async fn deliver_once(mut self, control: &WorkerControl) -> bool {
        self.is_once = true;
        self.wake(control);
        let mut n_rounds = 0;
        let mut is_failing = false;
        loop {
            let did = self.pass(control).await;
            self.log_transition(&mut is_failing);
            if control.stop.is_cancelled() {
                return false;
            }
            if did {
                n_rounds = 0;
                continue;
            }
            if !self.is_waiting() {
                return true;
            }
            n_rounds += 1;
            if n_rounds == TRIES_MAX {
                return false;
            }
            tokio::select! {
                () = sleep(self.next_try()) => {}
                () = control.stop.cancelled() => {}
            }
        }
    }

    fn wake(&mut self, control: &WorkerControl) {
        self.retries_parked = control.retries_parked.swap(false, Ordering::Relaxed);
        self.pause.until = None;
        for work in self.runs.values_mut() {
            work.pause.until = None;
            work.batch_wait.end();
        }
    }

    /// How long a batch that is not full waits for more items.
    fn batch_wait(&self) -> Duration {
        if self.is_once { Duration::ZERO } else { self.config.kind.batch_wait() }
    }

    fn is_waiting(&self) -> bool {
        self.pause.error.is_some()
            || !self.broken.is_empty()
            || self.runs.values().any(|work| work.pause.error.is_some())
    }

    /// The time until the next retry.
    fn next_try(&self) -> Duration {
        let now = Instant::now();
        let of_runs = self.runs.values().filter_map(|work| work.pause.until);
        let first = match self.pause.until {
            Some(until) if until > now => Some(until),
            _ => of_runs.min(),
        };
        first.map_or(POST_INTERVAL, |first| first.saturating_duration_since(now))
    }

    /// Delivers a page of each run. Returns whether anything was delivered.
    async fn pass(&mut self, control: &WorkerControl) -> bool {
        self.n_passes += 1;
        let was_current = self.n_changes_seen == Some(self.reader.n_changes());
        let refreshed = self.refresh_runs();
        let retries_parked = self.retries_parked;
        let wait = self.batch_wait();
        let runs = self.runs.iter_mut();
        let runs =
            runs.filter_map(|(run, work)| (!work.is_quiet(retries_parked, wait)).then_some(run));
        let runs: Vec<RunId> = runs.cloned().collect();
        if was_current && runs.is_empty() && !self.is_waiting() {
            // Nothing has changed.
            self.retries_parked = false;
            self.board.post_pass(self.n_passes);
            return false;
        }
        self.n_sinks = self.runs.values().filter(|work| work.sink.is_some()).count();
        self.post();
        if let Err(error) = refreshed {
            self.pause.add_failure(&error, self.text_of(&error));
            return false;
        }
        if !self.pause.is_over(Instant::now()) {
            return false;
        }
        self.retries_parked = false;
        let (mut did, mut n_failed_in_a_row) = (false, 0);
        for run in runs {
            let Some(mut work) = self.runs.remove(&run) else { continue };
            if control.stop.is_cancelled() || !work.pause.is_over(Instant::now()) {
                self.runs.insert(run, work);
                continue;
            }
            let n_accepted = self.transfer.n_accepted();
            let done = tokio::select! {
                done = self.deliver_run(&mut work, control, retries_parked) => done,
                // A step that hangs is given up. It is repeated as after a crash.
                () = stop_overdue(control) => {
                    work.sink = None;
                    Err(DeliveryError::Stopped)
                }
            };
            if self.transfer.n_accepted() > n_accepted {
                did = true;
                // The target accepts items. Occasional failures of others must not make its pause grow.
                (work.pause, self.pause) = (RetryPause::default(), RetryPause::default());
                n_failed_in_a_row = 0;
            }
            match done {
                Ok(did_some) => {
                    did |= did_some;
                    work.pause = RetryPause::default();
                    if did_some {
                        self.pause = RetryPause::default();
                        n_failed_in_a_row = 0;
                    }
                }
                Err(DeliveryError::Stopped) => {}
                Err(error) => {
                    let text = self.text_of(&error);
                    // The target is not at fault if the run cannot be read.
                    n_failed_in_a_row += u32::from(!matches!(error, DeliveryError::Store(_)));
                    tracing::debug!(%run, target_name = self.config.name, error = text, "cannot deliver run now");
                    work.pause.add_failure(&error, text.clone());
                    if n_failed_in_a_row >= FAILURES_MAX {
                        self.pause.add_failure(&error, text);
                        // It is opened again, because its secrets or its address may be out of date.
                        self.target = None;
                        work.sink = None;
                        self.runs.values_mut().for_each(|work| work.sink = None);
                    }
                }
            }
            if self.n_sinks > SINKS_MAX {
                work.sink = None;
            }
            self.runs.insert(run, work);
            if n_failed_in_a_row >= FAILURES_MAX {
                break;
            }
        }
        if !did && n_failed_in_a_row == 0 && self.pause.is_over(Instant::now()) {
            self.pause = RetryPause::default();
        }
        self.post();
        did
    }

    /// Finds new runs, and counts new items.
    fn refresh_runs(&mut self) -> Result<(), DeliveryError> {
        let n_changes = self.reader.n_changes();
        if self.n_changes_seen == Some(n_changes) && self.broken.is_empty() {
            return Ok(());
        }
        let name = &self.config.name;
        let mut is_counted = true;
        for (run, extent) in self.reader.extents()? {
            if !self.config.selection.has_run(&run) {
                continue;
            }
            if !self.runs.contains_key(&run) {
                match self.load_run(&run, extent) {
                    Ok(work) => {
                        self.broken.remove(&run);
                        self.runs.insert(run.clone(), work);
                    }
                    Err(error) => {
                        if self.broken.insert(run.clone(), error.to_string()).is_none() {
                            tracing::error!(target_name = name, %run, %error, "cannot load the state of run, it is not delivered");
                        }
                        continue;
                    }
                }
            }
            let Some(work) = self.runs.get_mut(&run) else { continue };
            if work.extent.end != extent.end {
                work.last_growth = Instant::now();
            }
            work.extent = extent;
            if work.counted < extent.end {
                let backlog = Backlog { reader: &self.reader, run: &run, config: &self.config };
                match backlog.count(work.counted, extent.end) {
                    Ok(count) => {
                        work.pending.add(count);
                        work.counted = extent.end;
                    }
                    // The others are counted all the same.
                    Err(error) => {
                        let text = error.to_string();
                        work.pause.add_failure(&error.into(), text);
                        is_counted = false;
                    }
                }
            }
        }
        self.n_changes_seen = is_counted.then_some(n_changes);
        Ok(())
    }

    fn load_run(&self, run: &RunId, extent: Extent) -> Result<RunWork<T::Run>, StateError> {
        let mut state = RunState::load(self.reader.root(), &self.config.name, run)?;
        let TargetCursor { place, seq } = state.cursor;
        if place > extent.end || seq > extent.last_seq {
            self.restart(&mut state);
        }
        Ok(RunWork::new(state, extent))
    }

    /// Restarts a run whose journal was replaced by another one.
    fn restart(&self, state: &mut RunState) {
        tracing::warn!(
            target_name = self.config.name,
            run = %state.run,
            "run's journal was replaced, it is delivered from its beginning"
        );
        state.cursor = TargetCursor::START;
        state.parked.clear();
    }

    /// Logs that delivery begins to fail, or works again.
    fn log_transition(&self, is_failing: &mut bool) {
        let error = self.error(None);
        let name = &self.config.name;
        match (error, *is_failing) {
            (Some(error), false) => {
                let next_s = self.next_try().as_secs();
                tracing::warn!(target_name = name, error, next_s, "delivery failed, will retry");
                *is_failing = true;
            }
            (None, true) => {
                tracing::info!(target_name = name, "target accepts items again");
                *is_failing = false;
            }
            _ => {}
        }
    }

    fn text_of(&self, error: &dyn Display) -> String {
        text_of(error, &self.config.kind)
    }

    /// Returns the error that delays delivery. `current` is as in [`Self::post_with`].
    fn error(&self, current: Option<&RunWork<T::Run>>) -> Option<String> {
        let works = self.runs.values().chain(current);
        let of_runs = works.filter_map(|work| work.pause.error.as_ref());
        self.pause.error.iter().chain(of_runs).chain(self.broken.values()).next().cloned()
    }

    fn post(&self) {
        self.post_with(None);
    }

    /// Posts the progress. `current` is the run that is delivered now: it is not in `runs` meanwhile.
    fn post_with(&self, current: Option<&RunWork<T::Run>>) {
        let mut posted = TargetProgress::new(&self.config);
        for work in self.runs.values().chain(current) {
            posted.add(&work.state, work.pending, work.oldest);
        }
        posted.view.trouble = self.error(current);
        posted.view.lanes = self.transfer.n_lanes() as u64;
        posted.n_passes = self.n_passes;
        let delay = posted.view.trouble.is_some().then(|| self.next_try());
        posted.next_try = delay.map(|delay| unix_seconds(SystemTime::now()) + delay.as_secs_f64());
        self.board.post(posted);
    }
}
