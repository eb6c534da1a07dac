//! The store: media files, journals, the index; and *when* they become durable.
//!
//! ```text
//! STORE/
//!   lock                                    who holds it
//!   ballast                                 8 MiB in reserve for a full disk
//!   tmp/                                    media files on their way
//!   runs/<run id>/run.json                  identity, source directory
//!   runs/<run id>/journal/00000001.jsonl    the truth
//!   runs/<run id>/media/images/…            the pictures
//!   index/                                  sled; derived. `index.<n>` took its place meanwhile, and
//!                                           `index.bad.<time>` was set aside: the last two stay
//! ```
//!
//! `Writer::commit` is the only place that decides durability:
//!
//! 1. media files are synced, renamed to names that end in their digests, and their directories
//!    synced;
//! 2. the group's journal lines are appended and synced, the source's cursor in the same unit as
//!    what was made of it: **this is the commit**;
//! 3. one sled transaction brings the index up to date and stores the journal position it reflects;
//! 4. only then the caller goes on.
//!
//! A crash before 2 leaves nothing but stray files; a crash after it loses nothing, since
//! opening a store applies to the index what the journals have beyond it.

#[cfg(test)]
mod churn;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod faults;
mod index;
pub(crate) mod journal;
pub mod lock;
pub(crate) mod media_dir;
mod reader;
pub(crate) mod space;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::index::{Applied, Index};
pub(crate) use self::index::{DumpRow, RunRow};
use self::journal::{Event, Journal, Line, Outline, Position, SourceCursor};
use self::lock::{Holder, Lock};
use self::media_dir::{Staged, Staging};
pub(crate) use self::reader::Extent;
pub use self::reader::{Filter, Reader, RunSummary};
use self::space::Space;
use crate::durable::Disk;
use crate::media::{MediaId, RunId};

/// The version of the layout above. A store of a newer version is not opened.
const FORMAT: u32 = 1;

/// Lines that are applied to the index together when a journal is replayed.
const REPLAY_LINES: usize = 4096;

/// How often it is asked whether the index has grown too large.
const COMMITS_PER_SIZE_CHECK: u32 = 1024;

/// An index up to this size, in bytes, is never too large.
const INDEX_BYTES_MIN: u64 = 256 << 20;

/// What an item takes in the index, in bytes, its dump's row included: more than was seen.
const INDEX_BYTES_PER_ITEM: u64 = 1024;

/// How many journals are kept open at once.
const OPEN_JOURNALS_MAX: usize = 64;

/// Why the store can't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it.
    #[error("store {path} is in use by process {} (safelight {})", .holder.pid, .holder.command)]
    Held {
        /// The store.
        path: PathBuf,
        /// Who holds it.
        holder: Holder,
    },
    /// It is of a later version.
    #[error("{path} has format {got}, this version reads up to {FORMAT}: use a newer safelight")]
    TooNew {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
    /// Another directory has the run's id in this store.
    #[error(
        "run {run} of this store came from {was}, not from {now}: give one of them another \"id\" in safelight.json"
    )]
    OtherSource {
        /// The run.
        run: RunId,
        /// Where it came from.
        was: PathBuf,
        /// Where it would come from.
        now: PathBuf,
    },
    /// The disk failed.
    #[error("store: {0}")]
    Io(#[from] io::Error),
    /// A named file failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The index failed.
    #[error("index: {0}")]
    Index(#[from] sled::Error),
}

impl StoreError {
    /// Whether the disk is full: it may have room again.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io(error)
            | Self::File { source: error, .. }
            | Self::Index(sled::Error::Io(error)) => {
                matches!(error.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// A run: its id, and the directory that it is written in.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// From `safelight.json`, else the directory's name.
    pub id: RunId,
    /// The run directory, absolute.
    pub source: PathBuf,
    /// `safelight.json`, as it is.
    pub identity: Map<String, Value>,
}

/// `run.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RunFile {
    format: u32,
    id: RunId,
    source: PathBuf,
    identity: Map<String, Value>,
}

/// What becomes true at once: all that came of one line or dump, and that it was read.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) run: Arc<RunInfo>,
    pub(crate) events: Vec<Event>,
    /// The media files of the events.
    pub(crate) files: Vec<Staged>,
    pub(crate) cursor: SourceCursor,
}

/// An image that is to be pruned.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    pub(crate) id: MediaId,
    /// Where its line stands.
    pub(crate) place: Position,
    /// Its files that no other item of the run names, relative to the run's folder.
    pub(crate) paths: Vec<String>,
    /// Where the journal ended when `paths` was found. Lines after it may name them again.
    pub(crate) journal_end: Position,
}

