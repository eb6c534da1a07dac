//! The rows of the index, and their bytes. Pure.
//!
//! Bytes are those of postcard: fields in their order, numbers as varints, variants by their number.
//! So the order of fields and variants of each type here, [`State`] and [`Stamp`] included, is part
//! of the index's schema. The tests pin it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::super::journal::{DumpCursor, Fingerprint, JournalOffset, LogCursor, Stamp};
use crate::media::{LineDigest, MediaKey, Session, Sha256, State, Step, Xxh3};
use crate::plan::IndexRange;

/// Writes a row's bytes.
pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let bytes = postcard::to_allocvec(row);
    bytes.expect("postcard refuses only sequences of unknown length, and rows have none")
}

/// Reads a row that takes all of the bytes. `None` if it does not.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (row, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(row)
}

/// Where an item's line stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) state: State,
    pub(crate) place: JournalOffset,
    pub(crate) length: u32,
    pub(crate) mark: Mark,
}

/// What is special about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mark {
    None,
    /// Retention removed the files of the image.
    Pruned,
    /// The item was rejected, and is tried again.
    Waiting,
    /// The image lacks masks or annotations whose files were missing, and is made again when they come.
    Lacking,
}

impl Row {
    /// Whether retention removed its files.
    pub(crate) fn is_pruned(&self) -> bool {
        self.mark == Mark::Pruned
    }

    /// Whether it was rejected, and is tried again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.mark == Mark::Waiting
    }

    /// Whether it is listed among the items that are tried again: a rejected one, or an image that lacks
    /// something.
    pub(crate) fn is_tried_again(&self) -> bool {
        matches!(self.mark, Mark::Waiting | Mark::Lacking)
    }
}

/// Where the row of an item that is tried again is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WaitingRow {
    /// Among the images and held items: an image, or a waiting item that has this place until it is tried.
    Placed(MediaKey, Step, u32),
    /// Among the rejected items, by the number of its line.
    Rejected(u64),
}

/// The row of a rejected line or dump, and the key and step that it said, if it did. A list of one step
/// needs to read no other lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RejectedRow<'a> {
    pub(super) row: Row,
    #[serde(borrow)]
    pub(super) said: Option<(&'a str, Step)>,
}

/// What became of a dump that has no line in a media log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DumpRow {
    /// The version that was read last. `None` if its line was damaged.
    pub(crate) cursor: Option<DumpCursor>,
    /// The places of its images: the key, the step and the indices of each of its tensors.
    pub(crate) stands: Vec<(MediaKey, Step, IndexRange)>,
    /// Whether `stands` describes the version whose lines are being applied.
    is_replaced: bool,
    /// Places where images of that version were rejected, as long as it has no others: a version that
    /// is no picture at all leaves the images of the versions before it.
    held_back: Vec<(MediaKey, Step, u32)>,
    /// The numbers of the lines that reject the version that was read last, or images of it.
    pub(crate) rejected: Vec<u64>,
    /// Whether lines of a version were applied, but not yet the one that closes their batch.
    pub(crate) is_open: bool,
}

/// The bytes of a [`DumpRow`]: all but the dump's path, which is in the row's key.
#[derive(Serialize, Deserialize)]
struct DumpFields<'a> {
    version: Option<Version>,
    stands: Cow<'a, [(MediaKey, Step, IndexRange)]>,
    is_replaced: bool,
    held_back: Cow<'a, [(MediaKey, Step, u32)]>,
    rejected: Cow<'a, [u64]>,
    is_open: bool,
}

/// A [`DumpCursor`] without its path. Digests are bytes here, and text in a journal.
#[derive(Serialize, Deserialize)]
struct Version {
    stamp: Stamp,
    sidecar: Option<Stamp>,
    sha256: Option<[u8; 32]>,
    xxh3: Option<[u8; 16]>,
}

