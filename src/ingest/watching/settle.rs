//! Decides when a dump that nobody announced may be read: once it has not changed for a while. Pure.
//!
//! A dump's length says whether it may be complete, but not that it is: a memory map has its final length
//! before its first byte. So a dump is read when its size, times and inode have not changed for a time that
//! depends on how the dump arrived.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::ingest::folders::Arrival;
use crate::store::journal::Stamp;

/// How long a file must not change before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuietTimes {
    pub(crate) found: Duration,
    pub(crate) closed: Duration,
}

impl QuietTimes {
    fn of(self, arrival: Arrival) -> Duration {
        match arrival {
            Arrival::Found => self.found,
            Arrival::Closed => self.closed,
            Arrival::Renamed => Duration::ZERO,
        }
    }
}

#[derive(Debug)]
struct Unsettled {
    stamp: Stamp,
    /// When the stamp last changed.
    since: Instant,
    due: Instant,
}

/// Files that may still change.
#[derive(Debug)]
pub(crate) struct Settler<Id> {
    files: HashMap<Id, Unsettled>,
    due: BTreeSet<(Instant, Id)>,
}

/// A file that has settled, if it still has this stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due<Id> {
    pub(crate) id: Id,
    pub(crate) stamp: Stamp,
    /// When the stamp last changed.
    pub(crate) since: Instant,
}

impl<Id: Clone + Ord + Hash> Settler<Id> {
    /// No files.
    pub(crate) fn new() -> Self {
        Self { files: HashMap::new(), due: BTreeSet::new() }
    }

    /// The number of files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether a file is one of them.
    pub(crate) fn contains(&self, id: &Id) -> bool {
        self.files.contains_key(id)
    }

    /// Notes a file's stamp. The file is due after its quiet time. If the stamp is the same as before, an
    /// earlier due time stays.
    pub(crate) fn saw(
        &mut self,
        now: Instant,
        id: Id,
        stamp: Stamp,
        arrival: Arrival,
        quiet: QuietTimes,
    ) {
        let mut due = now + quiet.of(arrival);
        let mut since = now;
        if let Some(before) = self.files.get(&id) {
            self.due.remove(&(before.due, id.clone()));
            if before.stamp == stamp {
                due = due.min(before.due);
                since = before.since;
            }
        }
        self.due.insert((due, id.clone()));
        self.files.insert(id, Unsettled { stamp, since, due });
    }

    /// Adds a file that has settled but cannot be read yet. It is due at `due`.
    pub(crate) fn retry(&mut self, file: Due<Id>, due: Instant) {
        let Due { id, stamp, since } = file;
        self.due.insert((due, id.clone()));
        if let Some(before) = self.files.insert(id.clone(), Unsettled { stamp, since, due })
            && before.due != due
        {
            self.due.remove(&(before.due, id));
        }
    }

    /// Removes and returns the files that are due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Due<Id>> {
        let mut ready = Vec::new();
        while let Some((due, _)) = self.due.first() {
            if *due > now {
                break;
            }
            if let Some((_, id)) = self.due.pop_first()
                && let Some(Unsettled { stamp, since, .. }) = self.files.remove(&id)
            {
                ready.push(Due { id, stamp, since });
            }
        }
        ready
    }

    /// When the file that waits longest changed last.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.files.values().map(|file| file.since).min()
    }

    /// When the next file is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: QuietTimes =
        QuietTimes { found: Duration::from_millis(500), closed: Duration::from_millis(100) };

    fn stamp(size: u64) -> Stamp {
        Stamp { ino: 1, size, mtime_ns: 0, ctime_ns: 0 }
    }

    /// What is ready at each of `at` (milliseconds), after (time, size, arrival) was seen.
    fn check(seen: &[(u64, u64, Arrival)], at: &[u64], want: &[&[u64]]) {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut settler = Settler::new();
        let (mut seen, mut got) = (seen.iter().peekable(), Vec::new());
        for &now in at {
            while let Some(&&(time, size, arrival)) = seen.peek().filter(|(time, ..)| *time <= now)
            {
                settler.saw(ms(time), "x", stamp(size), arrival, QUIET);
                seen.next();
            }
            got.push(
                settler.take_due(ms(now)).into_iter().map(|due| due.stamp.size).collect::<Vec<_>>(),
            );
        }
        assert_eq!(got, want);
    }

    #[test]
    fn the_quiet_time_depends_on_the_arrival() {
        check(&[(0, 1, Arrival::Found)], &[499, 500, 501], &[&[], &[1], &[]]);
        check(&[(0, 1, Arrival::Closed)], &[99, 100], &[&[], &[1]]);
        check(&[(0, 1, Arrival::Renamed)], &[0], &[&[1]]);
        // Found by a listing, then closed: the shorter time counts, from when it was closed.
        check(&[(0, 1, Arrival::Found), (200, 1, Arrival::Closed)], &[299, 300], &[&[], &[1]]);
        check(&[(0, 1, Arrival::Closed), (50, 1, Arrival::Found)], &[99, 100], &[&[], &[1]]);
    }

    #[test]
    fn a_change_starts_the_time_anew() {
        check(
            &[(0, 1, Arrival::Found), (400, 2, Arrival::Found), (800, 3, Arrival::Found)],
            &[500, 900, 1299, 1300],
            &[&[], &[], &[], &[3]],
        );
    }
}
