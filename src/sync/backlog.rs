//! What a target doesn't have yet of a run: read from the journal, a page at a time, and counted.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::state::{Cursor, Parked};
use crate::config::sync::Selection;
use crate::media::{CommittedImage, MediaEntry, MediaKey, RunId, State};
use crate::sinks::Delivery;
use crate::store::journal::{Event, JournalOffset, Line, Located};
use crate::store::{Reader, StoreError};

/// Items and bytes of a page, and lines that are looked at for it, at most.
const PAGE_ITEMS: usize = 256;
const PAGE_BYTES: u64 = 256 << 20;
const PAGE_LINES: usize = 16_384;

/// An item that is to be delivered, and where its line stands.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    pub(super) delivery: Delivery,
    pub(super) place: JournalOffset,
    pub(super) length: u32,
}

/// A part of a run's journal.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Ahead>,
    /// Where it ends.
    pub(super) end: Cursor,
    /// What it takes from what was counted as pending.
    pub(super) tally: Tally,
    /// Whether it ends at an item that was kept a moment ago.
    pub(super) is_held: bool,
    /// Whether the lines are not those that follow the place: the journal is another one.
    pub(super) is_of_other: bool,
}

/// How much is pending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) n_items: u64,
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.n_items += other.n_items;
        self.bytes += other.bytes;
    }

    pub(super) fn take(&mut self, other: Self) {
        self.n_items = self.n_items.saturating_sub(other.n_items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    fn count(&mut self, bytes: u64) {
        self.add(Self { n_items: 1, bytes });
    }
}

/// A run, as a target sees it.
pub(super) struct Backlog<'a> {
    pub(super) reader: &'a Reader,
    pub(super) run: &'a RunId,
    pub(super) selection: &'a Selection,
}

/// What counting needs of a line.
#[derive(Debug, Deserialize)]
struct Glance {
    state: Option<State>,
    key: Option<MediaKey>,
    #[serde(default)]
    size: u64,
}

impl Backlog<'_> {
    /// The items from a place of the journal on, as far as a page goes: those that are wanted and still are what
    /// the store has in their places. It ends before the first that was kept after `settled`, in seconds since the
    /// Unix epoch, if that is given: others of its step may come yet.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn page(
        &self,
        from: Cursor,
        until: JournalOffset,
        settled: Option<f64>,
    ) -> Result<Page, StoreError> {
        let folder: Arc<Path> = self.reader.run_folder(self.run).into();
        let tally = Tally::default();
        let mut page =
            Page { items: Vec::new(), end: from, tally, is_held: false, is_of_other: false };
        let mut bytes = 0;
        for line in self.reader.lines::<Line>(self.run, from.place, until).take(PAGE_LINES) {
            let located = line?;
            let end = located.end();
            let Located { line, start: place, length } = located;
            if line.seq <= from.seq {
                page.is_of_other = true;
                return Ok(page);
            }
            let (seq, before) = (line.seq, page.end);
            page.end = Cursor { place: end, seq };
            let Event::Media(entry) = line.event else { continue };
            if !self.is_wanted(entry.state(), entry.key()) {
                continue;
            }
            let size = entry.as_image().map_or(0, |image| image.file.size);
            if let Some(delivery) = self.delivery(seq, *entry, place, &folder)? {
                if settled.is_some_and(|settled| is_kept_after(settled, &delivery)) {
                    (page.end, page.is_held) = (before, true);
                    return Ok(page);
                }
                bytes += delivery.n_bytes();
                page.items.push(Ahead { delivery, place, length });
            }
            page.tally.count(size);
            if page.items.len() == PAGE_ITEMS || bytes >= PAGE_BYTES {
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// An item that was set aside; none if it is no longer what the store has in its place.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn parked(&self, parked: &Parked) -> Result<Option<Ahead>, StoreError> {
        let &Parked { place, length, .. } = parked;
        let line = self.reader.line(self.run, place, length)?;
        let Event::Media(entry) = line.event else { return Ok(None) };
        let folder = self.reader.run_folder(self.run).into();
        let delivery = self.delivery(line.seq, *entry, place, &folder)?;
        Ok(delivery.map(|delivery| Ahead { delivery, place, length }))
    }

    /// When the first item between two places of the journal was kept.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn oldest(
        &self,
        from: Cursor,
        until: JournalOffset,
    ) -> Result<Option<f64>, StoreError> {
        let page = self.page(from, until, None)?;
        Ok(page.items.first().and_then(|first| written(&first.delivery.path())))
    }

    /// How much there is between two places of the journal.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn tally(
        &self,
        from: JournalOffset,
        until: JournalOffset,
    ) -> Result<Tally, StoreError> {
        let mut tally = Tally::default();
        for line in self.reader.lines::<Glance>(self.run, from, until) {
            let Glance { state, key, size } = line?.line;
            if state.is_some_and(|state| self.is_wanted(state, key.as_ref())) {
                tally.count(size);
            }
        }
        Ok(tally)
    }

    fn is_wanted(&self, state: State, key: Option<&MediaKey>) -> bool {
        state == State::Image && key.is_some_and(|key| self.selection.has_key(key))
    }

    fn delivery(
        &self,
        seq: u64,
        entry: MediaEntry,
        place: JournalOffset,
        folder: &Arc<Path>,
    ) -> Result<Option<Delivery>, StoreError> {
        let Some(image) = entry.as_image() else { return Ok(None) };
        let CommittedImage { id, file, layers, .. } = image.clone();
        if !self.reader.is_current(self.run, &id, place)? {
            return Ok(None);
        }
        let time = time_of(&entry, folder);
        let (entry, folder) = (Arc::new(entry), folder.clone());
        Ok(Some(Delivery { seq, id, file, layers, entry, time, folder }))
    }
}

/// The time of an image, in seconds since the Unix epoch: what the job said, else when its media file was written.
/// Paths are relative to `folder`.
pub(crate) fn time_of(entry: &MediaEntry, folder: &Path) -> f64 {
    let said = entry.description.time.filter(|time| time.is_finite());
    let kept = || written(&folder.join(&entry.as_image()?.file.path));
    said.or_else(kept).unwrap_or(0.0)
}

/// Whether an item was kept after a time. One from the future was kept by another clock.
fn is_kept_after(time: f64, item: &Delivery) -> bool {
    let now = seconds(SystemTime::now());
    written(&item.path()).is_some_and(|written| (time..now + 1.0).contains(&written))
}

/// When a file was written, in seconds since the Unix epoch.
pub(super) fn written(path: &Path) -> Option<f64> {
    let written = path.symlink_metadata().ok()?.modified().ok()?;
    Some(seconds(written))
}

/// Seconds since the Unix epoch.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
