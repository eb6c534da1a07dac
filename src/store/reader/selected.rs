//! Items that are read several times, as they were when they were selected.

use super::journaled::{Journaled, entries};
use super::{Filter, Reader};
use crate::media::{MediaEntry, RunId};
use crate::store::StoreError;
use crate::store::index::Row;

/// Some items of a run. Items that are committed or pruned later do not change it.
#[derive(Debug)]
pub(crate) struct Selected {
    reader: Reader,
    run: RunId,
    rows: Vec<Row>,
}

impl Reader {
    /// Selects the items of a run that match a filter. `None` if there are more than `max`.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn select(
        &self,
        run: &RunId,
        filter: &Filter,
        max: usize,
    ) -> Result<Option<Selected>, StoreError> {
        let rows = self.rows(run, filter).take(max.saturating_add(1));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let (reader, run) = (self.clone(), run.clone());
        Ok((rows.len() <= max).then_some(Selected { reader, run, rows }))
    }
}

impl Selected {
    /// Reads the items, in the order of [`Reader::items`]. Damaged lines are left out.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<MediaEntry, StoreError>> + use<> {
        let Self { reader, run, rows } = self;
        let journaled = Journaled::of(&reader.root, run, &reader.left_out);
        let items = entries(journaled, rows.clone().into_iter().map(Ok));
        items.map(|item| item.map(|(_, entry)| entry))
    }
}
