//! Decides whether the events of a watched directory can be relied on. Pure.
//!
//! A file system may look local and send no events for some writers: a directory below an overlay, or a
//! mount that another machine writes to. A scan shows that. It finds new files in folders that were watched
//! all along, and no event announces them within a moment.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How late an event may be.
const LATE: Duration = Duration::from_secs(2);

/// Files that must be missed before events are given up.
const MISSED_MIN: u64 = 3;

/// Events are given up if more than one in this many files is missed.
const ONE_IN: u64 = 100;

/// Files without an event that are remembered at most.
const SUSPECTS_MAX: usize = 4096;

/// Files after which older ones count half.
const WINDOW: u64 = 10_000;

/// Counts of files that events announced, and that they missed.
#[derive(Debug)]
pub(crate) struct EventLoss<Id> {
    n_announced: u64,
    n_missed: u64,
    /// Missed files since the start.
    n_missed_ever: u64,
    /// Files that were found without an event, and when.
    suspects: HashMap<Id, Instant>,
}

impl<Id: Eq + Hash> EventLoss<Id> {
    /// Nothing was seen yet.
    pub(crate) fn new() -> Self {
        Self { n_announced: 0, n_missed: 0, n_missed_ever: 0, suspects: HashMap::new() }
    }

    /// Notes that an event announced a new file.
    pub(crate) fn announced(&mut self, id: &Id) {
        self.suspects.remove(id);
        self.n_announced += 1;
        if self.n_announced + self.n_missed > WINDOW {
            self.n_announced /= 2;
            self.n_missed /= 2;
        }
    }

    /// Notes that a scan found a new file in a watched folder.
    pub(crate) fn found(&mut self, id: Id, now: Instant) {
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.entry(id).or_insert(now);
        }
    }

    /// Files that no event announced, since the start.
    pub(crate) fn n_missed_ever(&self) -> u64 {
        self.n_missed_ever
    }

    /// When [`Self::judge`] may have a new result.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.suspects.values().min().map(|found| *found + LATE)
    }

    /// Returns the number of missed files and of all files if too many were missed.
    pub(crate) fn judge(&mut self, now: Instant) -> Option<(u64, u64)> {
        let n_before = self.suspects.len();
        self.suspects.retain(|_, found| now.saturating_duration_since(*found) < LATE);
        let n_late = (n_before - self.suspects.len()) as u64;
        self.n_missed += n_late;
        self.n_missed_ever += n_late;
        let n_all = self.n_announced + self.n_missed;
        (self.n_missed >= MISSED_MIN && self.n_missed * ONE_IN > n_all)
            .then_some((self.n_missed, n_all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(n_announced: u32, n_missed: u32, late: Duration) -> Option<(u64, u64)> {
        let mut loss = EventLoss::new();
        let start = Instant::now();
        (0..n_announced).for_each(|n| loss.announced(&n));
        (0..n_missed).for_each(|n| loss.found(n_announced + n, start));
        loss.judge(start + late)
    }

    #[test]
    fn events_are_given_up_when_more_than_one_in_a_hundred_is_missed() {
        let after = Duration::from_secs(2);
        assert_eq!(judged(0, 2, after), None, "too few to tell");
        assert_eq!(judged(0, 3, after), Some((3, 3)));
        assert_eq!(judged(296, 3, after), Some((3, 299)));
        assert_eq!(judged(297, 3, after), None);
        assert_eq!(judged(0, 3, Duration::from_secs(1)), None, "their events may still come");
    }

    #[test]
    fn a_late_event_is_no_miss() {
        let mut loss = EventLoss::new();
        let start = Instant::now();
        (0..100).for_each(|n| loss.found(n, start));
        assert_eq!(loss.wake_at(), Some(start + LATE));
        (0..100).for_each(|n| loss.announced(&n));
        assert_eq!(loss.judge(start + LATE), None);
        assert_eq!(loss.wake_at(), None);
    }
}
