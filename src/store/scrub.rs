//! The scrub: reads all media files, slowly, and compares them with their digests.
//!
//! A pass goes through the runs in order of their ids, and through each journal from its beginning. Its place, and
//! what it found, are in the store's file `scrub.json`, so that a restart goes on. If the file is lost, a pass begins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::findings::{DamagedMedia, ScrubProgress};
use super::journal::{Event, JournalOffset, Line};
use super::media_check::{Damage, MediaFiles, files_of};
use super::{Reader, StoreError};
use crate::durable::Disk;
use crate::media::{CommittedImage, RunId};
use crate::pace::Pace;
use crate::pulse;

/// Reading a file counts as at least this many bytes: small files cost time, too.
const FILE_BYTES_MIN: u64 = 16 << 10;

/// Bytes of files that are looked at again when the store is opened.
const RESTORED_BYTES_MAX: u64 = 64 << 20;

/// Journal lines that are read in one turn.
const LINES_PER_TURN: usize = 512;

/// The content of `scrub.json`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct ScrubFile {
    /// The run that is read, and where its next line begins. `None` between two passes.
    at: Option<(RunId, JournalOffset)>,
    progress: ScrubProgress,
    damaged: Vec<DamagedMedia>,
}

/// Reads all media files of a store, again and again.
pub(crate) struct Scrub {
    reader: Reader,
    pace: Arc<Pace>,
    at: Option<(RunId, JournalOffset)>,
    progress: ScrubProgress,
    /// What was last saved.
    saved: ScrubFile,
}

fn path(store: &Path) -> PathBuf {
    store.join("scrub.json")
}

fn unix_seconds_now() -> f64 {
    UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64())
}

/// Takes up what an earlier process found, as far as it is still so.
pub(super) fn restore(reader: &Reader) {
    let scrub = Scrub::new(reader.clone());
    reader.findings().set_progress(scrub.progress);
    let mut n_bytes = 0;
    for found in &scrub.saved.damaged {
        reader.findings().add(found.clone());
        if n_bytes < RESTORED_BYTES_MAX {
            // What cannot be read now is looked at later.
            n_bytes += scrub.file_size(found).unwrap_or(0);
            scrub.is_still_damaged(found).ok();
        }
    }
}

/// Looks whether the media files of all images exist. A copy of a store that was written meanwhile may lack some.
///
/// # Errors
/// If the index fails.
pub(super) fn look_for_missing(reader: &Reader) -> Result<(), StoreError> {
    tracing::info!("the store was copied: looking whether all media files are there");
    let mut run = reader.run_after(None)?;
    while let Some(id) = run {
        let folder = reader.run_folder(&id);
        for item in reader.placed(&id) {
            pulse::beat();
            // A journal that fails shows elsewhere.
            let Ok((_, entry)) = item else { break };
            let Some(image) = entry.as_image().filter(|image| !image.pruned) else { continue };
            for file in files_of(image) {
                let path = folder.join(file.path);
                let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
                if fs::symlink_metadata(path).is_err_and(is_missing) {
                    reader.findings().note(&id, &image.id, file.path, &Damage::Missing);
                }
            }
            if reader.findings().is_full() {
                break;
            }
        }
        run = reader.run_after(Some(&id))?;
    }
    let missing = reader.findings().status().missing;
    if missing > 0 {
        tracing::warn!(missing, "the copied store lacks media files: safelight verify lists them");
    }
    Scrub::new(reader.clone()).save()
}

