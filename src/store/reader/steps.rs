//! The steps of keys, without the lines of their items: see [`super::super::index`].

use std::fs;
use std::time::SystemTime;

use super::{Extent, Reader};
use crate::media::{MediaKey, RunId, State, Step};
use crate::store::{StoreError, journal, run_folder};

impl Reader {
    /// How much of a run's journal is in the index. `None` if there is no such run.
    pub(crate) fn extent(&self, run: &RunId) -> Result<Option<Extent>, StoreError> {
        Ok(self.index.run(run)?.map(Extent::from))
    }

    /// The number of a run's images, held and rejected items. `None` if there is no such run.
    pub(crate) fn counts(&self, run: &RunId) -> Result<Option<[u64; 3]>, StoreError> {
        Ok(self.index.run(run)?.map(|row| [row.n_image, row.n_held, row.n_rejected]))
    }

    /// Calls `see` with the key, the step, the index and the state of each image and held item of a run, and of each
    /// waiting item that has a place. They come in order of key, step and index.
    pub(crate) fn each_place(
        &self,
        run: &RunId,
        see: impl FnMut(&str, Step, u32, State),
    ) -> Result<(), StoreError> {
        self.index.each_place(run, see)
    }

    /// Calls `see` with the index and the state of each item that [`Self::each_place`] has at one step of a key.
    pub(crate) fn each_place_at(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        see: impl FnMut(u32, State),
    ) -> Result<(), StoreError> {
        self.index.each_place_at(run, key, step, see)
    }

    /// Whether a place has an image, a held item or a waiting item.
    pub(crate) fn has_item(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
        index: u32,
    ) -> Result<bool, StoreError> {
        Ok(self.index.item(run, key, step, index)?.is_some())
    }

    /// Calls `see` with what each rejected item of a run without a place said of its key and step.
    pub(crate) fn each_rejected(
        &self,
        run: &RunId,
        see: impl FnMut(&str, Step),
    ) -> Result<(), StoreError> {
        self.index.each_rejected(run, see)
    }

    /// Finds the greatest step at which a key has an image, a held item, or a waiting item that has a place.
    ///
    /// # Errors
    /// If the index fails.
    pub(crate) fn last_step(
        &self,
        run: &RunId,
        key: &MediaKey,
    ) -> Result<Option<Step>, StoreError> {
        self.index.last_step(run, key)
    }

    /// Finds the greatest step up to `step` at which a key has an image or a held item.
    pub(crate) fn step_up_to(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<Option<Step>, StoreError> {
        self.index.step_up_to(run, key, step)
    }

    /// Finds the least step from `step` on at which a key has an image or a held item.
    pub(crate) fn step_from(
        &self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<Option<Step>, StoreError> {
        self.index.step_from(run, key, step)
    }

    /// When a run's journal was last written.
    pub(crate) fn changed(&self, run: &RunId) -> Option<SystemTime> {
        let segment = self.index.run(run).ok()??.applied.segment;
        let folder = journal::folder(&run_folder(&self.root, run));
        fs::metadata(journal::segment_path(&folder, segment)).ok()?.modified().ok()
    }
}
