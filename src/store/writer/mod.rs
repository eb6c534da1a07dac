//! Commits to the store. [`Writer::commit`] alone decides durability.

mod runs;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::commit::{Commit, Framed, framed};
use super::findings::Findings;
use super::index::{self, Index};
use super::journal::{self, Event, JournalOffset, OpenJournals, SourceCursor};
use super::left_out::LeftOut;
use super::lock::{Holder, Lock};
use super::media_dir::{self, Staging};
use super::named_files::NamedFiles;
use super::space::Space;
use super::{Reader, RunInfo, StoreError, run_folder, scrub, take_lock};
use crate::durable::Disk;
use crate::media::{MediaId, RunId};

/// Commits between two checks of the size of the index.
const COMMITS_PER_SIZE_CHECK: u32 = 1024;

/// An index up to this size, in bytes, is never too large.
pub(super) const INDEX_BYTES_MIN: u64 = 256 << 20;

/// Bytes of the index for an item and the row of its dump: more than was ever measured.
pub(super) const INDEX_BYTES_PER_ITEM: u64 = 1024;

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
    journals: OpenJournals,
    /// The ends of journals that are to be cut before they are written: the last write to them failed.
    uncut: HashMap<RunId, JournalOffset>,
    left_out: LeftOut,
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
    lock: Lock,
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
        let disk = disk
            .within(root)
            .map_err(|source| StoreError::File { path: root.to_owned(), source })?;
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
            journals: OpenJournals::default(),
            uncut: HashMap::new(),
            left_out: LeftOut::default(),
            is_index_failed: false,
            index_error: None,
            n_commits: 0,
            index_bytes_max: INDEX_BYTES_MIN,
            commits_per_size_check: COMMITS_PER_SIZE_CHECK,
            segment_bytes: journal::SEGMENT_BYTES,
            staging,
            findings: Findings::default(),
            lock,
        };
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
        scrub::restore(&writer.reader());
        if writer.lock.is_copy {
            scrub::look_for_missing(&writer.reader())?;
        }
        writer.keep_ballast();
        Ok(writer)
    }

    /// Keeps a reserve of space, unless the store is for one process only.
    fn keep_ballast(&self) {
        if !self.disk.is_scratch() {
            self.space.keep_ballast();
        }
    }

    /// Where media files are written before they are committed.
    pub(crate) fn staging(&self) -> Staging {
        self.staging.clone()
    }

    /// Makes a group of commits durable, in their order. Can be called again after a failure. Commits of runs that are
    /// left out stay in `group`.
    ///
    /// # Errors
    /// If the whole disk fails or is full. Commits that are still in `group` were not journaled. After an error
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
        let mut left = Vec::new();
        let result = self.commit_all(group, &mut left);
        if !left.is_empty() {
            left.append(group);
            *group = left;
        }
        result?;
        self.keep_ballast();
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

    /// Journals all commits of a group, and moves those of runs that are left out to `left`.
    fn commit_all(
        &mut self,
        group: &mut Vec<Commit>,
        left: &mut Vec<Commit>,
    ) -> Result<(), StoreError> {
        left.extend(group.extract_if(.., |commit| self.left_out.reason(&commit.run.id).is_some()));
        let (disk, root) = (self.disk.clone(), self.root.clone());
        let publish = |group: &[Commit], run: Option<&RunId>| {
            let is_of_run = |commit: &&Commit| run.is_none_or(|run| commit.run.id == *run);
            let files = group.iter().filter(is_of_run).flat_map(|commit| &commit.files);
            media_dir::publish(&disk, &root, files).map_err(StoreError::from)
        };
        if let Err(error) = publish(group, None) {
            if !error.is_of_run() {
                return Err(error);
            }
            // Which run it is shows when each is tried alone.
            let runs: BTreeSet<RunId> = group.iter().map(|commit| commit.run.id.clone()).collect();
            for run in runs {
                match publish(group, Some(&run)) {
                    Err(error) if error.is_of_run() => {
                        self.leave_out(&run, &error);
                        left.extend(group.extract_if(.., |commit| commit.run.id == run));
                    }
                    result => result?,
                }
            }
        }
        // One append for each stretch of commits of the same run.
        while !group.is_empty() {
            let run = group[0].run.clone();
            let n = group.iter().take_while(|commit| commit.run == run).count();
            match self.append(&run, &group[..n]) {
                Err(error) if error.is_of_run() => {
                    self.leave_out(&run.id, &error);
                    left.extend(group.extract_if(.., |commit| commit.run.id == run.id));
                    continue;
                }
                result => result?,
            }
            self.left_out.works(&run.id);
            drop(group.drain(..n));
            self.take_index_error()?;
        }
        Ok(())
    }

    /// Appends the lines of commits of one run to its journal.
    fn append(&mut self, run: &RunInfo, commits: &[Commit]) -> Result<(), StoreError> {
        let first = self.ensure_run(run)?;
        let batches = commits.iter().map(|commit| (&commit.events[..], &commit.cursor));
        self.journal(&run.id, |seq| framed(batches, first.as_ref(), seq))
    }

    /// Whether the index takes much more room than its rows need: sled 0.34.7 never shrinks. That of a scratch store is
    /// never replaced, because it has what the journals lack.
    fn is_index_overgrown(&self) -> Result<bool, StoreError> {
        if self.disk.is_scratch() {
            return Ok(false);
        }
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
        self.check_left_out(named.run())?;
        self.open_journal(named.run())?;
        let events =
            images.iter().map(|image| Event::Pruned { id: image.id.clone(), place: image.place });
        let events: Vec<Event> = events.collect();
        let lines = [(&events[..], &SourceCursor::None)];
        if let Err(error) = self.journal(named.run(), |seq| framed(lines, None, seq)) {
            self.leave_out(named.run(), &error);
            return Err(error);
        }
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
            let error = self.remove(&folder.join(path.as_ref())).err()?;
            Some((path.as_ref().display().to_string(), error))
        });
        Ok(failed.collect())
    }

    /// Removes a file that may be gone already.
    fn remove(&self, path: &Path) -> Result<(), String> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Makes sure that the index has all that was committed.
    ///
    /// # Errors
    /// If the index had failed and cannot be rebuilt.
    pub(crate) fn refresh_index(&mut self) -> Result<(), StoreError> {
        if self.is_index_failed { self.renew_index() } else { Ok(()) }
    }

    /// A reader of the store.
    pub(crate) fn reader(&self) -> Reader {
        let (root, index) = (self.root.clone(), self.index.clone());
        let (findings, left_out) = (self.findings.clone(), self.left_out.clone());
        Reader { root, index, findings, left_out }
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

    /// Makes everything durable, copies the index to `folder`, and releases the store. Returns a reader of the copy. It
    /// reads the journals as they were, even if another process holds the store.
    ///
    /// # Errors
    /// If the index cannot be written, copied or opened.
    pub(crate) fn close_with_copy(self, folder: &Path) -> Result<Reader, StoreError> {
        self.index.close()?;
        let reader = self.reader();
        let index = self.index.copy_to(folder)?;
        Ok(Reader { index, ..reader })
    }
}
