//! What is known of items' tensors.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{DumpFile, FoundTensor};
use crate::config::Live;
use crate::gallery::params::Place;
use crate::ingest::again::{LastDump, ReopenedRun};
use crate::locks::lock;
use crate::media::{RunId, Source};

/// Items whose tensor is remembered.
const ITEMS_MAX: usize = 512;

/// Run directories that stay known, with the places of the lines in their logs.
const RUNS_MAX: usize = 4;

/// What is known of items' tensors.
#[derive(Default)]
pub(in crate::gallery) struct Origins(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// The settings by which all of it was found.
    live: Option<Arc<Live>>,
    /// The item that was looked at last comes last.
    items: VecDeque<KnownItem>,
    runs: VecDeque<ReopenedRun>,
}

pub(super) struct KnownItem {
    pub(super) place: Place,
    /// The item's source. Another item may be at the same place now.
    pub(super) source: Source,
    pub(super) found: Found,
}

#[derive(Clone)]
pub(super) enum Found {
    Tensor(Arc<FoundTensor>),
    /// This version of the dump is not the one that the item was made from, for this reason.
    Other(DumpFile, String),
}

impl Origins {
    /// Forgets everything if the settings are others.
    fn memory(&self, live: &Arc<Live>) -> MutexGuard<'_, Memory> {
        let mut memory = lock(&self.0);
        if memory.live.as_ref().is_none_or(|of| !Arc::ptr_eq(of, live)) {
            *memory = Memory { live: Some(live.clone()), ..Memory::default() };
        }
        memory
    }

    /// Returns what is known of the item at a place, if it has this source.
    pub(super) fn item(&self, live: &Arc<Live>, place: &Place, source: &Source) -> Option<Found> {
        let mut memory = self.memory(live);
        let at = memory.items.iter().position(|known| known.place == *place)?;
        let known = memory.items.remove(at).filter(|known| known.source == *source)?;
        let found = known.found.clone();
        memory.items.push_back(known);
        Some(found)
    }

    /// Notes what was found of an item.
    pub(super) fn remember_item(&self, live: &Arc<Live>, known: KnownItem) {
        let mut memory = self.memory(live);
        memory.items.retain(|other| other.place != known.place);
        memory.items.push_back(known);
        if memory.items.len() > ITEMS_MAX {
            memory.items.pop_front();
        }
    }

    /// Takes a run directory that was opened before.
    pub(super) fn take_run(&self, live: &Arc<Live>, run: &RunId) -> Option<ReopenedRun> {
        let mut memory = self.memory(live);
        let at = memory.runs.iter().position(|known| known.run.id() == run)?;
        memory.runs.remove(at)
    }

    /// Keeps a run directory for the next item of it.
    pub(super) fn remember_run(&self, live: &Arc<Live>, mut run: ReopenedRun) {
        // A dump that stays open takes room on the disk after it was removed.
        run.run.last_dump = LastDump::default();
        let mut memory = self.memory(live);
        memory.runs.push_back(run);
        if memory.runs.len() > RUNS_MAX {
            memory.runs.pop_front();
        }
    }
}
