//! One run: delivers a page of its backlog, then its parked items that are due, and saves its state.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::backlog::{Backlog, BacklogCount, BacklogItem, unix_seconds, written};
use super::super::state::{ParkedItem, RunState, StateError};
use super::batch_wait::BatchWait;
use super::failure::{DeliveryError, RetryPause};
use super::transfer::{DamagedFile, PutProgress, PutResult};
use super::{SINKS_MAX, Worker, WorkerControl};
use crate::sinks::{Delivery, Notice, Receipt, Rest, Sink, SinkError, Target};
use crate::store::Extent;
use crate::store::journal::JournalOffset;

/// How often the sink of an idle run may flush.
const REST_INTERVAL: Duration = Duration::from_secs(5);

/// After this time without items, the run's sink is closed.
const REST_AFTER: Duration = Duration::from_mins(15);

/// How many items of a run may be parked. If there would be more, the items are not at fault.
const PARKED_MAX: usize = 10_000;

/// Why an item is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParkedWhy {
    /// A media file of it is missing or damaged.
    Damaged,
    /// The target rejects it.
    Rejected,
    /// It failed repeatedly.
    Failing,
}

/// The result of a delivery.
#[derive(Default)]
pub(super) struct DeliveryOutcome {
    /// Items to park.
    pub(super) parked: Vec<ParkedItem>,
    /// The sink's receipt for the other items, if there were any.
    receipt: Option<Receipt>,
    n_delivered: u64,
    bytes_delivered: u64,
}

impl DeliveryOutcome {
    pub(super) fn apply_to(self, state: &mut RunState) {
        if let Some(receipt) = self.receipt {
            state.receipt = Some(receipt);
            (state.is_at_rest, state.is_end_reported) = (false, false);
            state.n_delivered += self.n_delivered;
            state.bytes_delivered += self.bytes_delivered;
        }
        state.parked.extend(self.parked);
    }
}

/// A run at a target.
pub(super) struct RunWork<S> {
    /// Always as it is on the disk: see [`Worker::save`].
    pub(super) state: RunState,
    /// The resumed sink, if it is open.
    pub(super) sink: Option<S>,
    pub(super) extent: Extent,
    /// The end of the journal's part that `pending` counts.
    pub(super) counted: JournalOffset,
    pub(super) pending: BacklogCount,
    /// When the media file of the backlog's first item was written, in seconds since the Unix epoch.
    pub(super) oldest: Option<f64>,
    pub(super) puts: PutProgress,
    pub(super) batch_wait: BatchWait,
    /// When the journal last grew.
    pub(super) last_growth: Instant,
    last_rest: Instant,
    pub(super) pause: RetryPause,
    /// [`Findings::n_repairs`](crate::store::findings::Findings::n_repairs) when parked items were last retried.
    pub(super) n_repairs_seen: u64,
}

impl<S> RunWork<S> {
    pub(super) fn new(state: RunState, extent: Extent) -> Self {
        let now = Instant::now();
        Self {
            counted: state.cursor.place,
            state,
            sink: None,
            extent,
            pending: BacklogCount::default(),
            oldest: None,
            puts: PutProgress::default(),
            batch_wait: BatchWait::default(),
            last_growth: now,
            last_rest: now,
            pause: RetryPause::default(),
            // What waited before the start may be repaired.
            n_repairs_seen: u64::MAX,
        }
    }
}

impl<S> RunWork<S> {
    /// Whether there is nothing to deliver, to report or to retry now. `retries_parked` is set if all parked items are due.
    /// `batch_wait` is how long a batch that is not full waits.
    pub(super) fn is_quiet(&mut self, retries_parked: bool, batch_wait: Duration) -> bool {
        let waits = self.waits_for_batch(batch_wait);
        let RunState { cursor, is_at_rest, parked, .. } = &self.state;
        let is_retried =
            |parked: &ParkedItem| retries_parked || parked.next.is_some() || parked.is_damaged;
        let is_delivered = cursor.place >= self.extent.end && *is_at_rest;
        (is_delivered || waits)
            && !self.has_unreported_end()
            && self.pause.until.is_none()
            && self.pause.error.is_none()
            && !parked.iter().any(is_retried)
    }

    /// Whether the next batch is not full and waits for more items.
    fn waits_for_batch(&mut self, batch_wait: Duration) -> bool {
        let is_delivered = self.state.cursor.place >= self.extent.end;
        let is_due = is_delivered || self.extent.finished || self.pending.is_page();
        !is_due && self.batch_wait.goes_on(batch_wait)
    }

    /// Whether the sink has yet to get the end of the run.
    fn has_unreported_end(&self) -> bool {
        let RunState { receipt, is_end_reported, .. } = &self.state;
        self.extent.finished && receipt.is_some() && !is_end_reported
    }
}

