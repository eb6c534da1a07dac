//! One sled database: how it is opened, checked, set aside and removed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::super::StoreError;
use super::SCHEMA;
use super::blocks::Walk;
use super::rows::{RejectedRow, Row, RunRow, decode};
use crate::media::State;
use crate::pulse;

/// One sled database. Another takes its place when it fails or has grown too large; it goes with its
/// last reader.
#[derive(Debug)]
pub(super) struct Generation {
    db: Option<sled::Db>,
    /// `index`, or `index.<number>` until the next start.
    pub(super) path: PathBuf,
    pub(super) number: u32,
    pub(super) is_replaced: AtomicBool,
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

impl Generation {
    pub(super) fn new(db: sled::Db, path: PathBuf, number: u32) -> Self {
        Self { db: Some(db), path, number, is_replaced: AtomicBool::new(false) }
    }

    pub(super) fn empty(path: PathBuf, number: u32) -> Result<Self, StoreError> {
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
pub(super) fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
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
pub(super) fn is_locked(error: &sled::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// sled 0.34.7 panics, or never comes back, on some damaged files.
fn open_sled_once(path: &Path) -> Result<sled::Db, sled::Error> {
    // Its flusher would write half a megabyte each half second, with nothing to write: what it cleans up
    // fills a segment by a hundredth, which is then the next to clean up.
    let config = sled::Config::default().path(path).cache_capacity(32 << 20).flush_every_ms(None);
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
pub(super) fn guarded<T, E: From<sled::Error>>(
    action: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        Err(sled::Error::ReportableBug("sled panicked on damaged files".to_owned()).into())
    })
}

/// Why what stands in the index may not be true, if its marks tell.
pub(super) fn distrust(db: &sled::Db, boot: &str) -> Result<Option<&'static str>, sled::Error> {
    if !db.was_recovered() {
        db.insert(b"mschema", SCHEMA)?;
    } else if db.get(b"mschema")?.as_deref() != Some(SCHEMA) {
        return Ok(Some("it has not this version's schema"));
    } else if db
        .get(b"mboot")?
        .is_some_and(|open_in| open_in != "closed" && (open_in != boot || boot == UNKNOWN_BOOT))
    {
        return Ok(Some("the machine went down while it was open"));
    }
    Ok(None)
}

/// An index up to this size, in bytes, is read through at each start; a larger one only where it was
/// not closed.
const CHECKED_BYTES_MAX: u64 = 16 << 20;

/// Reads every page, which sled checks only when it is asked for it, and counts again what the rows of
/// runs count. Why the index can't be true, if so. Marks it as open in this boot.
pub(super) fn check(db: &sled::Db) -> Result<Option<&'static str>, sled::Error> {
    let was_closed = db.insert(b"mboot", boot_id().as_bytes())?.is_some_and(|was| was == "closed");
    if was_closed && db.size_on_disk()? > CHECKED_BYTES_MAX {
        return Ok(None);
    }
    let mut counted = BTreeMap::<Vec<u8>, [u64; 3]>::new();
    let mut told = BTreeMap::<Vec<u8>, [u64; 3]>::new();
    for entry in db.iter() {
        pulse::beat();
        let (key, value) = entry?;
        match key.first() {
            Some(b'i' | b'r') => {
                let run = key[1..].split(|&byte| byte == 0).next().unwrap_or_default();
                let counts = match counted.get_mut(run) {
                    Some(counts) => counts,
                    None => counted.entry(run.to_vec()).or_default(),
                };
                let mut rows = Walk::new(&key, &value);
                while let Some(row) = rows.step()? {
                    let row: Option<Row> = match key[0] {
                        b'i' => decode(row),
                        _ => decode(row).map(|RejectedRow { row, .. }| row),
                    };
                    let Some(row) = row else { return Ok(Some("a row can't be read")) };
                    counts[match row.state {
                        State::Image => 0,
                        State::Held => 1,
                        State::Rejected => 2,
                    }] += 1;
                }
            }
            Some(b'd') => {
                let mut rows = Walk::new(&key, &value);
                while rows.step()?.is_some() {}
            }
            Some(b'n') => match decode(&value) {
                Some(RunRow { n_image, n_held, n_rejected, .. }) => {
                    told.insert(key[1..].to_vec(), [n_image, n_held, n_rejected]);
                }
                None => return Ok(Some("a run's row can't be read")),
            },
            _ => {}
        }
    }
    told.retain(|_, counts| *counts != [0; 3]);
    Ok((counted != told).then_some("its counts are wrong"))
}

/// Brings the latest generation, if an earlier process began one, to its place at `path`.
pub(super) fn adopt_latest(root: &Path, path: &Path) -> io::Result<()> {
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

/// Removes the index of a store, whatever generation it is.
pub(crate) fn remove_all(root: &Path) -> io::Result<()> {
    let path = root.join("index");
    adopt_latest(root, &path)?;
    remove_index(&path)
}

/// Removes what stands in the place of an index, if anything does.
fn remove_index(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        result => result,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
pub(super) fn remove_torn_snapshots(path: &Path) -> usize {
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
pub(super) fn set_aside(path: &Path) -> io::Result<()> {
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

/// A sandbox may hide which boot it is: it may be another one then.
const UNKNOWN_BOOT: &str = "unknown";

/// Names the time since the machine came up.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| UNKNOWN_BOOT.to_owned(), |id| id.trim().to_owned())
}
