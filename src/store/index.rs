//! The index: a sled tree that says where in the journals everything stands. Derived, and rebuilt
//! from the journals when it is missing or in doubt.
//!
//! One tree, so that one transaction moves rows and the journal position that they reflect. The
//! first byte of a key is its kind; numbers are big-endian, so that they sort.
//!
//! | key | value |
//! | --- | --- |
//! | `i` run 0 key 0 step(8) index(4) | [`Row`] of an image, kept or held back |
//! | `r` run 0 seq(8) | [`Row`] of a rejected line or dump |
//! | `d` run 0 path | [`DumpRow`]: what became of a dump that speaks for itself |
//! | `l` run 0 dev(8) ino(8) | a log's cursor |
//! | `n` run | [`RunRow`]: counts, and how far its journal is applied |
//! | `m` name | `schema`, `boot` |
//!
//! The rules for sled 0.34.7: one writer; transactions of at most 200 keys; no batch that removes;
//! no `flush_async`; the cache bounded. After any failed write it is replaced: sled writes no more then,
//! even when there is room again.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};

use super::StoreError;
use super::journal::{DumpCursor, LogCursor, Outline, Position, SourceCursor};
use crate::limits::StepUsage;
use crate::media::{MediaKey, RunId, State, Step};
use crate::plan::Earlier;
use crate::pulse;

/// The version of keys and rows. Another version's index is rebuilt.
const SCHEMA: &[u8] = b"2";

/// Lines applied in one transaction. A line touches at most four keys.
const LINES_PER_TRANSACTION: usize = 40;

/// Where an item's line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) state: State,
    pub(crate) place: Position,
    pub(crate) length: u32,
}

impl Row {
    fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[0] = match self.state {
            State::Image => b'i',
            State::Held => b'h',
            State::Rejected => b'r',
        };
        bytes[1..5].copy_from_slice(&self.place.segment.to_be_bytes());
        bytes[5..13].copy_from_slice(&self.place.offset.to_be_bytes());
        bytes[13..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[state], rest) = bytes.split_first_chunk::<1>()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let state = match state {
            b'i' => State::Image,
            b'h' => State::Held,
            b'r' => State::Rejected,
            _ => return None,
        };
        let place =
            Position { segment: u32::from_be_bytes(*segment), offset: u64::from_be_bytes(*offset) };
        Some(Self { state, place, length: u32::from_be_bytes(*length) })
    }
}

/// What became of a dump that speaks for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DumpRow {
    /// The version that was read last; none if its line was damaged.
    pub(crate) cursor: Option<DumpCursor>,
    /// Where its images stand: of each of its tensors the key, the step and the indices.
    pub(crate) stands: Vec<(MediaKey, Step, Earlier)>,
    /// Whether `stands` tells of the version whose lines are being seen.
    is_replaced: bool,
    /// Where images of that version were rejected, as long as it has no others: a version that is no
    /// picture at all leaves those before it.
    held_back: Vec<(MediaKey, Step, u32)>,
    /// The lines that reject it or images of it, of the version that was read last.
    pub(crate) rejected: Vec<u64>,
    /// Whether lines of a version were seen and not yet the one that closes their unit.
    pub(crate) is_open: bool,
}

impl DumpRow {
    /// The lines of another version begin.
    fn begin(&mut self) {
        self.is_replaced = false;
        self.held_back.clear();
    }

    /// One of the dump's images stands here.
    fn add(&mut self, key: &MediaKey, step: Step, index: u32) {
        if !self.is_replaced {
            self.stands.clear();
            self.is_replaced = true;
            for (key, step, index) in std::mem::take(&mut self.held_back) {
                self.extend(&key, step, index);
            }
        }
        self.extend(key, step, index);
    }

    /// One of the dump's images was rejected. Its place stays that of the dump.
    fn add_rejected(&mut self, key: &MediaKey, step: Step, index: u32) {
        if self.is_replaced {
            self.extend(key, step, index);
        } else {
            self.held_back.push((key.clone(), step, index));
        }
    }

