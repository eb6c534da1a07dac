//! What stands in the index. Pure.

use serde::{Deserialize, Serialize};

use super::super::journal::{DumpCursor, Position};
use crate::media::{MediaKey, State, Step};
use crate::plan::Earlier;

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
    pub(super) fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
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

/// What became of a dump that speaks for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DumpRow {
    /// The version that was read last; none if its line was damaged.
    pub(crate) cursor: Option<DumpCursor>,
    /// Where its images stand: of each of its tensors the key, the step and the indices.
    pub(crate) stands: Vec<(MediaKey, Step, Earlier)>,
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

impl DumpRow {
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
            Some((.., Earlier { first, n })) => {
                let end = first.saturating_add(*n).max(index.saturating_add(1));
                *first = index.min(*first);
                *n = end - *first;
            }
            None => self.stands.push((key.clone(), step, Earlier { first: index, n: 1 })),
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
