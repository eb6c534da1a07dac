//! Rejected items: how many there are, examples of them, and those of a part of a journal.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, Reader, StateFilter};
use crate::media::{MediaEntry, RunId};
use crate::store::StoreError;
use crate::store::index::{Row, RunRow};
use crate::store::journal::{self, JournalOffset};

/// Runs of which one rejected item is shown, at most.
const EXAMPLES_MAX: usize = 3;

/// Rejected items of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedItems {
    /// How many there are in all runs.
    pub n: u64,
    /// The oldest one of a few runs.
    pub examples: Vec<RejectedExample>,
}

/// A rejected item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedExample {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// The dump, or the log.
    pub what: String,
    /// Why it was rejected.
    pub reason: String,
}

impl Reader {
    /// Counts the waiting items of all runs, with the oldest one of a few runs. `None` if nothing waits. With
    /// `written_within`, only runs count that are not finished and whose journal was written to within this
    /// time.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn waiting_items(
        &self,
        written_within: Option<Duration>,
    ) -> Result<Option<RejectedItems>, StoreError> {
        let is_alive = |run: &RunId, row: &RunRow| {
            let is_young = |age| !row.finished && self.age(run, row) <= age;
            written_within.is_none_or(is_young)
        };
        self.examples(
            |run, row| if is_alive(run, row) { row.n_waiting } else { 0 },
            |run| Ok(self.index.tried_again(run, Row::is_waiting, 1)?.pop().map(|item| item.row)),
        )
    }

    /// Counts the rejected items of all runs that are not tried again, with the oldest one of a few runs. `None` if
    /// there are none.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn final_items(&self) -> Result<Option<RejectedItems>, StoreError> {
        let is_final = |row: &Result<Row, _>| row.as_ref().map_or(true, |row| !row.is_waiting());
        self.examples(
            |_, row| row.n_rejected - row.n_waiting,
            |run| self.index.rejected(run, None, None).find(is_final).transpose(),
        )
    }

    /// Counts items of all runs, with the first one of a few runs.
    fn examples(
        &self,
        count: impl Fn(&RunId, &RunRow) -> u64,
        first: impl Fn(&RunId) -> Result<Option<Row>, StoreError>,
    ) -> Result<Option<RejectedItems>, StoreError> {
        let counts = self.index.runs()?.into_iter().map(|(run, row)| (count(&run, &row), run));
        let runs: Vec<(u64, RunId)> = counts.filter(|(n, _)| *n > 0).collect();
        let mut examples = Vec::new();
        for (_, run) in runs.iter().take(EXAMPLES_MAX) {
            let Some(row) = first(run)? else { continue };
            // A damaged line of a journal shows elsewhere.
            let Ok(entry) = self.entry(run, row) else { continue };
            let reason = entry.reason().unwrap_or_default().to_owned();
            examples.push(RejectedExample { run: run.clone(), what: entry.source.path, reason });
        }
        let n = runs.iter().map(|(n, _)| n).sum();
        Ok((n > 0).then_some(RejectedItems { n, examples }))
    }

    /// Reads the rejected items of a run that were written to its journal after an offset, in order of the journal, up
    /// to `n_max`. Returns also the number of the others.
    ///
    /// # Errors
    /// If the index fails, or a line cannot be read.
    pub(crate) fn rejected_since(
        &self,
        run: &RunId,
        since: JournalOffset,
        n_max: usize,
    ) -> Result<(Vec<MediaEntry>, u64), StoreError> {
        let filter = Filter { state: Some(StateFilter::Rejected), ..Filter::default() };
        let (mut entries, mut n_more) = (Vec::new(), 0);
        for row in self.rows(run, &filter) {
            match row? {
                row if row.place < since => {}
                row if entries.len() < n_max => entries.push(self.entry(run, row)?),
                _ => n_more += 1,
            }
        }
        Ok((entries, n_more))
    }

    /// How long ago a run's journal was written to. A time in the future counts as now.
    fn age(&self, run: &RunId, row: &RunRow) -> Duration {
        let folder = journal::folder(&self.run_folder(run));
        let meta = std::fs::metadata(journal::segment_path(&folder, row.applied.segment));
        let written = meta.and_then(|meta| meta.modified());
        written.map_or(Duration::MAX, |at| at.elapsed().unwrap_or_default())
    }
}
