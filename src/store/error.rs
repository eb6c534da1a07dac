//! Errors of the store.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::FORMAT;
use super::lock::Holder;
use crate::media::RunId;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the store.
    #[error("store {path} is in use by process {} (safelight {})", .holder.pid, .holder.command)]
    Held {
        /// The store.
        path: PathBuf,
        /// The process.
        holder: Holder,
    },
    /// The store is of a later version.
    #[error("{path} has format {got}, this version reads up to {FORMAT}: use a newer safelight")]
    TooNew {
        /// The `run.json` with the format.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
    /// Another run directory has the run's id in this store.
    #[error(
        "run {run} of this store came from {was}, not from {now}: give one of them another \"id\" in safelight.json"
    )]
    OtherSource {
        /// The run.
        run: RunId,
        /// The directory that the run came from.
        was: PathBuf,
        /// The directory that it would come from.
        now: PathBuf,
    },
    /// The run's files in the store fail. Nothing is committed to it until they work again.
    #[error("run {run}: {reason}")]
    LeftOut {
        /// The run.
        run: RunId,
        /// What fails.
        reason: String,
    },
    /// The folder that a run would have in the store is another run's.
    #[error(
        "{folder} holds run {was}, not {now}: give one of them another \"id\" in safelight.json"
    )]
    OtherRun {
        /// The folder.
        folder: PathBuf,
        /// The run that it holds.
        was: RunId,
        /// The run that would be written to it.
        now: RunId,
    },
    /// A run directory has a path that is not UTF-8. `run.json` cannot hold it.
    #[error("run directory {path:?} is not UTF-8: rename it")]
    NotUtf8 {
        /// The run directory.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("store: {0}")]
    Io(#[from] io::Error),
    /// A named file failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The index failed.
    #[error("index: {0}")]
    Index(#[from] sled::Error),
}

impl StoreError {
    /// Whether the files of one run fail, so that other runs can be written all the same. A full disk, a lack of
    /// descriptors or memory, and a failed index concern all runs.
    pub(crate) fn is_of_run(&self) -> bool {
        match self {
            Self::Io(error) | Self::File { source: error, .. } => {
                error.kind() != io::ErrorKind::StorageFull && !is_lack(error)
            }
            Self::Held { .. } | Self::Index(_) => false,
            Self::TooNew { .. }
            | Self::OtherSource { .. }
            | Self::OtherRun { .. }
            | Self::LeftOut { .. }
            | Self::NotUtf8 { .. } => true,
        }
    }

    /// Whether the disk is full. The operation may succeed later.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io(error)
            | Self::File { source: error, .. }
            | Self::Index(sled::Error::Io(error)) => {
                matches!(error.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// Whether this process lacks descriptors or memory.
pub(super) fn is_lack(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .iter()
        .any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}
