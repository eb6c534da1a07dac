//! The cursors of a run's logs: up to where each was read.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::store::journal::LogCursor;

/// Cursors by content that are kept of logs that had the same path.
const SAME_PATH_MAX: u64 = 4;

/// The cursors of all logs of a run that the store knows, and of those that are closed.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    /// By inode. The device of a cursor by content is 0.
    by_ino: HashMap<u64, Vec<LogCursor>>,
}

impl Cursors {
    pub(super) fn new(cursors: Vec<LogCursor>) -> Self {
        let mut known = Self::default();
        cursors.into_iter().for_each(|cursor| known.set(cursor));
        known
    }

    /// Adds a cursor in place of those with its device and inode.
    pub(super) fn set(&mut self, cursor: LogCursor) {
        let of_ino = self.by_ino.entry(cursor.ino).or_default();
        of_ino.retain(|known| known.dev != cursor.dev);
        of_ino.reserve_exact(1);
        of_ino.push(cursor);
    }

    /// Adds the cursor of a log whose file is gone as one by content: it names its log by path and content
    /// alone. The store keys cursors by device and inode: the device is 0, and a hash of the path plus a small
    /// number takes the place of the inode. Returns the cursor as the store must learn it.
    ///
    /// Of two cursors of one log the one that is further stays. Other logs with this path are told apart by their
    /// content; if there are too many, the one that was written to longest ago is forgotten.
    pub(super) fn set_by_content(&mut self, cursor: LogCursor) -> LogCursor {
        let mut hasher = DefaultHasher::new();
        cursor.path.hash(&mut hasher);
        let first = hasher.finish();
        let is_same_log =
            |known: &LogCursor| known.generation.is_some() && known.generation == cursor.generation;
        let place = |ino: &u64| match self.get((0, *ino)) {
            Some(known) if is_same_log(known) => (0, None),
            None => (1, None),
            Some(known) => (2, known.mtime_ns),
        };
        let inos = (0..SAME_PATH_MAX).map(|n| first.wrapping_add(n));
        let ino = inos.min_by_key(place).unwrap_or(first);
        if let Some(further) = self.get((0, ino)).filter(|known| is_same_log(known))
            && further.offset > cursor.offset
        {
            return further.clone();
        }
        let by_content = LogCursor { dev: 0, ino, ..cursor };
        self.set(by_content.clone());
        by_content
    }

    /// The cursor with this device and inode.
    pub(super) fn get(&self, (dev, ino): (u64, u64)) -> Option<&LogCursor> {
        self.by_ino.get(&ino)?.iter().find(|cursor| cursor.dev == dev)
    }

    /// Removes and returns the cursor with this device and inode.
    pub(super) fn remove(&mut self, (dev, ino): (u64, u64)) -> Option<LogCursor> {
        let at = self.with_ino(ino).iter().position(|cursor| cursor.dev == dev)?;
        self.remove_at(ino, at)
    }

    /// Removes a cursor.
    pub(super) fn remove_this(&mut self, cursor: &LogCursor) {
        if let Some(at) = self.with_ino(cursor.ino).iter().position(|known| known == cursor) {
            self.remove_at(cursor.ino, at);
        }
    }

    fn remove_at(&mut self, ino: u64, at: usize) -> Option<LogCursor> {
        let of_ino = self.by_ino.get_mut(&ino)?;
        let removed = of_ino.remove(at);
        if of_ino.is_empty() {
            self.by_ino.remove(&ino);
        }
        Some(removed)
    }

    /// The cursors with this inode.
    pub(super) fn with_ino(&self, ino: u64) -> &[LogCursor] {
        self.by_ino.get(&ino).map_or(&[], Vec::as_slice)
    }

    /// The cursors of logs that had this path.
    pub(super) fn with_path(&self, path: &str) -> impl Iterator<Item = &LogCursor> {
        self.iter().filter(move |cursor| cursor.path == path)
    }

    /// All cursors, in any order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LogCursor> {
        self.by_ino.values().flatten()
    }
}
