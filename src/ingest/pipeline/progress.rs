//! What the pipeline has done, for whoever wants to know.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::committer::Tally;
use super::lock;
use crate::ingest::ledger::Ledger;
use crate::media::{MediaId, RunId, Source};

/// What the pipeline has done, for whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Lines and dumps that were found, as far as they are counted.
    n_expected: AtomicU64,
    /// Units that were handed in, and that were committed or given back.
    n_planned: AtomicU64,
    n_done: AtomicU64,
    ledger: Mutex<Ledger>,
    /// How often a group was committed, and how long that took in all, in microseconds.
    n_commits: AtomicU64,
    commit_us: AtomicU64,
    /// Why nothing is written at the moment, if so.
    trouble: Mutex<Option<String>>,
    /// Dumps whose units are done and that the engine has not taken back.
    dumps_done: Mutex<Vec<DumpDone>>,
    /// Images of lines that could not be made: their places are free again.
    failed: Mutex<Vec<(RunId, MediaId)>>,
    /// What came of images that were held back and were to be released.
    released: Mutex<Vec<Released>>,
}

/// A dump that speaks for itself whose unit is done.
#[derive(Debug)]
pub(crate) struct DumpDone {
    pub(crate) run: RunId,
    pub(crate) path: String,
    /// Why it must be read again, if so.
    pub(crate) unread: Option<String>,
}

/// An image that was held back and was to be released.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) run: RunId,
    pub(crate) id: MediaId,
    /// Why it stays held back, if so.
    pub(crate) result: Result<(), String>,
}

impl Progress {
    pub(crate) fn n_in_flight(&self) -> u64 {
        self.n_planned.load(Ordering::Acquire).saturating_sub(self.n_done.load(Ordering::Acquire))
    }

    pub(crate) fn n_done(&self) -> u64 {
        self.n_done.load(Ordering::Acquire)
    }

    /// Lines and dumps that were found so far; at least those that were handed in.
    pub(crate) fn n_expected(&self) -> u64 {
        self.n_expected.load(Ordering::Relaxed).max(self.n_planned.load(Ordering::Acquire))
    }

    pub(crate) fn expect(&self, n: u64) {
        self.n_expected.fetch_add(n, Ordering::Relaxed);
    }

    /// A unit is handed in, of which the ledger counts so much.
    pub(super) fn planned(&self, n_counted: u64) {
        self.n_planned.fetch_add(1, Ordering::AcqRel);
        let mut ledger = lock(&self.ledger);
        ledger.n_in += n_counted;
        ledger.n_in_flight += n_counted;
    }

    /// A group is committed, which took so long.
    pub(super) fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
        self.n_commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Units are done, with this outcome.
    pub(super) fn tell(&self, tallies: Vec<Tally>) {
        let n_done = tallies.len() as u64;
        for (source, reason) in tallies.iter().flat_map(|tally| &tally.told) {
            let Source { path, log, line, .. } = source;
            tracing::info!(path, log, line, reason, "rejected");
        }
        {
            let mut ledger = lock(&self.ledger);
            for tally in &tallies {
                ledger.n_in_flight = ledger.n_in_flight.saturating_sub(tally.n_counted);
                ledger.n_image += tally.n_image;
                ledger.n_held += tally.n_held;
                ledger.n_rejected += tally.n_rejected;
                ledger.n_given_back += tally.n_given_back;
            }
        }
        let (mut dumps_done, mut failed) = (lock(&self.dumps_done), lock(&self.failed));
        let mut released = lock(&self.released);
        for tally in tallies {
            dumps_done.extend(tally.dump);
            failed.extend(tally.failed);
            released.extend(tally.released);
        }
        drop((dumps_done, failed, released));
        self.n_done.fetch_add(n_done, Ordering::AcqRel);
    }

    /// What went in and what came of it.
    pub(crate) fn ledger(&self) -> Ledger {
        *lock(&self.ledger)
    }

    /// How many images were kept, held back and rejected.
    pub(crate) fn counts(&self) -> [u64; 3] {
        self.ledger().counts()
    }

    /// How often a group was committed, and how long that took in all.
    pub(crate) fn commits(&self) -> (u64, Duration) {
        let us = self.commit_us.load(Ordering::Relaxed);
        (self.n_commits.load(Ordering::Relaxed), Duration::from_micros(us))
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(crate) fn take_dumps_done(&self) -> Vec<DumpDone> {
        std::mem::take(&mut lock(&self.dumps_done))
    }

    pub(crate) fn take_failed(&self) -> Vec<(RunId, MediaId)> {
        std::mem::take(&mut lock(&self.failed))
    }

    pub(crate) fn take_released(&self) -> Vec<Released> {
        std::mem::take(&mut lock(&self.released))
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }
}
