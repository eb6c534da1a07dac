//! What the machine fails to read at the moment: told of once when it begins, and once when it ends.

use std::collections::BTreeMap;

use super::engine::DumpId;
use crate::media::RunId;

/// So many are told of at a time: where one can't be read, often none can. `status` lists the others.
const TOLD_MAX: usize = 5;

/// What can't be read, and whether that was told.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<DumpId, bool>);

impl Troubles {
    /// A dump, or a line's dump, can't be read.
    pub(super) fn begins(&mut self, run: &RunId, id: &DumpId, reason: &str) {
        let n_told = self.0.values().filter(|is_told| **is_told).count();
        if !self.0.contains_key(id) {
            let is_told = n_told < TOLD_MAX;
            if is_told {
                tracing::warn!(%run, what = id.1, reason, "cannot be read, will retry");
            }
            self.0.insert(id.clone(), is_told);
        }
    }

    /// It was read, or is gone.
    pub(super) fn ends(&mut self, run: &RunId, id: &DumpId) {
        if self.0.remove(id) == Some(true) {
            tracing::info!(%run, what = id.1, "is read again");
        }
    }

    /// A run is gone.
    pub(super) fn forget_run(&mut self, number: usize) {
        self.0.retain(|id, _| id.0 != number);
    }
}
