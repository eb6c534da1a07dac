//! What is asked of a store.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::index::{DumpRow, Index, Row, RunRow};
use super::journal::{self, Event, Lines, LogCursor, Position};
use super::space::Space;
use super::{RunFile, RunInfo, StoreError, read_run_file, read_sound_run_file, run_folder};
use crate::limits::StepUsage;
use crate::media::{Fate, MediaEntry, MediaId, MediaKey, RunId, State, Step};

/// How far a run's journal is in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where the next line will stand.
    pub(crate) end: Position,
    /// The number of the last line.
    pub(crate) last_seq: u64,
    /// Whether the job said that the run is over.
    pub(crate) finished: bool,
}

/// Reads the store. Clones share the index.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) root: PathBuf,
    pub(super) index: Index,
}

/// Which items to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this run only.
    pub run: Option<RunId>,
    /// Of this key only.
    pub key: Option<MediaKey>,
    /// Within these steps only.
    pub steps: Option<(u64, u64)>,
    /// In this state only.
    pub state: Option<State>,
}

/// A run, and what is kept of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run's id.
    pub run: RunId,
    /// Where it is written.
    pub source: PathBuf,
    /// Images kept.
    pub image: u64,
    /// Images held back.
    pub held: u64,
    /// Lines and dumps rejected.
    pub rejected: u64,
    /// Of the images, those whose files were removed by retention.
    #[serde(default)]
    pub pruned: u64,
    /// Damaged lines of its journal.
    pub damaged: u64,
    /// Whether the job said that it is over.
    pub finished: bool,
}

impl Filter {
    fn steps(&self) -> RangeInclusive<u64> {
        self.steps.map_or(0..=u64::MAX, |(first, last)| first..=last)
    }
}

impl Reader {
    /// All runs, in order of their ids.
    ///
    /// # Errors
    /// If the index fails.
    pub fn runs(&self) -> Result<Vec<RunSummary>, StoreError> {
        let runs = self.index.runs()?.into_iter().map(|(run, row)| {
            let file = read_run_file(&run_folder(&self.root, &run)).ok().flatten();
            let source = file.map(|file| file.source);
            Ok(RunSummary {
                run,
                source: source.unwrap_or_default(),
                image: row.n_image,
                held: row.n_held,
                rejected: row.n_rejected,
                pruned: row.n_pruned,
                damaged: row.n_damaged,
                finished: row.finished,
            })
        });
        runs.collect()
    }

