//! Lines and dumps that wait, and why.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::ingest::runs::{RunKey, SourceId};
use crate::media::RunId;

/// Unreadable sources that are logged at a time. Where one cannot be read, often none can. `status` lists
/// the others.
const LOGGED_MAX: usize = 5;

/// What waits for a dump, or for the machine to work again.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Dumps, and logs whose next line waits, each with the reason.
    waiting: BTreeMap<SourceId, WaitingSource>,
    /// Sources that the machine fails to read, and whether that was logged.
    unreadable: BTreeMap<SourceId, bool>,
    /// What could not be read at all, in [`Mode::Once`](crate::ingest::Mode::Once).
    problems: Vec<String>,
}

/// Why a source waits, and since when.
#[derive(Debug)]
pub(crate) struct WaitingSource {
    pub(crate) reason: String,
    pub(crate) since: Instant,
}

impl Backlog {
    /// Notes that a source waits.
    pub(super) fn wait(&mut self, id: &SourceId, reason: String, since: Instant) {
        self.waiting.insert(id.clone(), WaitingSource { reason, since });
    }

    /// Notes that a source has changed: it waits anew.
    pub(super) fn changed(&mut self, id: &SourceId, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.since = now;
        }
    }

    /// Notes that the machine fails to read a source. Logs it once.
    pub(super) fn retry(&mut self, run: &RunId, id: &SourceId, reason: String, since: Instant) {
        if !self.unreadable.contains_key(id) {
            let n_logged = self.unreadable.values().filter(|is_logged| **is_logged).count();
            let is_logged = n_logged < LOGGED_MAX;
            if is_logged {
                tracing::warn!(%run, reason, path = id.1, "cannot be read, will retry");
            }
            self.unreadable.insert(id.clone(), is_logged);
        }
        self.wait(id, reason, since);
    }

    /// Notes that a source was read, or is gone.
    pub(super) fn done(&mut self, run: &RunId, id: &SourceId) {
        self.waiting.remove(id);
        if self.unreadable.remove(id) == Some(true) {
            tracing::info!(%run, path = id.1, "can be read again");
        }
    }

    /// Notes that something is not read at all. The next `ingest` reads it.
    pub(crate) fn give_up(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Forgets the sources of a run.
    pub(crate) fn forget_run(&mut self, run: RunKey) {
        self.waiting.retain(|id, _| id.0 != run);
        self.unreadable.retain(|id, _| id.0 != run);
    }

    /// What waits, and why.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&SourceId, &WaitingSource)> {
        self.waiting.iter()
    }

    /// What could not be read at all.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }
}
