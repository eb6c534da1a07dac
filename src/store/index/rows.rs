//! What stands in the index. Pure.

use serde::{Deserialize, Serialize};

use super::super::journal::{DumpCursor, Position, Stamp};
use super::varint;
use crate::media::{MediaKey, Sha256, State, Step, Xxh3};
use crate::plan::IndexRange;

/// Where an item's line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) state: State,
    pub(crate) place: Position,
    pub(crate) length: u32,
    /// Whether its files were removed by retention.
    pub(crate) is_pruned: bool,
}

impl Row {
    const BYTES: usize = 17;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = match self.state {
            State::Image if self.is_pruned => b'p',
            State::Image => b'i',
            State::Held => b'h',
            State::Rejected => b'r',
        };
        bytes[1..5].copy_from_slice(&self.place.segment.to_be_bytes());
        bytes[5..13].copy_from_slice(&self.place.offset.to_be_bytes());
        bytes[13..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[state], rest) = bytes.split_first_chunk::<1>()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let is_pruned = state == b'p';
        let state = match state {
            b'i' | b'p' => State::Image,
            b'h' => State::Held,
            b'r' => State::Rejected,
            _ => return None,
        };
        let place =
            Position { segment: u32::from_be_bytes(*segment), offset: u64::from_be_bytes(*offset) };
        Some(Self { state, place, length: u32::from_be_bytes(*length), is_pruned })
    }
}

/// What stands of a rejected line or dump: its row, then the step and the key that it said, if it did, so
/// that a list of one step needs not read them all.
pub(super) fn rejected_to_bytes(row: Row, said: Option<(&MediaKey, Step)>) -> Vec<u8> {
    let mut bytes = row.to_bytes().to_vec();
    if let Some((key, step)) = said {
        varint::put(&mut bytes, step.0);
        bytes.extend_from_slice(key.as_str().as_bytes());
    }
    bytes
}

/// The row of a rejected line or dump, and the key and step that it said.
pub(super) fn rejected_from_bytes(bytes: &[u8]) -> Option<(Row, Option<(&str, Step)>)> {
    let row = Row::from_bytes(bytes)?;
    let mut said = bytes.get(Row::BYTES..)?;
    let step = varint::take(&mut said).map(Step);
    let key = std::str::from_utf8(said).ok()?;
    Some((row, step.map(|step| (key, step))))
}

/// What became of a dump that speaks for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DumpRow {
    /// The version that was read last; none if its line was damaged.
    pub(crate) cursor: Option<DumpCursor>,
    /// Where its images stand: of each of its tensors the key, the step and the indices.
    pub(crate) stands: Vec<(MediaKey, Step, IndexRange)>,
    /// Whether `stands` tells of the version whose lines are being seen.
    is_replaced: bool,
    /// Where images of that version were rejected, as long as it has no others: a version that is no
    /// picture at all leaves those before it.
    held_back: Vec<(MediaKey, Step, u32)>,
    /// The lines that reject it or images of it, of the version that was read last.
    pub(crate) rejected: Vec<u64>,
    /// Whether lines of a version were seen and not yet the one that closes their unit.
    pub(crate) is_open: bool,
}

/// The bits of a dump's row.
mod bits {
    pub(super) const IS_REPLACED: u8 = 1;
    pub(super) const IS_OPEN: u8 = 2;
    pub(super) const CURSOR: u8 = 4;
    pub(super) const SIDECAR: u8 = 8;
    pub(super) const SHA256: u8 = 16;
    pub(super) const XXH3: u8 = 32;
}

fn put_stamp(bytes: &mut Vec<u8>, stamp: &Stamp) {
    varint::put(bytes, stamp.ino);
    varint::put(bytes, stamp.size);
    bytes.extend_from_slice(&stamp.mtime_ns.to_be_bytes());
    bytes.extend_from_slice(&stamp.ctime_ns.to_be_bytes());
}

fn take_stamp(bytes: &mut &[u8]) -> Option<Stamp> {
    let (ino, size) = (varint::take(bytes)?, varint::take(bytes)?);
    let mut time = || take_array(bytes).map(i128::from_be_bytes);
    Some(Stamp { ino, size, mtime_ns: time()?, ctime_ns: time()? })
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*array)
}

fn put_place(bytes: &mut Vec<u8>, key: &MediaKey, step: Step, index: u32) {
    varint::put_length(bytes, key.as_str().len());
    bytes.extend_from_slice(key.as_str().as_bytes());
    varint::put(bytes, step.0);
    varint::put(bytes, u64::from(index));
}

