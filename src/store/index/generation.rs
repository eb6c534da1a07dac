//! One sled database: opens, checks, sets aside and removes it.

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

/// One sled database. Another replaces it when it fails or has grown too large. Then it is removed when its
/// last reader drops it.
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
            // If this fails, the next start removes the rest.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

impl std::ops::Deref for Generation {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        self.db.as_ref().unwrap_or_else(|| unreachable!("only drop takes the database"))
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

/// An index that takes longer to open counts as damaged.
const OPENING: Duration = Duration::from_mins(1);

/// How long to wait for sled's lock. sled's threads may hold it after their process released the store.
const SLED_LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Removes an index that is, or has in it, a symbolic link: sled would write to what lies behind it. The index is then
/// built from the journals.
pub(super) fn remove_links(path: &Path) -> io::Result<()> {
    let is_link =
        |entry: io::Result<fs::DirEntry>| entry?.file_type().map(|kind| kind.is_symlink());
    let has_links = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => true,
        Ok(meta) if meta.is_dir() => {
            fs::read_dir(path)?.map(is_link).collect::<io::Result<Vec<bool>>>()?.contains(&true)
        }
        // It is missing, or no index.
        _ => false,
    };
    if !has_links {
        return Ok(());
    }
    tracing::warn!(
        "the index is or has a symbolic link: it is removed and rebuilt from the journals"
    );
    // Links in it are removed, and not followed.
    fs::remove_dir_all(path)
}

/// Opens the database in `path`. The caller holds the store's lock, so a process that still holds sled's own
/// lock is about to end.
pub(super) fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let start = Instant::now();
    loop {
        match open_sled_once(path) {
            Err(error) if is_locked(&error) && start.elapsed() < SLED_LOCK_PATIENCE => {
                pulse::beat();
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Whether another process holds sled's lock. sled has no error kind for it, only text.
pub(super) fn is_locked(error: &sled::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Opens the database once. On some damaged files, sled 0.34.7 panics or never returns.
fn open_sled_once(path: &Path) -> Result<sled::Db, sled::Error> {
    // Without changes, sled's flusher would still write half a megabyte each half second: the segment that
    // it cleans up fills a hundredth of a new segment, which is then cleaned up next.
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
            Err(_) => return Err(sled::Error::ReportableBug("the index does not open".to_owned())),
        }
    }
}

/// Calls sled. A panic of sled counts as damage.
pub(super) fn guarded<T, E: From<sled::Error>>(
    action: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        Err(sled::Error::ReportableBug("sled panicked on damaged files".to_owned()).into())
    })
}

/// Returns why the index cannot be trusted, if its schema or boot mark shows it.
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

/// An index up to this size, in bytes, is checked at each start. A larger one only if it was not closed.
const CHECKED_BYTES_MAX: u64 = 16 << 20;

/// Reads every page, since sled checks pages only when they are read, and compares the counts in the rows of
/// runs with the rows of items. Returns why the index is wrong, if it is. Marks it as open in this boot.
pub(super) fn check(db: &sled::Db) -> Result<Option<&'static str>, sled::Error> {
    let was_closed = db.insert(b"mboot", boot_id().as_bytes())?.is_some_and(|was| was == "closed");
    if was_closed && db.size_on_disk()? > CHECKED_BYTES_MAX {
        return Ok(None);
    }
    let mut counted = BTreeMap::<Vec<u8>, [u64; 3]>::new();
    let mut noted = BTreeMap::<Vec<u8>, [u64; 3]>::new();
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
                    let Some(row) = row else { return Ok(Some("a row cannot be read")) };
                    counts[match row.state {
                        State::Image => 0,
                        State::Held => 1,
                        State::Rejected => 2,
                    }] += 1;
                }
            }
            Some(b'd' | b'h' | b's' | b'q' | b'w') => {
                let mut rows = Walk::new(&key, &value);
                while rows.step()?.is_some() {}
            }
            Some(b'n') => match decode(&value) {
                Some(RunRow { n_image, n_held, n_rejected, .. }) => {
                    noted.insert(key[1..].to_vec(), [n_image, n_held, n_rejected]);
                }
                None => return Ok(Some("a run's row cannot be read")),
            },
            _ => {}
        }
    }
    noted.retain(|_, counts| *counts != [0; 3]);
    Ok((counted != noted).then_some("its counts are wrong"))
}

/// Renames the latest generation, if an earlier process created one, to `path`.
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

/// Removes the index of a store, of any generation.
pub(crate) fn remove_all(root: &Path) -> io::Result<()> {
    let path = root.join("index");
    adopt_latest(root, &path)?;
    remove_index(&path)
}

/// Removes the index at `path`, if there is one.
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

/// Whether the disk refuses writes, so that another index would fail too.
pub(crate) fn is_disk_trouble(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull, WouldBlock};
    matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull | WouldBlock)
}

/// Whether an error means damaged files rather than a failing disk.
pub(crate) fn is_damage(error: &sled::Error) -> bool {
    !matches!(error, sled::Error::Io(_))
}

/// Removes snapshots that were being written when the process died. sled 0.34.7 takes them for the newest
/// ones (spacejam/sled#1527). Returns the number removed.
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

/// Renames an index that does not open. Removes all but the last two of these.
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
    // Failing to remove one must not prevent a start.
    for old in bad.iter().rev().skip(2) {
        if let Err(error) = remove_index(old) {
            tracing::warn!(path = %old.display(), %error, "an old damaged index could not be removed");
        }
    }
    Ok(())
}

/// The boot id if a sandbox hides it. An index with this id may be of another boot.
const UNKNOWN_BOOT: &str = "unknown";

/// The id of the current boot of the machine.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| UNKNOWN_BOOT.to_owned(), |id| id.trim().to_owned())
}
