//! When the engine tries waiting items again by itself.
//!
//! All of them are tried when the program starts and when its settings change, since a limit may be another
//! now. Between that, the version of each one's dump is compared with the version that was rejected. This
//! costs at most one part in [`COST_SHARE`] of the time. In [`Mode::Once`] all are tried again at the end,
//! since what was read may have freed an index.

use std::time::{Duration, Instant};

use super::{Release, Releases, Scope};
use crate::ingest::Mode;
use crate::ingest::planning::Planner;
use crate::ingest::runs::Runs;
use crate::store::{Reader, StoreError};

/// The least pause between two looks at the dumps. Short in debug builds, so that tests cover it.
const PAUSE_MIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 5000 });

/// The pause after a look is this many times the time that the look took.
const COST_SHARE: u32 = 1000;

/// How often all waiting items are tried in [`Mode::Once`], at most: a file may grow for ever.
const PASSES_MAX: u32 = 4;

/// When waiting items are tried again.
#[derive(Debug)]
pub(crate) struct Retries {
    /// Whether all are to be tried.
    is_all_due: bool,
    /// When the dumps are looked at next. `None` while that happens, and in [`Mode::Once`].
    look_at: Option<Instant>,
    /// The time that the current look has taken.
    cost: Duration,
    /// The state of the index in which nothing waited.
    nothing_at: Option<u64>,
    /// Whether that is under way.
    is_trying: bool,
    /// How often waiting items were tried.
    n_passes: u32,
    /// The state of the index after that.
    tried_at: Option<u64>,
}

impl Retries {
    /// Tries all waiting items once and then, in [`Mode::Follow`], those whose dump changes.
    pub(crate) fn new(mode: Mode, now: Instant) -> Self {
        let look_at = (mode == Mode::Follow).then_some(now);
        let (cost, n_passes) = (Duration::ZERO, 0);
        Self {
            is_all_due: true,
            look_at,
            cost,
            nothing_at: None,
            is_trying: false,
            n_passes,
            tried_at: None,
        }
    }

    /// Tries all waiting items: the settings may be others.
    pub(crate) fn set_all_due(&mut self) {
        self.is_all_due = true;
    }

    /// Whether waiting items must be looked at before the program is done: in [`Mode::Once`] again if
    /// something was committed since they were tried.
    pub(crate) fn is_due_at_end(&mut self, reader: &Reader) -> bool {
        self.is_all_due |=
            self.n_passes < PASSES_MAX && self.tried_at.is_some_and(|at| at != reader.n_changes());
        self.is_all_due
    }

    /// Begins to try waiting items of the runs that are read, if it is time and no release is under way.
    pub(crate) fn begin_due(
        &mut self,
        now: Instant,
        releases: &mut Releases,
        runs: &Runs,
        planner: &Planner,
    ) -> Result<(), StoreError> {
        let is_due = self.is_all_due || self.look_at.is_some_and(|at| at <= now);
        if !is_due || releases.is_under_way() {
            return Ok(());
        }
        let reader = planner.reader();
        let n_changes = reader.n_changes();
        let mut with_waiting = Vec::new();
        if self.nothing_at != Some(n_changes) {
            with_waiting = reader.runs_to_try_again()?;
            self.nothing_at = with_waiting.is_empty().then_some(n_changes);
        }
        with_waiting.retain(|run| runs.with_id(run).is_some());
        let scope = if self.is_all_due { Scope::Waiting } else { Scope::ChangedWaiting };
        self.is_all_due = false;
        self.n_passes += 1;
        self.cost = now.elapsed();
        if with_waiting.is_empty() {
            self.tried_at = Some(n_changes);
            self.pause(Instant::now());
        } else {
            releases.current = Some(Release::new(scope, with_waiting, planner));
            self.is_trying = true;
        }
        Ok(())
    }

    /// Notes that the releases had a turn, which took this long.
    pub(crate) fn had_turn(&mut self, cost: Duration, releases: &Releases, reader: &Reader) {
        self.cost += cost;
        if !releases.is_under_way() {
            if self.is_trying {
                self.tried_at = Some(reader.n_changes());
                self.is_trying = false;
            }
            self.pause(Instant::now());
        }
    }

    fn pause(&mut self, now: Instant) {
        if let Some(at) = &mut self.look_at
            && *at <= now
        {
            *at = now + PAUSE_MIN.max(self.cost * COST_SHARE);
        }
        self.cost = Duration::ZERO;
    }
}
