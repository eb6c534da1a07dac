//! The lock of a store: one process at a time holds it. The lock file names the process and its socket.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::durable::open_to_read;

/// The process that holds a store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The subcommand that it runs.
    pub command: String,
    /// The control socket that it listens on, if it does.
    pub socket: Option<PathBuf>,
}

/// What the lock file says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LockFile {
    #[serde(flatten)]
    holder: Holder,
    /// The inode of the folder of runs. In a copy of the store, it is another.
    #[serde(default)]
    runs_ino: Option<u64>,
}

/// The lock on a store, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    /// Whether the store was copied since it was opened last.
    pub(super) is_copy: bool,
}

fn path(store: &Path) -> PathBuf {
    store.join("lock")
}

/// Reads the lock file of a store. The process that it names may have ended.
#[must_use]
pub fn holder(store: &Path) -> Option<Holder> {
    let file: LockFile = read(&mut open_to_read(&path(store)).ok()?)?;
    Some(file.holder)
}

fn read(file: &mut File) -> Option<LockFile> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Opens or creates the lock file. It is written to only if it is a file without other names.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    options.create(true).truncate(false).read(true).write(true).custom_flags(flags);
    let file = options.open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() > 1 {
        return Err(io::Error::other("want a file without other names: remove it"));
    }
    Ok(file)
}

impl Lock {
    /// Locks the store, waiting up to `patience` for another process to release it. Returns `Ok(None)` if
    /// it is still held then.
    ///
    /// # Errors
    /// If the lock file cannot be opened or locked.
    pub(crate) fn take(store: &Path, me: &Holder, patience: Duration) -> io::Result<Option<Self>> {
        let mut file = open(&path(store))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let before = read(&mut file).and_then(|before| before.runs_ino);
        let runs_ino = fs::metadata(store.join("runs")).ok().map(|meta| meta.ino());
        let is_copy = before.is_some() && before != runs_ino;
        let now = LockFile { holder: me.clone(), runs_ino };
        // This fails on a full disk. The lock holds all the same, but its holder is not named.
        drop(
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(&serde_json::to_vec(&now)?)),
        );
        Ok(Some(Self { _file: file, is_copy }))
    }
}
