//! One target: what each run has for it is read from the journal, delivered, and noted.

mod run;
mod trouble;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::run::RunWork;
use self::trouble::{FAILURES_MAX, TRIES_MAX, Trouble, Wait};
use super::backlog::{Backlog, seconds};
use super::board::{Board, Posted};
use super::lanes::Lanes;
use super::state::{Cursor, RunState, StateError};
use crate::config::SyncConfig;
use crate::durable::Disk;
use crate::media::RunId;
use crate::pace::Pace;
use crate::sinks::Target;
use crate::store::{Extent, Reader};

/// How often it is looked whether anything came.
const LOOK: Duration = Duration::from_millis(500);

/// How often a target that waits says how much is pending.
const POST: Duration = Duration::from_secs(2);

/// What is asked of a target's thread.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Look now; don't wait for the next try.
    pub(super) wake: Notify,
    /// Try all that is set aside.
    pub(super) retry: AtomicBool,
    pub(super) stop: CancellationToken,
}

/// Delivers to one target.
pub(super) struct Worker<T: Target> {
    reader: Reader,
    disk: Disk,
    config: SyncConfig,
    settings: T::Config,
    target: Option<T>,
    runs: BTreeMap<RunId, RunWork<T::Run>>,
    /// Runs whose state can't be read, and why.
    broken: BTreeMap<RunId, String>,
    lanes: Lanes,
    pace: Pace,
    /// [`Reader::n_changes`] when all runs were looked at last.
    n_changes_seen: Option<u64>,
    /// Items that were taken since the start.
    n_taken: u64,
    wait: Wait,
    /// Whether all that was set aside is to be tried in this pass.
    tries_all: bool,
    /// Whether there is only one look: then nothing is kept back for what may come.
    is_once: bool,
    n_passes: u64,
    board: Board,
}

impl<T: Target> Worker<T> {
    pub(super) fn new(
        reader: Reader,
        config: SyncConfig,
        settings: T::Config,
        board: Board,
    ) -> Self {
        let pace = Pace::default();
        pace.set(config.bytes_per_s_max.map(NonZeroU64::get));
        let worker = Self {
            reader,
            disk: Disk::default(),
            lanes: Lanes::new(config.concurrency_max.get()),
            config,
            settings,
            target: None,
            runs: BTreeMap::new(),
            broken: BTreeMap::new(),
            pace,
            n_changes_seen: None,
            n_taken: 0,
            wait: Wait::default(),
            tries_all: false,
            is_once: false,
            n_passes: 0,
            board,
        };
        worker.post();
        worker
    }

    /// Delivers what there is and what comes, until it is told to stop.
    pub(super) async fn keep_on(mut self, control: &Control) {
        let mut is_in_trouble = false;
        while !control.stop.is_cancelled() {
            let did = self.pass(control).await;
            self.tell(&mut is_in_trouble);
            if did {
                continue;
            }
            // What waits for its next try is seen to come nearer, and what came meanwhile to be pending.
            let pause = if self.is_waiting() { POST.min(self.next_try()) } else { LOOK };
            tokio::select! {
                () = sleep(pause.max(Duration::from_millis(20))) => {}
                () = control.stop.cancelled() => {}
                () = control.wake.notified() => self.wake(control),
            }
        }
    }

