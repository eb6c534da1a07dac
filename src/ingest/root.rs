//! A watched directory: which runs are in it, and how changes in it are noticed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::DumpId;
use super::evidence::Evidence;
use super::run::{Look, Run};
use super::watch::Watch;
use super::{Mode, RootView};
use crate::config::WatchConfig;
use crate::config::watch::Backend;

/// Every so many scans everything is looked at, not only what changed,
const SCANS_PER_FULL: u32 = 20;

/// but no sooner than so many times what that took the last time: a look at a million dumps takes half
/// a minute.
const PAUSE_PER_FULL: u32 = 100;

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

/// A watched directory.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) watch: Arc<WatchConfig>,
    /// When it is looked at next; `None` for never again.
    pub(crate) next_scan: Option<Instant>,
    /// Scans since everything was looked at; `None` if it must be next.
    n_scans: Option<u32>,
    /// When everything was looked at last, and how long that took.
    full: Option<(Instant, Duration)>,
    /// Why it is polled, as far as there is anything to say; events are used if this is `None`.
    polled_because: Option<String>,
    is_remote: bool,
    /// Whether events tell of all that comes.
    pub(crate) evidence: Evidence<DumpId>,
    /// Whether events were lost since the last scan: what it finds is no evidence against the rest.
    pub(crate) is_catching_up: bool,
    /// The directories between it and its runs, with their inodes.
    pub(crate) folders: BTreeMap<PathBuf, u64>,
    /// Whether it was there at the last look.
    is_there: Option<bool>,
    /// Why a run directory can't be read.
    pub(crate) problems: HashMap<PathBuf, String>,
    /// What is passed over: links that have the names of runs, such as `latest`.
    passed_over: Vec<String>,
}

