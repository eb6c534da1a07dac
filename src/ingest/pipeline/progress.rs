//! Counters of the pipeline, for status, metrics and progress bars.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counts::{BatchCounts, ItemCounts};
use crate::decode::Skipped;
use crate::ingest::skipped::SkippedEntries;
use crate::locks::lock;
use crate::media::RunId;

/// Counters of the pipeline. Every thread may read them at any time.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Lines and dumps that were found.
    n_expected: AtomicU64,
    /// Batches that were submitted.
    n_submitted: AtomicU64,
    /// Of those, the ones that were committed or given back.
    n_done: AtomicU64,
    /// Behind a lock, so that a reader always sees counts that add up.
    items: Mutex<ItemCounts>,
    /// Lines of logs that were read before.
    n_repeated: AtomicU64,
    /// Lines of sessions that a later one has replaced.
    n_superseded: AtomicU64,
    n_commits: AtomicU64,
    /// Microseconds that all commits took together.
    commit_us: AtomicU64,
    /// Why nothing can be written now.
    trouble: Mutex<Option<String>>,
    skipped: Mutex<SkippedEntries>,
}

impl Progress {
    /// Batches between plan and commit.
    pub(crate) fn n_in_flight(&self) -> u64 {
        let n_submitted = self.n_submitted.load(Ordering::Acquire);
        n_submitted.saturating_sub(self.n_done.load(Ordering::Acquire))
    }

    /// Batches that were committed or given back.
    pub(crate) fn n_done(&self) -> u64 {
        self.n_done.load(Ordering::Acquire)
    }

    /// Lines and dumps that were found until now: at least as many as were submitted.
    pub(crate) fn n_expected(&self) -> u64 {
        self.n_expected.load(Ordering::Relaxed).max(self.n_submitted.load(Ordering::Acquire))
    }

    /// Counts lines or dumps that were found.
    pub(crate) fn expect(&self, n: u64) {
        self.n_expected.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts a line of a log that was read before, and makes no item.
    pub(crate) fn add_repeated(&self) {
        self.n_repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of lines that were read before, and made no item.
    pub(crate) fn n_repeated(&self) -> u64 {
        self.n_repeated.load(Ordering::Relaxed)
    }

    /// Counts a line of a session that a later one has replaced. It makes no item.
    pub(crate) fn add_superseded(&self) {
        self.n_superseded.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of lines of sessions that a later one has replaced.
    pub(crate) fn n_superseded(&self) -> u64 {
        self.n_superseded.load(Ordering::Relaxed)
    }

    /// Counts a batch that is submitted, with the number of its items.
    pub(super) fn add_submitted(&self, n_items: u64) {
        self.n_submitted.fetch_add(1, Ordering::AcqRel);
        lock(&self.items).add_planned(n_items);
    }

    /// Counts a group that was committed, and the time that the commit took.
    pub(super) fn add_commit(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
        self.n_commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts batches that are done.
    pub(super) fn add_done(&self, batches: &[BatchCounts]) {
        {
            let mut items = lock(&self.items);
            batches.iter().for_each(|batch| items.add_done(batch));
        }
        self.n_done.fetch_add(batches.len() as u64, Ordering::AcqRel);
    }

    /// The counts of items.
    pub(crate) fn items(&self) -> ItemCounts {
        *lock(&self.items)
    }

    /// The number of commits, and the time that they took together.
    pub(crate) fn commits(&self) -> (u64, Duration) {
        let us = self.commit_us.load(Ordering::Relaxed);
        (self.n_commits.load(Ordering::Relaxed), Duration::from_micros(us))
    }

    /// Counts the entries of a dump that hold no picture.
    pub(super) fn add_skipped(&self, run: RunId, dump: String, skipped: &Skipped) {
        lock(&self.skipped).add(run, dump, skipped);
    }

    /// The entries of dumps that hold no picture.
    pub(crate) fn skipped(&self) -> SkippedEntries {
        lock(&self.skipped).clone()
    }

    /// Why nothing can be written now.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Sets or clears the reason why nothing can be written.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }
}
