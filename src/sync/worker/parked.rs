//! Parked items: retries those that are due.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::SystemTime;

use super::super::backlog::{Backlog, unix_seconds};
use super::super::state::ParkedItem;
use super::failure::DeliveryError;
use super::run::{DeliveryOutcome, RunWork};
use super::{Worker, WorkerControl};
use crate::sinks::Target;
use crate::store::StoreError;
use crate::store::journal::JournalOffset;

/// How many parked items are retried together. The state is saved once for them.
const PARKED_BATCH: usize = 256;

impl<T: Target> Worker<T> {
    /// Retries parked items that are due, in batches. Returns whether any left the parked items.
    pub(super) async fn retry_parked(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &WorkerControl,
        retries_parked: bool,
    ) -> Result<bool, DeliveryError> {
        let now = unix_seconds(SystemTime::now());
        let n_repairs = self.reader.findings().n_repairs();
        let has_repairs = std::mem::replace(&mut work.n_repairs_seen, n_repairs) != n_repairs;
        let is_due = |parked: &ParkedItem| {
            retries_parked || parked.is_due(now) || (parked.is_damaged && has_repairs)
        };
        let mut due: VecDeque<ParkedItem> =
            work.state.parked.iter().filter(|p| is_due(p)).cloned().collect();
        if retries_parked {
            // As after a first failure.
            due.iter_mut().for_each(|parked| (parked.since, parked.n_tries) = (now, 0));
        }
        due.make_contiguous().sort_by_key(|parked| parked.place);
        // If a batch fails as a whole, its items are tried one at a time, so that one cannot block the others.
        let mut n_batch = PARKED_BATCH;
        let mut did = false;
        while !due.is_empty() {
            let batch: Vec<ParkedItem> = due.iter().take(n_batch).cloned().collect();
            match self.retry_batch(work, control, &batch, now).await {
                Ok(left) => did |= left,
                Err(DeliveryError::Target { after: None, .. }) if batch.len() > 1 => {
                    (n_batch, work.sink) = (1, None);
                    continue;
                }
                Err(DeliveryError::Target { after: None, source }) => {
                    work.sink = None;
                    let mut again = batch[0].clone();
                    again.reason = self.text_of(&source);
                    again.failed_again(now);
                    self.save(work, |state| {
                        state.parked.retain(|other| other.place != again.place);
                        state.parked.push(again);
                    })?;
                    // The others wait for the next pass, because the target itself may be failing.
                    break;
                }
                Err(trouble) => return Err(trouble),
            }
            due.drain(..batch.len());
            n_batch = (2 * n_batch).min(PARKED_BATCH);
        }
        Ok(did)
    }

    /// Retries parked items and saves the state once. Returns whether any left the parked items.
    async fn retry_batch(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &WorkerControl,
        batch: &[ParkedItem],
        now: f64,
    ) -> Result<bool, DeliveryError> {
        let run = work.state.run.clone();
        let backlog = Backlog { reader: &self.reader, run: &run, config: &self.config };
        let (mut items, mut lost) = (Vec::new(), Vec::new());
        for parked in batch {
            match backlog.parked_item(parked) {
                Ok(Some(item)) => items.push(item),
                // A later item replaced it.
                Ok(None) => {}
                Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    // Its line is damaged. It stays parked with this error.
                    let reason = self.text_of(&error);
                    lost.push(ParkedItem { reason, next: None, ..parked.clone() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let places: BTreeSet<JournalOffset> = batch.iter().map(|parked| parked.place).collect();
        let mut outcome = if items.is_empty() {
            DeliveryOutcome::default()
        } else {
            work.puts.forget_failures();
            self.deliver(work, items, Vec::new(), control).await?
        };
        outcome.parked.extend(lost);
        let did = outcome.parked.len() < batch.len();
        for again in &mut outcome.parked {
            if let Some(parked) = batch.iter().find(|parked| parked.place == again.place) {
                (again.since, again.n_tries) = (parked.since, parked.n_tries);
                if again.is_damaged {
                    again.failed_again(now);
                } else {
                    again.n_tries += 1;
                }
            }
        }
        self.save(work, |state| {
            state.parked.retain(|other| !places.contains(&other.place));
            outcome.apply_to(state);
        })?;
        Ok(did)
    }
}
