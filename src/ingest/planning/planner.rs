//! Plans the images of a record, by the limits and by what its step has already.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::{ImageRules, Live};
use crate::ingest::again::{HeldImages, Lookup, MOVED, part_of};
use crate::ingest::dumps::{Comparing, OpenRecord};
use crate::ingest::pipeline::{SourceBatch, held_at};
use crate::limits::{Admission, Limits, StepUsage, admit};
use crate::media::{
    Description, MediaEntry, MediaId, MediaKey, Rejection, RejectionClass, RunId, Session, Source,
    State, Step,
};
use crate::plan::{IndexRange, Plan, PlannedItem, Recipe, descriptions_bytes_max, plan, plan_held};
use crate::run_dir::RunDir;
use crate::store::journal::Event;
use crate::store::{Reader, StoreError};
use crate::words::counted;

/// Steps whose usage is remembered.
const USAGE_MAX: usize = 4096;

/// Where images of a dump are: key, step and indices.
pub(crate) type ImageRange = (MediaKey, Step, IndexRange);

/// What a record says of its place: key, step and index.
pub(super) type RecordPlace = (MediaKey, Step, Option<u32>);

/// Plans images, and counts what each step has.
#[derive(Debug)]
pub(crate) struct Planner {
    limits: Limits,
    rules: ImageRules,
    reader: Reader,
    /// What steps have, with the images between plan and commit.
    usage: HashMap<(RunId, MediaKey, Step), StepUsage>,
    /// The greatest step at which a key has or had anything. Later ones, as most are, need no look into the index.
    last_steps: HashMap<(RunId, MediaKey), Option<Step>>,
    comparing: Comparing,
}

/// The index of a rejected record, and the indices that its source has in the step.
///
/// A waiting item takes the index that the record names, or the next one. If an earlier version of the dump
/// has images (`earlier`), or another item has the index, nothing is taken and those stay.
fn rejected_at(
    usage: &mut StepUsage,
    wanted: Option<u32>,
    why: &Rejection,
    earlier: Option<IndexRange>,
) -> (Option<u32>, Option<IndexRange>) {
    if !why.is_waiting() {
        return (wanted, None);
    }
    if let Some(earlier) = earlier {
        return (Some(earlier.first), Some(earlier));
    }
    match wanted.or_else(|| usage.next_index()) {
        Some(index) if !usage.is_taken(index) => {
            usage.take(index, false);
            (Some(index), Some(IndexRange { first: index, n: 1 }))
        }
        claimed => (claimed, None),
    }
}

impl Planner {
    /// A planner that knows of the usage of steps from `reader`.
    pub(crate) fn new(config: &Live, reader: Reader) -> Self {
        let (limits, rules) = (config.limits, config.rules.clone());
        let (usage, last_steps) = (HashMap::new(), HashMap::new());
        Self { limits, rules, reader, usage, last_steps, comparing: Comparing::default() }
    }

    /// Plans by this configuration from now on.
    pub(crate) fn set_config(&mut self, config: &Live) {
        self.limits = config.limits;
        self.rules = config.rules.clone();
    }

