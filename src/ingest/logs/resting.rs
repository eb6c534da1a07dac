//! Logs that are closed because nothing was written to them for a while.

use std::fs::Metadata;
use std::time::Instant;

use super::tail::EmptyBytes;
use crate::run_dir::stamp_of;
use crate::store::journal::Stamp;

/// A log that was read to its end and is closed. It is opened again when it looks different.
#[derive(Debug)]
pub(super) struct RestingLog {
    /// Relative to the run directory.
    pub(super) path: String,
    stamp: Stamp,
    /// Bytes at its end that are a line without its newline.
    pub(super) n_begun: u64,
    pub(super) empty: EmptyBytes,
    /// Whether it was closed so soon after a change that another change may leave the same times. It is read
    /// once more.
    is_fresh: bool,
    /// Since when the path leads to no file or to another one.
    pub(super) missing_since: Option<Instant>,
}

impl RestingLog {
    pub(super) fn new(
        path: String,
        meta: &Metadata,
        n_begun: u64,
        empty: EmptyBytes,
        is_fresh: bool,
    ) -> Self {
        let stamp = stamp_of(meta);
        Self { path, stamp, n_begun, empty, is_fresh, missing_since: None }
    }

    /// Whether there is nothing to read in the file with this stamp.
    pub(super) fn is_unchanged(&self, stamp: Stamp) -> bool {
        !self.is_fresh && self.stamp == stamp
    }

    /// Whether the file looked like this when it was closed.
    pub(super) fn has_stamp(&self, stamp: Stamp) -> bool {
        self.stamp == stamp
    }

    /// Whether the file is longer than it was.
    pub(super) fn has_grown(&self, length: u64) -> bool {
        length > self.stamp.size
    }
}
