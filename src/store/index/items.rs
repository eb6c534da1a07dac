//! The rows of items: images, held items, waiting items, and rejected items.

use std::ops::RangeInclusive;

use super::blocks::{self, Rows};
use super::rows::{RejectedRow, decode};
use super::{Index, Row, WaitingItem, item_key, key, key_and_step};
use crate::limits::StepUsage;
use crate::media::{MediaKey, RunId, State, Step};
use crate::pulse;
use crate::store::StoreError;

impl Index {
    /// Lists the images and held items of a run, and the waiting items that have a place, of one key if given, within
    /// `steps`, in order of key, step and index.
    pub(crate) fn items(
        &self,
        run: &RunId,
        key_: Option<&MediaKey>,
        steps: RangeInclusive<u64>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        let rows = self.item_rows(run, key_, &steps);
        rows.filter_map(move |entry| match entry {
            Ok((key, value)) => {
                let (_, step) = key_and_step(&key)?;
                steps.contains(&step.0).then(|| decode(&value).map(Ok))?
            }
            Err(error) => Some(Err(error.into())),
        })
    }

    /// Lists the keys and steps of a run that have held items, with the number of these, in order.
    pub(crate) fn held_steps(
        &self,
        run: &RunId,
        key_: Option<&MediaKey>,
        steps: RangeInclusive<u64>,
    ) -> Result<Vec<(MediaKey, Step, u64)>, StoreError> {
        let mut held: Vec<(MediaKey, Step, u64)> = Vec::new();
        for entry in self.item_rows(run, key_, &steps) {
            pulse::beat();
            let (key, value) = entry?;
            if decode::<Row>(&value).is_none_or(|row| row.state != State::Held) {
                continue;
            }
            let at = key_and_step(&key).filter(|(_, step)| steps.contains(&step.0));
            let Some((name, step)) = at else { continue };
            match held.last_mut() {
                Some((last, at, n)) if last.as_str() == name && *at == step => *n += 1,
                _ => held.extend(MediaKey::new(name).ok().map(|name| (name, step, 1))),
            }
        }
        Ok(held)
    }

    /// Lists the keys of a run's images and held items, in order. The rows of a key are skipped.
    pub(crate) fn keys(&self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        let last = [&key(b'i', run, &[])[..], &[u8::MAX; 16]].concat();
        let mut first = key(b'i', run, &[]);
        let mut keys: Vec<String> = Vec::new();
        while let Some(row) = Rows::between(&now, first, last.clone()).next() {
            let (row_key, _) = row?;
            let Some((name, _)) = key_and_step(&row_key) else { break };
            // After all steps and indices of this key.
            first = key(b'i', run, &[name.as_bytes(), b"\0", &[u8::MAX; 13]]);
            keys.push(name.to_owned());
        }
        Ok(keys)
    }

    /// Finds the steps of a key's images and held items before and after `step`.
    pub(crate) fn steps_around(
        &self,
        run: &RunId,
        key_: &MediaKey,
        step: Step,
    ) -> Result<[Option<u64>; 2], StoreError> {
        let now = self.now();
        let step_of = |row: sled::Result<_>| -> Result<Option<u64>, StoreError> {
            let (row_key, _): (Vec<u8>, _) = row?;
            Ok(key_and_step(&row_key).map(|(_, step)| step.0))
        };
        let between = |from, to| {
            Rows::between(
                &now,
                item_key(run, key_, Step(from), 0),
                item_key(run, key_, Step(to), u32::MAX),
            )
        };
        let mut before = None;
        for row in between(0, step.0) {
            pulse::beat();
            before = step_of(row)?.filter(|at| *at < step.0).or(before);
        }
        let after = between(step.0.saturating_add(1), u64::MAX).next();
        let after = after.map(step_of).transpose()?.flatten().filter(|at| *at > step.0);
        Ok([before, after])
    }

    /// Reads the rows of a run's images and held items. With a key, only those within `steps`.
    fn item_rows(&self, run: &RunId, key_: Option<&MediaKey>, steps: &RangeInclusive<u64>) -> Rows {
        let now = self.now();
        match key_ {
            Some(name) => {
                let [first, last] = [(*steps.start(), 0), (*steps.end(), u32::MAX)];
                let at = |(step, index)| item_key(run, name, Step(step), index);
                Rows::between(&now, at(first), at(last))
            }
            None => Rows::beneath(&now, key(b'i', run, &[])),
        }
    }

    /// Lists the rejected items of a run that have no place, in order of the journal. With a key or steps, only items
    /// that said these.
    pub(crate) fn rejected(
        &self,
        run: &RunId,
        key_: Option<&MediaKey>,
        steps: Option<RangeInclusive<u64>>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        let key_ = key_.cloned();
        let is_of = move |said: Option<(&str, Step)>| {
            key_.as_ref().is_none_or(|key| said.is_some_and(|(said, _)| said == key.as_str()))
                && steps
                    .as_ref()
                    .is_none_or(|steps| said.is_some_and(|(_, step)| steps.contains(&step.0)))
        };
        Rows::beneath(&self.now(), key(b'r', run, &[])).filter_map(move |entry| match entry {
            Ok((_, value)) => {
                let RejectedRow { row, said } = decode(&value)?;
                is_of(said).then_some(Ok(row))
            }
            Err(error) => Some(Err(error.into())),
        })
    }

    pub(crate) fn item(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        index: u32,
    ) -> Result<Option<Row>, StoreError> {
        let bytes = blocks::get(&self.now(), &item_key(run, key, step, index))?;
        Ok(bytes.and_then(|bytes| decode(&bytes)))
    }

    /// Lists the items of a run that are tried again and that `is_wanted` selects, in order of the journal.
    pub(crate) fn tried_again(
        &self,
        run: &RunId,
        is_wanted: impl Fn(&Row) -> bool,
        max: usize,
    ) -> Result<Vec<WaitingItem>, StoreError> {
        let mut waiting = Vec::new();
        for entry in Rows::beneath(&self.now(), key(b'w', run, &[])) {
            pulse::beat();
            let item = self.waiting_item(run, &entry?.1)?;
            waiting.extend(item.filter(|item| is_wanted(&item.row)));
            if waiting.len() >= max {
                break;
            }
        }
        Ok(waiting)
    }

    /// The indices that a step has: of images, held items and waiting items.
    pub(crate) fn usage(
        &self,
        run: &RunId,
        key_: &MediaKey,
        step: Step,
    ) -> Result<StepUsage, StoreError> {
        let at = |index| item_key(run, key_, step, index);
        let mut usage = StepUsage::default();
        for entry in Rows::between(&self.now(), at(0), at(u32::MAX)) {
            let (key, value) = entry?;
            if let (Some(index), Some(row)) = (key.last_chunk(), decode::<Row>(&value)) {
                usage.take(u32::from_be_bytes(*index), row.state == State::Image);
            }
        }
        Ok(usage)
    }
}