    /// The dump has no image here any more, nor behind it.
    fn end_at(&mut self, key: &MediaKey, step: Step, index: u32) {
        self.stands.retain_mut(|(of, at, earlier)| {
            if (&*of, *at) == (key, step) && earlier.indices().contains(&index) {
                earlier.n = index - earlier.first;
            }
            earlier.n > 0
        });
    }

    fn extend(&mut self, key: &MediaKey, step: Step, index: u32) {
        match self.stands.iter_mut().find(|(of, at, _)| (of, *at) == (key, step)) {
            Some((.., Earlier { first, n })) => {
                let end = first.saturating_add(*n).max(index.saturating_add(1));
                *first = index.min(*first);
                *n = end - *first;
            }
            None => self.stands.push((key.clone(), step, Earlier { first: index, n: 1 })),
        }
    }
}

/// A run as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub(crate) n_image: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// Journal lines that are damaged.
    pub(crate) n_damaged: u64,
    pub(crate) finished: bool,
    pub(crate) last_seq: u64,
    /// Up to where the journal is applied.
    pub(crate) applied: Position,
}

impl Default for RunRow {
    fn default() -> Self {
        let applied = Position::START;
        Self {
            n_image: 0,
            n_held: 0,
            n_rejected: 0,
            n_damaged: 0,
            finished: false,
            last_seq: 0,
            applied,
        }
    }
}

impl RunRow {
    fn count(&mut self, state: State) -> &mut u64 {
        match state {
            State::Image => &mut self.n_image,
            State::Held => &mut self.n_held,
            State::Rejected => &mut self.n_rejected,
        }
    }
}

/// A journal line to apply.
pub(crate) type Applied = (Outline, Position, u32);

/// The open index. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    current: Arc<RwLock<Arc<Generation>>>,
}

/// One sled database. Another takes its place when it fails or has grown too large; it goes with its
/// last reader.
#[derive(Debug)]
struct Generation {
    db: Option<sled::Db>,
    /// `index`, or `index.<number>` until the next start.
    path: PathBuf,
    number: u32,
    is_replaced: AtomicBool,
}

/// Rows that are read one by one. Their generation stays as long as they are.
struct Rows {
    // Let go of first.
    rows: sled::Iter,
    _generation: Arc<Generation>,
}

impl Iterator for Rows {
    type Item = sled::Result<(sled::IVec, sled::IVec)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        drop(self.db.take());
        if self.is_replaced.load(Ordering::Relaxed) {
            // What is left of it is removed at the next start.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

impl std::ops::Deref for Generation {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        self.db.as_ref().unwrap_or_else(|| unreachable!("it is taken in drop only"))
    }
}

fn key(kind: u8, run: &RunId, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(run.as_str().bytes());
    bytes.push(0);
    rest.iter().for_each(|part| bytes.extend(*part));
    bytes
}

fn item_key(run: &RunId, key_: &MediaKey, step: Step, index: u32) -> Vec<u8> {
    key(b'i', run, &[key_.as_str().as_bytes(), b"\0", &step.0.to_be_bytes(), &index.to_be_bytes()])
}

fn run_key(run: &RunId) -> Vec<u8> {
    [b"n", run.as_str().as_bytes()].concat()
}

fn log_key(run: &RunId, cursor: &LogCursor) -> Vec<u8> {
    key(b'l', run, &[&cursor.dev.to_be_bytes(), &cursor.ino.to_be_bytes()])
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

impl Index {
    /// Opens the index of the store `root`, or an empty one in its place if it can't be trusted: it
    /// doesn't open, has another schema, or the machine went down while it was open (sled's `flush`
    /// is no fsync, so that nothing is known of what reached the disk).
    ///
    /// # Errors
    /// If even an empty one can't be made.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join("index");
        adopt_latest(root, &path)?;
        let opened = open_sled(&path).or_else(|error| {
            // A snapshot that was being written when the process died hides the whole ones.
            let n_removed = remove_torn_snapshots(&path);
            if n_removed > 0 { open_sled(&path) } else { Err(error) }
        });
        let db = match opened {
            Ok(db) => db,
            Err(sled::Error::Io(error)) if is_disk_trouble(&error) => return Err(error.into()),
            Err(error) if is_locked(&error) => return Err(error.into()),
            Err(error) => return Self::open_anew(root, &error),
        };
        match guarded(|| distrust(&db, &boot_id())) {
            Ok(None) => Ok(Self::of(Generation::new(db, path, 0))),
            Ok(Some(why)) => {
                tracing::warn!(why, "index is rebuilt from the journals");
                drop(db);
                fs::remove_dir_all(&path)?;
                Ok(Self::of(Generation::empty(path, 0)?))
            }
            Err(error) if is_damage(&error) => {
                drop(db);
                Self::open_anew(root, &error)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens an empty index in the place of one that is set aside because of `error`.
    ///
    /// # Errors
    /// If that can't be made either.
    pub(crate) fn open_anew(root: &Path, error: &sled::Error) -> Result<Self, StoreError> {
        tracing::warn!(%error, "index is set aside and rebuilt from the journals");
        let path = root.join("index");
        set_aside(&path)?;
        Ok(Self::of(Generation::empty(path, 0)?))
    }

    fn of(generation: Generation) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(generation))) }
    }

