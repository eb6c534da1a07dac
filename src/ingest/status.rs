//! What ingest does now, for `status`, metrics and health.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::planning::{Backlog, LogBacklog, PathDumps};
use super::runs::{RunKey, Runs};
use super::skipped::SkippedEntries;
use super::watching::{RootStatus, Watching};
use crate::locks::lock;
use crate::media::RunId;

/// The pause between two updates of the status.
const UPDATE_EVERY: Duration = Duration::from_millis(100);

/// Waiting lines and dumps that are listed.
const WAITING_MAX: usize = 100;

/// What ingest does now.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct IngestStatus {
    /// The watched directories.
    pub watching: Vec<RootStatus>,
    /// Dumps that were found and may still change.
    pub n_settling: u64,
    /// Lines, dumps and logs that wait, and why: the first hundred.
    pub waiting: Vec<Waiting>,
    /// How many of all that wait have waited for longer than `ingest.wait_ms`.
    #[serde(default)]
    pub n_overdue: u64,
    /// The one that has waited longest.
    #[serde(default)]
    pub oldest_waiting: Option<Waiting>,
    /// Logs that end in a line without its newline: run, log, and bytes of that line.
    #[schemars(with = "Vec<(String, String, u64)>")]
    pub begun_lines: Vec<(RunId, String, u64)>,
    /// Lines and dumps between plan and commit.
    pub n_in_flight: u64,
    /// Bytes of media logs that were not handled yet.
    pub log_bytes_behind: u64,
    /// What could not be read at all, and why.
    pub problems: Vec<String>,
    /// Why nothing can be written now.
    pub trouble: Option<String>,
    /// How often the kernel lost events.
    pub n_overflows: u64,
    /// How long the oldest waiting line or dump has waited, in seconds.
    pub lag_s: f64,
    /// Whether everything was scanned once.
    pub is_ready: bool,
    /// Entries of dumps that hold no picture.
    #[serde(default)]
    pub skipped: SkippedEntries,
}

/// A line or a dump that waits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// The log or the dump.
    pub what: String,
    /// Why it waits.
    pub reason: String,
    /// For how long, in seconds.
    #[serde(default)]
    pub waited_s: f64,
}

/// Updates the status, now and then.
#[derive(Debug, Default)]
pub(super) struct StatusUpdates {
    updated_at: Option<Instant>,
    /// When the next update is due, if anything has happened since the last one.
    next_at: Option<Instant>,
}

/// The parts of the engine that the status is made of.
pub(super) struct StatusSources<'a> {
    pub(super) watching: &'a Watching,
    pub(super) runs: &'a Runs,
    pub(super) logs: LogBacklog,
    pub(super) dumps: &'a PathDumps,
    pub(super) backlog: &'a Backlog,
    /// Runs with logs that cannot be read, and since when.
    pub(super) unreadable_logs: Vec<(RunKey, Instant)>,
    /// `ingest.wait_ms`.
    pub(super) patience: Duration,
    /// Why the store takes nothing more.
    pub(super) full: Option<String>,
}

impl StatusUpdates {
    /// Whether an update is due. If not, it will be soon.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.updated_at.map(|at| at + UPDATE_EVERY).filter(|due| *due > now);
        self.next_at = due;
        due.is_none()
    }

    /// When the next update is due, if anything has happened since the last one.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Replaces the status.
    pub(super) fn update(
        &mut self,
        now: Instant,
        sources: StatusSources<'_>,
        status: &Mutex<IngestStatus>,
    ) {
        self.updated_at = Some(now);
        self.next_at = None;
        let mut status = lock(status);
        // A directory that was added by a reload does not change that.
        let was_ready = status.is_ready;
        *status = sources.status(now);
        status.is_ready |= was_ready;
    }
}

impl StatusSources<'_> {
    fn status(self, now: Instant) -> IngestStatus {
        let sources = self.backlog.waiting().map(|((run, path), source)| {
            (*run, path.as_str(), source.reason.as_str(), source.since)
        });
        let logs = self.unreadable_logs.iter().filter_map(|(key, since)| {
            let logs = self.runs.get(*key)?.logs.unreadable();
            Some(logs.map(|(path, reason)| (*key, path, reason, *since)))
        });
        let in_words: Vec<_> = self.logs.empty.iter().map(|(.., n, _)| empty_log(*n)).collect();
        let empty = self.logs.empty.iter().zip(&in_words);
        let empty =
            empty.map(|((run, path, _, since), why)| (*run, path.as_str(), why.as_str(), *since));
        let all: Vec<_> = sources.chain(logs.flatten()).chain(empty).collect();
        let waited = |since: Instant| now.saturating_duration_since(since);
        let n_overdue = all.iter().filter(|(.., since)| waited(*since) > self.patience).count();
        let shown = |&(run, path, reason, since): &(RunKey, &str, &str, Instant)| {
            let run = self.runs.get(run)?.id().clone();
            let waited_s = waited(since).as_secs_f64();
            Some(Waiting { run, what: path.to_owned(), reason: reason.to_owned(), waited_s })
        };
        let oldest_waiting = all.iter().min_by_key(|(.., since)| *since).and_then(shown);
        let waiting = all.iter().take(WAITING_MAX).filter_map(shown);
        let oldest = self.logs.oldest.into_iter().chain(self.dumps.oldest()).min();
        IngestStatus {
            watching: self.watching.status(),
            n_settling: self.dumps.n_settling() as u64,
            waiting: waiting.collect(),
            n_overdue: n_overdue as u64,
            oldest_waiting,
            begun_lines: self.logs.begun_lines,
            // Filled in when the status is read.
            n_in_flight: 0,
            log_bytes_behind: self.logs.n_bytes,
            problems: self.backlog.problems().to_vec(),
            trouble: self.full,
            n_overflows: self.watching.n_overflows(),
            lag_s: oldest.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64()),
            is_ready: self.watching.are_all_scanned(),
            // Filled in when the status is read.
            skipped: SkippedEntries::default(),
        }
    }
}

/// Says that a log has bytes without a line.
fn empty_log(n_bytes: u64) -> String {
    format!(
        "its last {n_bytes} bytes are zero bytes or empty lines, which hold no line; it is read with a small share of the time"
    )
}
