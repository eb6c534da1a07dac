//! Reads the store.

mod journaled;
mod pages;
mod rejected;
mod runs;
mod selected;
mod steps;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::journaled::{Journaled, entries, is_gone};
use self::pages::RowPlace;
pub(crate) use self::pages::{ListPage, ListPlace, PageLimits};
pub use self::rejected::{RejectedExample, RejectedItems};
pub(crate) use self::runs::Extent;
pub use self::runs::RunSummary;
pub(crate) use self::selected::Selected;
use super::findings::Findings;
use super::index::{DumpRow, Index, LineRow, Row, WaitingItem};
use super::journal::{self, JournalOffset, Lines, LogCursor, ReadLine};
use super::left_out::LeftOut;
use super::space::Space;
use super::{StoreError, run_folder};
use crate::limits::StepUsage;
use crate::media::{MediaEntry, MediaId, MediaKey, RunId, State, Step};

/// Reads the store. Clones share the index.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) root: PathBuf,
    pub(super) index: Index,
    pub(super) findings: Findings,
    pub(super) left_out: LeftOut,
}

/// What became of an image after its line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the latest at its place in the run, and its file is there.
    Current,
    /// It is the latest at its place, and retention removed its file.
    Pruned,
    /// A later line is about its place.
    Replaced,
}

/// Selects items to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this key.
    pub key: Option<MediaKey>,
    /// Only within these steps, both included.
    pub steps: Option<(u64, u64)>,
    /// Only in this state.
    pub state: Option<StateFilter>,
}

/// The state of items to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateFilter {
    /// Images.
    Image,
    /// Items that are held.
    Held,
    /// Rejected items, those that wait included.
    Rejected,
    /// Rejected items that are tried again.
    Waiting,
}

impl StateFilter {
    fn has(self, row: &Row) -> bool {
        match self {
            Self::Image => row.state == State::Image,
            Self::Held => row.state == State::Held,
            Self::Rejected => row.state == State::Rejected,
            Self::Waiting => row.is_waiting(),
        }
    }
}

impl Filter {
    fn steps(&self) -> RangeInclusive<u64> {
        self.steps.map_or(0..=u64::MAX, |(first, last)| first..=last)
    }

    /// Whether it selects a rejected item that said this key and step. Items that said none match no
    /// filter by them.
    fn selects(&self, said: Option<&(MediaKey, Step)>) -> bool {
        self.key.as_ref().is_none_or(|key| said.is_some_and(|(said, _)| said == key))
            && (self.steps.is_none()
                || said.is_some_and(|(_, step)| self.steps().contains(&step.0)))
    }
}

