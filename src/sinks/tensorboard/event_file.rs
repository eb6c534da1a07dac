//! An event file that we write: opened where it was left, and appended to record by record.
//!
//! A reader that has met the end of a whole record goes on from there, and never again if other bytes stand there
//! then (so do both of `TensorBoard`'s loaders). Whole records are therefore never cut away: what is found behind
//! the last receipt is told of instead, so that it isn't written twice.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{Disk, DiskFile};
use crate::formats::tfevents::{self, FOOTER_BYTES, HEADER_BYTES, Outline};

/// How much of a record is read to know what is in it.
const BEGINNING_BYTES: u64 = 8 << 10;

/// An event file.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
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
    pub(super) fn create(disk: &Disk, path: PathBuf) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        disk.create_dir_all(folder)?;
        let file = disk.create_new(&path)?;
        file.try_lock()?;
        disk.sync_dir(folder)?;
        Ok(Self { path, file, n_bytes: 0, synced_bytes: 0, last_steps: HashMap::new() })
    }

    /// Opens one that is there; `None` if none is. What isn't a whole record is cut off from its end; `see` gets
    /// the place and the contents of each record from `kept_bytes` on.
    ///
    /// # Errors
    /// If it can't be read, or another process writes to it.
    pub(super) fn open(
        disk: &Disk,
        path: PathBuf,
        kept_bytes: u64,
        mut see: impl FnMut(u64, Outline),
    ) -> io::Result<Option<Self>> {
        let file = match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.try_lock()?;
        let n_bytes = file.n_bytes()?;
        let mut opened =
            Self { path, file, n_bytes: 0, synced_bytes: 0, last_steps: HashMap::new() };
        while let Some((end, outline)) = opened.next_record(n_bytes, kept_bytes)? {
            let last = opened.last_steps.entry(outline.tag.clone()).or_insert(outline.step);
            *last = outline.step.max(*last);
            if opened.n_bytes >= kept_bytes {
                see(opened.n_bytes, outline);
            }
            opened.n_bytes = end;
        }
        if opened.n_bytes < n_bytes {
            let (path, n_cut) = (opened.path.display(), n_bytes - opened.n_bytes);
            tracing::warn!(%path, n_cut, "what is no whole record is cut off from an event file");
            opened.file.set_len(opened.n_bytes)?;
        }
        if opened.n_bytes >= kept_bytes {
            // A process that was killed may have written it and got no further. It counts as kept from now on.
            let folder = opened.path.parent().unwrap_or(Path::new("."));
            disk.create_dir_all(folder)?;
            disk.sync_dir(folder)?;
            opened.file.sync()?;
        }
        opened.synced_bytes = opened.n_bytes;
        Ok(Some(opened))
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
            self.write(&tfevents::first_record(wall_time))?;
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
