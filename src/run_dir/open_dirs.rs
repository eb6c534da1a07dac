//! The directories that are open: a bounded number, whatever number is read.
//!
//! A directory that was not used for the longest time is closed when another one is opened. One that was not
//! used for a minute is closed too, so that a quiet run holds no descriptor and its file system can be
//! unmounted.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use crate::descriptors;
use crate::locks::lock;

/// Directories that are open at a time: this part of all descriptors, and not more than a number.
const PART: usize = 16;
const OPEN_MAX: usize = 1024;

/// How long an unused directory stays open.
const UNUSED_MAX: Duration = Duration::from_mins(1);

/// Descriptors are a resource of the process, so all directories of the process share them.
static OPEN: LazyLock<Mutex<OpenDirs>> =
    LazyLock::new(|| Mutex::new(OpenDirs::new(descriptors::share(PART, OPEN_MAX))));

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// Identifies a directory among those that are open. Dropping it closes the directory.
#[derive(Debug)]
pub(super) struct DirKey(u64);

impl DirKey {
    pub(super) fn new() -> Self {
        Self(NEXT_KEY.fetch_add(1, Ordering::Relaxed))
    }

    /// The directory's descriptor, if it is open.
    pub(super) fn get(&self) -> Option<Arc<OwnedFd>> {
        lock(&OPEN).get(self.0, Instant::now())
    }

    /// Keeps the directory open. Closes another one if too many are.
    pub(super) fn keep(&self, fd: OwnedFd) -> Arc<OwnedFd> {
        let fd = Arc::new(fd);
        lock(&OPEN).insert(self.0, fd.clone(), Instant::now());
        fd
    }
}

impl Drop for DirKey {
    fn drop(&mut self) {
        lock(&OPEN).remove(self.0);
    }
}

/// Closes the directories that were not used for a minute.
pub(crate) fn close_unused(now: Instant) {
    lock(&OPEN).close_unused(now);
}

#[derive(Debug)]
struct OpenDirs {
    n_max: usize,
    dirs: HashMap<u64, OpenDir>,
    /// The keys by their last use, oldest first.
    by_use: BTreeMap<u64, u64>,
    n_uses: u64,
}

#[derive(Debug)]
struct OpenDir {
    fd: Arc<OwnedFd>,
    /// The number of the last use.
    used: u64,
    used_at: Instant,
}

impl OpenDirs {
    fn new(n_max: usize) -> Self {
        Self { n_max, dirs: HashMap::new(), by_use: BTreeMap::new(), n_uses: 0 }
    }

    fn get(&mut self, key: u64, now: Instant) -> Option<Arc<OwnedFd>> {
        let dir = self.dirs.get_mut(&key)?;
        dir.used_at = now;
        // Mostly it was the last one that was used, too.
        if dir.used != self.n_uses {
            self.by_use.remove(&dir.used);
            self.n_uses += 1;
            dir.used = self.n_uses;
            self.by_use.insert(dir.used, key);
        }
        Some(dir.fd.clone())
    }

    fn insert(&mut self, key: u64, fd: Arc<OwnedFd>, now: Instant) {
        self.remove(key);
        while self.dirs.len() >= self.n_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.dirs.remove(&oldest);
        }
        self.n_uses += 1;
        self.dirs.insert(key, OpenDir { fd, used: self.n_uses, used_at: now });
        self.by_use.insert(self.n_uses, key);
    }

    fn remove(&mut self, key: u64) {
        if let Some(dir) = self.dirs.remove(&key) {
            self.by_use.remove(&dir.used);
        }
    }

    fn close_unused(&mut self, now: Instant) {
        while let Some((_, &key)) = self.by_use.first_key_value() {
            let is_used = self
                .dirs
                .get(&key)
                .is_some_and(|dir| now.saturating_duration_since(dir.used_at) < UNUSED_MAX);
            if is_used {
                return;
            }
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_directory_that_was_unused_for_longest_is_closed() {
        let fd = || Arc::new(OwnedFd::from(File::open("/").expect("a directory")));
        let mut dirs = OpenDirs::new(2);
        let start = Instant::now();
        dirs.insert(1, fd(), start);
        dirs.insert(2, fd(), start);
        assert!(dirs.get(1, start).is_some());
        dirs.insert(3, fd(), start + UNUSED_MAX);
        let open = |dirs: &OpenDirs| [1, 2, 3].map(|key| dirs.dirs.contains_key(&key));
        assert_eq!(open(&dirs), [true, false, true]);
        dirs.close_unused(start + UNUSED_MAX);
        assert_eq!(open(&dirs), [false, false, true]);
        dirs.remove(3);
        assert!(dirs.by_use.is_empty() && dirs.dirs.is_empty());
    }
}
