//! The backlog of a run at a target: its undelivered items and notices, counted and read from the journal in pages.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::state::{ParkedItem, TargetCursor};
use crate::config::SyncConfig;
use crate::media::{CommittedImage, Fate, MediaEntry, MediaId, MediaKey, RunId, State};
use crate::sinks::{Delivery, News, Notice};
use crate::store::journal::{Event, JournalOffset, Line, Located};
use crate::store::{Reader, Standing, StoreError};

/// Limits of a page: its items and notices, the bytes of its items, and the journal lines that are read for it.
const PAGE_ITEMS: u64 = 256;
const PAGE_BYTES: u64 = 256 << 20;
const PAGE_LINES: usize = 16_384;

/// An item to deliver, and where its line stands in the journal.
#[derive(Debug, Clone)]
pub(super) struct BacklogItem {
    pub(super) delivery: Delivery,
    pub(super) place: JournalOffset,
    pub(super) length: u32,
}

/// The items of a part of a run's journal.
#[derive(Debug)]
pub(super) struct BacklogPage {
    pub(super) items: Vec<BacklogItem>,
    pub(super) notices: Vec<Notice>,
    /// Where the page ends.
    pub(super) end: TargetCursor,
    /// How much [`Backlog::count`] counts for these lines.
    pub(super) count: BacklogCount,
    /// Whether the page ends before an item that has not settled yet.
    pub(super) is_settling: bool,
    /// Whether the sequence numbers don't follow the cursor: the journal was replaced by another one.
    pub(super) is_replaced: bool,
}

/// Number of undelivered items and notices, and the bytes of the items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BacklogCount {
    pub(super) n_items: u64,
    pub(super) bytes: u64,
}

impl BacklogCount {
    pub(super) fn add(&mut self, other: Self) {
        self.n_items += other.n_items;
        self.bytes += other.bytes;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.n_items = self.n_items.saturating_sub(other.n_items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    fn add_item(&mut self, bytes: u64) {
        self.add(Self { n_items: 1, bytes });
    }

    /// Whether the next page is full.
    pub(super) fn is_page(self) -> bool {
        self.n_items >= PAGE_ITEMS || self.bytes >= PAGE_BYTES
    }
}

/// A run, with the items that a target gets.
pub(super) struct Backlog<'a> {
    pub(super) reader: &'a Reader,
    pub(super) run: &'a RunId,
    /// The target.
    pub(super) config: &'a SyncConfig,
}

/// The kind of a journal line, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CountedKind {
    Media,
    Gone,
    Retried,
    #[serde(other)]
    Other,
}

/// The fields of a journal line that counting needs.
#[derive(Debug, Deserialize)]
struct CountedLine {
    kind: CountedKind,
    state: Option<State>,
    key: Option<MediaKey>,
    #[serde(default)]
    size: u64,
}

