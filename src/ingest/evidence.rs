//! Whether a directory's events tell of all that comes. Pure.
//!
//! A file system may look local and send no events for some writers (a directory below an overlay, a
//! mount that another machine writes to). What a scan finds in a folder that was watched all along,
//! and no event announces within a moment, is evidence of that.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How late an event may be.
const LATE: Duration = Duration::from_secs(2);

/// So many files must have been missed before events are given up,
const MISSED_MIN: u64 = 3;

/// and more than one in so many.
const ONE_IN: u64 = 100;

/// How many files are remembered; beyond, evidence is let go.
const SUSPECTS_MAX: usize = 4096;

/// How many files the judgement rests on: older ones count for less.
const WINDOW: u64 = 10_000;

/// What is known of a directory's events.
#[derive(Debug)]
pub(crate) struct Evidence<Id> {
    n_announced: u64,
    n_missed: u64,
    /// The same since the start.
    n_missed_ever: u64,
    /// Found without an event, and when.
    suspects: HashMap<Id, Instant>,
}

impl<Id: Eq + Hash> Evidence<Id> {
    pub(crate) fn new() -> Self {
        Self { n_announced: 0, n_missed: 0, n_missed_ever: 0, suspects: HashMap::new() }
    }

    /// An event told of a new file.
    pub(crate) fn announced(&mut self, id: &Id) {
        self.suspects.remove(id);
        self.n_announced += 1;
        if self.n_announced + self.n_missed > WINDOW {
            self.n_announced /= 2;
            self.n_missed /= 2;
        }
    }

    /// A scan found a new file in a folder that was watched.
    pub(crate) fn found(&mut self, id: Id, now: Instant) {
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.entry(id).or_insert(now);
        }
    }

    /// How many files no event announced.
    pub(crate) fn n_missed_ever(&self) -> u64 {
        self.n_missed_ever
    }

    /// When there is something to judge.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.suspects.values().min().map(|found| *found + LATE)
    }

    /// How many files were missed lately, of how many, if that is too many.
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
        let mut evidence = Evidence::new();
        let start = Instant::now();
        (0..n_announced).for_each(|n| evidence.announced(&n));
        (0..n_missed).for_each(|n| evidence.found(n_announced + n, start));
        evidence.judge(start + late)
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
        let mut evidence = Evidence::new();
        let start = Instant::now();
        (0..100).for_each(|n| evidence.found(n, start));
        assert_eq!(evidence.wake_at(), Some(start + LATE));
        (0..100).for_each(|n| evidence.announced(&n));
        assert_eq!(evidence.judge(start + LATE), None);
        assert_eq!(evidence.wake_at(), None);
    }
}
