//! Finds what is new in the watched directories.
//!
//! ```text
//! kernel ─events─▶ FolderWatcher ─hints─┐
//! timer ─────────▶ Root: scan is due ───┴▶ Folders ─▶ new files: logs to follow, dumps to settle
//! ```
//!
//! A scan is the truth. An event is only a hint that says where to look sooner. If a directory's events
//! turn out to miss files, the directory is polled.
//!
//! | module | its one job |
//! | --- | --- |
//! | `event_loss` | decides whether the events of a directory can be relied on |
//! | `root` | a watched directory: the runs in it, and when it is scanned |
//! | `settle` | decides when a dump that nobody announced may be read |

mod event_loss;
mod root;
mod settle;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

pub(crate) use self::root::Root;
pub use self::root::RootStatus;
pub(crate) use self::settle::{Due, QuietTimes, Settler};
use super::Mode;
use super::folders::{Arrival, FolderWatcher, Look};
use super::runs::{RootId, RunReader};
use crate::config::WatchConfig;

/// The watched directories, and the watcher of their folders.
#[derive(Debug)]
pub(crate) struct Watching {
    mode: Mode,
    /// The store, which is never read as input.
    store: PathBuf,
    /// In the order of the configuration.
    roots: Vec<Root>,
    watcher: Option<FolderWatcher>,
    next_id: u64,
    /// How often the kernel lost events.
    n_overflows: u64,
}

/// A scan of a run directory, part by part.
#[derive(Debug, Default)]
pub(crate) struct RunScan {
    /// New files that the last part found, by their paths relative to the run directory.
    pub(crate) found: Vec<String>,
    /// The last folder that was looked at.
    last: Option<String>,
    /// Folders whose new files an event should have announced.
    announced_folders: HashSet<String>,
}

impl RunScan {
    /// Whether an event should have announced this file.
    pub(crate) fn should_be_announced(&self, path: &str) -> bool {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.announced_folders.contains(folder)
    }
}

impl Watching {
    /// Starts to watch these directories.
    pub(crate) fn new(mode: Mode, watches: &[WatchConfig], store: &Path) -> Self {
        let watcher = match mode {
            Mode::Once => None,
            Mode::Follow => FolderWatcher::new()
                .inspect_err(|error| {
                    tracing::warn!(%error, "no events from the kernel, directories are polled");
                })
                .ok(),
        };
        let (roots, store) = (Vec::new(), store.to_owned());
        let mut watching = Self { mode, store, roots, watcher, next_id: 0, n_overflows: 0 };
        watching.set_watches(watches);
        watching
    }

    /// Watches other directories. Directories whose settings are the same stay. Returns the directories
    /// that are not watched any more.
    pub(crate) fn set_watches(&mut self, watches: &[WatchConfig]) -> Vec<Root> {
        let mut before = std::mem::take(&mut self.roots);
        for watch in watches {
            let watch = watch.clone().without_store(&self.store);
            let same = before.iter().position(|root| **root.watch() == watch);
            let root = if let Some(i) = same {
                before.swap_remove(i)
            } else {
                self.next_id += 1;
                let (id, has_events) = (RootId::new(self.next_id), self.watcher.is_some());
                Root::new(id, Arc::new(watch), has_events, self.mode)
            };
            self.roots.push(root);
        }
        for root in &before {
            for folder in root.folders() {
                self.watcher.iter_mut().for_each(|watcher| watcher.remove(folder));
            }
        }
        before
    }

    /// Stops watching the folders of a run.
    pub(crate) fn unwatch(&mut self, run: &RunReader) {
        if let Some(watcher) = &mut self.watcher {
            run.folder_paths().for_each(|folder| watcher.remove(&folder));
        }
    }

    /// A watched directory; `None` if it is not watched any more.
    pub(crate) fn root(&self, id: RootId) -> Option<&Root> {
        self.roots.iter().find(|root| root.id() == id)
    }

    /// A watched directory; `None` if it is not watched any more.
    pub(crate) fn root_mut(&mut self, id: RootId) -> Option<&mut Root> {
        self.roots.iter_mut().find(|root| root.id() == id)
    }

    /// All watched directories.
    pub(crate) fn roots_mut(&mut self) -> impl Iterator<Item = &mut Root> {
        self.roots.iter_mut()
    }

    /// Whether a directory is read by events. Otherwise it is polled.
    pub(crate) fn uses_events(&self, id: RootId) -> bool {
        self.root(id).is_some_and(Root::uses_events)
    }

    /// Receives a message when there are hints.
    pub(crate) fn wake(&self) -> Option<&Receiver<()>> {
        self.watcher.as_ref().map(FolderWatcher::wake)
    }