impl DumpRow {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let version = self.cursor.as_ref().map(|cursor| Version {
            stamp: cursor.stamp,
            sidecar: cursor.sidecar,
            sha256: cursor.sha256.map(|digest| *digest.as_bytes()),
            xxh3: cursor.xxh3.map(|digest| *digest.as_bytes()),
        });
        encode(&DumpFields {
            version,
            stands: Cow::Borrowed(&self.stands),
            is_replaced: self.is_replaced,
            held_back: Cow::Borrowed(&self.held_back),
            rejected: Cow::Borrowed(&self.rejected),
            is_open: self.is_open,
        })
    }

    /// The row of the dump at `path`.
    pub(super) fn from_bytes(path: &str, bytes: &[u8]) -> Option<Self> {
        let DumpFields { version, stands, is_replaced, held_back, rejected, is_open } =
            decode(bytes)?;
        let cursor = version.map(|version| DumpCursor {
            path: path.to_owned(),
            stamp: version.stamp,
            sidecar: version.sidecar,
            sha256: version.sha256.map(Sha256::from),
            xxh3: version.xxh3.map(Xxh3::from),
        });
        Some(Self {
            cursor,
            stands: stands.into_owned(),
            is_replaced,
            held_back: held_back.into_owned(),
            rejected: rejected.into_owned(),
            is_open,
        })
    }

    /// Begins another version of the dump.
    pub(super) fn begin(&mut self) {
        self.is_replaced = false;
        self.held_back.clear();
    }

    /// Adds the place of one of the dump's images.
    pub(super) fn add(&mut self, key: &MediaKey, step: Step, index: u32) {
        if !self.is_replaced {
            self.stands.clear();
            self.is_replaced = true;
            for (key, step, index) in std::mem::take(&mut self.held_back) {
                self.extend(&key, step, index);
            }
        }
        self.extend(key, step, index);
    }

    /// Adds the place of an image that was rejected. The place stays the dump's.
    pub(super) fn add_rejected(&mut self, key: &MediaKey, step: Step, index: u32) {
        if self.is_replaced {
            self.extend(key, step, index);
        } else {
            self.held_back.push((key.clone(), step, index));
        }
    }

    /// Removes the places of the dump's images from this one on.
    pub(super) fn end_at(&mut self, key: &MediaKey, step: Step, index: u32) {
        self.stands.retain_mut(|(of, at, range)| {
            if (&*of, *at) == (key, step) && range.indices().contains(&index) {
                range.n = index - range.first;
            }
            range.n > 0
        });
    }

    fn extend(&mut self, key: &MediaKey, step: Step, index: u32) {
        match self.stands.iter_mut().find(|(of, at, _)| (of, *at) == (key, step)) {
            Some((.., IndexRange { first, n })) => {
                let end = first.saturating_add(*n).max(index.saturating_add(1));
                *first = index.min(*first);
                *n = end - *first;
            }
            None => self.stands.push((key.clone(), step, IndexRange { first: index, n: 1 })),
        }
    }
}

/// The bytes of a [`LogCursor`]: all but the line that it closes.
#[derive(Serialize, Deserialize)]
pub(super) struct LogRow {
    path: String,
    dev: u64,
    ino: u64,
    offset: u64,
    line: u64,
    head: Fingerprint,
    tail: Fingerprint,
    content: Option<[u8; 8]>,
    mtime_ns: Option<i64>,
    generation: Option<u32>,
    session: Option<Session>,
}

impl From<LogCursor> for LogRow {
    fn from(cursor: LogCursor) -> Self {
        let LogCursor { path, dev, ino, offset, line, head, tail, .. } = cursor;
        let LogCursor { content, mtime_ns, generation, session, read: _, .. } = cursor;
        let content = content.map(|digest| *digest.as_bytes());
        Self { path, dev, ino, offset, line, head, tail, content, mtime_ns, generation, session }
    }
}

impl From<LogRow> for LogCursor {
    fn from(row: LogRow) -> Self {
        let LogRow { path, dev, ino, offset, line, head, tail, .. } = row;
        let LogRow { content, mtime_ns, generation, session, .. } = row;
        let content = content.map(LineDigest::from);
        Self {
            path,
            dev,
            ino,
            offset,
            line,
            head,
            tail,
            content,
            mtime_ns,
            generation,
            session,
            read: None,
        }
    }
}

