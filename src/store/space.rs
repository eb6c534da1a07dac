//! Free space on the store's disk, and a reserve of it.
//!
//! A full disk hurts the training that shares it, and sled 0.34.7 does not open on one. So nothing is
//! committed while less than `store.free_bytes_min` is free. A *ballast* file of 8 MiB is kept in the
//! store. If there is no room to open the index, the ballast is removed; once there is room, it is
//! created again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::FallocateFlags;

use crate::locks::lock;

/// Size of the ballast.
const BALLAST_BYTES: u64 = 8 << 20;

/// Default of `store.free_bytes_min`. On a small disk, the default is a twentieth of its size.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// The free space of a store's disk.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    root: PathBuf,
    /// `store.free_bytes_min`.
    min: Arc<Mutex<Option<u64>>>,
}

/// Too little space is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store's disk has {free} bytes free, store.free_bytes_min is {min}: nothing is committed until there is room"
)]
pub(crate) struct Full {
    free: u64,
    min: u64,
}

impl Space {
    /// `min` is `store.free_bytes_min`, which a reload may change.
    pub(crate) fn new(store: &Path, min: Arc<Mutex<Option<u64>>>) -> Self {
        Self { root: store.to_owned(), min }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Bytes that this process may use, and the disk's size.
    fn measure(&self) -> io::Result<(u64, u64)> {
        let disk = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok((bytes(disk.f_bavail), bytes(disk.f_blocks)))
    }

    /// Free bytes. 0 if they are unknown.
    pub(crate) fn free(&self) -> u64 {
        self.measure().map_or(0, |(free, _)| free)
    }

    /// Checks that there is room for a commit.
    ///
    /// # Errors
    /// If too little space is free. Unknown free space is no error: a write fails if there is none.
    pub(crate) fn check(&self) -> Result<(), Full> {
        let Ok((free, size)) = self.measure() else { return Ok(()) };
        let min = *lock(&self.min);
        let min = min.unwrap_or_else(|| FREE_BYTES_MIN.min(size / 20));
        // The space of a removed ballast is for the index. The ballast is created again first.
        let missing = if self.ballast().is_file() { 0 } else { BALLAST_BYTES };
        let min = min.saturating_add(missing);
        if free < min { Err(Full { free, min }) } else { Ok(()) }
    }

    /// Removes the ballast if the disk is so full that the index may not open. Returns whether it did.
    pub(crate) fn release_ballast(&self) -> bool {
        let is_tight = self.measure().is_ok_and(|(free, _)| free < BALLAST_BYTES);
        is_tight && std::fs::remove_file(self.ballast()).is_ok()
    }

    /// Creates the ballast if it is missing and there is room for twice its size.
    pub(crate) fn keep_ballast(&self) {
        let has_room = self.measure().is_ok_and(|(free, _)| free > 2 * BALLAST_BYTES);
        if !has_room || self.ballast().is_file() {
            return;
        }
        // A link or something else in its place is left alone.
        let Ok(file) = std::fs::File::create_new(self.ballast()) else { return };
        // Some file systems cannot reserve space. Without a ballast, all works until the disk is full.
        if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES).is_err() {
            drop(std::fs::remove_file(self.ballast()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_compared_with_what_must_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let min = Arc::new(Mutex::new(None));
        let space = Space::new(folder.path(), min.clone());
        let set_min = |bytes| *min.lock().expect("a minimum") = Some(bytes);
        set_min(0);
        assert_eq!(space.check(), Ok(()));
        let free = space.free();
        set_min(free - BALLAST_BYTES / 2);
        assert!(space.check().is_err(), "half of the ballast is missing");
        set_min(u64::MAX);
        assert!(space.check().is_err());
        space.keep_ballast();
        let length = std::fs::metadata(space.ballast()).expect("a ballast").len();
        assert_eq!(length, BALLAST_BYTES);
        // There is room: it stays.
        assert!(!space.release_ballast());
        assert!(space.ballast().is_file());
    }
}