    /// Takes the hints: changed paths, in order. If events were lost, everything is scanned.
    pub(crate) fn take_hints(&mut self, now: Instant) -> BTreeMap<PathBuf, Arrival> {
        let Some(watcher) = &self.watcher else { return BTreeMap::new() };
        let hints = watcher.take_hints();
        if hints.has_lost_events {
            tracing::warn!("events were lost, everything is scanned");
            self.n_overflows += 1;
            self.scan_everything_at(now);
        }
        hints.paths
    }

    /// Finds the run directory that a path lies in, or those below it, in each watched directory around the
    /// path.
    pub(crate) fn find_runs_near(&mut self, path: &Path) -> Vec<(RootId, PathBuf, String)> {
        let mut found = Vec::new();
        for root in self.roots.iter_mut().filter(|root| path.starts_with(root.path())) {
            let mut watcher = self.watcher.as_mut().filter(|_| root.uses_events());
            let runs = root.find_runs_near(path, &mut watcher);
            found.extend(runs.into_iter().map(|(path, name)| (root.id(), path, name)));
        }
        found
    }

    /// Whether each watched directory was scanned.
    pub(crate) fn are_all_scanned(&self) -> bool {
        self.roots.iter().all(Root::is_scanned)
    }

    /// Scans everything now.
    pub(crate) fn scan_everything_at(&mut self, now: Instant) {
        self.roots.iter_mut().for_each(|root| root.scan_everything_at(now));
    }

    /// The directories whose scan is due.
    pub(crate) fn due_roots(&self, now: Instant) -> Vec<RootId> {
        self.roots.iter().filter(|root| root.is_scan_due(now)).map(Root::id).collect()
    }

    /// Finds the run directories in a watched directory, each with its name.
    pub(crate) fn find_runs(&mut self, id: RootId) -> Vec<(PathBuf, String)> {
        let Some(root) = self.roots.iter_mut().find(|root| root.id() == id) else {
            return Vec::new();
        };
        let mut watcher = self.watcher.as_mut().filter(|_| root.uses_events());
        root.find_runs(&mut watcher)
    }

    /// Begins a scan of a run directory.
    pub(crate) fn begin_scan_of(&self, id: RootId, run: &RunReader) -> RunScan {
        let mut scan = RunScan::default();
        if run.is_scanned && self.root(id).is_some_and(Root::judges_events) {
            scan.announced_folders = run.folders.names().map(str::to_owned).collect();
        }
        scan
    }

    /// Looks for new files in some folders of a run directory. Returns whether all were looked at.
    pub(crate) fn scan_some(
        &mut self,
        id: RootId,
        run: &mut RunReader,
        look: Look,
        scan: &mut RunScan,
    ) -> bool {
        let Some(root) = self.roots.iter_mut().find(|root| root.id() == id) else {
            return true;
        };
        let n_folders = run.folders.len();
        let mut watcher = self.watcher.as_mut().filter(|_| root.uses_events());
        let mut result = run.scan_some(look, &mut scan.last, &mut watcher, &mut scan.found);
        if let Err(error) = &result {
            root.poll_because(&error.to_string());
            // Without events, the scan goes on in the folder where they ended.
            scan.announced_folders.clear();
            result = run.scan_some(look, &mut scan.last, &mut None, &mut scan.found);
        }
        let is_done = result.as_ref().map_or(true, |is_done| *is_done);
        run.is_scanned |= is_done && result.is_ok();
        root.note_folders(n_folders, run.folders.len());
        is_done
    }

    /// Lists a new folder of a run, and all folders in it. Returns all files.
    pub(crate) fn scan_new_folder(
        &mut self,
        id: RootId,
        run: &mut RunReader,
        folder: &str,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let n_folders = run.folders.len();
        let result = run.scan_new_folder(folder, &mut self.watcher.as_mut(), &mut found);
        if let Some(root) = self.root_mut(id) {
            root.note_folders(n_folders, run.folders.len());
            if let Err(error) = result {
                root.poll_because(&error.to_string());
            }
        }
        found
    }

    /// Decides whether the events of each directory can be relied on.
    pub(crate) fn judge_events(&mut self, now: Instant) {
        self.roots.iter_mut().for_each(|root| root.judge_events(now));
    }

    /// When something is to be done.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.roots.iter().filter_map(Root::wake_at).min()
    }

    /// How often the kernel lost events.
    pub(crate) fn n_overflows(&self) -> u64 {
        self.n_overflows
    }

    /// The status of each directory.
    pub(crate) fn status(&self) -> Vec<RootStatus> {
        self.roots.iter().map(Root::status).collect()
    }
}
