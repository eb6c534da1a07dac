//! What a log's content says: which log it is, and whether it has the lines that were read.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::SeekFrom;

use super::lines::LineSplitter;
use crate::media::LineDigest;
use crate::store::journal::{Fingerprint, LogCursor};

/// Bytes at the start of a log that identify it.
pub(super) const HEAD_BYTES: u64 = 1024;

/// Bytes that are read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Lines that are split at a time, at most.
pub(super) const LINES_MAX: usize = 1024;

/// Whether `file` begins as the log of `cursor` did, and has the last line that was read at its place.
pub(crate) fn matches(file: &File, cursor: &LogCursor) -> bool {
    let is = |offset: u64, want: &Fingerprint| {
        read_range(file, offset, want.n_bytes).is_ok_and(|bytes| Fingerprint::of(&bytes) == *want)
    };
    cursor.head.n_bytes > 0
        && is(0, &cursor.head)
        && cursor.offset.checked_sub(cursor.tail.n_bytes).is_some_and(|at| is(at, &cursor.tail))
}

/// Whether `file`, which matches, has all lines that were read before the cursor. Reads them only if
/// `file` is another file or was written to since.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn has_lines_of(file: &File, cursor: &LogCursor) -> io::Result<bool> {
    let meta = file.metadata()?;
    let is_same = (cursor.dev, cursor.ino) == (meta.dev(), meta.ino())
        && cursor.mtime_ns == Some(mtime_ns(&meta));
    if is_same || cursor.content.is_none() {
        return Ok(true);
    }
    Ok(content_before(file, cursor.offset)? == cursor.content)
}

/// Returns the digest of all lines of a log before `offset`, where a line ends. `None` if none does.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn content_before(file: &File, offset: u64) -> io::Result<Option<LineDigest>> {
    let mut splitter = LineSplitter::at_start(HEAD_BYTES);
    let mut lines = VecDeque::new();
    let mut content = Some(LineDigest::of(b""));
    let mut chunk = vec![0; READ_BYTES];
    while splitter.offset() < offset {
        let rest = usize::try_from(offset - splitter.offset()).unwrap_or(READ_BYTES);
        let n = file.read_at(&mut chunk[..READ_BYTES.min(rest)], splitter.offset())?;
        if n == 0 {
            return Ok(None);
        }
        splitter.push_some(&chunk[..n], &mut lines, LINES_MAX);
        content = lines.drain(..).next_back().map_or(content, |last| last.content);
    }
    Ok(content.filter(|_| splitter.n_begun() == 0))
}

/// Reads a short range of a file.
///
/// # Errors
/// If the file cannot be read or is shorter.
pub(super) fn read_range(file: &File, offset: u64, n: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(n.min(HEAD_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Where the next byte after a hole is that was written, at or after `offset`. The file's length if there is
/// none, and `offset` if the file system does not know.
pub(super) fn next_written(file: &File, offset: u64, length: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(at) => at.clamp(offset, length.max(offset)),
        Err(rustix::io::Errno::NXIO) => length.max(offset),
        Err(_) => offset,
    }
}

/// The modification time of a file, in nanoseconds since the Unix epoch.
pub(super) fn mtime_ns(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}