impl Backlog<'_> {
    /// Reads a page of items after a cursor: those that the target gets and that no later item replaced.
    ///
    /// `settled` is in seconds since the Unix epoch. If it is given, the page ends before the first item that was
    /// written after it, because more items of the same step may follow.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn page(
        &self,
        from: TargetCursor,
        until: JournalOffset,
        settled: Option<f64>,
    ) -> Result<BacklogPage, StoreError> {
        let folder: Arc<Path> = self.reader.run_folder(self.run).into();
        let mut page = BacklogPage {
            items: Vec::new(),
            notices: Vec::new(),
            end: from,
            count: BacklogCount::default(),
            is_settling: false,
            is_replaced: false,
        };
        let mut bytes = 0;
        for line in self.reader.lines::<Line>(self.run, from.place, until).take(PAGE_LINES) {
            let located = line?;
            let end = located.end();
            let Located { line, start: place, length } = located;
            if line.seq <= from.seq {
                page.is_replaced = true;
                return Ok(page);
            }
            let (seq, before) = (line.seq, page.end);
            page.end = TargetCursor { place: end, seq };
            let (size, line) = match line.event {
                Event::Media(entry) if self.is_wanted(entry.state(), entry.key()) => {
                    let size = entry.as_image().map_or(0, |image| image.file.size);
                    (size, self.backlog_line(seq, *entry, place, &folder)?)
                }
                Event::Gone { id, .. } if self.has_notices() && self.has_key(Some(&id.key)) => {
                    (0, BacklogLine::gone(seq, id))
                }
                Event::Retried { place, .. } if self.has_notices() => {
                    let id = self.emptied_place(place, until)?;
                    let id = id.filter(|id| self.has_key(Some(&id.key)));
                    (0, id.map_or(BacklogLine::Nothing, |id| BacklogLine::gone(seq, id)))
                }
                _ => continue,
            };
            match line {
                BacklogLine::Item(delivery) => {
                    if settled.is_some_and(|settled| is_written_after(settled, &delivery)) {
                        (page.end, page.is_settling) = (before, true);
                        return Ok(page);
                    }
                    bytes += delivery.n_bytes();
                    page.items.push(BacklogItem { delivery: *delivery, place, length });
                }
                BacklogLine::Notice(notice) => page.notices.push(notice),
                BacklogLine::Nothing => {}
            }
            page.count.add_item(size);
            if (page.items.len() + page.notices.len()) as u64 >= PAGE_ITEMS || bytes >= PAGE_BYTES {
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// Reads a parked item. Returns `None` if a later item replaced it.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn parked_item(
        &self,
        parked: &ParkedItem,
    ) -> Result<Option<BacklogItem>, StoreError> {
        let &ParkedItem { place, length, .. } = parked;
        let line = self.reader.line(self.run, place, length)?;
        let Event::Media(entry) = line.event else { return Ok(None) };
        let folder = self.reader.run_folder(self.run).into();
        match self.backlog_line(line.seq, *entry, place, &folder)? {
            BacklogLine::Item(delivery) => {
                Ok(Some(BacklogItem { delivery: *delivery, place, length }))
            }
            BacklogLine::Notice(_) | BacklogLine::Nothing => Ok(None),
        }
    }

    /// When the media file of the first item between two places of the journal was written, in seconds since the Unix
    /// epoch.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn oldest(
        &self,
        from: TargetCursor,
        until: JournalOffset,
    ) -> Result<Option<f64>, StoreError> {
        let page = self.page(from, until, None)?;
        Ok(page.items.first().and_then(|first| written(&first.delivery.path())))
    }

    /// Counts the items between two places of the journal.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(super) fn count(
        &self,
        from: JournalOffset,
        until: JournalOffset,
    ) -> Result<BacklogCount, StoreError> {
        let mut count = BacklogCount::default();
        for line in self.reader.lines::<CountedLine>(self.run, from, until) {
            let CountedLine { kind, state, key, size } = line?.line;
            let is_counted = match (kind, state) {
                (CountedKind::Media, Some(state)) => self.is_wanted(state, key.as_ref()),
                (CountedKind::Gone, _) => self.has_notices() && self.has_key(key.as_ref()),
                // Which key it has says an earlier line.
                (CountedKind::Retried, _) => self.has_notices(),
                _ => false,
            };
            if is_counted {
                count.add_item(size);
            }
        }
        Ok(count)
    }

    /// Returns the place of a waiting item that was tried again, if nothing is there now. `place` is where the item's
    /// line begins.
    fn emptied_place(
        &self,
        place: JournalOffset,
        until: JournalOffset,
    ) -> Result<Option<MediaId>, StoreError> {
        let line = self.reader.lines::<Line>(self.run, place, until).next().transpose()?;
        let Some(Event::Media(entry)) =
            line.filter(|line| line.start == place).map(|line| line.line.event)
        else {
            return Ok(None);
        };
        let (key, step, index) = (entry.key().cloned(), entry.step(), entry.index());
        let (Some(key), Some(step), Some(index)) = (key, step, index) else { return Ok(None) };
        let is_empty = self.reader.item(self.run, &key, step, index)?.is_none();
        Ok(is_empty.then_some(MediaId { key, step, index }))
    }

    fn has_notices(&self) -> bool {
        self.config.kind.has_notices()
    }

    fn is_wanted(&self, state: State, key: Option<&MediaKey>) -> bool {
        (state == State::Image || self.has_notices()) && self.has_key(key)
    }

    /// Whether the target gets the items of a key. A line that cannot be read may have none.
    fn has_key(&self, key: Option<&MediaKey>) -> bool {
        key.map_or(self.has_notices(), |key| self.config.selection.has_key(key))
    }

    /// Returns what a target that wants the item whose line begins at `place` gets of it.
    fn backlog_line(
        &self,
        seq: u64,
        mut entry: MediaEntry,
        place: JournalOffset,
        folder: &Arc<Path>,
    ) -> Result<BacklogLine, StoreError> {
        if let Fate::Image(image) = &mut entry.fate {
            match self.reader.standing(self.run, &image.id, place)? {
                Standing::Current => {
                    let CommittedImage { id, file, layers, .. } = (**image).clone();
                    let time = time_of(&entry, folder);
                    let (entry, folder) = (Arc::new(entry), folder.clone());
                    let delivery = Delivery { seq, id, file, layers, entry, time, folder };
                    return Ok(BacklogLine::Item(Box::new(delivery)));
                }
                Standing::Pruned if self.has_notices() => image.pruned = true,
                Standing::Pruned | Standing::Replaced => return Ok(BacklogLine::Nothing),
            }
        }
        let time = time_of_dump(&entry);
        Ok(BacklogLine::Notice(Notice { seq, news: News::Item(Box::new(entry)), time }))
    }
}

/// What a target gets of a line of the journal.
enum BacklogLine {
    Item(Box<Delivery>),
    Notice(Notice),
    /// A later line is about the image, or its file was removed.
    Nothing,
}

impl BacklogLine {
    /// No item is at this place any more.
    fn gone(seq: u64, id: MediaId) -> Self {
        Self::Notice(Notice { seq, news: News::Gone(id), time: None })
    }
}

/// The time of an item, in seconds since the Unix epoch: from its record, or else when its dump was written.
fn time_of_dump(entry: &MediaEntry) -> Option<f64> {
    let of_record = entry.description.time.filter(|time| time.is_finite());
    #[expect(clippy::cast_precision_loss, reason = "a time of this century, to a microsecond")]
    let seconds = |ns: i64| ns as f64 / 1e9;
    let of_dump = || entry.source.mtime_ns.or(entry.source.held.map(|held| held.mtime_ns));
    of_record.or_else(|| of_dump().map(seconds))
}

/// The time of an image, in seconds since the Unix epoch: from its record, or else when its dump was written, or else when
/// its media file was written. Paths of the entry are relative to `folder`.
pub(crate) fn time_of(entry: &MediaEntry, folder: &Path) -> f64 {
    let of_file = || written(&folder.join(&entry.as_image()?.file.path));
    time_of_dump(entry).or_else(of_file).unwrap_or(0.0)
}

/// Whether an item's media file was written after a time. A time in the future comes from another clock and counts as
/// settled.
fn is_written_after(time: f64, item: &Delivery) -> bool {
    let now = unix_seconds(SystemTime::now());
    written(&item.path()).is_some_and(|written| (time..now + 1.0).contains(&written))
}

/// When a file was written, in seconds since the Unix epoch.
pub(super) fn written(path: &Path) -> Option<f64> {
    let written = path.symlink_metadata().ok()?.modified().ok()?;
    Some(unix_seconds(written))
}

/// Seconds since the Unix epoch.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
