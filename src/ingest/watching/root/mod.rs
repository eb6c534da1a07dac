//! A watched directory: the runs in it, when it is scanned, and whether its events are used.
//!
//! | module | its one job |
//! | --- | --- |
//! | `finding` | finds the run directories |
//! | `absence` | why the directory is not there |

mod absence;
mod finding;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::absence::absence;
use super::event_loss::EventLoss;
use crate::config::patterns::FilePattern;
use crate::config::watch::Backend;
use crate::config::{IngestTimes, WatchConfig};
use crate::ingest::Mode;
use crate::ingest::folders::Look;
use crate::ingest::passed_over::{PassedOver, PassedOverInRuns, RunPassedOver, Summary, shared};
use crate::ingest::runs::{NotOpened, RootId, SourceId};

/// One in this many scans lists everything, not only what changed.
const SCANS_PER_FULL: u32 = 20;

/// The pause between two full scans, in multiples of the time that the last one took: a full scan of a
/// million dumps takes half a minute.
const PAUSE_PER_FULL: u32 = 100;

/// The pause after a scan that took long, in multiples of its time: for directories with events, and for others.
const PAUSE_PER_SCAN: u32 = 500;
const PAUSE_PER_POLL: u32 = 20;
const LONG_SCAN: Duration = Duration::from_millis(50);

/// The pause between two looks for a watched directory that is missing.
const MISSING_POLL: Duration = Duration::from_secs(1);

/// File systems whose events come from every writer: the magic numbers of `statfs`.
const LOCAL: [(u64, &str); 9] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x794C_7630, "overlay"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
];

/// The status of a watched directory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RootStatus {
    /// The directory.
    pub path: PathBuf,
    /// `inotify` or `poll`.
    pub backend: String,
    /// Why the directory is polled or cannot be read.
    pub problem: Option<String>,
    /// What in the directory cannot be read.
    pub broken: Vec<String>,
    /// Those among them that are run directories whose id another directory has.
    #[serde(default)]
    pub ids_taken: Vec<String>,
    /// What was probably meant for Safelight and is not read as it lies, in the directory and all runs in it.
    #[serde(default)]
    pub passed_over: Vec<PassedOver>,
    /// The same of single runs, of the first hundred that have anything.
    #[serde(default, with = "shared")]
    #[schemars(with = "Vec<RunPassedOver>")]
    pub runs_passed_over: Arc<Vec<RunPassedOver>>,
    /// Run directories without a media log and without a dump.
    #[serde(default)]
    pub n_runs_without_input: u64,
    /// A few of them, by their paths relative to the directory.
    #[serde(default)]
    pub runs_without_input: Vec<String>,
    /// The patterns of media logs.
    #[serde(default)]
    pub logs: Vec<String>,
    /// The patterns of dumps.
    #[serde(default)]
    pub dumps: Vec<String>,
    /// New files that no event announced.
    pub n_missed: u64,
    /// Run directories in it.
    pub n_runs: u64,
    /// Folders that are watched or polled in it.
    pub n_folders: u64,
}

/// A watched directory.
#[derive(Debug)]
pub(crate) struct Root {
    id: RootId,
    mode: Mode,
    watch: Arc<WatchConfig>,
    /// When it is scanned next, or `None` if it is not.
    next_scan: Option<Instant>,
    /// Scans since the last full one, or `None` if the next one must be full.
    n_scans: Option<u32>,
    /// When the last full scan ended, and how long it took.
    full: Option<(Instant, Duration)>,
    /// Whether a scan has ended.
    is_scanned: bool,
    /// Why the directory is polled. Events are used if this is `None`.
    polled_because: Option<String>,
    is_remote: bool,
    event_loss: EventLoss<SourceId>,
    /// Whether everything is being scanned because events were lost: what that scan finds says nothing
    /// about other events.
    is_catching_up: bool,
    /// The folders between the directory and its runs, with their inodes.
    folders: BTreeMap<PathBuf, u64>,
    /// Whether the directory was there at the last scan.
    is_there: Option<bool>,
    /// Why run directories cannot be read.
    problems: HashMap<PathBuf, NotOpened>,
    /// Folders above the runs that cannot be listed, and why.
    unlisted: BTreeMap<String, String>,
    /// What is passed over in these folders, such as a link `latest` that has the name of a run.
    outside_runs: Summary,
    /// What these were when this was asked last.
    told: (Summary, BTreeMap<String, String>),
    /// What is passed over in the directory and in its runs.
    passed_over: PassedOverInRuns,
    /// Run directories that are read, and the folders in them.
    n_runs: u64,
    n_run_folders: u64,
}