impl<T: Target> Worker<T> {
    /// Delivers a page of a run's backlog, then its parked items that are due. Returns whether anything was done.
    pub(super) async fn deliver_run(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &WorkerControl,
        retries_parked: bool,
    ) -> Result<bool, DeliveryError> {
        let mut did = false;
        if work.state.cursor.place < work.extent.end && !work.waits_for_batch(self.batch_wait()) {
            did |= self.deliver_page(work, control).await?;
        }
        did |= self.retry_parked(work, control, retries_parked).await?;
        let is_delivered = work.state.cursor.place >= work.extent.end;
        if is_delivered && (!work.state.is_at_rest || work.has_unreported_end()) {
            self.rest(work).await?;
        }
        Ok(did)
    }

    /// Changes the state of a run, on the disk first, so that a cursor and its receipt always match.
    ///
    /// If that fails, the target may be ahead of the state. The sink is closed, and resumed from the state later.
    pub(super) fn save(
        &self,
        work: &mut RunWork<T::Run>,
        change: impl FnOnce(&mut RunState),
    ) -> Result<(), StateError> {
        let mut state = work.state.clone();
        change(&mut state);
        let saved = state.save(&self.disk, self.reader.root(), &self.config.name);
        match saved {
            Ok(()) => work.state = state,
            Err(_) => work.sink = None,
        }
        saved
    }

    async fn deliver_page(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &WorkerControl,
    ) -> Result<bool, DeliveryError> {
        let run = work.state.run.clone();
        let backlog = Backlog { reader: &self.reader, run: &run, config: &self.config };
        let settled = (!self.is_once && !T::SETTLE.is_zero())
            .then(|| unix_seconds(SystemTime::now()) - T::SETTLE.as_secs_f64());
        let page = backlog.page(work.state.cursor, work.extent.end, settled)?;
        if page.is_replaced {
            self.restart(&mut work.state);
            (work.counted, work.pending) = (work.state.cursor.place, BacklogCount::default());
            // The progress is of other lines with the same sequence numbers.
            work.sink = None;
            work.puts = PutProgress::default();
            self.n_changes_seen = None;
            return Ok(true);
        }
        if page.end == work.state.cursor {
            if !page.is_settling {
                // The rest of the journal is damaged.
                work.state.cursor.place = work.extent.end;
            }
            return Ok(false);
        }
        let first = page.items.first();
        work.oldest = first.and_then(|first| written(&first.delivery.path()));
        self.post_with(Some(work));
        let outcome = if page.items.is_empty() && page.notices.is_empty() {
            DeliveryOutcome::default()
        } else {
            self.deliver(work, page.items, page.notices, control).await?
        };
        self.save(work, |state| {
            state.cursor = page.end;
            outcome.apply_to(state);
        })?;
        work.pending.subtract(page.count);
        work.batch_wait = BatchWait::default();
        work.oldest = None;
        work.puts = PutProgress::default();
        Ok(true)
    }

    pub(super) async fn deliver(
        &mut self,
        work: &mut RunWork<T::Run>,
        items: Vec<BacklogItem>,
        notices: Vec<Notice>,
        control: &WorkerControl,
    ) -> Result<DeliveryOutcome, DeliveryError> {
        self.open(work).await?;
        let sink = work.sink.as_mut().expect("it was opened above");
        let puts = &mut work.puts;
        let results = self.transfer.put_all(sink, &items, puts, &control.stop).await?;
        let now = unix_seconds(SystemTime::now());
        let mut outcome = DeliveryOutcome::default();
        let mut accepted: Vec<(BacklogItem, Delivery)> = Vec::new();
        for (item, result) in items.into_iter().zip(results) {
            let (reason, why) = match result {
                PutResult::Done => {
                    let delivery = item.delivery.clone();
                    accepted.push((item, delivery));
                    continue;
                }
                PutResult::Damaged(DamagedFile { path, damage, reason }) => {
                    self.reader.findings().note(&work.state.run, &item.delivery.id, &path, &damage);
                    (reason, ParkedWhy::Damaged)
                }
                PutResult::Rejected(reason) => (reason, ParkedWhy::Rejected),
                PutResult::Failing(reason) => (reason, ParkedWhy::Failing),
            };
            outcome.parked.push(self.park(&item, &reason, why, now));
        }
        let was_parked = |new: &&ParkedItem| work.state.parked.iter().any(|p| p.place == new.place);
        let n_again = outcome.parked.iter().filter(was_parked).count();
        let n = work.state.parked.len() + outcome.parked.len() - n_again;
        if let Some(last) = outcome.parked.last().filter(|_| n > PARKED_MAX) {
            let (run, reason) = (work.state.run.clone(), last.reason.clone());
            return Err(DeliveryError::TooManyParked { run, n, max: PARKED_MAX, reason });
        }
        let (mut items, mut deliveries): (Vec<_>, Vec<_>) = accepted.into_iter().unzip();
        let n_notices = notices.len() as u64;
        sink.note(notices);
        while !deliveries.is_empty() || n_notices > 0 {
            match sink.commit(&deliveries).await {
                Ok(receipt) => {
                    outcome.receipt = Some(receipt);
                    outcome.n_delivered = deliveries.len() as u64 + n_notices;
                    outcome.bytes_delivered = deliveries.iter().map(|item| item.file.size).sum();
                    break;
                }
                Err(SinkError::Reject { seq, source })
                    if let Some(i) = deliveries.iter().position(|item| item.seq == seq) =>
                {
                    drop(deliveries.remove(i));
                    let item = items.remove(i);
                    let reason = source.to_string();
                    outcome.parked.push(self.park(&item, &reason, ParkedWhy::Rejected, now));
                }
                Err(SinkError::Damaged { seq, path, damage, source })
                    if let Some(i) = deliveries.iter().position(|item| item.seq == seq) =>
                {
                    let delivery = deliveries.remove(i);
                    let item = items.remove(i);
                    self.reader.findings().note(&work.state.run, &delivery.id, &path, &damage);
                    let reason = source.to_string();
                    outcome.parked.push(self.park(&item, &reason, ParkedWhy::Damaged, now));
                }
                Err(error) => {
                    work.sink = None;
                    return Err(error.into());
                }
            }
        }
        Ok(outcome)
    }