    /// The limits that it plans by.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it takes to find an item again.
    pub(super) fn lookup(&self) -> Lookup<'_> {
        Lookup { reader: &self.reader, limits: &self.limits, rules: &self.rules }
    }

    /// The dumps that are compared with known ones.
    pub(super) fn comparing(&mut self) -> &mut Comparing {
        &mut self.comparing
    }

    /// The index of the store.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether the usage of many steps is remembered, so that [`Self::forget_usage_but_of`] should be called.
    pub(crate) fn has_much_usage(&self) -> bool {
        self.usage.len() > USAGE_MAX
    }

    /// The runs whose usage is remembered.
    pub(crate) fn runs_with_usage(&self) -> HashSet<RunId> {
        self.usage.keys().map(|(run, ..)| run.clone()).collect()
    }

    /// Forgets the usage of all steps but those of `runs`. The index must know of all other planned images.
    pub(crate) fn forget_usage_but_of(&mut self, runs: &HashSet<RunId>) {
        self.usage.retain(|(run, ..), _| runs.contains(run));
        self.last_steps.retain(|(run, _), _| runs.contains(run));
    }

    /// Frees the index of an image that could not be made.
    pub(crate) fn free(&mut self, run: &RunId, id: MediaId) {
        let step = (run.clone(), id.key, id.step);
        self.usage.entry(step).and_modify(|usage| usage.free(id.index));
    }

    /// Gives an index back to what the store has there: an image that was planned for it was not committed.
    pub(crate) fn restore(&mut self, run: &RunId, id: &MediaId) {
        let there = self.reader.item(run, &id.key, id.step, id.index);
        let step = (run.clone(), id.key.clone(), id.step);
        self.usage.entry(step).and_modify(|usage| match there {
            Ok(Some(item)) => usage.take(id.index, item.state() == State::Image),
            Ok(None) => usage.free(id.index),
            // What is there is unknown, and must not be replaced.
            Err(_) => usage.take(id.index, false),
        });
    }

    /// Returns why a step admits no more images, if it does not.
    pub(super) fn full_reason(
        &mut self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<Option<String>, StoreError> {
        let limits = self.limits;
        // The smallest image there is.
        match admit(&limits, self.usage_at(run, key, step)?, 1, 1) {
            Admission::Hold(reason) => Ok(Some(reason)),
            Admission::Keep | Admission::Downscale(..) => Ok(None),
        }
    }

    /// Returns what a step has, with the images between plan and commit.
    fn usage_at(
        &mut self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<&mut StepUsage, StoreError> {
        match self.usage.entry((run.clone(), key.clone(), step)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let last = match self.last_steps.entry((run.clone(), key.clone())) {
                    Entry::Occupied(last) => last.into_mut(),
                    Entry::Vacant(last) => last.insert(self.reader.last_step(run, key)?),
                };
                let usage = match *last {
                    Some(last) if step <= last => self.reader.usage(run, key, step)?,
                    _ => StepUsage::default(),
                };
                *last = (*last).max(Some(step));
                Ok(entry.insert(usage))
            }
        }
    }

    /// Decides where a line or dump stands that cannot be read. A waiting item takes its place in the step.
    /// `before` are the places that an earlier version of the dump has. Returns what it says of its place,
    /// and the place that it has.
    pub(super) fn place_rejected(
        &mut self,
        run: &RunId,
        (key, step, index): RecordPlace,
        why: &Rejection,
        before: &[ImageRange],
    ) -> Result<(RecordPlace, Option<ImageRange>), StoreError> {
        let earlier = range_at(before, &key, step);
        // What is in the dump is unknown: it may have had images of other keys.
        let (index, range) = if before.is_empty() || earlier.is_some() {
            rejected_at(self.usage_at(run, &key, step)?, index, why, earlier)
        } else {
            (index, None)
        };
        let range = range.map(|range| (key.clone(), step, range));
        Ok(((key, step, index), range))
    }

    /// Keeps the tensor of this name of a record, and counts the images of those before it: the limits of a
    /// dump count all its tensors together. Returns whether the tensor is there.
    pub(super) fn keep_tensor(&self, opened: &mut OpenRecord, tensor: &str) -> bool {
        let OpenRecord { record, parts, n_before, .. } = opened;
        let at = parts.iter().position(|part| part.tensor.as_deref() == Some(tensor));
        let Some(at) = at else { return false };
        for part in parts.drain(..at) {
            let options = record.options.over(self.rules.options(&part.key));
            let found = part.found.ok();
            let recipe = found.and_then(|found| Recipe::new(found, options, &self.limits).ok());
            // One that makes no image is one rejected item.
            *n_before += recipe.map_or(1, |recipe| recipe.n_images());
        }
        parts.truncate(1);
        true
    }

    /// Plans the images of each tensor of a record, in place of those in `before`, and adds them to `batch`.
    /// Returns where the images are, and the waiting items: nowhere if none could be planned.
    pub(super) fn plan_record(
        &mut self,
        run: &RunId,
        dir: &Arc<RunDir>,
        opened: OpenRecord,
        before: &[ImageRange],
        batch: &mut SourceBatch,
    ) -> Result<Vec<ImageRange>, StoreError> {
        let limits = self.limits;
        let OpenRecord { record, dump, parts, masks, source, skipped, n_before, .. } = opened;
        batch.set_skipped(&source.path, skipped);
        let sources: Vec<_> = masks.iter().map(|mask| mask.source.clone()).collect();
        // The limits of a dump count all its tensors together.
        let (n_max, mut n_images, mut n_bytes) = (limits.batch_max, n_before, 0usize);
        let n_bytes_max = descriptions_bytes_max(&limits);
        let mut now = Vec::new();
        let (n_parts, mut of_dump) = (parts.len(), Some((record, source)));
        for (n, part) in (1..).zip(parts) {
            // Most dumps have one part, which needs no copy.
            let of_part = if n < n_parts { of_dump.clone() } else { of_dump.take() };
            let Some((mut record, mut source)) = of_part else { break };
            (record.key, source.tensor) = (part.key, part.tensor);
            let options = record.options.over(self.rules.options(&record.key));
            let earlier = range_at(before, &record.key, record.step);
            let usage = self.usage_at(run, &record.key, record.step)?;
            let usage_before = earlier.is_some().then(|| usage.clone());
            let plan = part.found.and_then(|found| {
                Ok(plan(&record, options, found, &sources, usage, &limits, earlier)?)
            });
            let (n, n_described) = match &plan {
                Ok(plan) => (plan.items.len() as u64, plan.description_bytes),
                Err(_) => (1, record.description.n_bytes()),
            };
            n_images += n;
            n_bytes = n_bytes.saturating_add(n_described);
            let is_over = n_images > n_max || n_bytes > n_bytes_max;
            let plan = match plan {
                Ok(plan) if is_over => {
                    match usage_before {
                        Some(before) => *usage = before,
                        None => plan.items.iter().for_each(|item| usage.free(item.id().index)),
                    }
                    let class = if n_images > n_max {
                        RejectionClass::Waiting
                    } else {
                        RejectionClass::Final
                    };
                    let images = counted(n_images, "image");
                    let reason = format!(
                        "{images} in one dump so far, with {n_bytes} bytes of descriptions: \
                         limits.batch_max is {n_max}, descriptions may have {n_bytes_max}"
                    );
                    Err(Rejection { class, reason })
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
                    batch.push_plan(plan, &dump, &masks, dir, &source);
                }
                Err(why) => {
                    let (index, range) = rejected_at(usage, record.index, &why, earlier);
                    let held = why.is_waiting().then(|| held_at(&dump, 0));
                    let place = Some((record.key.clone(), record.step, index));
                    now.extend(range.map(|range| (record.key, record.step, range)));
                    // The description of all images is not repeated with each rejected one.
                    let description =
                        if is_over { Description::default() } else { record.description };
                    let source = Source { held, ..source };
                    batch.push_entry(MediaEntry::rejected(place, why, description, source));
                }
            }
        }
        Ok(now)
    }

    /// Plans the images of a line that a session wrote, in place of the items at the indices `replaced` of
    /// earlier sessions. An index that another writer has is replaced by the next free one. Returns where
    /// the images are, or `None` if that depends on items in the pipeline.
    pub(super) fn plan_in_session(
        &mut self,
        run: &RunId,
        dir: &Arc<RunDir>,
        mut opened: OpenRecord,
        session: &Session,
        replaced: &[(MediaKey, Vec<u32>)],
        batch: &mut SourceBatch,
    ) -> Result<Option<Vec<ImageRange>>, StoreError> {
        let step = opened.record.step;
        if let Some(index) = opened.record.index {
            for part in &opened.parts {
                let is_here = |(key, indices): &(MediaKey, Vec<u32>)| {
                    *key == part.key && indices.contains(&index)
                };
                let is_taken = self.usage_at(run, &part.key, step)?.is_taken(index);
                if !is_taken || replaced.iter().any(is_here) {
                    continue;
                }
                match self.reader.item(run, &part.key, step, index)? {
                    None => return Ok(None),
                    Some(item) if item.source.writer() == Some((&*session.id, session.rank)) => {}
                    Some(_) => opened.record.index = None,
                }
            }
        }
        let mut freed = Vec::new();
        for (key, indices) in replaced {
            let usage = self.usage_at(run, key, step)?;
            for &index in indices {
                if let Some(is_kept) = usage.kept_at(index) {
                    usage.free(index);
                    freed.push((key, index, is_kept));
                }
            }
        }
        let mut before = Vec::new();
        if opened.record.index.is_none() {
            for part in &opened.parts {
                let gap = self.usage_at(run, &part.key, step)?.first_gap();
                before.push((part.key.clone(), step, gap));
            }
        }
        let now = self.plan_record(run, dir, opened, &before, batch)?;
        let mut gone = Vec::new();
        for (key, index, is_kept) in freed {
            match now.iter().find(|(of, ..)| of == key) {
                Some((.., range)) if range.contains(index) => {}
                Some(_) => {
                    let id = MediaId { key: key.clone(), step, index };
                    gone.push(Event::Gone { id, path: None });
                }
                // A line without any image leaves the images of earlier sessions.
                None => self.usage_at(run, key, step)?.take(index, is_kept),
            }
        }
        batch.push_events_first(gone);
        Ok(Some(now))
    }

    /// Plans held images again, each at its index.
    ///
    /// # Errors
    /// The inner error says, for people, why no image can be planned.
    pub(super) fn plan_held(
        &mut self,
        run: &RunId,
        opened: &mut OpenRecord,
        held: &HeldImages<'_>,
    ) -> Result<Result<Plan, String>, StoreError> {
        let limits = self.limits;
        let first = opened.record.index;
        let is_at = |(index, image): (&u32, &u64)| {
            first.is_none_or(|first| u64::from(first) + image == u64::from(*index))
        };
        let part = part_of(opened, held, &self.rules).filter(|_| held.images.iter().all(is_at));
        let Some((record, found, options)) = part else { return Ok(Err(MOVED.to_owned())) };
        let sources: Vec<_> = opened.masks.iter().map(|mask| mask.source.clone()).collect();
        let usage = self.usage_at(run, &record.key, record.step)?;
        let plan = found.and_then(|found| {
            Ok(plan_held(&record, options, found, &sources, usage, &limits, held.images)?)
        });
        Ok(plan.map_err(|why| why.reason))
    }
}

/// The indices that a source has at a key and step.
fn range_at(ranges: &[ImageRange], key: &MediaKey, step: Step) -> Option<IndexRange> {
    let at = ranges.iter().find(|(of, at, _)| (of, *at) == (key, step));
    at.map(|(_, _, range)| *range)
}
