//! The journals that are open: a few of all there are.

use std::collections::HashMap;

use super::Journal;
use crate::descriptors;
use crate::media::RunId;

/// The most journals that are open at once.
const OPEN_JOURNALS_MAX: usize = 64;

/// Journals that are open for appending. The one that was used longest ago is closed for another.
#[derive(Debug, Default)]
pub(crate) struct OpenJournals {
    /// Each with the number of its last use.
    journals: HashMap<RunId, (u64, Journal)>,
    n_uses: u64,
}

impl OpenJournals {
    /// Whether the journal of a run is open.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.journals.contains_key(run)
    }

    /// The journal of a run, if it is open.
    pub(crate) fn get_mut(&mut self, run: &RunId) -> Option<&mut Journal> {
        self.n_uses += 1;
        let (used, journal) = self.journals.get_mut(run)?;
        *used = self.n_uses;
        Some(journal)
    }

    /// Adds a journal that was opened.
    pub(crate) fn add(&mut self, run: &RunId, journal: Journal) {
        if self.journals.len() >= descriptors::share(16, OPEN_JOURNALS_MAX) {
            // One whose last write failed knows where it must be cut.
            let sound = self.journals.iter().filter(|(_, (_, journal))| !journal.is_in_doubt());
            let oldest = sound.min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(run, _)| run.clone()) {
                self.journals.remove(&oldest);
            }
        }
        self.n_uses += 1;
        self.journals.insert(run.clone(), (self.n_uses, journal));
    }

    /// Closes the journal of a run. Returns it if it was open.
    pub(crate) fn remove(&mut self, run: &RunId) -> Option<Journal> {
        self.journals.remove(run).map(|(_, journal)| journal)
    }

    /// Closes all.
    pub(crate) fn clear(&mut self) {
        self.journals.clear();
    }
}