    /// How many runs there are, and how many images kept, held back, and rejected items in all of them.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn totals(&self) -> Result<(usize, [u64; 3]), StoreError> {
        let runs = self.index.runs()?;
        let counts = runs.iter().fold([0; 3], |[image, held, rejected], (_, row)| {
            [image + row.n_image, held + row.n_held, rejected + row.n_rejected]
        });
        Ok((runs.len(), counts))
    }

    /// The items that a filter lets through: of each run those with a place, in order of key, step
    /// and index, then what was rejected.
    ///
    /// # Errors
    /// If the index fails.
    pub fn items(
        &self,
        filter: &Filter,
    ) -> Result<impl Iterator<Item = Result<(RunId, MediaEntry), StoreError>> + use<>, StoreError>
    {
        let (reader, filter) = (self.clone(), filter.clone());
        let root = self.root.clone();
        Ok(self.runs_of(&filter)?.into_iter().flat_map(move |run| {
            let rows = reader.rows(&run, &filter);
            entries(journal::folder(&run_folder(&root, &run)), run, rows)
        }))
    }

    /// The same, as it is now: what the index says is read at once, so that listing it needs neither
    /// the index nor the store's lock, however long that takes.
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
        let root = self.root.clone();
        Ok(runs.into_iter().flat_map(move |(run, rows)| {
            let rows = rows.into_iter().map(Ok);
            entries(journal::folder(&run_folder(&root, &run)), run, rows)
        }))
    }

    fn runs_of(&self, filter: &Filter) -> Result<Vec<RunId>, StoreError> {
        match &filter.run {
            Some(run) => Ok(vec![run.clone()]),
            None => Ok(self.index.runs()?.into_iter().map(|(run, _)| run).collect()),
        }
    }

    /// The rows of a run that a filter lets through. What was rejected may never have said its key or step.
    fn rows(
        &self,
        run: &RunId,
        filter: &Filter,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        let state = filter.state;
        let placed = (state != Some(State::Rejected))
            .then(|| self.index.items(run, filter.key.as_ref(), filter.steps()));
        let rejected = state.is_none_or(|state| state == State::Rejected).then(|| {
            self.index.rejected(run, filter.key.as_ref(), filter.steps.map(|_| filter.steps()))
        });
        let rows = placed.into_iter().flatten().chain(rejected.into_iter().flatten());
        rows.filter(move |row| {
            row.as_ref().map_or(true, |row| state.is_none_or(|state| state == row.state))
        })
    }

    /// All items of a run that have a place, and what was rejected, each with where its line stands.
    pub(crate) fn placed(
        &self,
        run: &RunId,
    ) -> impl Iterator<Item = Result<(Position, MediaEntry), StoreError>> + use<> {
        let folder = journal::folder(&run_folder(&self.root, run));
        let rows =
            self.index.items(run, None, 0..=u64::MAX).chain(self.index.rejected(run, None, None));
        rows.filter_map(move |row| {
            match row.and_then(|row| Ok((row.place, entry(&folder, row)?))) {
                // Its files stay: a damaged line names what it will.
                Err(StoreError::Io(error)) if is_gone(&error) => None,
                item => Some(item),
            }
        })
    }

    /// A number that is another one whenever the index may have changed since.
    pub(crate) fn n_changes(&self) -> u64 {
        self.index.n_changes()
    }

    /// How far each run's journal is in the index, in order of their ids.
    pub(crate) fn extents(&self) -> Result<Vec<(RunId, Extent)>, StoreError> {
        let extent = |(run, row): (RunId, RunRow)| {
            let RunRow { applied: end, last_seq, finished, .. } = row;
            (run, Extent { end, last_seq, finished })
        };
        Ok(self.index.runs()?.into_iter().map(extent).collect())
    }

    /// How far a run's journal is in the index.
    pub(crate) fn journal_end(&self, run: &RunId) -> Result<Position, StoreError> {
        Ok(self.index.run(run)?.unwrap_or_default().applied)
    }

    /// The lines of a run's journal from a place up to another, which is in the index.
    pub(crate) fn lines<T: DeserializeOwned>(
        &self,
        run: &RunId,
        from: Position,
        until: Position,
    ) -> Lines<T> {
        Lines::new(journal::folder(&run_folder(&self.root, run)), from, until)
    }

    /// One line of a run's journal.
    pub(crate) fn line(
        &self,
        run: &RunId,
        place: Position,
        length: u32,
    ) -> Result<journal::Line, StoreError> {
        let folder = journal::folder(&run_folder(&self.root, run));
        Ok(journal::read_line(&folder, place, length)?)
    }

    /// Whether the image whose line stands at `place` is still the one that the store has there, with its
    /// files.
    pub(crate) fn is_current(
        &self,
        run: &RunId,
        id: &MediaId,
        place: Position,
    ) -> Result<bool, StoreError> {
        let row = self.index.item(run, &id.key, id.step, id.index)?;
        Ok(row.is_some_and(|row| {
            (row.state, row.place, row.is_pruned) == (State::Image, place, false)
        }))
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a run's files lie.
    pub(crate) fn run_folder(&self, run: &RunId) -> PathBuf {
        run_folder(&self.root, run)
    }

    /// What is known of a run.
    pub(crate) fn run_info(&self, run: &RunId) -> Result<Option<RunInfo>, StoreError> {
        let file = read_sound_run_file(&run_folder(&self.root, run))?;
        Ok(file.map(|RunFile { id, source, identity, .. }| RunInfo { id, source, identity }))
    }

    /// How many bytes are free on the store's disk, and how many the index takes.
    pub(crate) fn room(&self) -> (u64, u64) {
        (Space::new(&self.root, std::sync::Arc::default()).free(), self.index.n_bytes())
    }

    /// One item.
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
        row.map(|row| entry(&journal::folder(&run_folder(&self.root, run)), row)).transpose()
    }

    /// The keys and steps of a run that have images held back, and how many each; of one key, and within
    /// steps, as the filter says.
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

    pub(crate) fn logs(&self, run: &RunId) -> Result<Vec<LogCursor>, StoreError> {
        self.index.logs(run)
    }

    /// Checks that the directory may write the run: that no other one does.
    ///
    /// # Errors
    /// [`StoreError::OtherSource`] if the run came from a directory that is still there.
    pub(crate) fn check_source(&self, info: &RunInfo) -> Result<(), StoreError> {
        match read_sound_run_file(&run_folder(&self.root, &info.id))? {
            Some(file) if file.source != info.source && file.source.is_dir() => {
                Err(StoreError::OtherSource {
                    run: info.id.clone(),
                    was: file.source,
                    now: info.source.clone(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// The entries that rows of a run point at.
fn entries(
    journal_folder: PathBuf,
    run: RunId,
    rows: impl Iterator<Item = Result<Row, StoreError>>,
) -> impl Iterator<Item = Result<(RunId, MediaEntry), StoreError>> {
    rows.filter_map(move |row| match row.and_then(|row| entry(&journal_folder, row)) {
        Err(StoreError::Io(error)) if is_gone(&error) => {
            tracing::warn!(%run, %error, "item is left out");
            None
        }
        entry => Some(entry.map(|entry| (run.clone(), entry))),
    })
}

/// Whether a line can't be read because it, or its segment, is damaged or gone.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}

fn entry(journal_folder: &Path, row: Row) -> Result<MediaEntry, StoreError> {
    match journal::read_line(journal_folder, row.place, row.length)?.event {
        Event::Media(mut entry) => {
            if let Fate::Image(image) = &mut entry.fate {
                image.pruned = row.is_pruned;
            }
            Ok(*entry)
        }
        _ => Err(io::Error::other("the index points at a line that is no item").into()),
    }
}
