//! The index: a sled tree of the journal offsets of all items. It is derived, and rebuilt from the
//! journals if it is missing or in doubt.
//!
//! There is one tree, so that one transaction changes rows and the journal offset that they reflect. The
//! first byte of a key is its kind. Numbers in keys are big-endian, so that keys sort by them. Values are
//! written by postcard ([`rows`]).
//!
//! | key | value |
//! | --- | --- |
//! | `i` run 0 key 0 step(8) index(4) | [`Row`] of an image, a held item, or a waiting item that has its place |
//! | `w` run 0 segment(4) offset(8) | [`rows::WaitingRow`]: where the row of the waiting item with this line is |
//! | `r` run 0 seq(8) | [`rows::RejectedRow`]: a [`Row`], and the key and step that the item said |
//! | `d` run 0 path | [`DumpRow`]: what became of a dump that has no line in a media log |
//! | `h` run 0 step(8) digest(8) | [`LineRow`]: a line of a media log, by its content |
//! | `s` run 0 session | u32: the session's place in the order in which the run's sessions were seen |
//! | `q` run 0 key 0 step(8) rank(4) | u32: the place of the session whose items the step has of this rank |
//! | `l` run 0 dev(8) ino(8) | [`LogRow`]: a [`LogCursor`] |
//! | `n` run | [`RunRow`]: counts, and the end of its journal as applied |
//! | `m` name | `schema`, `boot`: text |
//!
//! Neighbouring rows of the first six kinds share one entry of sled ([`blocks`]).
//!
//! Rules for sled 0.34.7:
//!
//! - one writer; transactions of at most 200 keys; no batch that removes; no `flush_async`; a bounded cache;
//! - no flusher: it rewrites segments even if nothing changes. Rows that a kill takes from sled's buffers
//!   are applied again from the journals;
//! - after a failed write, a new index replaces the old one: sled refuses all writes then, even when there
//!   is room again.

mod apply;
mod blocks;
mod generation;
mod items;
mod pages;
mod rows;
mod steps;

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use self::apply::{apply_line, uncount_rejected};
use self::blocks::Changes;
use self::generation::{
    Generation, adopt_latest, boot_id, check, distrust, guarded, is_disk_trouble, is_locked,
    open_sled, remove_links, remove_torn_snapshots, set_aside,
};
pub(crate) use self::generation::{is_damage, remove_all};
pub(crate) use self::rows::{DumpRow, LineRow, Row, RunRow};
use self::rows::{LogRow, decode, encode};
use super::StoreError;
use super::journal::{JournalOffset, Located, LogCursor, Outline, ReadLine};
use crate::media::{MediaKey, RunId, Step};
use crate::pulse;

/// The version of keys and rows. An index of another version is rebuilt.
const SCHEMA: &[u8] = b"7";

/// A transaction takes no further line once it writes this many keys. A line touches at most eleven keys, and
/// two for each image of its dump that was rejected earlier.
const KEYS_PER_TRANSACTION: usize = 180;

/// A rejected item that is tried again, or an image that lacks something.
#[derive(Debug, Clone)]
pub(crate) struct WaitingItem {
    pub(crate) row: Row,
    /// The key and the step that it said, if it did.
    pub(crate) said: Option<(MediaKey, Step)>,
    /// Whether it has its place among the images and held items.
    pub(crate) is_placed: bool,
}

/// The open index. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    current: Arc<RwLock<Arc<Generation>>>,
    /// Number of calls of [`Self::apply`] through this handle or its clones.
    n_changes: watch::Sender<u64>,
    /// Whether the process that had it open before closed it.
    was_closed: bool,
}

