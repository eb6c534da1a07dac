//! The files of a journal, and places in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A segment of at least this many bytes is followed by a new one.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// A place in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct JournalOffset {
    /// The segment's number, from 1.
    pub(crate) segment: u32,
    /// Bytes from the segment's start.
    pub(crate) offset: u64,
}

impl JournalOffset {
    pub(crate) const START: Self = Self { segment: 1, offset: 0 };
}

/// The journal's folder within a run's folder.
pub(crate) fn folder(run_folder: &Path) -> PathBuf {
    run_folder.join("journal")
}

pub(crate) fn segment_path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08}.jsonl"))
}

/// Whether a run's folder holds a journal.
///
/// # Errors
/// If the journal's folder cannot be listed.
pub(crate) fn is_present(run_folder: &Path) -> io::Result<bool> {
    match segments(&folder(run_folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        segments => Ok(!segments?.is_empty()),
    }
}

/// The length of a segment in bytes; 0 if it is missing.
///
/// # Errors
/// If something else than a file is in its place, or it cannot be looked at.
pub(crate) fn segment_length(folder: &Path, segment: u32) -> io::Result<u64> {
    let path = segment_path(folder, segment);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Ok(meta) if !meta.is_file() => {
            let error = format!("want a regular file, found something else: {}", path.display());
            Err(io::Error::other(error))
        }
        meta => Ok(meta?.len()),
    }
}

/// Lists the numbers of a journal's segments, in order. A number may be missing.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number.filter(|&number: &u32| number > 0));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether all segments before this one are there at their full length: a segment is begun only when
/// the one before it is full.
pub(crate) fn is_whole_before(folder: &Path, segment: u32) -> bool {
    (1..segment).all(|number| {
        fs::metadata(segment_path(folder, number)).is_ok_and(|meta| meta.len() >= SEGMENT_BYTES)
    })
}
