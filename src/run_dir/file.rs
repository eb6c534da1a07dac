//! A file of a run directory, open for reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

use crate::decode::ReadAt;
use crate::descriptors::{self, OpenCount, OpenGuard};
use crate::media::{Digest, DigestKind, Hasher};
use crate::pace::Pace;
use crate::plan::CHUNK_BYTES;
use crate::pulse;
use crate::store::journal::Stamp;

/// A regular file of a run directory, open for reading.
#[derive(Debug)]
pub(crate) struct RunFile {
    file: File,
    pace: Arc<Pace>,
    /// Whether the page cache had the file before it was read.
    was_cached: OnceLock<bool>,
    /// The end of what was read so far. The page cache has what is read a second time.
    read_until: AtomicU64,
    stamp: Stamp,
    _open: OpenGuard,
}

/// Files that are open: dumps and masks on their way through the pipeline.
static OPEN_FILES: OpenCount = OpenCount::new();

/// This part of all descriptors is for such files, and not more than a number.
const PART: usize = 4;
const OPEN_MAX: usize = 4096;

/// Whether so many files of run directories are open that no more should be opened.
pub(crate) fn are_many_files_open() -> bool {
    OPEN_FILES.n() >= descriptors::share(PART, OPEN_MAX)
}

/// Returns the stamp of a file: size, times and inode.
pub(crate) fn stamp_of(meta: &std::fs::Metadata) -> Stamp {
    Stamp {
        ino: meta.ino(),
        size: meta.len(),
        mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
    }
}

pub(super) fn stamp_of_stat(stat: &rustix::fs::Stat) -> Stamp {
    Stamp {
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn nanoseconds(seconds: i64, nanos: impl Into<i128>) -> i128 {
    i128::from(seconds) * 1_000_000_000 + nanos.into()
}

impl RunFile {
    pub(super) fn new(file: File, meta: &std::fs::Metadata, pace: Arc<Pace>) -> Self {
        let (was_cached, read_until) = (OnceLock::new(), AtomicU64::new(0));
        let (stamp, open) = (stamp_of(meta), OPEN_FILES.add());
        Self { file, pace, was_cached, read_until, stamp, _open: open }
    }

    /// The stamp that the file had when it was opened.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether nobody wrote to the file since it was opened. Only the change time shows a new name or
    /// new permissions, and neither matters.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| self.is_same_as(stamp_of(&meta)))
    }

    /// Whether the file was opened with the content that `stamp` stands for.
    pub(crate) fn is_same_as(&self, stamp: Stamp) -> bool {
        self.stamp.has_content_of(stamp)
    }

    /// Computes the digest of the whole file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn digest(&self, kind: DigestKind) -> io::Result<Digest> {
        let (mut hasher, mut offset) = (Hasher::new(kind), 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        while offset < self.n_bytes() {
            let n =
                usize::try_from(self.n_bytes() - offset).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            self.read_exact_at(&mut chunk[..n], offset)?;
            hasher.update(&chunk[..n]);
            offset += n as u64;
        }
        Ok(hasher.digest())
    }

    /// Whether the page cache seems to have the file: probes its first, middle and last byte.
    fn is_cached(&self) -> bool {
        let last = self.stamp.size.saturating_sub(1);
        [0, last / 2, last].into_iter().all(|offset| {
            let mut byte = [0];
            let mut buffers = [io::IoSliceMut::new(&mut byte)];
            let without_waiting = ReadWriteFlags::NOWAIT;
            rustix::io::preadv2(&self.file, &mut buffers, offset, without_waiting).is_ok()
        })
    }

    /// Returns how many of these bytes were not read before. The digest, the value range and the pixels
    /// each read the file once.
    pub(super) fn n_unread(&self, offset: u64, n: u64) -> u64 {
        let end = offset.saturating_add(n);
        let before = self.read_until.fetch_max(end, Ordering::Relaxed);
        end.saturating_sub(before.max(offset))
    }

    /// Drops the file from the page cache, unless it was there before it was read.
    pub(crate) fn give_back_cache(&self) {
        if self.was_cached.get() == Some(&false) {
            // Advice that some file systems do not support.
            rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed).ok();
        }
    }

    /// Returns the file itself.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

impl ReadAt for RunFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        pulse::beat();
        if !*self.was_cached.get_or_init(|| self.is_cached()) {
            self.pace.wait_for(self.n_unread(offset, buffer.len() as u64));
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn n_bytes(&self) -> u64 {
        self.stamp.size
    }
}
