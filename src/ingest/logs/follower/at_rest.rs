//! Closes logs that are quiet, and finds out which of them have changed.

use std::time::{Duration, Instant};

use super::LogFollower;
use super::files::{beside, without_file};
use crate::descriptors;
use crate::ingest::logs::tail::{OPEN_LOGS, Tail};
use crate::ingest::run_files::RunFiles;

/// The pause between two attempts to follow a log.
const RETRY: Duration = Duration::from_millis(500);

/// The pause between two looks at logs that are closed.
const LOOK_AT_RESTING: Duration = Duration::from_secs(5);

/// How long the file of a closed log must be missing before its inode is taken for free.
const MISSING: Duration = Duration::from_mins(1);

/// Logs that are open at a time: this part of all descriptors, and not more than a number. One run may have
/// an eighth of them.
const PART: usize = 8;
const OPEN_MAX: usize = 4096;
const RUNS: usize = 8;

/// The most logs that are open at a time.
pub(crate) fn open_logs_max() -> usize {
    descriptors::share(PART, OPEN_MAX)
}

/// The number of logs that are open.
pub(crate) fn n_open_logs() -> usize {
    OPEN_LOGS.n()
}

impl LogFollower {
    /// Whether one more log of the run may be open. Closes logs that were read if there are too many.
    pub(super) fn has_room(&mut self) -> bool {
        let max = open_logs_max();
        let has_room = |tails: &[Tail]| n_open_logs() < max && tails.len() < (max / RUNS).max(8);
        if !has_room(&self.tails) {
            self.rest(Instant::now(), true);
        }
        has_room(&self.tails)
    }

    /// Closes logs that were read to their ends: those that are quiet, or all with `at_once`.
    pub(crate) fn rest(&mut self, now: Instant, at_once: bool) {
        let Self { tails, cursors, resting, .. } = self;
        tails.retain(|tail| {
            let Some((cursor, log)) = tail.rest(now, at_once) else { return true };
            cursor.into_iter().for_each(|cursor| cursors.set(cursor));
            resting.insert((tail.dev, tail.ino), log);
            false
        });
        if self.tails.is_empty() {
            self.tails = Vec::new();
        }
    }

    /// Looks at the closed logs in the next turn.
    pub(crate) fn look_at_resting_now(&mut self) {
        self.look_at_resting = None;
    }

    /// Returns the logs that it is time to follow: those that waited or that cannot be read, and those that are
    /// closed and look different.
    pub(crate) fn take_due(&mut self, files: &RunFiles, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        if !self.queued.is_empty() && self.has_room() {
            let n_free = (open_logs_max() / RUNS).max(8) - self.tails.len();
            due.extend(self.queued.drain(..n_free.min(self.queued.len())));
            for path in &due {
                self.is_queued.remove(path);
            }
        }
        if !self.postponed.is_empty() && self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = Some(now + RETRY);
            due.extend(self.postponed.keys().cloned());
        }
        if !self.resting.is_empty() && self.look_at_resting.is_none_or(|at| at <= now) {
            self.look_at_resting = Some(now + LOOK_AT_RESTING);
            due.extend(self.changed_at_rest(files, now));
        }
        due
    }

    /// Returns the closed logs that look different. A log whose file is missing is searched in its folder.
    fn changed_at_rest(&mut self, files: &RunFiles, now: Instant) -> Vec<String> {
        let (mut changed, mut missing) = (Vec::new(), Vec::new());
        self.resting.iter_mut().for_each(|(&id, log)| match files.dir().look(&log.path) {
            Some((dev, stamp)) if (dev, stamp.ino) == id => {
                log.missing_since = None;
                changed.extend((!log.is_unchanged(stamp)).then(|| log.path.clone()));
            }
            _ => missing.push((log.path.clone(), id)),
        });
        changed.sort_unstable();
        missing.sort_unstable();
        for (path, id) in missing {
            if let Some(renamed) = beside(files, &path, id.1) {
                changed.push(renamed);
            } else if let Some(log) = self.resting.get_mut(&id)
                && now.saturating_duration_since(*log.missing_since.get_or_insert(now)) >= MISSING
            {
                self.resting.remove(&id);
                if let Some(gone) = self.cursors.remove(id) {
                    let by_content = self.cursors.set_by_content(gone);
                    self.to_store.extend([by_content, without_file(id.0, id.1)]);
                }
            }
            changed.extend(files.is_log(&path).then_some(path));
        }
        changed
    }
}
