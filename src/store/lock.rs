//! One process at a time holds a store. The lock file says which, and how to talk to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Who holds a store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The subcommand that it runs.
    pub command: String,
    /// The control socket that it listens on.
    pub socket: Option<PathBuf>,
}

/// The lock on a store, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

fn path(store: &Path) -> PathBuf {
    store.join("lock")
}

/// Who the lock file of a store names. It may be gone by now.
#[must_use]
pub fn holder(store: &Path) -> Option<Holder> {
    let mut text = String::new();
    File::open(path(store)).ok()?.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

impl Lock {
    /// Locks the store, waiting up to `patience` for another process to let go of it. `Ok(None)`
    /// means that it is held.
    ///
    /// # Errors
    /// If the lock file can't be opened or locked.
    pub(crate) fn take(store: &Path, me: &Holder, patience: Duration) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path(store))?;
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
        // On a full disk only whoever asks who holds the store misses it.
        drop(
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(&serde_json::to_vec(me)?)),
        );
        Ok(Some(Self { _file: file }))
    }
}
