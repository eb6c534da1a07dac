//! Commits to the store. [`Writer::commit`] alone decides durability.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::commit::{Commit, Framed, framed};
use super::findings::Findings;
use super::index::{self, Index, RunRow};
use super::journal::{self, Event, Journal, JournalOffset, Located, Outline, SourceCursor};
use super::lock::{Holder, Lock};
use super::media_dir::{self, Staging};
use super::named_files::NamedFiles;
use super::run_file::RunFile;
use super::space::Space;
use super::{Reader, RunInfo, StoreError, run_folder, scrub, take_lock};
use crate::durable::Disk;
use crate::media::{MediaId, RunId};

/// Journal lines that are applied to the index together when a journal is replayed.
const REPLAY_LINES: usize = 4096;

/// Commits between two checks of the size of the index.
const COMMITS_PER_SIZE_CHECK: u32 = 1024;

/// An index up to this size, in bytes, is never too large.
pub(super) const INDEX_BYTES_MIN: u64 = 256 << 20;

/// Bytes of the index for an item and the row of its dump: more than was ever measured.
pub(super) const INDEX_BYTES_PER_ITEM: u64 = 1024;

/// The most journals that are open at once.
const OPEN_JOURNALS_MAX: usize = 64;

/// An image to prune.
#[derive(Debug, Clone)]
pub(crate) struct ImageToPrune {
    pub(crate) id: MediaId,
    /// Where its line begins.
    pub(crate) place: JournalOffset,
    /// Its files that no other item of the run names, relative to the run's folder.
    pub(crate) paths: Vec<String>,
}

/// Writes to the store, and holds its lock.
#[derive(Debug)]
pub(crate) struct Writer {
    root: PathBuf,
    index: Index,
    disk: Disk,
    space: Space,
    journals: HashMap<RunId, Journal>,
    /// Whether the index failed, and must be replaced before anything else is written.
    is_index_failed: bool,
    /// The error of the index that was not returned yet.
    index_error: Option<StoreError>,
    n_commits: u32,
    /// [`INDEX_BYTES_MIN`], [`COMMITS_PER_SIZE_CHECK`] and [`journal::SEGMENT_BYTES`]. Tests set less.
    pub(super) index_bytes_max: u64,
    pub(super) commits_per_size_check: u32,
    pub(super) segment_bytes: u64,
    staging: Staging,
    findings: Findings,
    _lock: Lock,
}

impl Writer {
    /// Opens a store on a disk.
    pub(super) fn open(
        disk: Disk,
        root: &Path,
        me: &Holder,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        disk.create_dir_all(&root.join("runs"))
            .map_err(|source| StoreError::File { path: root.to_owned(), source })?;
        let lock = take_lock(root, me, patience)?;
        let space = Space::new(root, Arc::default());
        if space.release_ballast() {
            tracing::warn!("the store's disk is full: its reserve is given up to open the index");
        }
        let at = |name: &str| {
            let path = root.join(name);
            move |source| StoreError::File { path, source }
        };
        let staging = Staging::open(&disk, root).map_err(at("tmp"))?;
        let index = Index::open(root).map_err(|error| match error {
            StoreError::Io(source) => at("index")(source),
            error => error,
        })?;
        let root = root.to_owned();
        let mut writer = Self {
            root,
            index,
            disk,
            space,
            journals: HashMap::new(),
            is_index_failed: false,
            index_error: None,
            n_commits: 0,
            index_bytes_max: INDEX_BYTES_MIN,
            commits_per_size_check: COMMITS_PER_SIZE_CHECK,
            segment_bytes: journal::SEGMENT_BYTES,
            staging,
            findings: Findings::default(),
            _lock: lock,
        };
        scrub::restore(&writer.root, &writer.findings);
        match writer.replay() {
            // Some damage shows only when a page is read.
            Err(StoreError::Index(error)) if index::is_damage(&error) => {
                writer.index = Index::open_anew(&writer.root, &error)?;
                writer.journals.clear();
                writer.replay()?;
            }
            result => result?,
        }
        if writer.is_index_overgrown()? {
            writer.renew_index()?;
        }
        writer.space.keep_ballast();
        Ok(writer)
    }

    /// Where media files are written before they are committed.
    pub(crate) fn staging(&self) -> Staging {
        self.staging.clone()
    }

