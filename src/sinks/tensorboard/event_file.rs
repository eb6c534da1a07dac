//! An event file that Safelight appends records to.
//!
//! A reader continues at the end of the last whole record. Neither of `TensorBoard`'s loaders recovers if the bytes before
//! that offset change. Whole records are therefore never cut off. Records behind the last receipt are reported to the
//! caller, so that they are not written twice.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::durable::DiskFile;
use crate::formats::tfevents::{self, FOOTER_BYTES, HEADER_BYTES, Outline};
use crate::sinks::target_dir::{TargetDir, TargetDirError};

/// How many bytes of a record are read for its outline.
const BEGINNING_BYTES: u64 = 8 << 10;

/// How many bytes of a torn record are checked for Safelight's mark: its header and first fields.
const TORN_BYTES_CHECKED: u64 = 64;

/// An event file.
#[derive(Debug)]
pub(super) struct EventFile {
    file: DiskFile,
    /// The length of all whole records.
    pub(super) n_bytes: u64,
    /// The durable length.
    synced_bytes: u64,
    /// The last step of each tag.
    last_steps: HashMap<String, i64>,
}

impl EventFile {
    /// Creates an event file.
    ///
    /// # Errors
    /// If the file exists or can't be created.
    pub(super) fn create(dir: &TargetDir, path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        dir.create_dir_all(folder)?;
        let file = dir.create_new(path)?;
        file.try_lock()?;
        dir.sync_dir(folder)?;
        Ok(Self { file, n_bytes: 0, synced_bytes: 0, last_steps: HashMap::new() })
    }

    /// Opens an event file; returns `None` if there is none. An incomplete record is cut off from the file's end. Calls
    /// `see` with the offset and the contents of each record from `kept_bytes` on.
    ///
    /// # Errors
    /// If the file can't be read, another process writes to it, or Safelight did not write it.
    pub(super) fn open(
        dir: &TargetDir,
        path: &Path,
        kept_bytes: u64,
        mut see: impl FnMut(u64, Outline),
    ) -> io::Result<Option<Self>> {
        let file = match dir.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.try_lock()?;
        let n_bytes = file.n_bytes()?;
        let mut opened = Self { file, n_bytes: 0, synced_bytes: 0, last_steps: HashMap::new() };
        let not_ours = || io::Error::from(TargetDirError::NotOurs(dir.path(path)));
        let mut n_marked = 0;
        while let Some((end, outline)) = opened.next_record(n_bytes, kept_bytes)? {
            // Every record but the first names the images that it holds, in a field that only Safelight writes.
            match (opened.n_bytes, outline.kept.is_empty()) {
                (_, false) => n_marked += 1,
                (0, true) if outline.tag.is_empty() => {}
                (_, true) => return Err(not_ours()),
            }
            let last = opened.last_steps.entry(outline.tag.clone()).or_insert(outline.step);
            *last = outline.step.max(*last);
            if opened.n_bytes >= kept_bytes {
                see(opened.n_bytes, outline);
            }
            opened.n_bytes = end;
        }
        if opened.n_bytes < n_bytes {
            if n_marked == 0 && !opened.may_have_torn_record_of_ours(n_bytes)? {
                return Err(not_ours());
            }
            let n_cut = n_bytes - opened.n_bytes;
            let path = dir.path(path);
            tracing::warn!(n_cut, path = %path.display(), "incomplete record cut off from an event file");
            opened.file.set_len(opened.n_bytes)?;
        }
        if opened.n_bytes >= kept_bytes {
            // A killed process may not have synced the last records. From here on they count as durable.
            let folder = path.parent().unwrap_or(Path::new(""));
            dir.create_dir_all(folder)?;
            dir.sync_dir(folder)?;
            opened.file.sync()?;
        }
        opened.synced_bytes = opened.n_bytes;
        Ok(Some(opened))
    }

    /// Whether the bytes after the last whole record, in a file of `n_bytes`, can be a record of Safelight that was torn
    /// when the process or the machine stopped.
    fn may_have_torn_record_of_ours(&self, n_bytes: u64) -> io::Result<bool> {
        let n = (n_bytes - self.n_bytes).min(TORN_BYTES_CHECKED);
        let mut beginning = vec![0; usize::try_from(n).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut beginning, self.n_bytes)?;
        Ok(tfevents::may_be_torn_record(&beginning, self.n_bytes == 0))
    }

    /// Returns the end and the outline of the record at [`Self::n_bytes`]. Checksums are checked only from `kept_bytes` on,
    /// because those records may not be durable.
    fn next_record(&self, n_bytes: u64, kept_bytes: u64) -> io::Result<Option<(u64, Outline)>> {
        let (frame, start) = ((HEADER_BYTES + FOOTER_BYTES) as u64, self.n_bytes);
        let mut header = [0; HEADER_BYTES];
        if n_bytes.saturating_sub(start) < frame {
            return Ok(None);
        }
        self.file.read_exact_at(&mut header, start)?;
        let Some(length) = tfevents::payload_bytes(header) else { return Ok(None) };
        let end = start.saturating_add(frame).saturating_add(length);
        if end > n_bytes {
            return Ok(None);
        }
        let read = |n: u64| {
            let mut bytes = vec![0; usize::try_from(n).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut bytes, start + HEADER_BYTES as u64)?;
            io::Result::Ok(bytes)
        };
        if start < kept_bytes {
            let beginning = read(length.min(BEGINNING_BYTES))?;
            if let Some(outline) = tfevents::outline(&beginning, length) {
                return Ok(Some((end, outline)));
            }
        }
        let whole = read(length + FOOTER_BYTES as u64)?;
        let payload = tfevents::payload(&whole);
        let outline = payload.and_then(|payload| tfevents::outline(payload, length));
        Ok(outline.map(|outline| (end, outline)))
    }

    /// Whether the step is later than all steps of the tag. An equal step is not, because of two records one loader shows
    /// the first and the other loader the last.
    pub(super) fn takes(&self, tag: &str, step: i64) -> bool {
        self.last_steps.get(tag).is_none_or(|last| *last < step)
    }

    pub(super) fn has(&self, tag: &str) -> bool {
        self.last_steps.contains_key(tag)
    }

    /// Appends the record of a step and returns its offset. The time of the first record is the start of the run.
    ///
    /// # Errors
    /// If the record can't be written. Nothing is appended then.
    pub(super) fn append(
        &mut self,
        tag: &str,
        step: i64,
        wall_time: f64,
        record: &[u8],
    ) -> io::Result<u64> {
        if self.n_bytes == 0 {
            // Synced before other records are written, so that a torn file still has Safelight's mark.
            self.write(&tfevents::first_record(wall_time))?;
            self.sync()?;
        }
        let offset = self.n_bytes;
        self.write(record)?;
        self.last_steps.insert(tag.to_owned(), step);
        Ok(offset)
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(record, self.n_bytes);
        if written.is_err() {
            // If this fails too, the next start cuts the record off.
            self.file.set_len(self.n_bytes).ok();
        }
        written?;
        self.n_bytes += record.len() as u64;
        Ok(())
    }

    /// Makes all records durable.
    ///
    /// # Errors
    /// If the file can't be synced. Records that may not be durable are cut off.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.n_bytes == self.synced_bytes {
            return Ok(());
        }
        let synced = self.file.sync();
        match synced {
            Ok(()) => self.synced_bytes = self.n_bytes,
            Err(_) => self.file.set_len(self.synced_bytes)?,
        }
        synced
    }
}
