//! What a line or a dump that speaks for itself leads to, and the plan that is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::beneath::{RunDir, Verdict};
use super::engine::{Engine, Standing};
use super::opened::{MaskDump, OpenDump, Opened, Part, parts};
use super::pipeline::SourceBatch;
use super::run::Run;
use crate::annotations::mask_dumps;
use crate::decode::Contents;
use crate::limits::Limits;
use crate::media::{Description, MediaEntry, MediaKey, RunId, Source, Step};
use crate::plan::{DESCRIPTIONS_BYTES_MAX, IndexRange, Plan, PlannedItem, plan, plan_held};
use crate::record::MediaRecord;
use crate::store::StoreError;

/// Why an image that was held back can't be found any more.
pub(super) const MOVED: &str = "what described it says something else by now";

/// A record and all that it names, opened.
pub(super) struct ToPlan {
    pub(super) record: MediaRecord,
    pub(super) dump: Arc<OpenDump>,
    parts: Vec<Part>,
    pub(super) masks: Vec<MaskDump>,
    source: Source,
}

impl ToPlan {
    /// Takes up what the dump itself says, and opens the dumps of masks. `says_place` tells whether
    /// the record's key and step are more than a path's.
    ///
    /// # Errors
    /// If something that the record names can't be opened, or isn't there.
    pub(super) fn read(
        dir: &RunDir,
        mut record: MediaRecord,
        opened: Opened,
        source: Source,
        says_place: bool,
        limits: &Limits,
    ) -> Result<Self, Verdict> {
        let Opened { dump, path, contents } = opened;
        if let Contents::Tensors { metadata, .. } = &*contents
            && !metadata.is_empty()
        {
            record
                .add_metadata(metadata, says_place)
                .map_err(|error| Verdict::Reject(format!("{path:?}: {}", error.message)))?;
        }
        let parts = parts(&contents, &record.key, record.data.tensor.as_deref(), &path)?;
        let masks = record.description.annotations.get("masks").map(mask_dumps).unwrap_or_default();
        let masks = masks.iter().map(|data| MaskDump::open(dir, data, limits));
        let masks = masks.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { record, dump, parts, masks, source })
    }
}

/// What of a record is to be planned once more: images of one tensor that were held back.
pub(super) struct HeldImages<'a> {
    pub(super) key: &'a MediaKey,
    pub(super) step: Step,
    /// Their source, as it was told then.
    pub(super) source: &'a Source,
    /// By index, which of the tensor's images each is.
    pub(super) images: &'a BTreeMap<u32, u64>,
}

/// What the store keeps of a record that no image can come of.
pub(super) fn rejected(record: &MediaRecord, source: Source, reason: String) -> MediaEntry {
    let place = Some((record.key.clone(), record.step, record.index));
    MediaEntry::rejected(place, reason, record.description.clone(), source)
}

impl Engine {
    /// Plans the images of each part, in the places of those that stood there `before`. Returns where
    /// they stand; nowhere if none could be planned.
    pub(super) fn plan_parts(
        &mut self,
        run: &Run,
        to_plan: ToPlan,
        before: &[Standing],
        batch: &mut SourceBatch,
    ) -> Result<Vec<Standing>, StoreError> {
        let limits = self.config.limits;
        let ToPlan { record, dump, parts, masks, source } = to_plan;
        let sources: Vec<_> = masks.iter().map(|mask| mask.source.clone()).collect();
        // The limits of a dump are those of all its tensors together.
        let (n_max, mut n_images, mut n_bytes) = (limits.batch_max, 0u64, 0usize);
        let mut now = Vec::new();
        for part in parts {
            let source = Source { tensor: part.tensor, ..source.clone() };
            let record = MediaRecord { key: part.key, ..record.clone() };
            let options = record.options.over(self.config.rules.options(&record.key));
            let is_here = |(key, step, _): &&Standing| (key, *step) == (&record.key, record.step);
            let earlier = before.iter().find(is_here).map(|(_, _, earlier)| *earlier);
            let usage = self.usage_at(&run.info.id, &record.key, record.step)?;
            let plan = part.found.and_then(|found| {
                plan(&record, options, found, &sources, usage, &limits, earlier)
                    .map_err(|error| error.to_string())
            });
            let (n, n_described) = match &plan {
                Ok(plan) => (plan.items.len() as u64, plan.description_bytes),
                Err(_) => (1, serde_json::to_string(&record.description).map_or(0, |t| t.len())),
            };
            n_images += n;
            n_bytes = n_bytes.saturating_add(n_described);
            let is_over = n_images > n_max || n_bytes > DESCRIPTIONS_BYTES_MAX;
            let plan = match plan {
                Ok(plan) if is_over => {
                    plan.items.iter().for_each(|item| usage.free(item.id().index));
                    Err(format!(
                        "{n_images} images in one dump so far, with {n_bytes} bytes of descriptions: \
                         limits.batch_max is {n_max}, descriptions may have {DESCRIPTIONS_BYTES_MAX}"
                    ))
                }
                plan => plan,
            };
            match plan {
                Ok(plan) => {
                    if plan.items.iter().any(PlannedItem::takes_index)
                        && let Some(first) = plan.items.first().map(|item| item.id().index)
                    {
                        let n = u32::try_from(plan.items.len()).unwrap_or(u32::MAX);
                        now.push((record.key, record.step, IndexRange { first, n }));
                    }
                    batch.push_plan(plan, &dump, &masks, &run.dir, &source);
                }
                Err(reason) if is_over => {
                    // What is said of all of them is not said with each.
                    let record = MediaRecord { description: Description::default(), ..record };
                    batch.push_entry(rejected(&record, source, reason));
                }
                Err(reason) => batch.push_entry(rejected(&record, source, reason)),
            }
        }
        Ok(now)
    }

    /// Plans images that were held back once more, each where it stands.
    ///
    /// # Errors
    /// Why none of them can be.
    pub(super) fn plan_held(
        &mut self,
        run: &RunId,
        to_plan: &mut ToPlan,
        held: &HeldImages<'_>,
    ) -> Result<Result<Plan, String>, StoreError> {
        let limits = self.config.limits;
        let ToPlan { record, parts, masks, .. } = to_plan;
        let HeldImages { key, step, source, images } = held;
        let is_here = |part: &Part| part.key == **key && part.tensor == source.tensor;
        let is_at = |(index, image): (&u32, &u64)| {
            record.index.is_none_or(|first| u64::from(first) + image == u64::from(*index))
        };
        let Some(at) = parts.iter().position(is_here) else { return Ok(Err(MOVED.to_owned())) };
        if record.step != *step || !images.iter().all(is_at) {
            return Ok(Err(MOVED.to_owned()));
        }
        let part = parts.swap_remove(at);
        let record = MediaRecord { key: part.key, ..record.clone() };
        let options = record.options.over(self.config.rules.options(&record.key));
        let sources: Vec<_> = masks.iter().map(|mask| mask.source.clone()).collect();
        let usage = self.usage_at(run, &record.key, record.step)?;
        Ok(part.found.and_then(|found| {
            plan_held(&record, options, found, &sources, usage, &limits, images)
                .map_err(|error| error.to_string())
        }))
    }
}
