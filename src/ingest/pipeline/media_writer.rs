//! Writes media files to the store's staging folder.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::progress::Progress;
use super::retry::write_until_stopped;
use crate::media::RunId;
use crate::store::media_dir::{Staged, Staging};
use crate::store::space::Space;

/// Files and bytes that a worker writes between two checks of the free space.
const UNCHECKED_FILES_MAX: u64 = 32;
const UNCHECKED_BYTES_MAX: u64 = 1 << 20;

/// Writes media files. Each worker has a clone.
#[derive(Debug, Clone)]
pub(super) struct MediaWriter {
    staging: Staging,
    space: Space,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    /// Files and bytes that may be written before the free space is checked again.
    unchecked: Cell<(u64, u64)>,
}

impl MediaWriter {
    pub(super) fn new(
        staging: Staging,
        space: Space,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { staging, space, progress, stop, unchecked: Cell::default() }
    }

    /// Whether the program stops.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The staging folder, for other files.
    pub(super) fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Writes a media file, and retries as long as there is no room for it. Returns `None` if the
    /// program stops meanwhile.
    pub(super) fn write(&self, run: &RunId, path: &str, bytes: &[u8]) -> Option<Staged> {
        write_until_stopped("media file", &self.progress, &self.stop, || {
            self.check_room(bytes.len() as u64)?;
            let written = self.staging.write(run, path, bytes);
            if written.is_err() {
                self.unchecked.take();
            }
            written
        })
    }

    /// Checks the free space, if enough was written since the last check.
    fn check_room(&self, n_bytes: u64) -> io::Result<()> {
        let (n_files, n_left) = self.unchecked.get();
        let (files, left) = match n_left.checked_sub(n_bytes) {
            Some(n_left) if n_files > 0 => (n_files, n_left),
            _ => {
                self.unchecked.take();
                self.space.check().map_err(io::Error::other)?;
                (UNCHECKED_FILES_MAX, UNCHECKED_BYTES_MAX)
            }
        };
        self.unchecked.set((files - 1, left));
        Ok(())
    }
}
