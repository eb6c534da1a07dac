//! Hears of changes in directories. Only a hint: what counts is what a scan finds.
//!
//! One notify watcher on its own thread puts what it hears into a bounded set and wakes the engine.
//! Directories are watched one by one, never recursively: notify misses files in folders that are
//! just being made, while watching a folder and *then* listing it misses none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::settle::Arrival;

/// The most paths that are remembered; beyond, everything is scanned.
const HINTS_MAX: usize = 65_536;

/// What was heard of since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Changed paths, each with how it last changed.
    pub(crate) paths: HashMap<PathBuf, Arrival>,
    /// Something was lost: look everywhere.
    pub(crate) scan_all: bool,
}

/// The watcher.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    hints: Arc<Mutex<Hints>>,
    wake: Receiver<()>,
}

impl Watch {
    /// # Errors
    /// If the kernel gives no inotify instance.
    pub(crate) fn new() -> notify::Result<Self> {
        let hints = Arc::new(Mutex::new(Hints::default()));
        let (wake_up, wake) = bounded(1);
        let heard = hints.clone();
        let config = notify::Config::default().with_follow_symlinks(false);
        let handler = move |event: notify::Result<notify::Event>| hear(&heard, &wake_up, event);
        let watcher = RecommendedWatcher::new(handler, config)?;
        Ok(Self { watcher, hints, wake })
    }

    /// Watches one directory. List it afterwards.
    ///
    /// # Errors
    /// If it is gone, or the kernel allows no more watches.
    pub(crate) fn add(&mut self, folder: &Path) -> notify::Result<()> {
        self.watcher.watch(folder, RecursiveMode::NonRecursive)
    }

    /// Stops watching a directory.
    pub(crate) fn remove(&mut self, folder: &Path) {
        // It may be gone, and its watch with it.
        drop(self.watcher.unwatch(folder));
    }

    /// What was heard of since the last call.
    pub(crate) fn take(&self) -> Hints {
        std::mem::take(&mut self.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gets a message when something was heard of.
    pub(crate) fn wake(&self) -> &Receiver<()> {
        &self.wake
    }
}

fn hear(hints: &Mutex<Hints>, wake_up: &Sender<()>, event: notify::Result<notify::Event>) {
    let mut hints = hints.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        // An overflow names no paths: ask for it before looking at them.
        Ok(event) if event.need_rescan() => hints.scan_all = true,
        Ok(event) => {
            let Some(arrival) = arrival(event.kind) else {
                return;
            };
            if hints.paths.len() + event.paths.len() > HINTS_MAX {
                hints.paths.clear();
                hints.scan_all = true;
            } else if let Some(path) = event.paths.into_iter().next_back() {
                hints.paths.insert(path, arrival);
            }
        }
        Err(_) => hints.scan_all = true,
    }
    drop(hints);
    // A full channel has a message already.
    wake_up.try_send(()).ok();
}

/// How a file arrived, or `None` for an event that tells nothing new.
fn arrival(kind: EventKind) -> Option<Arrival> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Arrival::Closed),
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(Arrival::Renamed)
        }
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            Some(Arrival::Found)
        }
        // A folder that was made unreadable may be readable again.
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Arrival::Found),
        _ => None,
    }
}
