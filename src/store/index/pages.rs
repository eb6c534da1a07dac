//! Rows from a place on, each with its own place: for lists that are read page by page.
//!
//! A row's place is its key in the index. A row that a list leaves out is `None`, so that the list's place still moves
//! over it.

use std::ops::RangeInclusive;

use super::blocks::{self, Rows};
use super::rows::{RejectedRow, WaitingRow, decode};
use super::{Index, Row, WaitingItem, item_key, key, key_and_step, rejected_key};
use crate::media::{MediaKey, RunId, Step};
use crate::store::StoreError;
use crate::store::journal::JournalOffset;

/// The smallest key after another.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Index {
    /// Lists the rows of [`Self::items`] after the one whose key is `after`. Rows outside of `steps` are `None`.
    pub(crate) fn items_after(
        &self,
        run: &RunId,
        key_: Option<&MediaKey>,
        steps: &RangeInclusive<u64>,
        after: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Option<Row>), StoreError>> + use<> {
        let prefix = key(b'i', run, &[]);
        let (first, last) = match key_ {
            Some(name) => (
                item_key(run, name, Step(*steps.start()), 0),
                item_key(run, name, Step(*steps.end()), u32::MAX),
            ),
            None => (prefix.clone(), [&prefix[..], &[u8::MAX; 16]].concat()),
        };
        let first = if after.starts_with(&prefix) { first.max(successor(after)) } else { first };
        let steps = steps.clone();
        Rows::between(&self.now(), first, last).map(move |entry| {
            let (key, value) = entry?;
            let is_within = key_and_step(&key).is_some_and(|(_, step)| steps.contains(&step.0));
            let row = if is_within { decode(&value) } else { None };
            Ok((key, row))
        })
    }

    /// Lists the rows of [`Self::rejected`] after the one whose key is `after`. A row is `None` unless `is_wanted`
    /// selects what its item said.
    pub(crate) fn rejected_after<F: Fn(Option<&(MediaKey, Step)>) -> bool>(
        &self,
        run: &RunId,
        is_wanted: F,
        after: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Option<Row>), StoreError>> + use<F> {
        let prefix = key(b'r', run, &[]);
        let first = if after.starts_with(&prefix) { successor(after) } else { prefix.clone() };
        let last = [&prefix[..], &[u8::MAX; 16]].concat();
        Rows::between(&self.now(), first, last).map(move |entry| {
            let (key, value) = entry?;
            let row = decode::<RejectedRow<'_>>(&value).filter(|RejectedRow { said, .. }| {
                let said = said.and_then(|(key, step)| Some((MediaKey::new(key).ok()?, step)));
                is_wanted(said.as_ref())
            });
            Ok((key, row.map(|RejectedRow { row, .. }| row)))
        })
    }

    /// Lists the items of a run that are tried again and whose lines are after the one at `after`, in order of the
    /// journal, each with the place of its line.
    pub(crate) fn tried_again_after(
        &self,
        run: &RunId,
        after: Option<JournalOffset>,
    ) -> impl Iterator<Item = Result<(JournalOffset, Option<WaitingItem>), StoreError>> + use<>
    {
        let prefix = key(b'w', run, &[]);
        let at = |JournalOffset { segment, offset }: JournalOffset| {
            key(b'w', run, &[&segment.to_be_bytes(), &offset.to_be_bytes()])
        };
        let first = after.map_or_else(|| prefix.clone(), |after| successor(&at(after)));
        let last = [&prefix[..], &[u8::MAX; 16]].concat();
        let (index, run) = (self.clone(), run.clone());
        Rows::between(&self.now(), first, last).filter_map(move |entry| {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let (segment, offset) = key.get(prefix.len()..)?.split_first_chunk()?;
            let offset = u64::from_be_bytes(*offset.first_chunk()?);
            let place = JournalOffset { segment: u32::from_be_bytes(*segment), offset };
            Some(index.waiting_item(&run, &value).map(|item| (place, item)))
        })
    }

    /// The item that a row of kind `w` names. `None` if the item is gone.
    pub(super) fn waiting_item(
        &self,
        run: &RunId,
        waiting: &[u8],
    ) -> Result<Option<WaitingItem>, StoreError> {
        let now = self.now();
        let item = match decode(waiting) {
            Some(WaitingRow::Placed(name, step, index)) => {
                let bytes = blocks::get(&now, &item_key(run, &name, step, index))?;
                bytes.and_then(|bytes| {
                    let (row, said) = (decode(&bytes)?, Some((name, step)));
                    Some(WaitingItem { row, said, is_placed: true })
                })
            }
            Some(WaitingRow::Rejected(seq)) => {
                let bytes = blocks::get(&now, &rejected_key(run, seq))?;
                bytes.and_then(|bytes| {
                    let RejectedRow { row, said } = decode(&bytes)?;
                    let said = said.and_then(|(key, step)| Some((MediaKey::new(key).ok()?, step)));
                    Some(WaitingItem { row, said, is_placed: false })
                })
            }
            None => None,
        };
        Ok(item)
    }
}
