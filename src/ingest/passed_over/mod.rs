//! What was probably meant for Safelight, and is not read as it lies.
//!
//! ```text
//! Folders ─listing─▶ FolderFindings ─┐
//! survey ──listing─▶ FolderFindings ─┴▶ RunFindings ─▶ status of the watched directory
//! lines ───paths───▶ NamedFolders ───┘
//! ```
//!
//! A listing of a folder notes what it passes over in that folder; the next listing replaces the notes. So counts are
//! those of what lies there now. Each folder and each run keeps a few examples.
//!
//! A dump outside of the patterns counts only if no line of the run names a file in its top folder, and if it lay there
//! for a moment: a job writes a dump first and its line second.
//!
//! | module | its one job |
//! | --- | --- |
//! | `kind` | the kinds, and what to do about each |
//! | `classify` | decides by a path whether a file was meant for Safelight |
//! | `findings` | counts and examples of one folder |
//! | `named` | the folders that lines name |
//! | `survey` | looks through folders that no pattern reaches |
//! | `summary` | counts and examples of a run, or of a watched directory |

mod classify;
mod findings;
mod kind;
mod named;
mod summary;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use self::classify::is_foreign_folder;
pub(crate) use self::findings::FolderFindings;
pub use self::kind::PassedOverKind;
pub(crate) use self::named::NamedFolders;
use self::named::top_of_folder;
pub use self::summary::{PassedOver, PassedOverExample, RunPassedOver};
pub(crate) use self::summary::{PassedOverInRuns, Summary, shared};
use self::survey::Survey;
pub(crate) use self::survey::{join, note_entry, note_file, target_of};
use super::folders::Folders;
use super::logs::LogFollower;
use super::run_files::RunFiles;

/// How long a dump outside of the patterns must lie there before it counts: its line may follow.
const QUIET: Duration = Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 10 });

/// The shortest and the longest pause between two surveys of a run. In between it is half the time that the run has
/// been read.
const PAUSE_MIN: Duration = QUIET;
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The pause between a survey and the next one if the folders have changed.
const PAUSE_AFTER_CHANGE: Duration =
    Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 30 });

/// Top folders of a run that are remembered because they hold dumps outside of the patterns.
const TOPS_MAX: usize = 1000;

/// What is passed over in one run directory.
#[derive(Debug)]
pub(crate) struct RunFindings {
    /// Whether a media log or a dump was found, or the store has items of the run.
    pub(crate) has_input: bool,
    /// What lines name.
    pub(crate) named: NamedFolders,
    opened: Instant,
    /// When the next survey is due.
    pub(crate) due: Instant,
    surveyed_at: Option<Instant>,
    /// What the last survey found.
    surveyed: BTreeMap<String, FolderFindings>,
    /// Top folders with dumps that no line names, and since when they are known.
    unnamed: BTreeMap<String, Instant>,
    summary: Summary,
}

impl RunFindings {
    /// Nothing is known yet; a survey is due.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            has_input: false,
            named: NamedFolders::default(),
            opened: now,
            due: now,
            surveyed_at: None,
            surveyed: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            summary: Summary::default(),
        }
    }

    /// Counts and examples.
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Whether the run was opened a short time ago. Then it is surveyed more often.
    pub(crate) fn is_new(&self) -> bool {
        self.due.saturating_duration_since(self.opened) < PAUSE_MAX
    }

    /// Has the next survey come sooner where something has changed, or where dumps lie whose line may still follow.
    /// Returns whether it does.
    pub(crate) fn hurry(&mut self, now: Instant, has_changed: bool) -> bool {
        let judge_at =
            self.unnamed.values().map(|since| *since + QUIET).filter(|at| *at > now).min();
        let rested = self.surveyed_at.map_or(now, |at| at + PAUSE_AFTER_CHANGE);
        let after_change = has_changed.then(|| rested.max(now + QUIET));
        let sooner = judge_at.into_iter().chain(after_change).min().filter(|at| *at < self.due);
        self.due = sooner.unwrap_or(self.due);
        sooner.is_some()
    }

    /// Looks through the folders that no pattern reaches.
    pub(crate) fn survey(
        &mut self,
        files: &RunFiles,
        folders: &Folders,
        logs: &LogFollower,
        now: Instant,
    ) {
        let is_unexplained = |folder: &str, findings: &FolderFindings, named: &NamedFolders| {
            findings.outside.iter().any(|name| {
                let top = if folder.is_empty() { name } else { top_of_folder(folder) };
                !named.has_top(top)
            }) || findings.count(PassedOverKind::Dump) > 0 && !named.explains(files, folder)
        };
        for log in logs.paths() {
            let mut findings = folders.findings();
            if findings.any(|(folder, findings)| is_unexplained(folder, findings, &self.named)) {
                self.named.note_some_of(files, log);
            }
        }
        self.surveyed = Survey { files, folders, logs, named: &self.named }.walk();
        self.surveyed_at = Some(now);
        self.due =
            now + (now.saturating_duration_since(self.opened) / 2).clamp(PAUSE_MIN, PAUSE_MAX);
    }

    /// Counts anew. With `is_final`, nothing is expected to follow, so that everything counts at once.
    pub(crate) fn summarize(
        &mut self,
        files: &RunFiles,
        folders: &Folders,
        now: Instant,
        is_final: bool,
    ) {
        let mut summary = Summary::default();
        let mut unnamed = BTreeMap::new();
        for (folder, error) in folders.unlisted() {
            summary.add_unlisted_input(folder, error);
        }
        for (folder, findings) in folders.findings().chain(&self.surveyed) {
            let top = top_of_folder(folder);
            let is_judged = if self.named.explains(files, folder) {
                false
            } else if files.is_in_dump_folder(folder) {
                true
            } else {
                let since = *self.unnamed.get(top).unwrap_or(&now);
                if findings.has_dumps() && unnamed.len() < TOPS_MAX {
                    unnamed.insert(top.to_owned(), since);
                }
                is_final || now.saturating_duration_since(since) >= QUIET
            };
            summary.add(folder, findings, is_judged);
        }
        self.unnamed = unnamed;
        self.summary = summary;
    }
}
