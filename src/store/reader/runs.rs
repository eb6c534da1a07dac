//! The runs of a store, and the number of their items.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reader;
use crate::media::RunId;
use crate::store::index::RunRow;
use crate::store::journal::JournalOffset;
use crate::store::run_file::RunFile;
use crate::store::{RunInfo, StoreError, run_folder};

/// How much of a run's journal is in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where the next line will begin.
    pub(crate) end: JournalOffset,
    /// The number of the last line.
    pub(crate) last_seq: u64,
    /// Whether the job said that the run is finished.
    pub(crate) finished: bool,
    /// The number of rejected items, those that wait included.
    pub(crate) n_rejected: u64,
}

impl From<RunRow> for Extent {
    fn from(row: RunRow) -> Self {
        let RunRow { applied: end, last_seq, finished, n_rejected, .. } = row;
        Self { end, last_seq, finished, n_rejected }
    }
}

/// A run, and the number of its items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RunSummary {
    /// The run's id.
    #[schemars(with = "String")]
    #[cfg_attr(test, ts(type = "string"))]
    pub run: RunId,
    /// The run directory.
    #[cfg_attr(test, ts(type = "string"))]
    pub source: PathBuf,
    /// Images.
    pub image: u64,
    /// Items that are held.
    pub held: u64,
    /// Lines and dumps rejected.
    pub rejected: u64,
    /// Those among them that are tried again.
    #[serde(default)]
    pub waiting: u64,
    /// The images among them whose files retention removed.
    #[serde(default)]
    pub pruned: u64,
    /// Damaged lines of its journal.
    pub damaged: u64,
    /// Lines of logs that made no item, because they were read before: their log is a copy or was
    /// rewritten.
    #[serde(default)]
    pub repeated: u64,
    /// Lines of logs that made no item, because a later session of the job has replaced what they describe.
    #[serde(default)]
    pub superseded: u64,
    /// Whether the job said that the run is finished.
    pub finished: bool,
}

impl RunSummary {
    fn of_row(run: RunId, row: &RunRow) -> Self {
        Self {
            run,
            source: PathBuf::new(),
            image: row.n_image,
            held: row.n_held,
            rejected: row.n_rejected,
            waiting: row.n_waiting,
            pruned: row.n_pruned,
            damaged: row.n_damaged,
            repeated: row.n_repeated,
            superseded: row.n_superseded,
            finished: row.finished,
        }
    }
}

impl Reader {
    /// Lists all runs, in order of their ids.
    ///
    /// # Errors
    /// If the index fails.
    pub fn runs(&self) -> Result<Vec<RunSummary>, StoreError> {
        let mut runs = self.run_counts()?;
        for summary in &mut runs {
            let file = RunFile::read(&run_folder(&self.root, &summary.run)).ok().flatten();
            summary.source = file.map(|file| file.source).unwrap_or_default();
        }
        Ok(runs)
    }

    /// Lists all runs, without their directories, which the index does not have.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn run_counts(&self) -> Result<Vec<RunSummary>, StoreError> {
        let runs = self.index.runs()?.into_iter();
        Ok(runs.map(|(run, row)| RunSummary::of_row(run, &row)).collect())
    }

    /// Lists all runs as [`Self::run_counts`] does, each with how much of its journal is in the index.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn runs_with_extents(&self) -> Result<Vec<(RunSummary, Extent)>, StoreError> {
        let runs = self.index.runs()?.into_iter();
        Ok(runs.map(|(run, row)| (RunSummary::of_row(run, &row), row.into())).collect())
    }

    /// Counts the items of a run as [`Self::run_counts`] does; `None` if there is no such run.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn counts_of(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        Ok(self.index.run(run)?.map(|row| RunSummary::of_row(run.clone(), &row)))
    }

    /// Whether a run has any item.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn has_items(&self, run: &RunId) -> Result<bool, StoreError> {
        let row = self.index.run(run)?;
        Ok(row.is_some_and(|row| row.n_image + row.n_held + row.n_rejected > 0))
    }

    /// Counts the runs, and the images, held and rejected items in all of them.
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

    /// Lists the runs that have waiting items, or images that lack something.
    pub(crate) fn runs_to_try_again(&self) -> Result<Vec<RunId>, StoreError> {
        let runs = self.index.runs()?.into_iter();
        let has_some = |(run, row): &(RunId, RunRow)| {
            row.n_waiting + row.n_lacking > 0 && self.left_out.reason(run).is_none()
        };
        Ok(runs.filter(has_some).map(|(run, _)| run).collect())
    }

    /// How much of each run's journal is in the index, in order of the runs' ids.
    pub(crate) fn extents(&self) -> Result<Vec<(RunId, Extent)>, StoreError> {
        let runs = self.index.runs()?.into_iter();
        Ok(runs.map(|(run, row)| (run, row.into())).collect())
    }

    /// The first run whose id is greater than this one; the first of all without one.
    pub(crate) fn run_after(&self, run: Option<&RunId>) -> Result<Option<RunId>, StoreError> {
        self.index.run_after(run)
    }

    /// The run directory and identity of a run.
    pub(crate) fn run_info(&self, run: &RunId) -> Result<Option<RunInfo>, StoreError> {
        let file = RunFile::read_sound(&run_folder(&self.root, run))?;
        Ok(file.map(RunFile::into_info))
    }

    /// Checks that the run can be committed from this directory.
    ///
    /// # Errors
    /// [`StoreError::LeftOut`] if the run is left out. [`StoreError::OtherRun`] if its folder in the store is another
    /// run's. [`StoreError::OtherSource`] if the run came from another directory that still exists.
    /// [`StoreError::NotUtf8`] if `run.json` cannot hold the directory's path.
    pub(crate) fn check_source(&self, info: &RunInfo) -> Result<(), StoreError> {
        if info.source.to_str().is_none() {
            return Err(StoreError::NotUtf8 { path: info.source.clone() });
        }
        self.check_left_out(&info.id)?;
        let folder = run_folder(&self.root, &info.id);
        match RunFile::read_sound(&folder)? {
            Some(file) if file.id != info.id => file.check_id(&info.id, &folder),
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
