//! The steps of keys, without the lines of their items.

use super::blocks::{Rows, Walk, group};
use super::rows::{RejectedRow, decode};
use super::{Index, Row, item_key, key, key_and_step};
use crate::media::{MediaKey, RunId, State, Step};
use crate::pulse;
use crate::store::StoreError;

/// The key of a row, read.
fn place(row_key: &[u8]) -> Option<(&str, Step, u32)> {
    let (name, step) = key_and_step(row_key)?;
    Some((name, step, row_key.last_chunk().copied().map(u32::from_be_bytes)?))
}

impl Index {
    /// Calls `see` with the key, the step, the index and the state of each image and held item of a run, and of each
    /// waiting item that has a place. They come in order of key, step and index.
    pub(crate) fn each_place(
        &self,
        run: &RunId,
        mut see: impl FnMut(&str, Step, u32, State),
    ) -> Result<(), StoreError> {
        for entry in Rows::beneath(&self.now(), key(b'i', run, &[])) {
            let (row_key, value) = entry?;
            if let (Some((name, step, index)), Some(row)) = (place(&row_key), decode::<Row>(&value))
            {
                see(name, step, index, row.state);
            }
        }
        pulse::beat();
        Ok(())
    }

    /// Calls `see` with the index and the state of each item that [`Self::each_place`] has at one step of a key.
    pub(crate) fn each_place_at(
        &self,
        run: &RunId,
        name: &MediaKey,
        step: Step,
        mut see: impl FnMut(u32, State),
    ) -> Result<(), StoreError> {
        let at = |index| item_key(run, name, step, index);
        for entry in Rows::between(&self.now(), at(0), at(u32::MAX)) {
            let (row_key, value) = entry?;
            if let (Some((_, _, index)), Some(row)) = (place(&row_key), decode::<Row>(&value)) {
                see(index, row.state);
            }
        }
        Ok(())
    }

    /// Calls `see` with what each rejected item of a run without a place said of its key and step.
    pub(crate) fn each_rejected(
        &self,
        run: &RunId,
        mut see: impl FnMut(&str, Step),
    ) -> Result<(), StoreError> {
        for entry in Rows::beneath(&self.now(), key(b'r', run, &[])) {
            let (_, value) = entry?;
            if let Some(RejectedRow { said: Some((name, step)), .. }) = decode(&value) {
                see(name, step);
            }
        }
        Ok(())
    }

    /// Finds the greatest step up to `step` at which a key has an image or a held item. Reads few rows, however many
    /// steps there are.
    pub(crate) fn step_up_to(
        &self,
        run: &RunId,
        name: &MediaKey,
        step: Step,
    ) -> Result<Option<Step>, StoreError> {
        self.last_step_of(run, name, step, |row| row.state != State::Rejected)
    }

    /// Finds the greatest step at which a key has an image, a held item, or a waiting item that has a place.
    pub(crate) fn last_step(
        &self,
        run: &RunId,
        name: &MediaKey,
    ) -> Result<Option<Step>, StoreError> {
        self.last_step_of(run, name, Step(u64::MAX), |_| true)
    }

    fn last_step_of(
        &self,
        run: &RunId,
        name: &MediaKey,
        step: Step,
        is_wanted: impl Fn(&Row) -> bool,
    ) -> Result<Option<Step>, StoreError> {
        let (first, last) = (item_key(run, name, Step(0), 0), item_key(run, name, step, u32::MAX));
        for entry in self.now().range(group(&last)..=&last[..]).rev() {
            let (block_name, block) = entry?;
            let mut walk = Walk::new(&block_name, &block);
            let mut found = None;
            while let Some(value) = walk.step()? {
                if walk.key > last {
                    break;
                }
                if walk.key >= first && decode(value).is_some_and(|row| is_wanted(&row)) {
                    found = key_and_step(&walk.key).map(|(_, step)| step);
                }
            }
            if found.is_some() {
                return Ok(found);
            }
            if *block_name <= *first {
                break;
            }
        }
        Ok(None)
    }

    /// Finds the least step from `step` on at which a key has an image or a held item.
    pub(crate) fn step_from(
        &self,
        run: &RunId,
        name: &MediaKey,
        step: Step,
    ) -> Result<Option<Step>, StoreError> {
        let (first, last) =
            (item_key(run, name, step, 0), item_key(run, name, Step(u64::MAX), u32::MAX));
        for entry in Rows::between(&self.now(), first, last) {
            let (row_key, value) = entry?;
            if decode::<Row>(&value).is_some_and(|row| row.state != State::Rejected) {
                return Ok(key_and_step(&row_key).map(|(_, step)| step));
            }
        }
        Ok(None)
    }
}