/// What the run's logs have of one line: equal lines share a row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct LineRow {
    /// How many of them made items. The others were read before, from another log.
    pub(crate) n_made: u32,
    /// Where the journal line of the last item stands.
    pub(crate) item: Option<(JournalOffset, u32)>,
    /// For each log that has the line, the log's generation, how often the line was read in it, and the
    /// line's number there when it was read last.
    logs: Vec<(u32, u32, u64)>,
}

impl LineRow {
    /// How often the line was read in a log, and the line's number there when it was read last.
    pub(crate) fn of_log(&self, generation: u32) -> (u32, u64) {
        let of_log = self.logs.iter().find(|(of, ..)| *of == generation);
        of_log.map_or((0, 0), |&(_, n, number)| (n, number))
    }

    /// Notes that the line was read in a log.
    pub(crate) fn note_read(&mut self, generation: u32, number: u64) {
        match self.logs.iter_mut().find(|(of, ..)| *of == generation) {
            Some((_, n, last)) => (*n, *last) = (n.saturating_add(1), number),
            None => self.logs.push((generation, 1, number)),
        }
    }
}

/// Counts of a run, and how much of its journal is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub(crate) n_image: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// The items among `n_rejected` that are tried again.
    pub(crate) n_waiting: u64,
    /// The images among `n_image` that lack masks or annotations whose files were missing.
    pub(crate) n_lacking: u64,
    /// The images among `n_image` whose files retention removed.
    pub(crate) n_pruned: u64,
    /// Damaged journal lines.
    pub(crate) n_damaged: u64,
    /// Lines of logs that were read before, from another log.
    pub(crate) n_repeated: u64,
    /// Lines of sessions that a later session has replaced.
    pub(crate) n_superseded: u64,
    /// Sessions that were seen in its logs.
    pub(crate) n_sessions: u32,
    pub(crate) finished: bool,
    pub(crate) last_seq: u64,
    /// The end of what is applied of the journal.
    pub(crate) applied: JournalOffset,
}

impl Default for RunRow {
    fn default() -> Self {
        let applied = JournalOffset::START;
        Self {
            n_image: 0,
            n_held: 0,
            n_rejected: 0,
            n_waiting: 0,
            n_lacking: 0,
            n_pruned: 0,
            n_damaged: 0,
            n_repeated: 0,
            n_superseded: 0,
            n_sessions: 0,
            finished: false,
            last_seq: 0,
            applied,
        }
    }
}

impl RunRow {
    /// Counts an item.
    pub(super) fn count(&mut self, row: Row) {
        *self.of_state(row.state) += 1;
        self.n_waiting += u64::from(row.is_waiting());
        self.n_lacking += u64::from(row.mark == Mark::Lacking);
    }

    /// Counts an item less.
    pub(super) fn uncount(&mut self, row: Row) {
        *self.of_state(row.state) -= 1;
        self.n_waiting -= u64::from(row.is_waiting());
        self.n_lacking -= u64::from(row.mark == Mark::Lacking);
        self.n_pruned -= u64::from(row.is_pruned());
    }