    /// Applies to the index the journal lines that it lacks.
    fn replay(&mut self) -> Result<(), StoreError> {
        let mut folders: Vec<PathBuf> = fs::read_dir(self.root.join("runs"))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        folders.sort();
        let mut present = Vec::new();
        for folder in folders.iter().filter(|folder| journal::is_present(folder)) {
            let file = match RunFile::read(folder) {
                Ok(Some(file)) => file,
                Err(error @ StoreError::TooNew { .. }) => return Err(error),
                // Damage to one run must not affect the others.
                result => {
                    let error = result.err().map(|error| error.to_string());
                    let path = folder.display();
                    tracing::error!(%path, error, "run is skipped: its run.json cannot be read");
                    continue;
                }
            };
            self.open_journal(&file.id)?;
            present.push(file.id);
        }
        for (run, _) in self.index.runs()? {
            if !present.contains(&run) {
                self.index.forget(&run)?;
            }
        }
        Ok(())
    }

    /// Opens a run's journal and applies to the index the lines that it lacks.
    fn open_journal(&mut self, run: &RunId) -> Result<(), StoreError> {
        if self.journals.contains_key(run) {
            return Ok(());
        }
        if self.journals.len() >= OPEN_JOURNALS_MAX {
            self.journals.clear();
        }
        let folder = journal::folder(&run_folder(&self.root, run));
        let mut row = self.index.run(run)?.unwrap_or_default();
        let length = |segment| {
            fs::metadata(journal::segment_path(&folder, segment)).map_or(0, |meta| meta.len())
        };
        // If segments are missing, the run is rebuilt once, which counts the missing lines.
        let is_whole = row.n_damaged > 0 || journal::is_whole_before(&folder, row.applied.segment);
        if length(row.applied.segment) < row.applied.offset || !is_whole {
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
        self.journals.insert(run.clone(), journal);
        Ok(())
    }

    /// Opens the run's journal, and writes its `run.json` if the run is new or has changed. Returns the
    /// event to journal in that case.
    fn ensure_run(&mut self, info: &RunInfo) -> Result<Option<Event>, StoreError> {
        let folder = run_folder(&self.root, &info.id);
        let known = RunFile::read_sound(&folder)?;
        let now = RunFile::of(info);
        if known.as_ref() == Some(&now) && journal::is_present(&folder) {
            self.open_journal(&info.id)?;
            return Ok(None);
        }
        self.disk.create_dir_all(&journal::folder(&folder))?;
        now.write(&self.disk, &folder)?;
        self.open_journal(&info.id)?;
        Ok(Some(Event::Run { identity: info.identity.clone() }))
    }

    /// Makes a group of commits durable, in their order. Can be called again after a failure.
    ///
    /// # Errors
    /// If the disk fails or is full. Commits that are still in `group` were not journaled. After an error
    /// of the index, the lines are in the journal, and the next start applies them.
    pub(crate) fn commit(&mut self, group: &mut Vec<Commit>) -> Result<(), StoreError> {
        if self.is_index_failed {
            self.renew_index()?;
        }
        for repair in group.extract_if(.., |commit| commit.is_repair()) {
            // Nothing waits for a repair: the next `verify` finds what is still damaged.
            if let Err(error) = media_dir::publish(&self.disk, &self.root, repair.files.iter()) {
                tracing::error!(run = %repair.run.id, %error, "a repaired media file was not put in place");
            }
            self.findings.note_repair();
        }
        media_dir::publish(&self.disk, &self.root, group.iter().flat_map(|commit| &commit.files))?;
        // One append for each stretch of commits of the same run.
        while !group.is_empty() {
            let run = group[0].run.clone();
            let n = group.iter().take_while(|commit| commit.run == run).count();
            let first = self.ensure_run(&run)?;
            let batches = group[..n].iter().map(|commit| (&commit.events[..], &commit.cursor));
            self.journal(&run.id, |seq| framed(batches, first.as_ref(), seq))?;
            drop(group.drain(..n));
            self.take_index_error()?;
        }
        self.space.keep_ballast();
        self.n_commits = self.n_commits.wrapping_add(1);
        if self.n_commits.is_multiple_of(self.commits_per_size_check)
            && self.is_index_overgrown()?
        {
            // If it fails, the index only stays large.
            if let Err(error) = self.renew_index() {
                tracing::warn!(%error, "the large index could not be replaced by a smaller one");
            }
        }
        Ok(())
    }

    /// Whether the index takes much more room than its rows need: sled 0.34.7 never shrinks.
    fn is_index_overgrown(&self) -> Result<bool, StoreError> {
        let runs = self.index.runs()?;
        let n_items: u64 =
            runs.iter().map(|(_, row)| row.n_image + row.n_held + row.n_rejected).sum();
        Ok(self.index.n_bytes() > self.index_bytes_max.max(4 * INDEX_BYTES_PER_ITEM * n_items))
    }

    /// Appends lines to an open journal and applies them to the index. `lines` makes them from the number
    /// of the last line.
    fn journal<'a>(
        &mut self,
        run: &RunId,
        lines: impl FnOnce(u64) -> io::Result<Framed<'a>>,
    ) -> Result<(), StoreError> {
        let journal =
            self.journals.get_mut(run).ok_or_else(|| io::Error::other("journal is not open"))?;
        let Framed { bytes, mut lines, last_seq } = lines(journal.last_seq())?;
        let start = journal.append(&bytes, last_seq)?;
        let end = journal.end();
        for line in &mut lines {
            let offset = start.offset + line.start.offset;
            line.start = JournalOffset { segment: start.segment, offset };
        }
        // The lines are committed now, even if the index fails.
        self.index_error = self.index.apply(run, &lines, end).err();
        self.is_index_failed |= self.index_error.is_some();
        Ok(())
    }

