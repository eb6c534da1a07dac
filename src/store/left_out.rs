//! Runs whose files in the store fail. Each is left out alone: the other runs work on.
//!
//! A run that cannot be written is *closed*: its commits are given back, and its lines and dumps wait. It is tried again
//! after a pause, once nothing of it is in the pipeline: what was planned before must not be committed after lines that
//! were given back. A run whose journal cannot be read stays open. Only the items that cannot be read are left out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::locks::lock;
use crate::media::RunId;

/// The pauses before a run is tried again: the first and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// How long after the last failure a run counts as unreadable.
const UNREADABLE_AGE_MAX: Duration = Duration::from_hours(1);

/// A run whose files in the store fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOutRun {
    /// The run's id, or the name of its folder in the store if its id is unknown.
    pub run: String,
    /// What fails, and what becomes of the run's items.
    pub reason: String,
    /// For how long, in seconds.
    pub since_s: f64,
}

/// The runs whose files fail. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeftOut(Arc<Mutex<Runs>>);

#[derive(Debug, Default)]
struct Runs {
    closed: BTreeMap<RunId, Closed>,
    /// Runs with items that cannot be read: since when, when that was last so, and why.
    unreadable: BTreeMap<RunId, (Instant, Instant, String)>,
    /// Folders that are no run's, by their names.
    folders: BTreeMap<String, (Instant, String)>,
}

#[derive(Debug)]
struct Closed {
    reason: String,
    since: Instant,
    n_failures: u32,
    next_try: Instant,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// What was planned before the failure may still be in the pipeline.
    InFlight,
    /// Nothing of the run is in the pipeline.
    Clear,
    /// Its files could be opened again. Whether they can be written shows at the next commit.
    OnTrial,
}

impl LeftOutRun {
    /// Says that the run is left out, for people.
    #[must_use]
    pub fn trouble(&self) -> String {
        format!("run {}: {}", self.run, self.reason)
    }
}