fn take_place(bytes: &mut &[u8]) -> Option<(MediaKey, Step, u32)> {
    let n = varint::take_length(bytes)?;
    let (key, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    let key = MediaKey::new(std::str::from_utf8(key).ok()?).ok()?;
    Some((key, Step(varint::take(bytes)?), take_u32(bytes)?))
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    varint::take(bytes)?.try_into().ok()
}

impl DumpRow {
    /// All but the dump's path, which the row's key has.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut flags = 0;
        flags |= if self.is_replaced { bits::IS_REPLACED } else { 0 };
        flags |= if self.is_open { bits::IS_OPEN } else { 0 };
        let mut bytes = Vec::with_capacity(128);
        bytes.push(0);
        if let Some(DumpCursor { path: _, stamp, sidecar, sha256, xxh3 }) = &self.cursor {
            flags |= bits::CURSOR;
            put_stamp(&mut bytes, stamp);
            if let Some(stamp) = sidecar {
                flags |= bits::SIDECAR;
                put_stamp(&mut bytes, stamp);
            }
            if let Some(sha256) = sha256 {
                flags |= bits::SHA256;
                bytes.extend_from_slice(sha256.as_bytes());
            }
            if let Some(xxh3) = xxh3 {
                flags |= bits::XXH3;
                bytes.extend_from_slice(xxh3.as_bytes());
            }
        }
        bytes[0] = flags;
        varint::put_length(&mut bytes, self.stands.len());
        for (key, step, IndexRange { first, n }) in &self.stands {
            put_place(&mut bytes, key, *step, *first);
            varint::put(&mut bytes, u64::from(*n));
        }
        varint::put_length(&mut bytes, self.held_back.len());
        for (key, step, index) in &self.held_back {
            put_place(&mut bytes, key, *step, *index);
        }
        varint::put_length(&mut bytes, self.rejected.len());
        self.rejected.iter().for_each(|seq| varint::put(&mut bytes, *seq));
        bytes
    }

    /// The row of the dump at `path`.
    pub(super) fn from_bytes(path: &str, mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let [flags] = take_array(bytes)?;
        let has = |bit: u8| flags & bit != 0;
        let mut row = Self {
            is_replaced: has(bits::IS_REPLACED),
            is_open: has(bits::IS_OPEN),
            ..Self::default()
        };
        if has(bits::CURSOR) {
            row.cursor = Some(DumpCursor {
                path: path.to_owned(),
                stamp: take_stamp(bytes)?,
                sidecar: if has(bits::SIDECAR) { Some(take_stamp(bytes)?) } else { None },
                sha256: if has(bits::SHA256) {
                    Some(Sha256::from(take_array(bytes)?))
                } else {
                    None
                },
                xxh3: if has(bits::XXH3) { Some(Xxh3::from(take_array(bytes)?)) } else { None },
            });
        }
        for _ in 0..varint::take(bytes)? {
            let (key, step, first) = take_place(bytes)?;
            row.stands.push((key, step, IndexRange { first, n: take_u32(bytes)? }));
        }
        for _ in 0..varint::take(bytes)? {
            row.held_back.push(take_place(bytes)?);
        }
        for _ in 0..varint::take(bytes)? {
            row.rejected.push(varint::take(bytes)?);
        }
        bytes.is_empty().then_some(row)
    }

    /// The lines of another version begin.
    pub(super) fn begin(&mut self) {
        self.is_replaced = false;
        self.held_back.clear();
    }

    /// One of the dump's images stands here.
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

    /// One of the dump's images was rejected. Its place stays that of the dump.
    pub(super) fn add_rejected(&mut self, key: &MediaKey, step: Step, index: u32) {
        if self.is_replaced {
            self.extend(key, step, index);
        } else {
            self.held_back.push((key.clone(), step, index));
        }
    }

    /// The dump has no image here any more, nor behind it.
    pub(super) fn end_at(&mut self, key: &MediaKey, step: Step, index: u32) {
        self.stands.retain_mut(|(of, at, earlier)| {
            if (&*of, *at) == (key, step) && earlier.indices().contains(&index) {
                earlier.n = index - earlier.first;
            }
            earlier.n > 0
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

/// A run as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub(crate) n_image: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// Of the images, those whose files were removed by retention.
    pub(crate) n_pruned: u64,
    /// Journal lines that are damaged.
    pub(crate) n_damaged: u64,
    pub(crate) finished: bool,
    pub(crate) last_seq: u64,
    /// Up to where the journal is applied.
    pub(crate) applied: Position,
}

impl Default for RunRow {
    fn default() -> Self {
        let applied = Position::START;
        Self {
            n_image: 0,
            n_held: 0,
            n_rejected: 0,
            n_pruned: 0,
            n_damaged: 0,
            finished: false,
            last_seq: 0,
            applied,
        }
    }
}

impl RunRow {
    /// An item stands there no more.
    pub(super) fn uncount(&mut self, row: Row) {
        *self.count(row.state) -= 1;
        self.n_pruned -= u64::from(row.is_pruned);
    }

    pub(super) fn count(&mut self, state: State) -> &mut u64 {
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

    proptest! {
        #[test]
        fn what_a_rejected_line_said_comes_back((key, step, _) in a_place(), has_said: bool) {
            let place = Position { segment: 1, offset: 2 };
            let row = Row { state: State::Rejected, place, length: 3, is_pruned: false };
            let bytes = rejected_to_bytes(row, has_said.then_some((&key, step)));
            let said = has_said.then_some((key.as_str(), step));
            prop_assert_eq!(rejected_from_bytes(&bytes), Some((row, said)));
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
