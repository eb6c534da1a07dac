//! What the engine does at the moment, for people.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::run::Run;
use super::tail::Tail;
use crate::media::RunId;

/// How often others are told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Waiting dumps that are told of.
const WAITING_MAX: usize = 100;

/// What the engine does at the moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct View {
    /// The watched directories.
    pub watching: Vec<RootView>,
    /// Dumps that were seen and are not settled yet.
    pub n_settling: u64,
    /// What is waited for.
    pub waiting: Vec<Waiting>,
    /// Logs that end in a line without its newline: run, log, and the line's bytes so far.
    pub begun_lines: Vec<(RunId, String, u64)>,
    /// Lines and dumps between plan and commit.
    pub n_in_flight: u64,
    /// Bytes of media logs that are not acted on yet.
    pub log_bytes_behind: u64,
    /// Why something can't be read at all.
    pub problems: Vec<String>,
    /// Why nothing can be written, if so.
    pub trouble: Option<String>,
    /// How often the kernel lost events.
    pub n_overflows: u64,
    /// How long the oldest of what waits has waited, in seconds.
    pub lag_s: f64,
    /// Whether everything was looked at once.
    pub is_ready: bool,
}

/// A watched directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootView {
    /// The directory.
    pub path: PathBuf,
    /// `inotify` or `poll`.
    pub backend: String,
    /// Why it is polled, or can't be read, if so.
    pub problem: Option<String>,
    /// What of it can't be read.
    pub broken: Vec<String>,
    /// New files that no event announced.
    pub n_missed: u64,
    /// Run directories in it.
    pub n_runs: u64,
    /// Folders that are watched or polled in them.
    pub n_folders: u64,
}

/// A dump that is waited for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiting {
    /// The run.
    pub run: RunId,
    /// The log line or the dump that waits.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Engine {
    /// Tells others what the engine does, now and then.
    pub(super) fn tell_view(&mut self, is_last: bool) {
        let now = Instant::now();
        let is_due = self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
        if !is_due && !is_last {
            self.tell_at = self.told_at.map(|at| at + TELL_EVERY);
            return;
        }
        self.told_at = Some(now);
        self.tell_at = None;
        let mut view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = || self.runs.iter().flatten();
        view.watching = self.roots.iter().map(|root| root.view(runs())).collect();
        view.n_settling = self.settler.len() as u64;
        let waiting =
            self.waiting.iter().take(WAITING_MAX).filter_map(|((number, what), reason)| {
                let run = self.runs[*number].as_ref()?.info.id.clone();
                Some(Waiting { run, what: what.clone(), reason: reason.clone() })
            });
        view.waiting = waiting.collect();
        view.log_bytes_behind = runs().flat_map(|run| &run.tails).map(Tail::n_behind).sum();
        let begun = |run: &Run| {
            let tails = run.tails.iter().filter(|tail| tail.n_begun() > 0);
            tails
                .map(|tail| (run.info.id.clone(), tail.path.clone(), tail.n_begun()))
                .collect::<Vec<_>>()
        };
        view.begun_lines = runs().flat_map(begun).collect();
        view.problems.clone_from(&self.problems);
        view.trouble = self.full.map(|full| full.to_string());
        view.n_overflows = self.n_overflows;
        let logs = runs().flat_map(|run| &run.tails).filter_map(Tail::front_since);
        let oldest = logs.chain(self.settler.oldest()).min();
        view.lag_s = oldest.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        view.is_ready = true;
    }
}