impl Root {
    /// A directory that is scanned as soon as possible.
    pub(in crate::ingest::watching) fn new(
        id: RootId,
        watch: Arc<WatchConfig>,
        has_events: bool,
        mode: Mode,
    ) -> Self {
        let kind =
            rustix::fs::statfs(&watch.path).map(|stat| u64::try_from(stat.f_type).unwrap_or(0));
        let is_remote = kind.is_ok_and(|kind| LOCAL.iter().all(|(local, _)| *local != kind));
        let polled_because = match (mode, watch.backend) {
            (Mode::Once, _) => Some(String::new()),
            (_, Backend::Poll) => Some("configured".to_owned()),
            _ if !has_events => Some("the kernel gives no inotify instance".to_owned()),
            (_, Backend::Auto) if is_remote => {
                Some("the file system may send no events".to_owned())
            }
            (_, Backend::Auto | Backend::Inotify) => None,
        };
        Self {
            id,
            mode,
            watch,
            next_scan: Some(Instant::now()),
            n_scans: None,
            full: None,
            is_scanned: false,
            polled_because,
            is_remote,
            event_loss: EventLoss::new(),
            is_catching_up: false,
            folders: BTreeMap::new(),
            is_there: None,
            problems: HashMap::new(),
            unlisted: BTreeMap::new(),
            outside_runs: Summary::default(),
            told: Default::default(),
            passed_over: PassedOverInRuns::default(),
            n_runs: 0,
            n_run_folders: 0,
        }
    }

    /// Identifies it.
    pub(crate) fn id(&self) -> RootId {
        self.id
    }

    /// The `[[watch]]` section that it comes from.
    pub(crate) fn watch(&self) -> &Arc<WatchConfig> {
        &self.watch
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.watch.path
    }