impl LeftOut {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        lock(&self.0)
    }

    /// Closes a run, or counts another failure of it.
    pub(super) fn close(&self, run: &RunId, error: &StoreError) {
        let reason = format!("nothing is written to it: {error}; its lines and dumps wait");
        let now = Instant::now();
        let mut runs = self.runs();
        let closed = runs.closed.entry(run.clone()).or_insert_with(|| {
            tracing::error!(%run, %error, "run is left out: its files in the store fail");
            let (since, n_failures, next_try) = (now, 0, now);
            Closed { reason: String::new(), since, n_failures, next_try, state: State::InFlight }
        });
        let pause = PAUSE_MIN * 2u32.saturating_pow(closed.n_failures.min(16));
        closed.next_try = now + pause.min(PAUSE_MAX);
        closed.n_failures = closed.n_failures.saturating_add(1);
        closed.reason = reason;
        if closed.state == State::OnTrial {
            closed.state = State::InFlight;
        }
    }

    /// Why nothing is committed to a run, if it is closed.
    pub(crate) fn reason(&self, run: &RunId) -> Option<String> {
        let runs = self.runs();
        let closed = runs.closed.get(run).filter(|closed| closed.state != State::OnTrial);
        closed.map(|closed| closed.reason.clone())
    }

    /// Notes that the pipeline is empty: closed runs may be tried again.
    pub(crate) fn set_clear(&self) {
        let mut runs = self.runs();
        let in_flight = runs.closed.values_mut().filter(|closed| closed.state == State::InFlight);
        in_flight.for_each(|closed| closed.state = State::Clear);
    }

    /// Notes that nothing of a run is in the pipeline: it may be tried again.
    pub(crate) fn set_clear_of(&self, run: &RunId) {
        let mut runs = self.runs();
        let in_flight = runs.closed.get_mut(run).filter(|closed| closed.state == State::InFlight);
        if let Some(closed) = in_flight {
            closed.state = State::Clear;
        }
    }

    /// The runs to try again now.
    pub(super) fn due(&self, now: Instant) -> Vec<RunId> {
        let runs = self.runs();
        let is_due = |closed: &Closed| closed.state == State::Clear && closed.next_try <= now;
        runs.closed
            .iter()
            .filter(|(_, closed)| is_due(closed))
            .map(|(run, _)| run.clone())
            .collect()
    }

    /// When the next run is to be tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let runs = self.runs();
        let closed = runs.closed.values().filter(|closed| closed.state != State::OnTrial);
        closed.map(|closed| closed.next_try).min()
    }

    /// Opens a run for a trial.
    pub(super) fn begin_trial(&self, run: &RunId) {
        if let Some(closed) = self.runs().closed.get_mut(run) {
            closed.state = State::OnTrial;
        }
    }

    /// Notes that a run was written.
    pub(super) fn works(&self, run: &RunId) {
        if self.runs().closed.remove(run).is_some() {
            tracing::info!(%run, "run is written again");
        }
    }

    /// Notes that an item of a run cannot be read.
    pub(super) fn note_unreadable(&self, run: &RunId, error: &std::io::Error) {
        let now = Instant::now();
        let mut runs = self.runs();
        let (_, last, reason) = runs.unreadable.entry(run.clone()).or_insert_with(|| {
            tracing::error!(%run, %error, "journal cannot be read, its items are left out");
            (now, now, String::new())
        });
        *last = now;
        *reason = format!("items are left out: its journal cannot be read: {error}");
    }

    /// Notes that a folder in the place of runs is not read.
    pub(super) fn note_folder(&self, name: String, reason: String) {
        tracing::error!(folder = name, reason, "folder of the store is not read as a run");
        self.runs().folders.insert(name, (Instant::now(), reason));
    }

    /// Forgets the folder of a run that is read now.
    pub(super) fn forget_folder(&self, name: &str) {
        self.runs().folders.remove(name);
    }

    /// The runs and folders that are left out now, in order of their names.
    pub(crate) fn all(&self) -> Vec<LeftOutRun> {
        let mut runs = self.runs();
        runs.unreadable.retain(|_, (_, last, _)| last.elapsed() < UNREADABLE_AGE_MAX);
        let mut all: BTreeMap<String, (Instant, String)> = BTreeMap::new();
        for (run, (since, _, reason)) in &runs.unreadable {
            all.insert(run.as_str().to_owned(), (*since, reason.clone()));
        }
        for (run, closed) in runs.closed.iter().filter(|(_, of)| of.state != State::OnTrial) {
            all.insert(run.as_str().to_owned(), (closed.since, closed.reason.clone()));
        }
        for (name, of) in &runs.folders {
            all.entry(name.clone()).or_insert_with(|| of.clone());
        }
        let left_out = |(run, (since, reason)): (String, (Instant, String))| LeftOutRun {
            run,
            reason,
            since_s: since.elapsed().as_secs_f64(),
        };
        all.into_iter().map(left_out).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_run_is_tried_again_after_pauses_and_only_when_nothing_of_it_is_in_flight() {
        let (left_out, run) = (LeftOut::default(), RunId::new("a").expect("an id"));
        let now = Instant::now();
        let at = |s| now + Duration::from_secs(s);
        let error = || StoreError::Io(std::io::Error::other("no"));
        assert_eq!((left_out.reason(&run), left_out.next_try()), (None, None));
        left_out.close(&run, &error());
        assert!(left_out.reason(&run).is_some_and(|reason| reason.contains("no; its lines")));
        assert_eq!(left_out.due(at(100)), [], "its batches are in the pipeline");
        left_out.set_clear_of(&run);
        assert_eq!((left_out.due(now), left_out.due(at(2))), (vec![], vec![run.clone()]));
        for _ in 0..20 {
            left_out.close(&run, &error());
        }
        assert_eq!(left_out.due(at(59)), []);
        assert_eq!(left_out.due(at(62)), vec![run.clone()], "at least once a minute");
        left_out.begin_trial(&run);
        assert_eq!((left_out.reason(&run), left_out.all()), (None, vec![]));
        left_out.close(&run, &error());
        assert_eq!(left_out.due(at(100)), [], "what was planned on trial is in the pipeline");
        assert_eq!(left_out.all().len(), 1);
        left_out.works(&run);
        assert_eq!((left_out.reason(&run), left_out.next_try()), (None, None));
    }
}
