//! Runs whose logs or last dump are open, so that a bounded number is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use crate::ingest::logs::{n_open_logs, open_logs_max};
use crate::ingest::runs::{RunKey, RunReader, Runs};

/// Runs that keep the last dump open that a line named.
const LAST_DUMPS_MAX: usize = 16;

/// Runs with open files.
#[derive(Debug, Default)]
pub(super) struct OpenRuns {
    /// Runs with open logs, by when they were looked at last.
    with_logs: BTreeSet<(Instant, RunKey)>,
    looked_at: HashMap<RunKey, Instant>,
    /// Runs with an open dump, the latest one last.
    with_dump: VecDeque<RunKey>,
}

impl OpenRuns {
    /// Notes which logs of a run are open.
    pub(super) fn looked(&mut self, key: RunKey, run: &RunReader, now: Instant) {
        if let Some(before) = self.looked_at.remove(&key) {
            self.with_logs.remove(&(before, key));
        }
        if !run.logs.tails().is_empty() {
            self.looked_at.insert(key, now);
            self.with_logs.insert((now, key));
        }
    }

    /// Notes that lines of a run were planned, which may have opened a dump. Returns a run whose last dump is to be
    /// closed.
    pub(super) fn note_dump(&mut self, key: RunKey, has_planned: bool) -> Option<RunKey> {
        if !has_planned || self.with_dump.back() == Some(&key) {
            return None;
        }
        self.with_dump.retain(|known| *known != key);
        self.with_dump.push_back(key);
        if self.with_dump.len() > LAST_DUMPS_MAX { self.with_dump.pop_front() } else { None }
    }

    pub(super) fn forget(&mut self, key: RunKey) {
        if let Some(before) = self.looked_at.remove(&key) {
            self.with_logs.remove(&(before, key));
        }
        self.with_dump.retain(|known| *known != key);
    }

    /// Closes logs that were read if too many are open, those that were looked at longest ago first.
    pub(super) fn close_some(&mut self, runs: &mut Runs, now: Instant, n_runs_max: usize) {
        let max = open_logs_max();
        if n_open_logs() < max - max / 4 {
            return;
        }
        let oldest: Vec<RunKey> =
            self.with_logs.iter().take(n_runs_max).map(|(_, key)| *key).collect();
        for key in oldest {
            if n_open_logs() <= max / 2 {
                return;
            }
            if let Some(run) = runs.get_mut(key) {
                run.logs.rest(now, true);
                self.looked(key, run, now);
            }
        }
    }
}