    /// The folders between the directory and its runs.
    pub(in crate::ingest::watching) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.keys().map(PathBuf::as_path)
    }

    /// Whether changes are noticed by events, with scans in between. Otherwise the directory is polled.
    pub(crate) fn uses_events(&self) -> bool {
        self.polled_because.is_none()
    }

    /// Whether other machines may write to the directory without an event.
    pub(crate) fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Polls the directory from now on.
    pub(in crate::ingest::watching) fn poll_because(&mut self, reason: &str) {
        if self.polled_because.is_none() {
            tracing::warn!(reason, path = %self.watch.path.display(), "directory is polled");
            self.polled_because = Some(reason.to_owned());
        }
    }

    /// When something is to be done about the directory.
    pub(in crate::ingest::watching) fn wake_at(&self) -> Option<Instant> {
        self.next_scan.into_iter().chain(self.event_loss.wake_at()).min()
    }

    /// Whether it is time for a scan.
    pub(in crate::ingest::watching) fn is_scan_due(&self, now: Instant) -> bool {
        self.next_scan.is_some_and(|at| at <= now)
    }

    /// Scans everything in the directory now.
    pub(in crate::ingest::watching) fn scan_everything_at(&mut self, now: Instant) {
        self.next_scan = Some(now);
        self.n_scans = None;
        self.is_catching_up = true;
    }

    /// Begins a scan: returns how thorough it is.
    pub(crate) fn begin_scan(&mut self, now: Instant) -> Look {
        self.next_scan = None;
        self.log_presence();
        self.next_look(now)
    }

    /// Ends a scan that took this time, and plans the next one after a pause, if there is one. A scan that took
    /// long is followed by a long pause.
    pub(crate) fn end_scan(&mut self, look: Look, took: Duration, next_after: Option<Duration>) {
        let now = Instant::now();
        if look == Look::All {
            self.full = Some((now, took));
        }
        // Events may have been lost during the scan.
        self.is_catching_up = self.next_scan.is_some() && self.n_scans.is_none();
        self.is_scanned = true;
        let share = if self.uses_events() { PAUSE_PER_SCAN } else { PAUSE_PER_POLL };
        let rest = if took >= LONG_SCAN { took.saturating_mul(share) } else { Duration::ZERO };
        // A run that must be opened anew may have set it.
        self.next_scan = self.next_scan.or(next_after.map(|pause| now + pause.max(rest)));
    }

    /// Whether a scan has ended.
    pub(in crate::ingest::watching) fn is_scanned(&self) -> bool {
        self.is_scanned
    }

    /// The pause until the next scan.
    pub(crate) fn scan_pause(&self, times: &IngestTimes) -> Duration {
        if self.is_there != Some(true) {
            // No event says that it comes.
            MISSING_POLL
        } else if self.uses_events() {
            times.scan
        } else {
            times.poll
        }
    }

    /// Notes whether the directory is there, and logs if that has changed.
    fn log_presence(&mut self) {
        let absence = absence(&self.watch.path);
        let path = self.watch.path.display();
        match (self.is_there.replace(absence.is_none()), absence) {
            (Some(true) | None, Some(reason)) => {
                tracing::warn!(%path, reason, "watched directory is not there, waits for it");
            }
            (Some(false), None) => tracing::info!(%path, "watched directory is there again"),
            _ => {}
        }
    }

    fn next_look(&mut self, now: Instant) -> Look {
        let is_rested = self.full.is_none_or(|(at, took)| {
            now.saturating_duration_since(at) >= took.saturating_mul(PAUSE_PER_FULL)
        });
        let n_scans = self.n_scans.map_or(SCANS_PER_FULL, |n| n.saturating_add(1));
        let is_full = self.n_scans.is_none() || n_scans >= SCANS_PER_FULL && is_rested;
        self.n_scans = Some(if is_full { 0 } else { n_scans });
        if is_full { Look::All } else { Look::Changed }
    }

    /// Notes that an event announced a file.
    pub(crate) fn note_announced(&mut self, id: &SourceId) {
        self.event_loss.announced(id);
    }

    /// Notes that a scan found a new file in a folder whose events were used.
    pub(crate) fn note_found(&mut self, id: SourceId, now: Instant) {
        self.event_loss.found(id, now);
    }

    /// Whether new files in folders that were known before show that events are lost.
    pub(in crate::ingest::watching) fn judges_events(&self) -> bool {
        self.uses_events() && !self.is_catching_up
    }

    /// Polls the directory from now on if events missed too many files.
    pub(in crate::ingest::watching) fn judge_events(&mut self, now: Instant) {
        if self.uses_events()
            && let Some((n_missed, n_all)) = self.event_loss.judge(now)
        {
            self.poll_because(&format!("events missed {n_missed} of {n_all} new files"));
            self.next_scan = Some(now);
        }
    }

    /// Notes that a run directory is read, or why it cannot be.
    pub(crate) fn note_opened(&mut self, path: &Path, result: Result<(), NotOpened>) {
        match result {
            Ok(()) => {
                self.problems.remove(path);
                self.n_runs += 1;
            }
            Err(error) => {
                let before = self.problems.insert(path.to_owned(), error.clone());
                // `ingest` names it at its end.
                if before.as_ref() != Some(&error) && self.mode == Mode::Follow {
                    tracing::error!(%error, "run directory is not read");
                }
            }
        }
    }

    /// Notes that a run with this many folders is not read any more.
    pub(crate) fn note_closed(&mut self, n_folders: usize) {
        self.n_runs = self.n_runs.saturating_sub(1);
        self.n_run_folders = self.n_run_folders.saturating_sub(n_folders as u64);
    }

    /// Notes that the number of folders in a run has changed.
    pub(in crate::ingest::watching) fn note_folders(&mut self, before: usize, now: usize) {
        self.n_run_folders = (self.n_run_folders + now as u64).saturating_sub(before as u64);
    }

    /// Sets what is passed over in the runs, and which of them have no input.
    pub(crate) fn set_passed_over(&mut self, in_runs: PassedOverInRuns) {
        self.passed_over = in_runs;
    }

    /// Whether what is passed over outside of the runs has changed since the last call.
    pub(crate) fn has_news_outside_runs(&mut self) -> bool {
        let has_news = self.told.0 != self.outside_runs || self.told.1 != self.unlisted;
        if has_news {
            self.told = (self.outside_runs.clone(), self.unlisted.clone());
        }
        has_news
    }

    /// What is passed over outside of the runs.
    pub(crate) fn passed_over_outside_runs(&self) -> Summary {
        let mut summary = self.outside_runs.clone();
        for (folder, error) in &self.unlisted {
            summary.add_unlisted_input(folder, error);
        }
        summary
    }

    /// The directory's status.
    pub(in crate::ingest::watching) fn status(&self) -> RootStatus {
        let mut broken: Vec<String> = self.problems.values().map(ToString::to_string).collect();
        broken.sort();
        let is_taken = |problem: &&NotOpened| matches!(problem, NotOpened::IdTaken(_));
        let ids_taken = self.problems.values().filter(is_taken).map(ToString::to_string);
        let mut ids_taken: Vec<String> = ids_taken.collect();
        ids_taken.sort();
        if let Some(reason) = absence(self.path()) {
            broken.insert(0, reason);
        }
        broken.extend(self.passed_over.unlisted.iter().cloned());
        let polled_because = self.polled_because.clone().filter(|reason| !reason.is_empty());
        let found = &self.passed_over;
        let texts = |patterns: &[FilePattern]| {
            patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
        };
        RootStatus {
            path: self.watch.path.clone(),
            backend: if self.uses_events() { "inotify" } else { "poll" }.to_owned(),
            problem: if broken.is_empty() { polled_because } else { Some(broken.join("; ")) },
            broken,
            ids_taken,
            passed_over: found.in_all.clone(),
            runs_passed_over: found.in_each.clone(),
            n_runs_without_input: found.n_without_input,
            runs_without_input: found.without_input.clone(),
            logs: texts(&self.watch.logs),
            dumps: self.watch.dumps.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
            n_missed: self.event_loss.n_missed_ever(),
            n_runs: self.n_runs,
            n_folders: self.folders.len() as u64 + self.n_run_folders,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_everything_that_takes_long_is_not_taken_often() {
        // With a million dumps it took half a minute, and came every ten minutes: 5 % of a core.
        let watch = WatchConfig {
            path: "/nowhere".into(),
            runs: None,
            logs: Vec::new(),
            dumps: Vec::new(),
            backend: Backend::Poll,
            ..WatchConfig::of_run("/nowhere".into())
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (took, want) in [(1, [0, 600, 1200]), (30, [0, 3030, 6060])] {
            let mut root = Root::new(RootId::new(0), Arc::new(watch.clone()), false, Mode::Follow);
            let mut fulls = Vec::new();
            for now in (0..6100).step_by(30) {
                if root.next_look(at(now)) == Look::All {
                    root.full = Some((at(now + took), Duration::from_secs(took)));
                    fulls.push(now);
                }
            }
            assert_eq!(fulls[..3], want, "{took} s");
            // If events were lost, the next scan is full all the same.
            root.scan_everything_at(at(6101));
            assert_eq!(root.next_look(at(6101)), Look::All);
        }
    }
}
