//! A commit, and its journal lines.

use std::io;
use std::sync::Arc;

use super::RunInfo;
use super::journal::{self, Event, JournalOffset, Line, Located, Outline, SourceCursor};
use super::media_dir::Staged;

/// All events of one line or dump, and the cursor after it. They become true together.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) run: Arc<RunInfo>,
    pub(crate) events: Vec<Event>,
    /// The media files of the events.
    pub(crate) files: Vec<Staged>,
    pub(crate) cursor: SourceCursor,
}

impl Commit {
    /// Whether it only puts files in their places: the items that name them were committed before.
    pub(crate) fn is_repair(&self) -> bool {
        self.events.is_empty() && matches!(self.cursor, SourceCursor::None)
    }
}

/// Framed lines of one run.
pub(super) struct Framed<'a> {
    pub(super) bytes: Vec<u8>,
    /// Outlines for the index. Offsets are relative to `bytes`.
    pub(super) lines: Vec<Located<Outline<'a>>>,
    pub(super) last_seq: u64,
}

impl<'a> Framed<'a> {
    fn add(&mut self, event: &'a Event, cursor: Option<&'a SourceCursor>) -> io::Result<()> {
        let start = self.bytes.len();
        let seq = self.last_seq + 1;
        journal::frame(&Line { seq, event, cursor }, &mut self.bytes);
        let n_bytes = self.bytes.len() - start;
        let length = u32::try_from(n_bytes).map_err(|_| {
            io::Error::other(format!("journal line has {n_bytes} bytes, want at most {}", u32::MAX))
        })?;
        let line = Outline::of(seq, event, cursor);
        let start = JournalOffset { segment: 0, offset: start as u64 };
        self.lines.push(Located { line, start, length });
        self.last_seq = seq;
        Ok(())
    }
}

/// Frames the lines of commits of one run, after the line `seq`. Event `first` gets a batch of its own.
pub(super) fn framed<'a>(
    batches: impl IntoIterator<Item = (&'a [Event], &'a SourceCursor)>,
    first: Option<&'a Event>,
    seq: u64,
) -> io::Result<Framed<'a>> {
    let mut framed = Framed { bytes: Vec::new(), lines: Vec::new(), last_seq: seq };
    if let Some(event) = first {
        framed.add(event, Some(&SourceCursor::None))?;
    }
    for (events, cursor) in batches {
        match events.split_last() {
            None => framed.add(&Event::Cursor, Some(cursor))?,
            Some((last, before)) => {
                before.iter().try_for_each(|event| framed.add(event, None))?;
                framed.add(last, Some(cursor))?;
            }
        }
    }
    Ok(framed)
}