/// The one that writes. It holds the store's lock.
#[derive(Debug)]
pub(crate) struct Writer {
    root: PathBuf,
    index: Index,
    disk: Disk,
    space: Space,
    journals: HashMap<RunId, Journal>,
    /// Whether the index failed, and must be replaced before anything else is written.
    is_index_failed: bool,
    /// What it failed with, until that is told.
    failed: Option<StoreError>,
    n_commits: u32,
    /// [`INDEX_BYTES_MIN`], [`COMMITS_PER_SIZE_CHECK`] and a journal's [`journal::SEGMENT_BYTES`]; less in
    /// tests.
    index_bytes_max: u64,
    commits_per_size_check: u32,
    segment_bytes: u64,
    staging: Staging,
    _lock: Lock,
}

/// Opens a store: makes it if it isn't there, brings the index up to date with the journals.
///
/// # Errors
/// If another process holds it for longer than `patience`, it is of a newer version, or the disk
/// fails. Damage to the index is none of these: it is rebuilt.
pub(crate) fn open(
    root: &Path,
    me: &Holder,
    patience: Duration,
) -> Result<(Writer, Reader), StoreError> {
    open_on(Disk::default(), root, me, patience)
}

/// The same on a given disk.
fn open_on(
    disk: Disk,
    root: &Path,
    me: &Holder,
    patience: Duration,
) -> Result<(Writer, Reader), StoreError> {
    disk.create_dir_all(&root.join("runs"))
        .map_err(|source| StoreError::File { path: root.to_owned(), source })?;
    let lock = take_lock(root, me, patience)?;
    let space = Space::new(root, Arc::default());
    if space.release_ballast() {
        tracing::warn!("the store's disk is full, its reserve is given up to open the index");
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
    let mut writer = Writer {
        root,
        index,
        disk,
        space,
        journals: HashMap::new(),
        is_index_failed: false,
        failed: None,
        n_commits: 0,
        index_bytes_max: INDEX_BYTES_MIN,
        commits_per_size_check: COMMITS_PER_SIZE_CHECK,
        segment_bytes: journal::SEGMENT_BYTES,
        staging,
        _lock: lock,
    };
    match writer.replay() {
        // Damage that shows only where it is read.
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
    let reader = writer.reader();
    Ok((writer, reader))
}

fn take_lock(root: &Path, me: &Holder, patience: Duration) -> Result<Lock, StoreError> {
    let taken = Lock::take(root, me, patience);
    let taken = taken.map_err(|source| StoreError::File { path: root.join("lock"), source })?;
    taken.ok_or_else(|| StoreError::Held {
        path: root.to_owned(),
        holder: lock::holder(root).unwrap_or_default(),
    })
}

/// Removes the index, so that the next [`open`] builds it from the journals.
///
/// # Errors
/// If another process holds the store, or the disk fails.
pub(crate) fn remove_index(root: &Path, me: &Holder, patience: Duration) -> Result<(), StoreError> {
    let _lock = take_lock(root, me, patience)?;
    Ok(index::remove_all(root)?)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn run_folder(root: &Path, run: &RunId) -> PathBuf {
    root.join("runs").join(run.folder())
}

fn read_run_file(folder: &Path) -> Result<Option<RunFile>, StoreError> {
    let path = folder.join("run.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::File { path, source }),
    };
    let file: RunFile = serde_json::from_slice(&text).map_err(|error| StoreError::File {
        path: path.clone(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    if file.format > FORMAT {
        return Err(StoreError::TooNew { path, got: file.format });
    }
    Ok(Some(file))
}

/// The same, where a damaged file counts as none: all that it says is known again from the run
/// directory, which it is written anew from.
fn read_sound_run_file(folder: &Path) -> Result<Option<RunFile>, StoreError> {
    match read_run_file(folder) {
        Err(StoreError::File { path, source }) if source.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(path = %path.display(), error = %source, "damaged file is written anew");
            Ok(None)
        }
        result => result,
    }
}

impl Writer {
    /// Where media files are written aside.
    pub(crate) fn staging(&self) -> Staging {
        self.staging.clone()
    }

    /// Applies to the index what the journals have beyond it.
    fn replay(&mut self) -> Result<(), StoreError> {
        let mut folders: Vec<PathBuf> = fs::read_dir(self.root.join("runs"))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        folders.sort();
        let mut present = Vec::new();
        for folder in folders.iter().filter(|folder| journal::is_present(folder)) {
            let file = match read_run_file(folder) {
                Ok(Some(file)) => file,
                Err(error @ StoreError::TooNew { .. }) => return Err(error),
                // One run's damage must not cost the others.
                result => {
                    let error = result.err().map(|error| error.to_string());
                    let path = folder.display();
                    tracing::error!(%path, error, "run folder without a run.json that can be read is left out");
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

    /// Opens a run's journal and applies what the index doesn't have of it.
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
        // What is missing in the middle is counted once, and then known.
        let is_whole = row.n_damaged > 0 || journal::is_whole_before(&folder, row.applied.segment);
        if length(row.applied.segment) < row.applied.offset || !is_whole {
            tracing::warn!(%run, "index is ahead of the journal, the run is applied anew");
            self.index.forget(run)?;
            row = RunRow::default();
        }
        let index = &self.index;
        let mut batch: Vec<Applied<'static>> = Vec::new();
        let mut n_replayed = 0u64;
        let (mut journal, recovered) = Journal::open(
            &self.disk,
            &folder,
            row.applied,
            row.last_seq,
            |line, place, length| {
                n_replayed += 1;
                if batch.len() == REPLAY_LINES {
                    index.apply(run, &batch, place)?;
                    batch.clear();
                }
                batch.push((line, place, length));
                Ok::<_, StoreError>(())
            },
        )?;
        index.apply(run, &batch, journal.end())?;
        if recovered.n_damaged > 0 {
            tracing::error!(%run, n_lines = recovered.n_damaged, "journal lines are damaged and left out");
            index.add_damaged(run, recovered.n_damaged, journal.end())?;
        }
        if n_replayed > 0 || recovered.n_cut > 0 {
            tracing::info!(%run, n_lines = n_replayed, n_bytes_cut = recovered.n_cut, "journal replayed");
        }
        journal.set_segment_bytes(self.segment_bytes);
        self.journals.insert(run.clone(), journal);
        Ok(())
    }

    /// Makes sure that the store knows the run. Returns the line that tells what it is, if it is
    /// new or has changed.
    fn ensure_run(&mut self, info: &RunInfo) -> Result<Option<Event>, StoreError> {
        let folder = run_folder(&self.root, &info.id);
        let known = read_sound_run_file(&folder)?;
        let now = RunFile {
            format: FORMAT,
            id: info.id.clone(),
            source: info.source.clone(),
            identity: info.identity.clone(),
        };
        if known.as_ref() == Some(&now) && journal::is_present(&folder) {
            self.open_journal(&info.id)?;
            return Ok(None);
        }
        self.disk.create_dir_all(&journal::folder(&folder))?;
        self.disk.replace(
            &folder.join("run.json"),
            &serde_json::to_vec_pretty(&now).unwrap_or_default(),
        )?;
        self.open_journal(&info.id)?;
        Ok(Some(Event::Run { identity: info.identity.clone() }))
    }

    /// Makes a group of commits durable, in their order. Can be called again after a failure.
    ///
    /// # Errors
    /// If the disk fails or is full: nothing of the group that was not journaled is then kept. An
    /// error of the index is one after the commit: the lines stand in the journal, and the next
    /// [`open`] applies them.
    pub(crate) fn commit(&mut self, group: &mut Vec<Commit>) -> Result<(), StoreError> {
        if self.is_index_failed {
            self.renew_index()?;
        }
        media_dir::publish(&self.disk, &self.root, group.iter().flat_map(|commit| &commit.files))?;
        // One append for each stretch of commits of the same run.
        while !group.is_empty() {
            let run = group[0].run.clone();
            let n = group.iter().take_while(|commit| commit.run == run).count();
            let first = self.ensure_run(&run)?;
            let units = group[..n].iter().map(|commit| (&commit.events[..], &commit.cursor));
            self.journal(&run.id, |seq| framed(units, first.as_ref(), seq))?;
            drop(group.drain(..n));
            self.tell_index()?;
        }
        self.space.keep_ballast();
        self.n_commits = self.n_commits.wrapping_add(1);
        if self.n_commits.is_multiple_of(self.commits_per_size_check)
            && self.is_index_overgrown()?
        {
            // A failure costs nothing but the room.
            if let Err(error) = self.renew_index() {
                tracing::warn!(%error, "index is not replaced by a smaller one");
            }
        }
        Ok(())
    }

    /// Whether the index takes much more room than what stands in it: sled 0.34.7 gives none back.
    fn is_index_overgrown(&self) -> Result<bool, StoreError> {
        let runs = self.index.runs()?;
        let n_items: u64 =
            runs.iter().map(|(_, row)| row.n_image + row.n_held + row.n_rejected).sum();
        Ok(self.index.n_bytes() > self.index_bytes_max.max(4 * INDEX_BYTES_PER_ITEM * n_items))
    }

    /// Appends lines to an open journal and has the index take them. What makes them gets the last line's
    /// number.
    fn journal<'a>(
        &mut self,
        run: &RunId,
        lines: impl FnOnce(u64) -> (Vec<u8>, Vec<Applied<'a>>, u64),
    ) -> Result<(), StoreError> {
        let journal =
            self.journals.get_mut(run).ok_or_else(|| io::Error::other("journal is not open"))?;
        let (bytes, mut lines, last_seq) = lines(journal.last_seq());
        let start = journal.append(&bytes, last_seq)?;
        let end = journal.end();
        for (_, place, _) in &mut lines {
            *place = Position { segment: start.segment, offset: start.offset + place.offset };
        }
        // The lines stand in the journal: a failure of the index is one after the commit.
        self.failed = self.index.apply(run, &lines, end).err();
        self.is_index_failed |= self.failed.is_some();
        Ok(())
    }

    /// What the index failed with last, once.
    fn tell_index(&mut self) -> Result<(), StoreError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Prunes images: journals this, then removes their files, except those that an item names which was
    /// committed meanwhile. Returns the files that could not be removed, each with the error.
    ///
    /// # Errors
    /// If it can't be journaled: nothing is then removed.
    pub(crate) fn prune(
        &mut self,
        run: &RunId,
        leaving: &[Leaving],
    ) -> Result<Vec<(String, String)>, StoreError> {
        if self.is_index_failed {
            self.renew_index()?;
        }
        let Some(journal_end) = leaving.iter().map(|leaving| leaving.journal_end).min() else {
            return Ok(Vec::new());
        };
        self.open_journal(run)?;
        let events = leaving.iter().map(|leaving| {
            let Leaving { id, place, .. } = leaving;
            Event::Pruned { id: id.clone(), place: *place }
        });
        let events: Vec<Event> = events.collect();
        self.journal(run, |seq| framed([(&events[..], &SourceCursor::None)], None, seq))?;
        self.tell_index()?;
        let named = self.paths_named_since(run, journal_end)?;
        let folder = run_folder(&self.root, run);
        let paths = leaving.iter().flat_map(|leaving| &leaving.paths);
        let unnamed = paths.filter(|path| !named.contains(*path));
        let failed = unnamed.filter_map(|path| {
            let error = remove(&folder.join(path)).err()?;
            Some((path.clone(), error))
        });
        Ok(failed.collect())
    }

    /// The media files that are named by the journal's lines from a place on.
    fn paths_named_since(
        &self,
        run: &RunId,
        from: Position,
    ) -> Result<HashSet<String>, StoreError> {
        let end = self.reader().journal_end(run)?;
        let mut named = HashSet::new();
        for line in self.reader().lines::<Line>(run, from, end) {
            if let Event::Media(entry) = line?.line.event {
                named.extend(entry.paths());
            }
        }
        Ok(named)
    }

    /// Removes files that no item names, as far as they came to their places before `age`.
    ///
    /// # Errors
    /// If the index is not up to date, so that nobody knows what is named.
    pub(crate) fn remove_strays(
        &mut self,
        strays: &[PathBuf],
        age_min: Duration,
    ) -> Result<Vec<(String, String)>, StoreError> {
        if self.is_index_failed {
            self.renew_index()?;
        }
        let mut failed = Vec::new();
        for path in strays.iter().filter(|path| media_dir::is_older(path, age_min)) {
            failed.extend(remove(path).err().map(|why| (path.display().to_string(), why)));
        }
        Ok(failed)
    }

    fn reader(&self) -> Reader {
        Reader { root: self.root.clone(), index: self.index.clone() }
    }

    /// Builds another index from the journals, which then takes the place of the one at hand.
    /// Readers read that one until then.
    fn renew_index(&mut self) -> Result<(), StoreError> {
        tracing::warn!("index is replaced by one that is built from the journals");
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

    /// Makes everything durable and lets go of the store.
    ///
    /// # Errors
    /// If the index can't be written; the next start then rebuilds what is missing.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        if self.is_index_failed {
            // Not to be trusted at the next start.
            return Ok(());
        }
        self.index.close()
    }
}

/// The lines of some commits of one run: their bytes, and what the index takes of them, with places
/// relative to the first.
fn framed<'a>(
    units: impl IntoIterator<Item = (&'a [Event], &'a SourceCursor)>,
    first: Option<&'a Event>,
    mut seq: u64,
) -> (Vec<u8>, Vec<Applied<'a>>, u64) {
    let (mut bytes, mut lines) = (Vec::new(), Vec::new());
    let mut add = |event: &'a Event, cursor: Option<&'a SourceCursor>| {
        seq += 1;
        let start = bytes.len();
        journal::frame(&Line { seq, event, cursor }, &mut bytes);
        let place = Position { segment: 0, offset: start as u64 };
        let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
        lines.push((Outline::of(seq, event, cursor), place, length));
    };
    if let Some(event) = first {
        add(event, Some(&SourceCursor::None));
    }
    for (events, cursor) in units {
        match events.split_last() {
            None => add(&Event::Cursor, Some(cursor)),
            Some((last, before)) => {
                before.iter().for_each(|event| add(event, None));
                add(last, Some(cursor));
            }
        }
    }
    (bytes, lines, seq)
}