    /// An empty index, which can take this one's place once it is filled.
    ///
    /// # Errors
    /// If it can't be made.
    pub(crate) fn successor(&self) -> Result<Self, StoreError> {
        let now = self.now();
        let number = now.number + 1;
        let path = now.path.with_file_name(format!("index.{number}"));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(Self::of(Generation::empty(path, number)?))
    }

    /// Has all that share this index go on with another one.
    pub(crate) fn replace_by(&self, other: &Self) {
        let next = other.now();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, next);
        drop(current);
        before.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Has it removed from the disk when the last one lets go of it.
    pub(crate) fn discard(&self) {
        self.now().is_replaced.store(true, Ordering::Relaxed);
    }

    fn now(&self) -> Arc<Generation> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes on the disk.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.now().size_on_disk().unwrap_or(0)
    }

    /// Makes everything durable and marks the index as closed.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let now = self.now();
        now.flush()?;
        now.insert(b"mboot", b"closed")?;
        now.flush()?;
        fs::File::open(now.path.join("db"))?.sync_all()?;
        Ok(())
    }

    /// Applies journal lines of one run, up to `end`.
    ///
    /// # Errors
    /// If sled fails; the lines stand in the journal all the same.
    pub(crate) fn apply(
        &self,
        run: &RunId,
        lines: &[Applied],
        end: Position,
    ) -> Result<(), StoreError> {
        guarded(|| self.apply_chunks(run, lines, end))
    }

    fn apply_chunks(
        &self,
        run: &RunId,
        lines: &[Applied],
        end: Position,
    ) -> Result<(), StoreError> {
        let db = self.now();
        let mut chunks = lines.chunks(LINES_PER_TRANSACTION).peekable();
        while let Some(chunk) = chunks.next() {
            pulse::beat();
            let applied = chunks.peek().map_or(end, |next| next[0].1);
            let result = db.transaction(|tree| {
                let mut row: RunRow = get_json(tree, &run_key(run))?.unwrap_or_default();
                for line in chunk {
                    apply_line(tree, run, &mut row, line)?;
                }
                row.applied = applied;
                tree.insert(run_key(run), json(&row))?;
                Ok::<_, ConflictableTransactionError<()>>(())
            });
            match result {
                Ok(()) | Err(TransactionError::Abort(())) => {}
                Err(TransactionError::Storage(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Notes damaged lines, which no other line tells of.
    pub(crate) fn add_damaged(
        &self,
        run: &RunId,
        n: u64,
        applied: Position,
    ) -> Result<(), StoreError> {
        let mut row = self.run(run)?.unwrap_or_default();
        row.n_damaged += n;
        row.applied = applied;
        self.now().insert(run_key(run), json(&row))?;
        Ok(())
    }

    /// Forgets a run whose journal is not the one that was applied.
    pub(crate) fn forget(&self, run: &RunId) -> Result<(), StoreError> {
        let db = self.now();
        for kind in [b'i', b'r', b'd', b'l'] {
            for key in db.scan_prefix(key(kind, run, &[])).keys() {
                db.remove(key?)?;
            }
        }
        db.remove(run_key(run))?;
        Ok(())
    }

    pub(crate) fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.now().get(run_key(run))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// All runs, in order of their ids.
    pub(crate) fn runs(&self) -> Result<Vec<(RunId, RunRow)>, StoreError> {
        let mut runs = Vec::new();
        for entry in self.now().scan_prefix(b"n") {
            let (key, value) = entry?;
            let run = std::str::from_utf8(&key[1..]).ok().and_then(|id| RunId::new(id).ok());
            if let (Some(run), Ok(row)) = (run, serde_json::from_slice(&value)) {
                runs.push((run, row));
            }
        }
        Ok(runs)
    }

    /// The images of a run (of one key, if given; within `steps`), kept and held back, in order of
    /// key, step and index.
    pub(crate) fn items(
        &self,
        run: &RunId,
        key_: Option<&MediaKey>,
        steps: RangeInclusive<u64>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        let prefix = match key_ {
            Some(name) => key(b'i', run, &[name.as_str().as_bytes(), b"\0"]),
            None => key(b'i', run, &[]),
        };
        self.rows(prefix).filter_map(move |entry| match entry {
            Ok((key, value)) => {
                let step =
                    key.len().checked_sub(12).and_then(|at| key[at..].first_chunk().copied());
                let step = step.map(u64::from_be_bytes)?;
                steps.contains(&step).then(|| Row::from_bytes(&value).map(Ok))?
            }
            Err(error) => Some(Err(error.into())),
        })
    }

    /// What stands under a prefix.
    fn rows(&self, prefix: Vec<u8>) -> Rows {
        let generation = self.now();
        Rows { rows: generation.scan_prefix(prefix), _generation: generation }
    }

    /// The rejected lines and dumps of a run, in the order of the journal.
    pub(crate) fn rejected(
        &self,
        run: &RunId,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        self.rows(key(b'r', run, &[])).filter_map(|entry| match entry {
            Ok((_, value)) => Row::from_bytes(&value).map(Ok),
            Err(error) => Some(Err(error.into())),
        })
    }

    pub(crate) fn item(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        index: u32,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self
            .now()
            .get(item_key(run, key, step, index))?
            .and_then(|bytes| Row::from_bytes(&bytes)))
    }

    /// What a step has.
    pub(crate) fn usage(
        &self,
        run: &RunId,
        key_: &MediaKey,
        step: Step,
    ) -> Result<StepUsage, StoreError> {
        let prefix = key(b'i', run, &[key_.as_str().as_bytes(), b"\0", &step.0.to_be_bytes()]);
        let mut usage = StepUsage::default();
        for entry in self.now().scan_prefix(prefix) {
            let (key, value) = entry?;
            if let (Some(index), Some(row)) = (key.last_chunk(), Row::from_bytes(&value)) {
                usage.take(u32::from_be_bytes(*index), row.state == State::Image);
            }
        }
        Ok(usage)
    }

    pub(crate) fn dump(&self, run: &RunId, path: &str) -> Result<Option<DumpRow>, StoreError> {
        let bytes = self.now().get(key(b'd', run, &[path.as_bytes()]))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The cursors of a run's media logs.
    pub(crate) fn logs(&self, run: &RunId) -> Result<Vec<LogCursor>, StoreError> {
        let mut logs = Vec::new();
        for value in self.now().scan_prefix(key(b'l', run, &[])).values() {
            logs.extend(serde_json::from_slice::<LogCursor>(&value?).ok());
        }
        Ok(logs)
    }
}

impl Generation {
    fn new(db: sled::Db, path: PathBuf, number: u32) -> Self {
        Self { db: Some(db), path, number, is_replaced: AtomicBool::new(false) }
    }

    fn empty(path: PathBuf, number: u32) -> Result<Self, StoreError> {
        let db = open_sled(&path)?;
        db.insert(b"mschema", SCHEMA)?;
        db.insert(b"mboot", boot_id().as_bytes())?;
        Ok(Self::new(db, path, number))
    }
}

/// How long the opening of an index may take before it counts as damaged.
const OPENING: Duration = Duration::from_mins(1);

/// How long sled's threads may hold the files of a process that has let go of the store.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Opens the database in `path`. We hold the store: whoever holds sled's own lock is about to end.
fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let start = Instant::now();
    loop {
        match open_sled_once(path) {
            Err(error) if is_locked(&error) && start.elapsed() < LETTING_GO => {
                pulse::beat();
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// sled says so in words only.
fn is_locked(error: &sled::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// sled 0.34.7 panics, or never comes back, on some damaged files.
fn open_sled_once(path: &Path) -> Result<sled::Db, sled::Error> {
    let config =
        sled::Config::default().path(path).cache_capacity(32 << 20).flush_every_ms(Some(500));
    let (opened, result) = crossbeam_channel::bounded(1);
    let opening = std::thread::Builder::new().name("index-open".to_owned());
    opening.spawn(move || drop(opened.send(guarded(|| config.open()))))?;
    let start = Instant::now();
    loop {
        pulse::beat();
        match result.recv_timeout(Duration::from_secs(1)) {
            Ok(result) => return result,
            Err(_) if start.elapsed() < OPENING => {}
            Err(_) => return Err(sled::Error::ReportableBug("it does not open".to_owned())),
        }
    }
}

/// Does something with sled; a panic of its counts as damage.
fn guarded<T, E: From<sled::Error>>(action: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        Err(sled::Error::ReportableBug("sled panicked on damaged files".to_owned()).into())
    })
}

/// Why what stands in the index may not be true, if so. Marks it as open in this boot.
fn distrust(db: &sled::Db, boot: &str) -> Result<Option<&'static str>, sled::Error> {
    if !db.was_recovered() {
        db.insert(b"mschema", SCHEMA)?;
    } else if db.get(b"mschema")?.as_deref() != Some(SCHEMA) {
        return Ok(Some("it has not this version's schema"));
    } else if db.get(b"mboot")?.is_some_and(|open_in| open_in != "closed" && open_in != boot) {
        return Ok(Some("the machine went down while it was open"));
    }
    db.insert(b"mboot", boot.as_bytes())?;
    Ok(None)
}

/// Brings the latest generation, if an earlier process began one, to its place at `path`.
fn adopt_latest(root: &Path, path: &Path) -> io::Result<()> {
    let number = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("index.")?.parse::<u32>().ok()
    };
    let entries = fs::read_dir(root)?.flatten();
    let mut later: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((number(&entry)?, entry.path()))).collect();
    later.sort();
    let Some((_, latest)) = later.pop() else { return Ok(()) };
    for (_, old) in later {
        fs::remove_dir_all(old)?;
    }
    remove_index(path)?;
    fs::rename(latest, path)
}

/// Removes what stands in the place of an index, if anything does.
pub(crate) fn remove_index(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        result => result,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

type Conflict = ConflictableTransactionError<()>;

fn get_json<T: for<'a> Deserialize<'a>>(
    tree: &TransactionalTree,
    key: &[u8],
) -> Result<Option<T>, Conflict> {
    Ok(tree.get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn apply_line(
    tree: &TransactionalTree,
    run: &RunId,
    run_row: &mut RunRow,
    line: &Applied,
) -> Result<(), Conflict> {
    let (line, place, length) = line;
    run_row.last_seq = line.seq;
    let dump_key = |path: &str| key(b'd', run, &[path.as_bytes()]);
    if let Some(state) = line.state {
        let row = Row { state, place: *place, length: *length };
        let own_path = line
            .source
            .as_ref()
            .filter(|source| source.log.is_none())
            .map(|source| source.path.as_str());
        let mut dump = None;
        if let Some(path) = own_path {
            let mut row = get_json::<DumpRow>(tree, &dump_key(path))?.unwrap_or_default();
            if !row.is_open {
                row.begin();
            }
            dump = Some(row);
        }
        let place = match (&line.key, line.step, line.index) {
            (Some(key), Some(step), Some(index)) => Some((key, step, index)),
            _ => None,
        };
        if let (State::Image | State::Held, Some((key, step, index))) = (state, place) {
            let before = tree.insert(item_key(run, key, step, index), &row.to_bytes())?;
            if let Some(before) = before.and_then(|bytes| Row::from_bytes(&bytes)) {
                *run_row.count(before.state) -= 1;
            }
        } else {
            tree.insert(key(b'r', run, &[&line.seq.to_be_bytes()]), &row.to_bytes())?;
        }
        match (&mut dump, place, state) {
            (Some(dump), Some((key, step, index)), State::Rejected) => {
                dump.add_rejected(key, step, index);
            }
            (Some(dump), Some((key, step, index)), _) => dump.add(key, step, index),
            _ => {}
        }
        *run_row.count(state) += 1;
        if let (Some(path), Some(mut dump)) = (own_path, dump) {
            // What was rejected of an earlier version is so no longer.
            if !dump.is_open {
                for earlier in dump.rejected.drain(..) {
                    if tree.remove(key(b'r', run, &[&earlier.to_be_bytes()]))?.is_some() {
                        run_row.n_rejected -= 1;
                    }
                }
            }
            dump.rejected.extend((state == State::Rejected).then_some(line.seq));
            dump.is_open = line.cursor.is_none();
            tree.insert(dump_key(path), json(&dump))?;
        }
    }
    if let ("gone", Some(key), Some(step), Some(index)) =
        (&*line.kind, &line.key, line.step, line.index)
        && let Some(before) = tree.remove(item_key(run, key, step, index))?
        && let Some(before) = Row::from_bytes(&before)
    {
        *run_row.count(before.state) -= 1;
    }
    if let ("gone", Some(key), Some(step), Some(index), Some(path)) =
        (&*line.kind, &line.key, line.step, line.index, &line.path)
        && let Some(mut dump) = get_json::<DumpRow>(tree, &dump_key(path))?
    {
        dump.end_at(key, step, index);
        tree.insert(dump_key(path), json(&dump))?;
    }
    run_row.finished |= line.kind == "finish";
    match &line.cursor {
        Some(SourceCursor::Log(cursor)) => {
            tree.insert(log_key(run, cursor), json(cursor))?;
        }
        Some(SourceCursor::Dump(cursor)) => {
            let mut dump: DumpRow = get_json(tree, &dump_key(&cursor.path))?.unwrap_or_default();
            dump.cursor = Some(cursor.clone());
            dump.is_open = false;
            tree.insert(dump_key(&cursor.path), json(&dump))?;
        }
        Some(SourceCursor::None) | None => {}
    }
    Ok(())
}

/// Whether the disk takes nothing, so that another index would do no better.
pub(crate) fn is_disk_trouble(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull, WouldBlock};
    matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull | WouldBlock)
}

/// Whether an error tells of damaged files, not of a disk that fails.
pub(crate) fn is_damage(error: &sled::Error) -> bool {
    !matches!(error, sled::Error::Io(_))
}

/// Removes snapshots that were being written when the process died; sled 0.34.7 takes them for the
/// newest ones (spacejam/sled#1527). Returns how many.
fn remove_torn_snapshots(path: &Path) -> usize {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let torn = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("snap.") && name.ends_with(".generating")
    });
    torn.filter(|entry| fs::remove_file(entry.path()).is_ok()).count()
}

/// Moves an index that doesn't open out of the way; the last two are kept.
fn set_aside(path: &Path) -> io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".bad.{}", now.as_millis()));
    match fs::rename(path, path.with_file_name(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let above = path.parent().unwrap_or(Path::new("."));
    let mut bad: Vec<PathBuf> = fs::read_dir(above)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|entry| {
            entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("index.bad."))
        })
        .collect();
    bad.sort();
    // One that stays is no reason not to start.
    for old in bad.iter().rev().skip(2) {
        if let Err(error) = remove_index(old) {
            tracing::warn!(path = %old.display(), %error, "an old index is left where it is");
        }
    }
    Ok(())
}

/// Names the time since the machine came up.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}