impl Reader {
    /// Lists the keys of a run's images and held items, in order.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn keys(&self, run: &RunId) -> Result<Vec<String>, StoreError> {
        self.index.keys(run)
    }

    /// Finds the steps of a key's images and held items before and after `step`.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn steps_around(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<[Option<u64>; 2], StoreError> {
        self.index.steps_around(run, key, step)
    }

    /// Lists the items that match a filter. Of each run, images and held items come first, in order of
    /// key, step and index; then rejected items, in order of the journal.
    ///
    /// # Errors
    /// If the index fails.
    pub fn items(
        &self,
        filter: &Filter,
    ) -> Result<impl Iterator<Item = Result<(RunId, MediaEntry), StoreError>> + use<>, StoreError>
    {
        let (reader, filter) = (self.clone(), filter.clone());
        Ok(self.runs_of(&filter)?.into_iter().flat_map(move |run| {
            let rows = reader.rows(&run, &filter);
            entries(Journaled::of(&reader.root, &run, &reader.left_out), rows)
        }))
    }

    /// Lists the same items as [`Self::items`], as they are now. All rows are read at once, so that the
    /// iterator needs neither the index nor the store's lock.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn snapshot(
        &self,
        filter: &Filter,
    ) -> Result<impl Iterator<Item = Result<(RunId, MediaEntry), StoreError>> + use<>, StoreError>
    {
        let mut runs = Vec::new();
        for run in self.runs_of(filter)? {
            let rows: Vec<Row> = self.rows(&run, filter).collect::<Result<_, _>>()?;
            runs.push((run, rows));
        }
        let (root, left_out) = (self.root.clone(), self.left_out.clone());
        Ok(runs.into_iter().flat_map(move |(run, rows)| {
            let rows = rows.into_iter().map(Ok);
            entries(Journaled::of(&root, &run, &left_out), rows)
        }))
    }

    fn runs_of(&self, filter: &Filter) -> Result<Vec<RunId>, StoreError> {
        match &filter.run {
            Some(run) => Ok(vec![run.clone()]),
            None => Ok(self.index.runs()?.into_iter().map(|(run, _)| run).collect()),
        }
    }

    /// The rows of a run that match a filter.
    fn rows(
        &self,
        run: &RunId,
        filter: &Filter,
    ) -> Box<dyn Iterator<Item = Result<Row, StoreError>> + Send> {
        let rows = self.rows_after(run, filter, &RowPlace::default());
        Box::new(rows.filter_map(|row| row.map(|(_, row)| row).transpose()))
    }

    /// Lists the waiting items of a run, and the images that lack something, that match the filter's key and
    /// steps, in order of the journal.
    pub(crate) fn tried_again(
        &self,
        run: &RunId,
        filter: &Filter,
    ) -> Result<Vec<WaitingItem>, StoreError> {
        let mut items = self.index.tried_again(run, Row::is_tried_again, usize::MAX)?;
        items.retain(|item| filter.selects(item.said.as_ref()));
        Ok(items)
    }

    /// Reads the item of a row.
    pub(crate) fn entry(&self, run: &RunId, row: Row) -> Result<MediaEntry, StoreError> {
        self.journaled(run).entry(row)
    }

    fn journaled(&self, run: &RunId) -> Journaled {
        Journaled::of(&self.root, run, &self.left_out)
    }

    /// Lists all items of a run, each with the offset of its line.
    pub(crate) fn placed(
        &self,
        run: &RunId,
    ) -> impl Iterator<Item = Result<(JournalOffset, MediaEntry), StoreError>> + use<> {
        let journaled = self.journaled(run);
        let rows =
            self.index.items(run, None, 0..=u64::MAX).chain(self.index.rejected(run, None, None));
        rows.filter_map(move |row| {
            match row.and_then(|row| Ok((row.place, journaled.entry(row)?))) {
                // The files of an item whose line is damaged are unknown, and stay.
                Err(StoreError::Io(error)) if is_gone(&error) => None,
                item => Some(item),
            }
        })
    }

    /// A number that changes whenever the index may have changed.
    pub(crate) fn n_changes(&self) -> u64 {
        self.index.n_changes()
    }

    /// [`Self::n_changes`], to wait for.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.index.changes()
    }

    /// The end of a run's journal as the index reflects it.
    pub(crate) fn journal_end(&self, run: &RunId) -> Result<JournalOffset, StoreError> {
        Ok(self.index.run(run)?.unwrap_or_default().applied)
    }

    /// Reads the lines of a run's journal from one offset up to another, which is in the index.
    pub(crate) fn lines<T: DeserializeOwned>(
        &self,
        run: &RunId,
        from: JournalOffset,
        until: JournalOffset,
    ) -> Lines<T> {
        Lines::new(journal::folder(&run_folder(&self.root, run)), from, until)
    }

    /// Reads one line of a run's journal.
    pub(crate) fn line(
        &self,
        run: &RunId,
        place: JournalOffset,
        length: u32,
    ) -> Result<journal::Line, StoreError> {
        Ok(self.journaled(run).line(place, length)?)
    }

    /// Returns what became of the image whose line begins at `place`.
    pub(crate) fn standing(
        &self,
        run: &RunId,
        id: &MediaId,
        place: JournalOffset,
    ) -> Result<Standing, StoreError> {
        let row = self.index.item(run, &id.key, id.step, id.index)?;
        Ok(match row {
            Some(row) if (row.state, row.place) != (State::Image, place) => Standing::Replaced,
            Some(row) if row.is_pruned() => Standing::Pruned,
            Some(_) => Standing::Current,
            None => Standing::Replaced,
        })
    }

    /// Whether the image whose line begins at `place` is [`Standing::Current`].
    pub(crate) fn is_current(
        &self,
        run: &RunId,
        id: &MediaId,
        place: JournalOffset,
    ) -> Result<bool, StoreError> {
        Ok(self.standing(run, id, place)? == Standing::Current)
    }

    /// The runs that are left out, because their files in the store fail.
    pub(crate) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Checks that a run is not left out.
    ///
    /// # Errors
    /// [`StoreError::LeftOut`] if it is.
    pub(crate) fn check_left_out(&self, run: &RunId) -> Result<(), StoreError> {
        let reason = self.left_out.reason(run);
        reason.map_or(Ok(()), |reason| Err(StoreError::LeftOut { run: run.clone(), reason }))
    }

    /// The media files that were found missing or damaged.
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a run's files.
    pub(crate) fn run_folder(&self, run: &RunId) -> PathBuf {
        run_folder(&self.root, run)
    }

    /// Free bytes of the store's disk, and bytes of the index.
    pub(crate) fn room(&self) -> (u64, u64) {
        (Space::new(&self.root, std::sync::Arc::default()).free(), self.index.n_bytes())
    }

    /// Reads one item.
    ///
    /// # Errors
    /// If the index or the journal fails.
    pub fn item(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        index: u32,
    ) -> Result<Option<MediaEntry>, StoreError> {
        let row = self.index.item(run, key, step, index)?;
        row.map(|row| self.journaled(run).entry(row)).transpose()
    }

    /// Lists the keys and steps of a run that have held items, with the number of these. Only the filter's
    /// key and steps count.
    pub(crate) fn held_steps(
        &self,
        run: &RunId,
        filter: &Filter,
    ) -> Result<Vec<(MediaKey, Step, u64)>, StoreError> {
        self.index.held_steps(run, filter.key.as_ref(), filter.steps())
    }

    pub(crate) fn usage(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<StepUsage, StoreError> {
        self.index.usage(run, key, step)
    }

    pub(crate) fn dump(&self, run: &RunId, path: &str) -> Result<Option<DumpRow>, StoreError> {
        self.index.dump(run, path)
    }

    /// Lists the items that have an index at a key and step.
    pub(crate) fn at_step(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> impl Iterator<Item = Result<MediaEntry, StoreError>> + use<> {
        let rows = self.index.items(run, Some(key), step.0..=step.0);
        entries(self.journaled(run), rows).map(|item| item.map(|(_, entry)| entry))
    }

    /// The place of a session in the order in which the run's sessions were seen, from 0. `Err` has the
    /// place of the next one that is seen.
    pub(crate) fn session(
        &self,
        run: &RunId,
        session: &str,
    ) -> Result<Result<u32, u32>, StoreError> {
        match self.index.session(run, session)? {
            Some(place) => Ok(Ok(place)),
            None => Ok(Err(self.index.run(run)?.unwrap_or_default().n_sessions)),
        }
    }

    /// The place of the last session that made items of a rank at a key and step.
    pub(crate) fn last_session(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        rank: u32,
    ) -> Result<Option<u32>, StoreError> {
        self.index.last_session(run, key, step, rank)
    }

    /// What the run's logs have of a line.
    pub(crate) fn line_row(&self, run: &RunId, line: &ReadLine) -> Result<LineRow, StoreError> {
        self.index.line(run, line)
    }

    pub(crate) fn logs(&self, run: &RunId) -> Result<Vec<LogCursor>, StoreError> {
        self.index.logs(run)
    }
}
