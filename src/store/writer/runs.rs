//! The runs of a store that is open for writing: applies their journals to the index, opens the journals, and leaves runs
//! out whose files fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Writer;
use crate::media::RunId;
use crate::store::index::RunRow;
use crate::store::journal::{self, Event, Journal, JournalOffset, Located, Outline};
use crate::store::run_file::RunFile;
use crate::store::{RunInfo, StoreError, run_folder};

/// Journal lines that are applied to the index together when a journal is replayed.
const REPLAY_LINES: usize = 4096;

impl Writer {
    /// Applies to the index the journal lines that it lacks.
    pub(super) fn replay(&mut self) -> Result<(), StoreError> {
        let mut folders: Vec<PathBuf> = fs::read_dir(self.root.join("runs"))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        folders.sort();
        let mut present = BTreeSet::new();
        for folder in folders {
            present.extend(self.replay_run(&folder)?);
        }
        for (run, _) in self.index.runs()? {
            if !present.contains(&run) {
                self.index.forget(&run)?;
            }
        }
        // Nothing was planned yet.
        self.left_out.set_clear();
        Ok(())
    }

    /// Applies to the index the journal lines of a run that it lacks. Returns the run, unless the folder holds none.
    ///
    /// # Errors
    /// If the index or the whole disk fails, or the run is of a later version. A run whose files fail is left out.
    fn replay_run(&mut self, folder: &Path) -> Result<Option<RunId>, StoreError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match journal::is_present(folder) {
            Ok(false) => return Ok(None),
            Err(_) if !folder.is_dir() => return Ok(None),
            Ok(true) | Err(_) => {}
        }
        let run = match RunFile::read(folder) {
            Ok(Some(file)) if file.id.folder() == name => file.id,
            Ok(Some(RunFile { id, .. })) => {
                let reason = format!(
                    "the folder holds run {id}, whose folder is {}: move it there, or remove it",
                    id.folder()
                );
                self.left_out.note_folder(name, reason);
                return Ok(None);
            }
            Err(error @ StoreError::TooNew { .. }) => return Err(error),
            result => {
                let error =
                    result.err().map_or_else(|| "it is missing".to_owned(), |e| e.to_string());
                let reason =
                    format!("the folder is left out: its run.json cannot be read: {error}");
                self.left_out.note_folder(name, reason);
                return Ok(None);
            }
        };
        // Opening a journal syncs it, which takes long for many runs.
        if self.index.was_closed() && self.is_applied(&run)? {
            return Ok(Some(run));
        }
        match self.open_journal(&run) {
            Err(error) if error.is_of_run() => self.left_out.close(&run, &error),
            result => result?,
        }
        Ok(Some(run))
    }

    /// Whether the index has all lines of a run's journal. Opening the journal says why, if that cannot be told.
    fn is_applied(&self, run: &RunId) -> Result<bool, StoreError> {
        let folder = journal::folder(&run_folder(&self.root, run));
        let Some(JournalOffset { segment, offset }) = self.index.run(run)?.map(|row| row.applied)
        else {
            return Ok(false);
        };
        let has_length =
            |segment, n| journal::segment_length(&folder, segment).is_ok_and(|of| of == n);
        Ok(has_length(segment, offset)
            && has_length(segment + 1, 0)
            && journal::is_whole_before(&folder, segment))
    }

    /// Opens a run's journal and applies to the index the lines that it lacks.
    pub(super) fn open_journal(&mut self, run: &RunId) -> Result<(), StoreError> {
        if self.journals.has(run) {
            return Ok(());
        }
        let folder = journal::folder(&run_folder(&self.root, run));
        let mut row = self.index.run(run)?.unwrap_or_default();
        let length = journal::segment_length(&folder, row.applied.segment)?;
        // If segments are missing, the run is rebuilt once, which counts the missing lines.
        let is_whole = row.n_damaged > 0 || journal::is_whole_before(&folder, row.applied.segment);
        if length < row.applied.offset || !is_whole {
            tracing::warn!(%run, "index is ahead of the journal: the run is applied again");
            self.index.forget(run)?;
            row = RunRow::default();
        }
        let index = &self.index;
        let mut batch: Vec<Located<Outline<'static>>> = Vec::new();
        let mut n_replayed = 0u64;
        let (mut journal, recovered) =
            Journal::open(&self.disk, &folder, row.applied, row.last_seq, |line| {
                n_replayed += 1;
                if batch.len() == REPLAY_LINES {
                    index.apply(run, &batch, line.start)?;
                    batch.clear();
                }
                batch.push(line);
                Ok::<_, StoreError>(())
            })?;
        index.apply(run, &batch, journal.end())?;
        if recovered.n_damaged > 0 {
            tracing::error!(%run, n_lines = recovered.n_damaged, "journal lines are damaged and skipped");
            index.add_damaged(run, recovered.n_damaged, journal.end())?;
        }
        if n_replayed > 0 || recovered.n_cut > 0 {
            tracing::info!(%run, n_lines = n_replayed, n_bytes_cut = recovered.n_cut, "journal replayed");
        }
        journal.set_segment_bytes(self.segment_bytes);
        self.journals.add(run, journal);
        Ok(())
    }

    /// Opens the run's journal, and writes its `run.json` if the run is new or has changed. Returns the
    /// event to journal in that case.
    pub(super) fn ensure_run(&mut self, info: &RunInfo) -> Result<Option<Event>, StoreError> {
        let folder = run_folder(&self.root, &info.id);
        let known = RunFile::read_sound(&folder)?;
        if let Some(known) = &known {
            known.check_id(&info.id, &folder)?;
        }
        let now = RunFile::of(info);
        if known.as_ref() == Some(&now) && journal::is_present(&folder)? {
            self.open_journal(&info.id)?;
            // If the process was killed before the first line, the journal is there without it. All lines must have
            // the same numbers as without the kill.
            let is_empty =
                self.journals.get_mut(&info.id).is_some_and(|journal| journal.last_seq() == 0);
            return Ok(is_empty.then(|| Event::Run { identity: info.identity.clone() }));
        }
        self.disk.create_dir_all(&journal::folder(&folder))?;
        now.write(&self.disk, &folder)?;
        self.open_journal(&info.id)?;
        self.left_out.forget_folder(&info.id.folder());
        Ok(Some(Event::Run { identity: info.identity.clone() }))
    }

    /// Lists a run that has no journal yet. It has no items.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn list_run(&self, run: &RunId) -> Result<(), StoreError> {
        if self.index.run(run)?.is_some() {
            return Ok(());
        }
        self.index.apply(run, &[], JournalOffset::START)
    }

    /// Adds to the number of damaged lines of a run.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn add_damaged(&self, run: &RunId, n: u64) -> Result<(), StoreError> {
        let end = self.index.run(run)?.unwrap_or_default().applied;
        self.index.add_damaged(run, n, end)
    }

    /// Removes a rejected item that has no place from a scratch store, by the number of its line. The journal keeps the
    /// line.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn remove_rejected(&self, run: &RunId, seq: u64) -> Result<(), StoreError> {
        self.index.remove_rejected(run, seq)
    }

    /// Tries the runs again that are left out and due.
    pub(crate) fn retry_left_out(&mut self) {
        for run in self.left_out.due(Instant::now()) {
            match self.reopen(&run) {
                Ok(()) => self.left_out.begin_trial(&run),
                Err(error) => {
                    self.left_out.close(&run, &error);
                }
            }
        }
    }

    /// When a run that is left out is due next.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.left_out.next_try()
    }

    /// Opens the files of a run anew. Lines whose write failed are cut off.
    fn reopen(&mut self, run: &RunId) -> Result<(), StoreError> {
        let folder = run_folder(&self.root, run);
        self.journals.remove(run);
        if let Some(end) = self.uncut.get(run) {
            journal::cut(&self.disk, &journal::folder(&folder), *end)?;
            self.uncut.remove(run);
        }
        RunFile::read_sound(&folder)?;
        if journal::is_present(&folder)? { self.open_journal(run) } else { Ok(()) }
    }

    /// Leaves a run out, whose files fail.
    pub(super) fn leave_out(&mut self, run: &RunId, error: &StoreError) {
        if let Some(journal) = self.journals.remove(run)
            && journal.is_in_doubt()
        {
            self.uncut.insert(run.clone(), journal.end());
        }
        self.left_out.close(run, error);
    }

    pub(super) fn check_left_out(&self, run: &RunId) -> Result<(), StoreError> {
        let reason = self.left_out.reason(run);
        reason.map_or(Ok(()), |reason| Err(StoreError::LeftOut { run: run.clone(), reason }))
    }
}