fn key(kind: u8, run: &RunId, rest: &[&[u8]]) -> Vec<u8> {
    let n_bytes = rest.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(2 + run.as_str().len() + n_bytes);
    bytes.push(kind);
    bytes.extend_from_slice(run.as_str().as_bytes());
    bytes.push(0);
    rest.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

fn item_key(run: &RunId, key_: &MediaKey, step: Step, index: u32) -> Vec<u8> {
    key(b'i', run, &[key_.as_str().as_bytes(), b"\0", &step.0.to_be_bytes(), &index.to_be_bytes()])
}

/// The key and the step of an item, from its row's key.
fn key_and_step(row_key: &[u8]) -> Option<(&str, Step)> {
    // Run ids and keys have no zero byte, and each is followed by one.
    let run_end = memchr::memchr(0, row_key)? + 1;
    let (before, numbers) = row_key.split_at_checked(row_key.len().checked_sub(12)?)?;
    let name = before.get(run_end..)?.strip_suffix(b"\0")?;
    let step = numbers.first_chunk().copied().map(u64::from_be_bytes)?;
    Some((std::str::from_utf8(name).ok()?, Step(step)))
}

fn rejected_key(run: &RunId, seq: u64) -> Vec<u8> {
    key(b'r', run, &[&seq.to_be_bytes()])
}

fn waiting_key(run: &RunId, place: JournalOffset) -> Vec<u8> {
    let JournalOffset { segment, offset } = place;
    key(b'w', run, &[&segment.to_be_bytes(), &offset.to_be_bytes()])
}

fn dump_key(run: &RunId, path: &str) -> Vec<u8> {
    key(b'd', run, &[path.as_bytes()])
}

fn line_key(run: &RunId, line: &ReadLine) -> Vec<u8> {
    key(b'h', run, &[&line.step.0.to_be_bytes(), line.xxh3.as_bytes()])
}

fn session_key(run: &RunId, session: &str) -> Vec<u8> {
    key(b's', run, &[session.as_bytes()])
}

fn writer_key(run: &RunId, key_: &MediaKey, step: Step, rank: u32) -> Vec<u8> {
    key(b'q', run, &[key_.as_str().as_bytes(), b"\0", &step.0.to_be_bytes(), &rank.to_be_bytes()])
}

fn run_key(run: &RunId) -> Vec<u8> {
    [b"n", run.as_str().as_bytes()].concat()
}

fn log_key(run: &RunId, cursor: &LogCursor) -> Vec<u8> {
    key(b'l', run, &[&cursor.dev.to_be_bytes(), &cursor.ino.to_be_bytes()])
}

/// Copies the files of a directory, and those below it.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_files(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

impl Index {
    /// Opens the index of the store `root`. Replaces it by an empty one if it cannot be trusted: it does
    /// not open, has another schema, or the machine went down while it was open. (sled's `flush` is no
    /// fsync, so that it is unknown which pages reached the disk.)
    ///
    /// # Errors
    /// If an empty index cannot be created either, or the disk fails.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let path = root.join("index");
        adopt_latest(root, &path)?;
        remove_links(&path)?;
        let opened = open_sled(&path).or_else(|error| {
            // A snapshot that was being written when a process died hides the complete ones.
            let n_removed = remove_torn_snapshots(&path);
            if n_removed > 0 { open_sled(&path) } else { Err(error) }
        });
        let db = match opened {
            Ok(db) => db,
            Err(sled::Error::Io(error)) if is_disk_trouble(&error) => return Err(error.into()),
            Err(error) if is_locked(&error) => return Err(error.into()),
            Err(error) => return Self::open_anew(root, &error),
        };
        let mut was_closed = false;
        let why = guarded(|| {
            was_closed = db.get(b"mboot")?.is_some_and(|was| was == "closed");
            match distrust(&db, &boot_id())? {
                None => check(&db),
                why => Ok(why),
            }
        });
        match why {
            Ok(None) => Ok(Self { was_closed, ..Self::of(Generation::new(db, path, 0)) }),
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

    /// Sets the index aside because of `error`, and opens an empty one in its place.
    ///
    /// # Errors
    /// If an empty index cannot be created.
    pub(crate) fn open_anew(root: &Path, error: &sled::Error) -> Result<Self, StoreError> {
        tracing::warn!(%error, "index is set aside and rebuilt from the journals");
        let path = root.join("index");
        set_aside(&path)?;
        Ok(Self::of(Generation::empty(path, 0)?))
    }

    /// Whether the process that had the index open before closed it. Then all journal lines that it has are durable.
    pub(crate) fn was_closed(&self) -> bool {
        self.was_closed
    }

    fn of(generation: Generation) -> Self {
        let current = Arc::new(RwLock::new(Arc::new(generation)));
        Self { current, n_changes: watch::Sender::default(), was_closed: false }
    }

    /// Creates an empty index, which can replace this one once it is filled.
    ///
    /// # Errors
    /// If it cannot be created.
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

    /// Switches this handle and its clones to another index.
    pub(crate) fn replace_by(&self, other: &Self) {
        let next = other.now();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, next);
        drop(current);
        before.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Removes the index from the disk when its last user drops it.
    pub(crate) fn discard(&self) {
        self.now().is_replaced.store(true, Ordering::Relaxed);
    }

    /// Number of batches applied through this handle or its clones.
    pub(crate) fn n_changes(&self) -> u64 {
        *self.n_changes.borrow()
    }

    /// [`Self::n_changes`], to wait for.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.n_changes.subscribe()
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
    /// If the index cannot be written.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let now = self.now();
        now.flush()?;
        now.insert(b"mboot", b"closed")?;
        now.flush()?;
        fs::File::open(now.path.join("db"))?.sync_all()?;
        Ok(())
    }

    /// Opens a copy of this index in `folder`. Nothing may write to this one meanwhile.
    ///
    /// # Errors
    /// If it cannot be copied or opened.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<Self, StoreError> {
        copy_files(&self.now().path, &folder.join("index"))?;
        Self::open(folder)
    }

    /// Applies journal lines of one run, up to `end`.
    ///
    /// # Errors
    /// If sled fails. The lines are in the journal all the same.
    pub(crate) fn apply(
        &self,
        run: &RunId,
        lines: &[Located<Outline<'_>>],
        end: JournalOffset,
    ) -> Result<(), StoreError> {
        let applied = guarded(|| self.apply_all(run, lines, end));
        self.n_changes.send_modify(|n| *n += 1);
        applied
    }

    fn apply_all(
        &self,
        run: &RunId,
        lines: &[Located<Outline<'_>>],
        end: JournalOffset,
    ) -> Result<(), StoreError> {
        let db = self.now();
        let mut row = self.run(run)?.unwrap_or_default();
        let mut lines = lines.iter().peekable();
        loop {
            pulse::beat();
            let mut changes = Changes::new(&db);
            while changes.n_keys() < KEYS_PER_TRANSACTION
                && let Some(line) = lines.next()
            {
                apply_line(&mut changes, run, &mut row, line)?;
            }
            row.applied = lines.peek().map_or(end, |line| line.start);
            changes.set_alone(run_key(run), encode(&row));
            changes.write()?;
            if lines.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// Adds to the number of damaged lines of a run.
    pub(crate) fn add_damaged(
        &self,
        run: &RunId,
        n: u64,
        applied: JournalOffset,
    ) -> Result<(), StoreError> {
        let mut row = self.run(run)?.unwrap_or_default();
        row.n_damaged += n;
        row.applied = applied;
        self.now().insert(run_key(run), encode(&row))?;
        Ok(())
    }

    /// Removes a rejected item that has no place, by the number of its line.
    pub(crate) fn remove_rejected(&self, run: &RunId, seq: u64) -> Result<(), StoreError> {
        let db = self.now();
        let mut row = self.run(run)?.unwrap_or_default();
        let mut changes = Changes::new(&db);
        let before = changes.remove(&rejected_key(run, seq))?;
        uncount_rejected(&mut changes, run, &mut row, before)?;
        changes.set_alone(run_key(run), encode(&row));
        changes.write()?;
        self.n_changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Removes all rows of a run, whose journal is missing or no longer the one that was applied.
    pub(crate) fn forget(&self, run: &RunId) -> Result<(), StoreError> {
        let db = self.now();
        for kind in [b'i', b'w', b'r', b'd', b'h', b's', b'q', b'l'] {
            for key in db.scan_prefix(key(kind, run, &[])).keys() {
                db.remove(key?)?;
            }
        }
        db.remove(run_key(run))?;
        Ok(())
    }

    pub(crate) fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.now().get(run_key(run))?.and_then(|bytes| decode(&bytes)))
    }

    /// The first run whose id is greater than this one; the first of all without one.
    pub(crate) fn run_after(&self, run: Option<&RunId>) -> Result<Option<RunId>, StoreError> {
        let after =
            run.map_or_else(|| Bound::Included(b"n".to_vec()), |run| Bound::Excluded(run_key(run)));
        for key in self.now().range((after, Bound::Excluded(b"o".to_vec()))).keys() {
            let key = key?;
            let run = std::str::from_utf8(&key[1..]).ok().and_then(|id| RunId::new(id).ok());
            if run.is_some() {
                return Ok(run);
            }
        }
        Ok(None)
    }

    /// Lists all runs, in order of their ids.
    pub(crate) fn runs(&self) -> Result<Vec<(RunId, RunRow)>, StoreError> {
        let mut runs = Vec::new();
        for entry in self.now().scan_prefix(b"n") {
            let (key, value) = entry?;
            let run = std::str::from_utf8(&key[1..]).ok().and_then(|id| RunId::new(id).ok());
            if let (Some(run), Some(row)) = (run, decode(&value)) {
                runs.push((run, row));
            }
        }
        Ok(runs)
    }

    pub(crate) fn dump(&self, run: &RunId, path: &str) -> Result<Option<DumpRow>, StoreError> {
        let bytes = blocks::get(&self.now(), &dump_key(run, path))?;
        Ok(bytes.and_then(|bytes| DumpRow::from_bytes(path, &bytes)))
    }

    /// Lists the cursors of a run's media logs.
    pub(crate) fn logs(&self, run: &RunId) -> Result<Vec<LogCursor>, StoreError> {
        let mut logs = Vec::new();
        for value in self.now().scan_prefix(key(b'l', run, &[])).values() {
            logs.extend(decode::<LogRow>(&value?).map(LogCursor::from));
        }
        Ok(logs)
    }

    /// The place of a session in the order in which the run's sessions were seen, from 0.
    pub(crate) fn session(&self, run: &RunId, session: &str) -> Result<Option<u32>, StoreError> {
        let bytes = blocks::get(&self.now(), &session_key(run, session))?;
        Ok(bytes.and_then(|bytes| decode(&bytes)))
    }

    /// The place of the last session that made items of a rank at a key and step.
    pub(crate) fn last_session(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        rank: u32,
    ) -> Result<Option<u32>, StoreError> {
        let bytes = blocks::get(&self.now(), &writer_key(run, key, step, rank))?;
        Ok(bytes.and_then(|bytes| decode(&bytes)))
    }

    /// What the run's logs have of a line.
    pub(crate) fn line(&self, run: &RunId, line: &ReadLine) -> Result<LineRow, StoreError> {
        let bytes = blocks::get(&self.now(), &line_key(run, line))?;
        Ok(bytes.and_then(|bytes| decode(&bytes)).unwrap_or_default())
    }
}
