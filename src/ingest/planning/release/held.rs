//! Releases the held images of one step.

use std::collections::BTreeMap;

use super::super::PlanContext;
use super::{Release, ReleasedRun, reopen};
use crate::ingest::again::HeldImages;
use crate::ingest::pipeline::SourceBatch;
use crate::ingest::runs::Runs;
use crate::media::{HeldAt, MediaEntry, MediaKey, Source, Step};
use crate::plan::PlannedItem;
use crate::pulse;
use crate::store::journal::SourceCursor;
use crate::store::{Filter, StateFilter, StoreError};

/// Held images of one tensor.
struct Group {
    source: Source,
    held: HeldAt,
    /// By index, which of the tensor's images each is.
    images: BTreeMap<u32, u64>,
}

impl Release {
    /// Releases what the limits admit of a step that has `n` held images.
    pub(super) fn release_step(
        &mut self,
        key: &MediaKey,
        step: Step,
        n: u64,
        runs: &Runs,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        let Self { report, n_in_flight, current, watches, .. } = self;
        let Some(ReleasedRun { id, opened, .. }) = current else { return Ok(()) };
        // If a step is full, no dump needs to be read.
        if let Some(reason) = context.planner.full_reason(id, key, step)? {
            report.held(id, key, &reason, n);
            return Ok(());
        }
        let opened = opened.get_or_insert_with(|| reopen(id, runs, watches, context));
        let opened = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                report.failed(id, Some(key), reason, n);
                return Ok(());
            }
        };
        let (steps, state) = (Some((step.0, step.0)), Some(StateFilter::Held));
        let filter = Filter { run: Some(id.clone()), key: Some(key.clone()), steps, state };
        let mut items = context.planner.reader().items(&filter)?.peekable();
        while let Some(item) = items.next() {
            pulse::beat();
            let entry = match item {
                Ok((_, entry)) => entry,
                Err(error) => {
                    report.failed(id, Some(key), &error.to_string(), 1);
                    break;
                }
            };
            let Some(mut group) = Group::of(&entry) else {
                let reason = "an earlier version held it, and recorded too little of its dump";
                report.failed(id, Some(key), reason, 1);
                continue;
            };
            while items
                .next_if(|item| item.as_ref().is_ok_and(|(_, next)| group.add(next)))
                .is_some()
            {}
            let n = group.images.len() as u64;
            if let Some(reason) = context.planner.full_reason(id, key, step)? {
                report.held(id, key, &reason, n);
                continue;
            }
            let mut record =
                match opened.read_held(&group.source, key, group.held, context.planner.lookup())? {
                    Ok(record) => record,
                    Err(reason) => {
                        report.failed(id, Some(key), &reason, n);
                        continue;
                    }
                };
            let Group { source, images, .. } = &group;
            let held = HeldImages { key, step, source, images };
            let plan = match context.planner.plan_held(id, &mut record, &held)? {
                Ok(plan) => plan,
                Err(reason) => {
                    report.failed(id, Some(key), &reason, n);
                    continue;
                }
            };
            for item in &plan.items {
                match item {
                    PlannedItem::Image(_) => *n_in_flight += 1,
                    PlannedItem::Held { reason, .. } => report.held(id, key, reason, 1),
                    PlannedItem::Rejected { reason, .. } => report.failed(id, Some(key), reason, 1),
                }
            }
            let mut batch = SourceBatch::new(&opened.run.info, SourceCursor::None);
            batch.push_plan(plan, &record.dump, &record.masks, opened.run.files.dir(), source);
            batch.into_releases().for_each(|batch| context.pipeline.submit(batch));
        }
        Ok(())
    }
}

impl Group {
    /// The group that begins with an item. `None` if the item says too little of its dump.
    fn of(entry: &MediaEntry) -> Option<Self> {
        let held = entry.source.held?;
        let source = Source { held: None, ..entry.source.clone() };
        let images = BTreeMap::from([(entry.index()?, held.image)]);
        Some(Self { source, held, images })
    }

    /// Adds the next item if it comes from the same tensor. Returns whether it does.
    fn add(&mut self, entry: &MediaEntry) -> bool {
        let is_same = Self::of(entry)
            .filter(|next| next.source == self.source && next.held.is_same_version(&self.held));
        is_same.map(|next| self.images.extend(next.images)).is_some()
    }
}