impl Root {
    pub(crate) fn new(watch: Arc<WatchConfig>, has_events: bool, mode: Mode) -> Self {
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
            watch,
            next_scan: Some(Instant::now()),
            n_scans: None,
            full: None,
            polled_because,
            is_remote,
            evidence: Evidence::new(),
            is_catching_up: false,
            folders: BTreeMap::new(),
            is_there: None,
            problems: HashMap::new(),
            passed_over: Vec::new(),
        }
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.watch.path
    }

    pub(crate) fn uses_events(&self) -> bool {
        self.polled_because.is_none()
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Whether it is there. Logs when it has gone, or come.
    pub(crate) fn tell_presence(&mut self) -> bool {
        let is_there = self.watch.path.is_dir();
        let path = self.watch.path.display();
        match self.is_there.replace(is_there) {
            Some(true) | None if !is_there => {
                tracing::warn!(%path, "watched directory is not there, waits for it");
            }
            Some(false) if is_there => tracing::info!(%path, "watched directory is there"),
            _ => {}
        }
        is_there
    }

    /// From now on it is polled.
    pub(crate) fn poll_because(&mut self, reason: &str) {
        if self.polled_because.is_none() {
            tracing::warn!(path = %self.watch.path.display(), reason, "directory is polled");
            self.polled_because = Some(reason.to_owned());
        }
    }

    /// The next scan is now, and of everything.
    pub(crate) fn scan_everything_at(&mut self, now: Instant) {
        self.next_scan = Some(now);
        self.n_scans = None;
        self.is_catching_up = true;
    }

    /// Polls it from now on if events told of too little.
    pub(crate) fn judge_events(&mut self, now: Instant) {
        if self.uses_events()
            && let Some((n_missed, n_all)) = self.evidence.judge(now)
        {
            self.poll_because(&format!("events told of all but {n_missed} of {n_all} new files"));
            self.next_scan = Some(now);
        }
    }

    /// How thoroughly this scan looks.
    pub(crate) fn next_look(&mut self, now: Instant) -> Look {
        let is_rested = self.full.is_none_or(|(at, took)| {
            now.saturating_duration_since(at) >= took.saturating_mul(PAUSE_PER_FULL)
        });
        let n_scans = self.n_scans.map_or(SCANS_PER_FULL, |n| n.saturating_add(1));
        let is_full = self.n_scans.is_none() || n_scans >= SCANS_PER_FULL && is_rested;
        self.n_scans = Some(if is_full { 0 } else { n_scans });
        if is_full { Look::All } else { Look::Changed }
    }

    /// Everything was looked at.
    pub(crate) fn looked(&mut self, from: Instant, until: Instant) {
        self.full = Some((until, until.saturating_duration_since(from)));
    }

    /// The run directories in it, each with its name.
    pub(crate) fn find_runs(&mut self, watcher: &mut Option<&mut Watch>) -> Vec<(PathBuf, String)> {
        let path = self.watch.path.clone();
        if self.watch.runs.is_none() {
            let name = path
                .file_name()
                .map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
            return if path.is_dir() { vec![(path, name)] } else { Vec::new() };
        }
        self.passed_over.clear();
        // What was removed is no problem any more.
        self.problems.retain(|path, _| path.symlink_metadata().is_ok());
        let mut found = Vec::new();
        self.find_runs_in("", watcher, &mut found);
        found.sort();
        found
    }

    fn find_runs_in(
        &mut self,
        folder: &str,
        watcher: &mut Option<&mut Watch>,
        found: &mut Vec<(PathBuf, String)>,
    ) {
        let Some(pattern) = self.watch.runs.clone() else {
            return;
        };
        let path = self.watch.path.join(folder);
        let Ok(ino) = fs::symlink_metadata(&path).map(|meta| meta.ino()) else {
            self.folders.remove(&path);
            return;
        };
        let is_new = self.folders.insert(path.clone(), ino) != Some(ino);
        if let Some(watcher) = watcher
            && is_new
            && let Err(error) = watcher.add(&path)
            && path.is_dir()
        {
            self.poll_because(&error.to_string());
        }
        let Ok(entries) = fs::read_dir(&path) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let inner =
                if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let is_run = pattern.is_match(&inner);
            if is_run && kind.is_symlink() {
                self.passed_over
                    .push(format!("{inner:?} is a symbolic link, which is not followed"));
            } else if is_run && kind.is_dir() {
                found.push((entry.path(), inner));
            } else if kind.is_dir() && pattern.may_lie_below(&inner) {
                self.find_runs_in(&inner, watcher, found);
            }
        }
    }

    /// What a person may know of it; `runs` are those of all roots.
    pub(crate) fn view<'a>(&self, runs: impl Iterator<Item = &'a Run>) -> RootView {
        let mut view = RootView {
            path: self.watch.path.clone(),
            backend: if self.uses_events() { "inotify" } else { "poll" }.to_owned(),
            problem: self.polled_because.clone().filter(|reason| !reason.is_empty()),
            broken: Vec::new(),
            n_missed: self.evidence.n_missed_ever(),
            n_runs: 0,
            n_folders: self.folders.len() as u64,
        };
        for run in runs.filter(|run| run.watch.path == self.watch.path) {
            view.n_runs += 1;
            view.n_folders += run.n_folders() as u64;
        }
        let is_missing = !Path::new(&self.watch.path).is_dir();
        let mut problems: Vec<String> = self.problems.values().cloned().collect();
        problems.sort();
        if is_missing {
            problems.insert(0, "the directory is not there".to_owned());
        }
        view.broken.clone_from(&problems);
        problems.extend(self.passed_over.iter().cloned());
        if !problems.is_empty() {
            view.problem = Some(problems.join("; "));
        }
        view
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
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (took, want) in [(1, [0, 600, 1200]), (30, [0, 3030, 6060])] {
            let mut root = Root::new(Arc::new(watch.clone()), false, Mode::Follow);
            let mut fulls = Vec::new();
            for now in (0..6100).step_by(30) {
                if root.next_look(at(now)) == Look::All {
                    root.looked(at(now), at(now + took));
                    fulls.push(now);
                }
            }
            assert_eq!(fulls[..3], want, "{took} s");
            // Where events were lost, it is taken all the same.
            root.scan_everything_at(at(6101));
            assert_eq!(root.next_look(at(6101)), Look::All);
        }
    }
}