    fn of_state(&mut self, state: State) -> &mut u64 {
        match state {
            State::Image => &mut self.n_image,
            State::Held => &mut self.n_held,
            State::Rejected => &mut self.n_rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_stamp() -> impl Strategy<Value = Stamp> {
        any::<(u64, u64, i128, i128)>().prop_map(|(ino, size, mtime_ns, ctime_ns)| Stamp {
            ino,
            size,
            mtime_ns,
            ctime_ns,
        })
    }

    fn a_place() -> impl Strategy<Value = (MediaKey, Step, u32)> {
        ("[^\0]{1,9}", any::<(u64, u32)>()).prop_map(|(key, (step, index))| {
            (MediaKey::new(key).expect("a key"), Step(step), index)
        })
    }

    prop_compose! {
        fn a_row()(
            cursor in prop::option::of((a_stamp(), prop::option::of(a_stamp()), any::<[Option<u8>; 2]>())),
            stands in prop::collection::vec((a_place(), any::<u32>()), 0..4),
            held_back in prop::collection::vec(a_place(), 0..4),
            rejected in any::<Vec<u64>>(),
            (is_replaced, is_open) in any::<(bool, bool)>(),
        ) -> DumpRow {
            let cursor = cursor.map(|(stamp, sidecar, [sha256, xxh3])| DumpCursor {
                path: "dumps/x.npy".to_owned(),
                stamp,
                sidecar,
                sha256: sha256.map(|byte| Sha256::from([byte; 32])),
                xxh3: xxh3.map(|byte| Xxh3::from([byte; 16])),
            });
            let stands = stands.into_iter().map(|((key, step, first), n)| (key, step, IndexRange { first, n }));
            DumpRow { cursor, stands: stands.collect(), is_replaced, held_back, rejected, is_open }
        }
    }

    fn row(state: State, mark: Mark) -> Row {
        Row { state, place: JournalOffset { segment: 2, offset: 300 }, length: 200, mark }
    }

    #[test]
    fn bytes_of_rows_are_those_of_this_schema() {
        assert_eq!(encode(&row(State::Image, Mark::Pruned)), [0, 2, 0xac, 2, 0xc8, 1, 1]);
        assert_eq!(encode(&row(State::Held, Mark::None)), [1, 2, 0xac, 2, 0xc8, 1, 0]);
        let rejected =
            RejectedRow { row: row(State::Rejected, Mark::Waiting), said: Some(("k", Step(7))) };
        assert_eq!(encode(&rejected), [2, 2, 0xac, 2, 0xc8, 1, 2, 1, 1, b'k', 7]);
        let placed = WaitingRow::Placed(MediaKey::new("k").expect("a key"), Step(9), 2);
        assert_eq!(encode(&placed), [0, 1, b'k', 9, 2]);
        assert_eq!(encode(&WaitingRow::Rejected(300)), [1, 0xac, 2]);
        let run = RunRow {
            n_image: 1,
            n_held: 2,
            n_rejected: 3,
            n_waiting: 9,
            n_lacking: 8,
            n_pruned: 4,
            n_damaged: 5,
            n_repeated: 9,
            n_superseded: 10,
            n_sessions: 11,
            finished: true,
            last_seq: 6,
            applied: JournalOffset { segment: 7, offset: 8 },
        };
        assert_eq!(encode(&run), [1, 2, 3, 9, 8, 4, 5, 9, 10, 11, 1, 6, 7, 8]);
        let mut line = LineRow { n_made: 1, item: None, ..LineRow::default() };
        line.note_read(300, 7);
        line.note_read(300, 9);
        assert_eq!(encode(&line), [1, 0, 1, 0xac, 2, 2, 9]);
        let stamp = Stamp { ino: 1, size: 2, mtime_ns: 3, ctime_ns: -4 };
        let mut dump = DumpRow {
            cursor: Some(DumpCursor::new("a".to_owned(), stamp, None)),
            is_open: true,
            ..DumpRow::default()
        };
        dump.add(&MediaKey::new("k").expect("a key"), Step(9), 2);
        dump.rejected.push(5);
        let version = [1, 1, 2, 6, 7, 0, 0, 0];
        assert_eq!(
            dump.to_bytes(),
            [&version[..], &[1, 1, b'k', 9, 2, 1], &[1], &[0], &[1, 5], &[1]].concat()
        );
    }

    proptest! {
        #[test]
        fn what_a_rejected_line_said_comes_back((key, step, _) in a_place(), has_said: bool) {
            let said = has_said.then_some((key.as_str(), step));
            let row = RejectedRow { row: row(State::Rejected, Mark::None), said };
            let bytes = encode(&row);
            prop_assert_eq!(decode(&bytes), Some(row));
            for end in 0..bytes.len() {
                prop_assert_eq!(decode::<RejectedRow>(&bytes[..end]), None, "cut at {}", end);
            }
        }

        #[test]
        fn a_dumps_row_comes_back_and_no_part_of_it_is_one(row in a_row()) {
            let bytes = row.to_bytes();
            prop_assert_eq!(DumpRow::from_bytes("dumps/x.npy", &bytes), Some(row));
            for end in 0..bytes.len() {
                prop_assert_eq!(DumpRow::from_bytes("dumps/x.npy", &bytes[..end]), None, "cut at {}", end);
            }
        }
    }
}
