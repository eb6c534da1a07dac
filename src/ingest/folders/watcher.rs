//! Receives the kernel's events about watched folders, and gathers them as hints.
//!
//! A watcher on its own thread puts the changed paths into a bounded set and wakes the engine. Folders are
//! watched one by one, never recursively: a recursive watch misses files in folders that are just being
//! created. Watching a folder first and listing it then misses none.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::locks::lock;

/// Paths that are gathered at most. Beyond, everything is scanned.
const HINTS_MAX: usize = 65_536;

/// How a file was noticed, which says how likely its writer is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A scan found it, or an event said that it was written to.
    Found,
    /// Its writer closed it.
    Closed,
    /// It was renamed to its name.
    Renamed,
}

/// Where to look: what changed since the last hints were taken.
#[derive(Debug)]
pub(crate) struct Hints {
    /// Changed paths, each with how it last changed.
    pub(crate) paths: BTreeMap<PathBuf, Arrival>,
    /// Whether events were lost, so that everything must be scanned.
    pub(crate) has_lost_events: bool,
}

/// What the watcher's thread gathers.
#[derive(Debug, Default)]
struct Gathered {
    paths: HashMap<PathBuf, Arrival>,
    has_lost_events: bool,
}

/// Watches folders for changes.
#[derive(Debug)]
pub(crate) struct FolderWatcher {
    watcher: RecommendedWatcher,
    gathered: Arc<Mutex<Gathered>>,
    wake: Receiver<()>,
}

/// Why a folder cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// The folder is gone.
    #[error("the folder is gone")]
    Gone,
    /// The folder may not be read.
    #[error(transparent)]
    Unreadable(io::Error),
    /// The kernel allows no more watches, or fails.
    #[error(transparent)]
    Other(io::Error),
}

impl FolderWatcher {
    /// Starts the watcher's thread.
    ///
    /// # Errors
    /// If the kernel gives no inotify instance.
    pub(crate) fn new() -> notify::Result<Self> {
        let gathered = Arc::new(Mutex::new(Gathered::default()));
        let (wake_up, wake) = bounded(1);
        let shared = gathered.clone();
        let config = notify::Config::default().with_follow_symlinks(false);
        let handler = move |event: notify::Result<notify::Event>| gather(&shared, &wake_up, event);
        let watcher = RecommendedWatcher::new(handler, config)?;
        Ok(Self { watcher, gathered, wake })
    }

    /// Watches one folder. List the folder afterwards.
    ///
    /// # Errors
    /// If the folder is gone or unreadable, or the kernel allows no more watches.
    pub(crate) fn add(&mut self, folder: &Path) -> Result<(), WatchError> {
        let result = self.watcher.watch(folder, RecursiveMode::NonRecursive);
        result.map_err(|error| match error.kind {
            notify::ErrorKind::PathNotFound => WatchError::Gone,
            notify::ErrorKind::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                WatchError::Unreadable(error)
            }
            _ => WatchError::Other(io::Error::other(error)),
        })
    }

    /// Stops watching a folder.
    pub(crate) fn remove(&mut self, folder: &Path) {
        // Fails if the folder is gone, and its watch with it.
        drop(self.watcher.unwatch(folder));
    }

    /// Returns the hints that were gathered since the last call.
    pub(crate) fn take_hints(&self) -> Hints {
        // First the message, so that a change after this call sends a new one.
        self.wake.try_recv().ok();
        let gathered = std::mem::take(&mut *lock(&self.gathered));
        let Gathered { paths, has_lost_events } = gathered;
        Hints { paths: paths.into_iter().collect(), has_lost_events }
    }

    /// Receives a message when there are hints.
    pub(crate) fn wake(&self) -> &Receiver<()> {
        &self.wake
    }
}

fn gather(shared: &Mutex<Gathered>, wake_up: &Sender<()>, event: notify::Result<notify::Event>) {
    let mut gathered = lock(shared);
    match event {
        // An overflow names no paths, so it is handled first.
        Ok(event) if event.need_rescan() => gathered.has_lost_events = true,
        Ok(event) => {
            let Some(arrival) = arrival(event.kind) else {
                return;
            };
            if gathered.paths.len() + event.paths.len() > HINTS_MAX {
                gathered.paths.clear();
                gathered.has_lost_events = true;
            } else if let Some(path) = event.paths.into_iter().next_back() {
                gathered.paths.insert(path, arrival);
            }
        }
        Err(_) => gathered.has_lost_events = true,
    }
    drop(gathered);
    // A full channel has a message already.
    wake_up.try_send(()).ok();
}

/// Returns how a file arrived, or `None` for an event that says nothing new.
fn arrival(kind: EventKind) -> Option<Arrival> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Arrival::Closed),
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(Arrival::Renamed)
        }
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            Some(Arrival::Found)
        }
        // An unreadable folder may be readable now.
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Arrival::Found),
        _ => None,
    }
}
