//! Which line about a place counts. Pure.
//!
//! Lines come mostly in the order of the run's journal. A line comes late if its delivery failed at first: it must not
//! replace what came after it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::formats::manifest::{Content, Line};
use crate::media::{MediaEntry, State};

/// The latest line about each place. A place is kept as its hash: 4 million lines take about 150 MB.
#[derive(Debug, Default)]
pub(super) struct LatestLines {
    hashes: RandomState,
    latest: HashMap<u64, LatestLine>,
}

#[derive(Debug, Clone, Copy)]
struct LatestLine {
    seq: u64,
    /// Whether it is about an item that waits there.
    is_waiting: bool,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It counts.
    New,
    /// It counts, and the item that waits at its place is to be removed first.
    InPlaceOfWaiting,
    /// A later line counts, or it was read before.
    Old,
}

impl LatestLines {
    /// Takes a line: decides whether it counts, and remembers it.
    pub(super) fn take(&mut self, line: &Line) -> Reading {
        let seq = line.seq;
        let entry = match &line.content {
            Content::Gone(id) => {
                let place = self.hashes.hash_one((id.key.as_str(), id.step.0, id.index));
                return self.put(place, LatestLine { seq, is_waiting: false });
            }
            Content::Item(entry) => entry,
        };
        let alone = self.hashes.hash_one(seq);
        let Some(place) = self.place(entry) else {
            return self.put(alone, LatestLine { seq, is_waiting: false });
        };
        let line = LatestLine { seq, is_waiting: entry.is_waiting() };
        match self.latest.get(&place) {
            _ if entry.state() != State::Rejected => self.put(place, line),
            Some(LatestLine { is_waiting: true, seq: earlier }) => {
                if seq <= *earlier {
                    return Reading::Old;
                }
                self.latest.insert(place, line);
                Reading::InPlaceOfWaiting
            }
            None if line.is_waiting => self.put(place, line),
            // A rejected item does not replace what is at the place that it claims.
            _ => self.put(alone, line),
        }
    }

    fn put(&mut self, about: u64, line: LatestLine) -> Reading {
        match self.latest.get(&about) {
            Some(latest) if line.seq <= latest.seq => Reading::Old,
            _ => {
                self.latest.insert(about, line);
                Reading::New
            }
        }
    }

    fn place(&self, entry: &MediaEntry) -> Option<u64> {
        let (key, step, index) = (entry.key()?.as_str(), entry.step()?.0, entry.index()?);
        Some(self.hashes.hash_one((key, step, index)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::media::{MediaId, MediaKey, Step};

    fn gone(seq: u64, step: u64) -> Line {
        let key = MediaKey::new("k").expect("a key");
        Line { seq, content: Content::Gone(MediaId { key, step: Step(step), index: 0 }) }
    }

    fn line(seq: u64, step: Option<u64>, state: &str, class: Option<&str>) -> Line {
        let key = step.map(|_| "k");
        let index = step.map(|_| 0);
        let entry = json!({
            "state": state, "key": key, "step": step, "index": index, "reason": "no",
            "class": class, "source": {"path": "a"},
        });
        let entry = serde_json::from_value(entry).expect("an entry");
        Line { seq, content: Content::Item(Box::new(entry)) }
    }

    fn held(seq: u64, step: u64) -> Line {
        line(seq, Some(step), "held", None)
    }

    fn rejected(seq: u64, step: Option<u64>, class: &str) -> Line {
        line(seq, step, "rejected", Some(class))
    }

    fn check(lines: &[(Line, Reading)]) {
        let mut latest = LatestLines::default();
        for (line, want) in lines {
            assert_eq!(latest.take(line), *want, "{line:?}");
        }
    }

    #[test]
    fn a_late_line_replaces_nothing_and_no_line_counts_twice() {
        check(&[
            (held(1, 7), Reading::New),
            (held(5, 7), Reading::New),
            // Late, and read again.
            (held(3, 7), Reading::Old),
            (held(5, 7), Reading::Old),
            (held(4, 8), Reading::New),
            (gone(6, 7), Reading::New),
            (held(5, 7), Reading::Old),
            (held(9, 7), Reading::New),
            (gone(8, 7), Reading::Old),
        ]);
    }

    #[test]
    fn rejected_items_stand_beside_others_unless_they_wait() {
        check(&[
            (rejected(2, None, "final"), Reading::New),
            (rejected(10, None, "waiting"), Reading::New),
            (rejected(2, None, "final"), Reading::Old),
            (held(11, 7), Reading::New),
            // The place is taken.
            (rejected(12, Some(7), "final"), Reading::New),
            (rejected(13, Some(7), "waiting"), Reading::New),
            (held(14, 7), Reading::New),
            // One that waits is tried again, and then makes an item.
            (rejected(20, Some(8), "waiting"), Reading::New),
            (rejected(22, Some(8), "waiting"), Reading::InPlaceOfWaiting),
            (rejected(21, Some(8), "waiting"), Reading::Old),
            (held(23, 8), Reading::New),
            (rejected(24, Some(9), "waiting"), Reading::New),
            (rejected(25, Some(9), "final"), Reading::InPlaceOfWaiting),
        ]);
    }
}
