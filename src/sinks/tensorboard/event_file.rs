//! An event file that we write: opened where it was left, and appended to record by record.
//!
//! A reader that has met the end of a whole record goes on from there, and never again if other bytes stand there
//! then (so do both of `TensorBoard`'s loaders). Whole records are therefore never cut away: what is found behind
//! the last receipt is told of instead, so that it isn't written twice.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::durable::DiskFile;
use crate::formats::tfevents::{self, FOOTER_BYTES, HEADER_BYTES, Outline};
use crate::sinks::target_dir::{TargetDir, TargetDirError};

/// How much of a record is read to know what is in it.
const BEGINNING_BYTES: u64 = 8 << 10;

/// How much of a torn record is read to know whether it is ours: its header and its first fields.
const TORN_BYTES_CHECKED: u64 = 64;

/// An event file.
#[derive(Debug)]
pub(super) struct EventFile {
    file: DiskFile,
    /// Its length: whole records.
    pub(super) n_bytes: u64,
    /// How much of it is durable.
    synced_bytes: u64,
    /// The last step of each tag.
    last_steps: HashMap<String, i64>,
}

impl EventFile {
    /// Makes one.
    ///
    /// # Errors
    /// If it can't be made.
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
            // A process that was killed may have written the last records and not synced them. They count as kept from
            // here on.
            let folder = path.parent().unwrap_or(Path::new(""));
            dir.create_dir_all(folder)?;
            dir.sync_dir(folder)?;
            opened.file.sync()?;
        }
        opened.synced_bytes = opened.n_bytes;
        Ok(Some(opened))
    }

    /// Whether what follows the last whole record, in a file of `n_bytes`, can be the beginning of a record that was
    /// being written when the process or the machine stopped.
    fn may_have_torn_record_of_ours(&self, n_bytes: u64) -> io::Result<bool> {
        let n = (n_bytes - self.n_bytes).min(TORN_BYTES_CHECKED);
        let mut beginning = vec![0; usize::try_from(n).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut beginning, self.n_bytes)?;
        Ok(tfevents::may_be_torn_record(&beginning, self.n_bytes == 0))
    }

    /// The end and the contents of the record that stands at [`Self::n_bytes`]. What was kept is believed;
    /// what came later, and may not be durable, is checked.
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

    /// Whether an event of this step comes after all that a tag has. One of the same step doesn't: of two, one
    /// loader shows the first and the other the last.
    pub(super) fn takes(&self, tag: &str, step: i64) -> bool {
        self.last_steps.get(tag).is_none_or(|last| *last < step)
    }

    pub(super) fn has(&self, tag: &str) -> bool {
        self.last_steps.contains_key(tag)
    }

    /// Appends the record of a step, whose time the run begins at if it is the first, and returns its place.
    ///
    /// # Errors
    /// If it can't be written: then nothing is appended.
    pub(super) fn append(
        &mut self,
        tag: &str,
        step: i64,
        wall_time: f64,
        record: &[u8],
    ) -> io::Result<u64> {
        if self.n_bytes == 0 {
            // Synced before any other record is written, so that a torn file still says whose it is.
            self.write(&tfevents::first_record(wall_time))?;
            self.sync()?;
        }
        let place = self.n_bytes;
        self.write(record)?;
        self.last_steps.insert(tag.to_owned(), step);
        Ok(place)
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(record, self.n_bytes);
        if written.is_err() {
            // If even that fails, the next start cuts it off.
            self.file.set_len(self.n_bytes).ok();
        }
        written?;
        self.n_bytes += record.len() as u64;
        Ok(())
    }

    /// Makes all records durable that are not.
    ///
    /// # Errors
    /// If it can't be synced. Nobody knows then what of them is durable, and they are cut off.
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