    /// Returns the last error of the index, once.
    fn take_index_error(&mut self) -> Result<(), StoreError> {
        self.index_error.take().map_or(Ok(()), Err)
    }

    /// Prunes images: journals this, then removes their files, except those that an item names. Returns the files
    /// that could not be removed, each with the error.
    ///
    /// # Errors
    /// If it cannot be journaled. Then nothing is removed.
    pub(crate) fn prune(
        &mut self,
        images: &[ImageToPrune],
        named: &NamedFiles,
    ) -> Result<Vec<(String, String)>, StoreError> {
        self.refresh_index()?;
        if images.is_empty() {
            return Ok(Vec::new());
        }
        self.open_journal(named.run())?;
        let events =
            images.iter().map(|image| Event::Pruned { id: image.id.clone(), place: image.place });
        let events: Vec<Event> = events.collect();
        self.journal(named.run(), |seq| framed([(&events[..], &SourceCursor::None)], None, seq))?;
        self.take_index_error()?;
        self.remove_unnamed(images.iter().flat_map(|image| &image.paths), named)
    }

    /// Removes files that no item names and that are at least `age_min` old. `strays` are relative to the run's
    /// folder. Returns the files that could not be removed, each with the error.
    ///
    /// # Errors
    /// If it is unknown which files are named.
    pub(crate) fn remove_strays(
        &mut self,
        strays: &[PathBuf],
        age_min: Duration,
        named: &NamedFiles,
    ) -> Result<Vec<(String, String)>, StoreError> {
        self.refresh_index()?;
        let folder = run_folder(&self.root, named.run());
        let is_old = |path: &&PathBuf| media_dir::is_older(&folder.join(path), age_min);
        self.remove_unnamed(strays.iter().filter(is_old), named)
    }

    /// Removes those of `paths` that no item of the run names: the only removal of media files. Returns the files
    /// that could not be removed, each with the error.
    fn remove_unnamed<P: AsRef<Path>>(
        &self,
        paths: impl Iterator<Item = P>,
        named: &NamedFiles,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let folder = run_folder(&self.root, named.run());
        let unnamed = named.unnamed(&self.reader(), paths)?.into_iter();
        let failed = unnamed.filter_map(|path| {
            let error = remove(&folder.join(path.as_ref())).err()?;
            Some((path.as_ref().display().to_string(), error))
        });
        Ok(failed.collect())
    }

    /// Makes sure that the index has all that was committed.
    ///
    /// # Errors
    /// If the index had failed and cannot be rebuilt.
    pub(crate) fn refresh_index(&mut self) -> Result<(), StoreError> {
        if self.is_index_failed { self.renew_index() } else { Ok(()) }
    }

    pub(super) fn reader(&self) -> Reader {
        let (root, index) = (self.root.clone(), self.index.clone());
        Reader { root, index, findings: self.findings.clone() }
    }

    /// Replaces the index by one that is built from the journals. Readers use the old one meanwhile.
    fn renew_index(&mut self) -> Result<(), StoreError> {
        tracing::warn!("rebuilding the index from the journals");
        let next = self.index.successor()?;
        let before = std::mem::replace(&mut self.index, next);
        self.journals.clear();
        let replayed = self.replay();
        let next = std::mem::replace(&mut self.index, before);
        if let Err(error) = replayed {
            self.journals.clear();
            next.discard();
            return Err(error);
        }
        self.index.replace_by(&next);
        self.is_index_failed = false;
        tracing::info!("index is replaced");
        Ok(())
    }

    /// Makes everything durable and releases the store.
    ///
    /// # Errors
    /// If the index cannot be written. The next start then rebuilds it.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        if self.is_index_failed {
            // Not marked as closed, it is not trusted at the next start.
            return Ok(());
        }
        self.index.close()
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}