    /// Delivers what there is. Returns whether all of it was, but what is set aside.
    pub(super) async fn once(mut self, control: &Control) -> bool {
        self.is_once = true;
        self.wake(control);
        let mut n_rounds = 0;
        let mut is_in_trouble = false;
        loop {
            let did = self.pass(control).await;
            self.tell(&mut is_in_trouble);
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

    fn wake(&mut self, control: &Control) {
        self.tries_all = control.retry.swap(false, Ordering::Relaxed);
        self.wait.until = None;
        self.runs.values_mut().for_each(|work| work.wait.until = None);
    }

    fn is_waiting(&self) -> bool {
        self.wait.trouble.is_some()
            || !self.broken.is_empty()
            || self.runs.values().any(|work| work.wait.trouble.is_some())
    }

    /// How long until something is tried again.
    fn next_try(&self) -> Duration {
        let now = Instant::now();
        let of_runs = self.runs.values().filter_map(|work| work.wait.until);
        let first = match self.wait.until {
            Some(until) if until > now => Some(until),
            _ => of_runs.min(),
        };
        first.map_or(POST, |first| first.saturating_duration_since(now))
    }

    /// Looks at each run once. Returns whether anything was delivered.
    async fn pass(&mut self, control: &Control) -> bool {
        self.n_passes += 1;
        let looked = self.look();
        self.post();
        if let Err(trouble) = looked {
            self.wait.failed(&trouble);
            return false;
        }
        if !self.wait.is_over(Instant::now()) {
            return false;
        }
        let tries_all = std::mem::take(&mut self.tries_all);
        let (mut did, mut n_failed_in_a_row) = (false, 0);
        let runs: Vec<RunId> = self.runs.keys().cloned().collect();
        for run in runs {
            let Some(mut work) = self.runs.remove(&run) else { continue };
            if control.stop.is_cancelled() || !work.wait.is_over(Instant::now()) {
                self.runs.insert(run, work);
                continue;
            }
            let n_taken = self.n_taken;
            let done = self.run(&mut work, control, tries_all).await;
            if self.n_taken > n_taken {
                did = true;
                // It takes some: that it fails with others now and then is no reason to leave it alone for long.
                (work.wait, self.wait, n_failed_in_a_row) = (Wait::default(), Wait::default(), 0);
            }
            match done {
                Ok(did_some) => {
                    did |= did_some;
                    work.wait = Wait::default();
                    if did_some {
                        self.wait = Wait::default();
                        n_failed_in_a_row = 0;
                    }
                }
                Err(Trouble::Stopped) => {}
                Err(trouble) => {
                    work.wait.failed(&trouble);
                    n_failed_in_a_row += 1;
                    tracing::debug!(%run, target_name = self.config.name, error = %trouble, "run is not delivered");
                    if n_failed_in_a_row >= FAILURES_MAX {
                        self.wait.failed(&trouble);
                        // What it was opened with may be out of date: where a key stands, say.
                        self.target = None;
                        work.sink = None;
                        self.runs.values_mut().for_each(|work| work.sink = None);
                    }
                }
            }
            self.runs.insert(run, work);
            if n_failed_in_a_row >= FAILURES_MAX {
                break;
            }
        }
        if !did && n_failed_in_a_row == 0 && self.wait.is_over(Instant::now()) {
            self.wait = Wait::default();
        }
        self.post();
        did
    }

    /// Sees what runs there are, and counts what came.
    fn look(&mut self) -> Result<(), Trouble> {
        let n_changes = self.reader.n_changes();
        if self.n_changes_seen == Some(n_changes) && self.broken.is_empty() {
            return Ok(());
        }
        let name = &self.config.name;
        for (run, extent) in self.reader.extents()? {
            if !self.config.selection.has_run(&run) {
                continue;
            }
            if !self.runs.contains_key(&run) {
                match self.begin(&run, extent) {
                    Ok(work) => {
                        self.broken.remove(&run);
                        self.runs.insert(run.clone(), work);
                    }
                    Err(error) => {
                        if self.broken.insert(run.clone(), error.to_string()).is_none() {
                            tracing::error!(target_name = name, %run, %error, "run is not delivered");
                        }
                        continue;
                    }
                }
            }
            let Some(work) = self.runs.get_mut(&run) else { continue };
            if work.extent.end != extent.end {
                work.last_came = Instant::now();
            }
            work.extent = extent;
            if work.counted < extent.end {
                let selection = &self.config.selection;
                let backlog = Backlog { reader: &self.reader, run: &run, selection };
                work.pending.add(backlog.tally(work.counted, extent.end)?);
                work.counted = extent.end;
            }
        }
        self.n_changes_seen = Some(n_changes);
        Ok(())
    }

    fn begin(&self, run: &RunId, extent: Extent) -> Result<RunWork<T::Run>, StateError> {
        let mut state = RunState::load(self.reader.root(), &self.config.name, run)?;
        let Cursor { place, seq } = state.cursor;
        if place > extent.end || seq > extent.last_seq {
            self.begin_anew(&mut state);
        }
        Ok(RunWork::new(state, extent))
    }

    /// The run's journal is another one than that which was delivered.
    fn begin_anew(&self, state: &mut RunState) {
        tracing::warn!(
            target_name = self.config.name,
            run = %state.run,
            "its journal is another one than that which was delivered: it is delivered from its beginning"
        );
        state.cursor = Cursor::START;
        state.parked.clear();
    }

    /// Logs that trouble began, or is over.
    fn tell(&self, is_in_trouble: &mut bool) {
        let trouble = self.trouble();
        let name = &self.config.name;
        match (trouble, *is_in_trouble) {
            (Some(error), false) => {
                let next_s = self.next_try().as_secs();
                tracing::warn!(target_name = name, error, next_s, "delivery failed, will retry");
                *is_in_trouble = true;
            }
            (None, true) => {
                tracing::info!(target_name = name, "target takes items again");
                *is_in_trouble = false;
            }
            _ => {}
        }
    }

    fn trouble(&self) -> Option<String> {
        let of_runs = self.runs.values().filter_map(|work| work.wait.trouble.as_ref());
        self.wait.trouble.iter().chain(of_runs).chain(self.broken.values()).next().cloned()
    }

    fn post_with(&self, work: &RunWork<T::Run>) {
        self.post_all(Some(work));
    }

    fn post(&self) {
        self.post_all(None);
    }

    fn post_all(&self, of_now: Option<&RunWork<T::Run>>) {
        let mut posted = Posted::new(&self.config);
        for work in self.runs.values().chain(of_now) {
            posted.add(&work.state, work.pending, work.oldest);
        }
        posted.view.trouble = self.trouble();
        posted.view.lanes = self.lanes.n() as u64;
        posted.n_passes = self.n_passes;
        let waits = posted.view.trouble.is_some().then(|| self.next_try());
        posted.next_try = waits.map(|wait| seconds(SystemTime::now()) + wait.as_secs_f64());
        self.board.post(posted);
    }
}