    fn park(&self, item: &BacklogItem, reason: &str, why: ParkedWhy, now: f64) -> ParkedItem {
        let reason = self.text_of(&reason);
        let id = &item.delivery.id;
        tracing::warn!(
            target_name = self.config.name,
            key = %id.key,
            step = id.step.0,
            index = id.index,
            error = reason,
            ?why,
            "parked an item"
        );
        let BacklogItem { place, length, .. } = *item;
        let is_damaged = why == ParkedWhy::Damaged;
        let (since, n_tries, next) = (now, 0, None);
        let mut parked = ParkedItem { place, length, reason, since, n_tries, next, is_damaged };
        if why != ParkedWhy::Rejected {
            parked.failed_again(now);
        }
        parked
    }

    /// Opens the target and resumes the run's sink, unless they are open.
    async fn open(&mut self, work: &mut RunWork<T::Run>) -> Result<(), DeliveryError> {
        if work.sink.is_some() {
            return Ok(());
        }
        if self.target.is_none() {
            self.target = Some(T::open(&self.settings).await?);
        }
        let target = self.target.as_ref().expect("it was opened above");
        let run = &work.state.run;
        let Some(info) = self.reader.run_info(run)? else {
            let reason = format!("run.json of run {run} is missing or damaged");
            return Err(DeliveryError::Target { after: None, source: reason.into() });
        };
        let mut sink = target.run(&info);
        sink.resume(work.state.receipt.as_ref()).await?;
        work.puts.forget_put();
        work.sink = Some(sink);
        self.n_sinks += 1;
        Ok(())
    }

    /// Makes the sink of an idle, finished or unattended run flush.
    async fn rest(&mut self, work: &mut RunWork<T::Run>) -> Result<(), DeliveryError> {
        let idle = work.last_growth.elapsed();
        let why = if work.extent.finished {
            Rest::Finished
        } else if self.is_once || idle >= REST_AFTER || self.n_sinks > SINKS_MAX {
            Rest::Leaving
        } else if work.last_rest.elapsed() >= REST_INTERVAL {
            Rest::Idle(idle)
        } else {
            return Ok(());
        };
        work.last_rest = Instant::now();
        self.open(work).await?;
        self.flush(work, why).await?;
        if !matches!(why, Rest::Idle(_)) {
            self.save(work, |state| {
                (state.is_at_rest, state.is_end_reported) = (true, why == Rest::Finished);
            })?;
            work.sink = None;
        }
        Ok(())
    }

    async fn flush(&self, work: &mut RunWork<T::Run>, why: Rest) -> Result<(), DeliveryError> {
        loop {
            let sink = work.sink.as_mut().expect("the caller opened it");
            let receipt = match sink.rest(why).await {
                Ok(Some(receipt)) => receipt,
                Ok(None) => return Ok(()),
                Err(error) => {
                    work.sink = None;
                    return Err(error.into());
                }
            };
            if work.state.receipt.as_ref() == Some(&receipt) {
                return Ok(());
            }
            self.save(work, |state| state.receipt = Some(receipt))?;
        }
    }
}
