//! Reads the journal lines that the index points at.

use std::io;
use std::path::Path;

use crate::media::{Fate, MediaEntry, RunId};
use crate::store::error::is_lack;
use crate::store::index::Row;
use crate::store::journal::{self, Event, JournalOffset, PlacedLines};
use crate::store::left_out::LeftOut;
use crate::store::{StoreError, run_folder};

/// The journal of a run, to read lines that the index has.
pub(super) struct Journaled {
    run: RunId,
    lines: PlacedLines,
    left_out: LeftOut,
}

impl Journaled {
    pub(super) fn of(root: &Path, run: &RunId, left_out: &LeftOut) -> Self {
        let lines = PlacedLines::new(journal::folder(&run_folder(root, run)));
        Self { run: run.clone(), lines, left_out: left_out.clone() }
    }

    /// Reads a line. A line that cannot be read counts as damaged, and its run as left out.
    pub(super) fn line(&self, place: JournalOffset, length: u32) -> io::Result<journal::Line> {
        self.noted(self.lines.line(place, length))
    }

    /// Reads the bytes of a row's line, as [`Self::line`] does.
    pub(super) fn bytes(&self, row: Row) -> io::Result<Vec<u8>> {
        self.noted(self.lines.bytes(row.place, row.length))
    }

    fn noted<T>(&self, read: io::Result<T>) -> io::Result<T> {
        read.map_err(|error| {
            if is_gone(&error) || is_lack(&error) {
                return error;
            }
            self.left_out.note_unreadable(&self.run, &error);
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    /// Reads the item that a row points at.
    pub(super) fn entry(&self, row: Row) -> Result<MediaEntry, StoreError> {
        self.entry_of(row, &self.bytes(row)?)
    }

    /// Reads the item that a row points at from the bytes of its line.
    pub(super) fn entry_of(&self, row: Row, bytes: &[u8]) -> Result<MediaEntry, StoreError> {
        match self.noted(journal::parse_line(row.place, bytes))?.event {
            Event::Media(mut entry) => {
                if let Fate::Image(image) = &mut entry.fate {
                    image.pruned = row.is_pruned();
                }
                Ok(*entry)
            }
            _ => Err(io::Error::other("the index points at a line that is not an item").into()),
        }
    }
}

/// Reads the items that rows of a run point at.
pub(super) fn entries(
    journaled: Journaled,
    rows: impl Iterator<Item = Result<Row, StoreError>>,
) -> impl Iterator<Item = Result<(RunId, MediaEntry), StoreError>> {
    rows.filter_map(move |row| match row.and_then(|row| journaled.entry(row)) {
        Err(StoreError::Io(error)) if is_gone(&error) => {
            tracing::warn!(run = %journaled.run, %error, "item is skipped");
            None
        }
        entry => Some(entry.map(|entry| (journaled.run.clone(), entry))),
    })
}

/// Whether a line, or its segment, is damaged or gone.
pub(super) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}