fn load(store: &Path) -> ScrubFile {
    let text = fs::read(path(store)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

impl Scrub {
    /// Goes on where the last scrub of the store ended.
    pub(crate) fn new(reader: Reader) -> Self {
        let saved = load(reader.root());
        let (at, progress) = (saved.at.clone(), saved.progress);
        Self { reader, pace: Arc::default(), at, progress, saved }
    }

    /// Sets how many bytes are read per second, at most.
    pub(crate) fn set_rate(&self, bytes_per_s: u64) {
        self.pace.set(Some(bytes_per_s));
    }

    /// Whether a pass is under way, or should begin: the last one ended at least `pause` ago.
    pub(crate) fn is_due(&self, pause: Duration) -> bool {
        let since = self.progress.ended.map(|ended| unix_seconds_now() - ended);
        // A pass that ended in the future ended before the clock was set.
        self.at.is_some() || since.is_none_or(|since| since < 0.0 || since >= pause.as_secs_f64())
    }

    /// Reads the files of the next lines of a journal, until `is_stopped`. Ends the pass after the last run.
    ///
    /// # Errors
    /// If the index or a journal cannot be read. The next call goes on with the next run.
    pub(crate) fn turn(&mut self, is_stopped: impl Fn() -> bool) -> Result<(), StoreError> {
        let (run, from) = if let Some(at) = self.at.take() {
            at
        } else {
            (self.progress.files, self.progress.bytes) = (0, 0);
            let Some(run) = self.reader.run_after(None)? else {
                self.end_pass();
                return Ok(());
            };
            (run, JournalOffset::START)
        };
        let read = self.read_lines(&run, from, is_stopped);
        let next = if let Ok(Some(place)) = &read {
            Some((run, *place))
        } else {
            let next = self.reader.run_after(Some(&run))?;
            next.map(|next| (next, JournalOffset::START))
        };
        self.at = next;
        self.reader.findings().set_progress(self.progress);
        if self.at.is_none() {
            self.end_pass();
        }
        read.map(drop)
    }

    /// Returns where the next turn continues in the run; `None` at its end.
    fn read_lines(
        &mut self,
        run: &RunId,
        from: JournalOffset,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Option<JournalOffset>, StoreError> {
        let until = self.reader.journal_end(run)?;
        let folder = self.reader.run_folder(run);
        let files = MediaFiles::open(&folder, self.pace.clone());
        let (mut at, mut n_lines) = (from, 0);
        for line in self.reader.lines::<Line>(run, from, until) {
            if n_lines == LINES_PER_TURN || is_stopped() {
                return Ok(Some(at));
            }
            let located = line?;
            at = located.end();
            n_lines += 1;
            let (place, event) = (located.start, located.line.event);
            let Event::Media(entry) = event else { continue };
            let Some(image) = entry.as_image() else { continue };
            if !self.reader.is_current(run, &image.id, place)? {
                continue;
            }
            for file in files_of(image) {
                let checked = match &files {
                    Ok(files) => files.check(file),
                    Err(damage) => Err(damage.clone()),
                };
                self.progress.files += 1;
                self.progress.bytes += file.size;
                self.pace.wait_for(FILE_BYTES_MIN.saturating_sub(file.size));
                // Retention may have removed it meanwhile.
                if let Err(damage) = checked
                    && self.reader.is_current(run, &image.id, place)?
                {
                    let path = file.path;
                    tracing::error!(%run, path, %damage, "media file is missing or damaged");
                    self.reader.findings().note(run, &image.id, path, &damage);
                }
            }
        }
        Ok(None)
    }

    fn end_pass(&mut self) {
        self.progress.ended = Some(unix_seconds_now());
        self.reader.findings().set_progress(self.progress);
        let ScrubProgress { files, bytes, .. } = self.progress;
        tracing::info!(files, bytes, "all media files were read");
    }

    /// Writes the place and the findings, if they are others than on the disk.
    ///
    /// # Errors
    /// If the disk fails. Then the next start repeats a part of the pass.
    pub(crate) fn save(&mut self) -> Result<(), StoreError> {
        let damaged = self.reader.findings().all();
        let file = ScrubFile { at: self.at.clone(), progress: self.progress, damaged };
        if file != self.saved {
            let text = serde_json::to_vec(&file).map_err(io::Error::other)?;
            Disk::default().replace(&path(self.reader.root()), &text)?;
            self.saved = file;
        }
        Ok(())
    }

    /// Looks again at a file that was found damaged. Forgets it if it is sound now, or if no image names it. Returns
    /// whether it is still damaged.
    ///
    /// # Errors
    /// If the index or the journal cannot be read.
    pub(crate) fn is_still_damaged(&self, found: &DamagedMedia) -> Result<bool, StoreError> {
        let image = found.image();
        let item = self.reader.item(&found.run, &image.key, image.step, image.index)?;
        let image = item.as_ref().and_then(|entry| entry.as_image()).filter(|image| !image.pruned);
        let is_damaged = image.is_some_and(|image| self.is_damaged(found, image));
        if !is_damaged {
            self.reader.findings().forget(found);
        }
        Ok(is_damaged)
    }

    /// The recorded size of a file that was found damaged, if an image still names it.
    fn file_size(&self, found: &DamagedMedia) -> Option<u64> {
        let image = found.image();
        let item = self.reader.item(&found.run, &image.key, image.step, image.index).ok()??;
        files_of(item.as_image()?).find(|file| file.path == found.path).map(|file| file.size)
    }

    fn is_damaged(&self, found: &DamagedMedia, image: &CommittedImage) -> bool {
        let Some(file) = files_of(image).find(|file| file.path == found.path) else { return false };
        let files = MediaFiles::open(&self.reader.run_folder(&found.run), Arc::default());
        match files.and_then(|files| files.check(file)) {
            Ok(()) => false,
            Err(damage) => {
                self.reader.findings().note(&found.run, &image.id, file.path, &damage);
                true
            }
        }
    }
}
