//! Lines of media logs that were read before, by their content.
//!
//! A log may be copied, rotated by copy and truncate, or rewritten with one line changed. The lines that it
//! shares with what was read before make no further items. The `k`-th time that a line is read in one log, it
//! is known if the run's logs have made at least `k` items of equal lines. So a job may log the same line
//! twice, and a copy of its log adds none.
//!
//! The index knows the lines that are committed. Those in the pipeline are kept here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::ingest::dumps::{Comparing, OpenDump};
use crate::ingest::pipeline::held_at;
use crate::media::{MediaEntry, RunId, State};
use crate::store::journal::{Event, ReadLine};
use crate::store::{LineRow, Reader, RunInfo, StoreError};

/// The lines in the pipeline.
#[derive(Debug, Default)]
pub(super) struct KnownLines {
    in_flight: HashMap<ReadLine, Vec<InFlight>>,
    /// The same lines in the order in which they were submitted, each with the number of its batch.
    order: VecDeque<(u64, ReadLine)>,
}

/// A line in the pipeline.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) run: Arc<RunInfo>,
    /// Of its log.
    pub(super) generation: u32,
    /// Its number in the log.
    pub(super) number: u64,
    pub(super) makes_items: bool,
    /// The number of its batch, from 1.
    pub(super) batch: u64,
}

/// Whether a line was read before.
#[derive(Debug, PartialEq)]
pub(super) enum LineStatus {
    New,
    /// An equal line is in the pipeline. What comes of it is known soon.
    Unclear,
    Known(KnownLine),
}

/// A line that was read before.
#[derive(Debug, PartialEq)]
pub(super) struct KnownLine {
    /// What came of the last equal line. `None` if the journal has lost it.
    item: Option<Box<MediaEntry>>,
}

impl KnownLines {
    /// Whether a line of a log was read before. `n_done` is the number of batches that left the pipeline.
    pub(super) fn status(
        &mut self,
        run: &RunId,
        line: &ReadLine,
        generation: u32,
        n_done: u64,
        reader: &Reader,
    ) -> Result<LineStatus, StoreError> {
        self.forget_done(n_done);
        let row = reader.line_row(run, line)?;
        let of_run = self.in_flight.get(line).into_iter().flatten();
        let of_run = of_run.filter(|other| other.run.id == *run);
        Ok(match decide(&row, generation, of_run) {
            Decision::New => LineStatus::New,
            Decision::Unclear => LineStatus::Unclear,
            Decision::Known => {
                let item = row.item.map(|(place, length)| reader.line(run, place, length));
                // A damaged journal line says nothing.
                let item = item.and_then(Result::ok).and_then(|line| match line.event {
                    Event::Media(entry) => Some(entry),
                    _ => None,
                });
                LineStatus::Known(KnownLine { item })
            }
        })
    }

    /// Notes a line that was submitted.
    pub(super) fn submitted(&mut self, line: ReadLine, in_flight: InFlight) {
        self.order.push_back((in_flight.batch, line));
        self.in_flight.entry(line).or_default().push(in_flight);
    }

    /// Forgets the lines that the index knows.
    fn forget_done(&mut self, n_done: u64) {
        while let Some((_, line)) = self.order.pop_front_if(|(batch, _)| *batch <= n_done) {
            if let Some(lines) = self.in_flight.get_mut(&line) {
                lines.retain(|line| line.batch > n_done);
                if lines.is_empty() {
                    self.in_flight.remove(&line);
                }
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Decision {
    New,
    Unclear,
    Known,
}

/// Decides on a line of the log `generation`, by what the index has and what is in the pipeline.
fn decide<'a>(
    row: &LineRow,
    generation: u32,
    in_flight: impl Iterator<Item = &'a InFlight>,
) -> Decision {
    let (mut n_here, _) = row.of_log(generation);
    let mut n_made = row.n_made;
    for line in in_flight {
        // The index may know it already.
        if line.number > row.of_log(line.generation).1 {
            n_here += u32::from(line.generation == generation);
            n_made += u32::from(line.makes_items);
        }
    }
    if n_here < row.n_made {
        Decision::Known
    } else if n_here < n_made {
        Decision::Unclear
    } else {
        Decision::New
    }
}

impl KnownLine {
    /// Whether an image of the line is known, or a held one, with a dump of the same content. A job that
    /// logs the same lines again may have written other dumps. Returns `None` if more of the dump must be read.
    pub(super) fn has_content_of(
        &self,
        dump: &Arc<OpenDump>,
        comparing: &mut Comparing,
    ) -> Option<bool> {
        let Some(item) = &self.item else { return Some(true) };
        if item.state() == State::Rejected {
            return Some(false);
        }
        match (item.source.digest(), item.source.held) {
            (Some(known), _) => match comparing.digest(dump, known.kind()) {
                Ok(digest) => digest.map(|digest| digest == known),
                Err(_) => Some(false),
            },
            (None, Some(held)) => Some(held_at(dump, held.image) == held),
            (None, None) => Some(true),
        }
    }

    /// Whether the line was rejected, and is tried again.
    pub(super) fn is_waiting(&self) -> bool {
        self.item.as_ref().is_some_and(|item| item.is_waiting())
    }

    /// Whether the line was rejected.
    pub(super) fn is_rejected(&self) -> bool {
        self.item.as_ref().is_none_or(|item| item.state() == State::Rejected)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn in_flight(generation: u32, number: u64, makes_items: bool) -> InFlight {
        let id = RunId::new("r").unwrap_or_else(|error| panic!("{error}"));
        let run = Arc::new(RunInfo { id, source: "/runs/r".into(), identity: Map::new() });
        InFlight { run, generation, number, makes_items, batch: 1 }
    }

    /// Reads equal lines in logs of these generations, and returns which of them are new.
    fn new_lines(generations: &[u32]) -> Vec<bool> {
        let (mut row, mut new) = (LineRow::default(), Vec::new());
        for (number, generation) in (1..).zip(generations) {
            let is_new = decide(&row, *generation, [].iter()) == Decision::New;
            row.note_read(*generation, number);
            row.n_made += u32::from(is_new);
            new.push(is_new);
        }
        new
    }

    #[test]
    fn a_line_is_new_as_often_as_one_log_has_it() {
        assert_eq!(new_lines(&[1, 1, 1]), [true; 3]);
        assert_eq!(new_lines(&[1, 2, 3]), [true, false, false]);
        // The copy has both lines, and then the job goes on in the copy.
        assert_eq!(new_lines(&[1, 1, 2, 2, 2]), [true, true, false, false, true]);
        assert_eq!(new_lines(&[1, 2, 1, 2, 2]), [true, false, true, false, true]);
    }

    #[test]
    fn a_line_in_the_pipeline_counts_until_the_index_has_it() {
        let mut row = LineRow::default();
        let line = [in_flight(1, 5, true)];
        assert_eq!(decide(&row, 2, line.iter()), Decision::Unclear);
        assert_eq!(decide(&row, 1, line.iter()), Decision::New);
        row.note_read(1, 5);
        row.n_made = 1;
        assert_eq!(decide(&row, 2, line.iter()), Decision::Known);
        assert_eq!(decide(&row, 1, line.iter()), Decision::New);
        // The copy's line is in the pipeline too.
        let lines = [in_flight(1, 5, true), in_flight(2, 5, false)];
        assert_eq!(decide(&row, 2, lines.iter()), Decision::New);
    }
}
