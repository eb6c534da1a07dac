//! Puts the files of items at a target, several at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::super::backlog::BacklogItem;
use super::super::backoff::pause;
use super::super::lanes::{Lanes, TargetResponse};
use super::POST_INTERVAL;
use super::failure::{DeliveryError, FAILURES_MAX, TRIES_MAX};
use crate::pace::Pace;
use crate::sinks::{Sink, SinkError};
use crate::store::media_check::Damage;

/// The maximum size of the files that are in transfer to a target at the same time, in bytes.
const BYTES_IN_TRANSFER_MAX: u64 = 64 << 20;

/// What became of an item's files.
pub(super) enum PutResult {
    Done,
    /// A media file of the item is missing or damaged.
    Damaged(DamagedFile),
    /// The target will never accept the item.
    Rejected(String),
    /// The item failed repeatedly, while the target accepted others.
    Failing(String),
}

/// A media file that is missing or damaged in the store.
pub(super) struct DamagedFile {
    /// Relative to the run's folder.
    pub(super) path: String,
    pub(super) damage: Box<Damage>,
    /// The error, for people.
    pub(super) reason: String,
}

/// Which items of a run's page were put, and which failed. Items are named by their sequence numbers.
#[derive(Debug, Default)]
pub(super) struct PutProgress {
    /// Items whose files are at the target, and that are not committed.
    put: BTreeSet<u64>,
    /// Failed items: the number of their failures, and [`Transfer::n_accepted`] at the first failure.
    failed: BTreeMap<u64, (u32, u64)>,
}

impl PutProgress {
    pub(super) fn forget_put(&mut self) {
        self.put.clear();
    }

    pub(super) fn forget_failures(&mut self) {
        self.failed.clear();
    }
}

/// The connection to a target, which all its runs share: its lanes and its byte rate.
pub(super) struct Transfer {
    lanes: Lanes,
    pace: Pace,
    /// Number of items that the target accepted since the start.
    n_accepted: u64,
}

impl Transfer {
    pub(super) fn new(n_lanes_max: usize, pace: Pace) -> Self {
        Self { lanes: Lanes::new(n_lanes_max), pace, n_accepted: 0 }
    }

    pub(super) fn n_accepted(&self) -> u64 {
        self.n_accepted
    }

    pub(super) fn n_lanes(&self) -> usize {
        self.lanes.n()
    }

    /// Puts the files of items that are not put yet, as many at a time as there are lanes.
    ///
    /// A failed item is retried while the target accepts others. Returns a result for each item.
    ///
    /// # Errors
    /// If several items in a row fail, or the target requests a pause: the target is at fault. If `stop` is
    /// cancelled.
    pub(super) async fn put_all<S: Sink>(
        &mut self,
        sink: &S,
        items: &[BacklogItem],
        progress: &mut PutProgress,
        stop: &CancellationToken,
    ) -> Result<Vec<PutResult>, DeliveryError> {
        let Self { lanes, pace, n_accepted } = self;
        let PutProgress { put, failed } = progress;
        let seq = |i: usize| items[i].delivery.seq;
        let mut results: Vec<Option<PutResult>> = items
            .iter()
            .map(|item| put.contains(&item.delivery.seq).then_some(PutResult::Done))
            .collect();
        let mut queue: VecDeque<usize> =
            (0..items.len()).filter(|&i| results[i].is_none()).collect();
        let mut waiting: Vec<(Instant, usize)> = Vec::new();
        let mut in_transfer = FuturesUnordered::new();
        let (mut bytes_in_transfer, mut n_failed_in_a_row) = (0, 0);
        loop {
            let now = Instant::now();
            waiting.retain(|&(at, i)| {
                let is_due = at <= now;
                if is_due {
                    queue.push_back(i);
                }
                !is_due
            });
            while in_transfer.len() < lanes.n()
                && let Some(&i) = queue.front()
            {
                let item = &items[i].delivery;
                // Sinks may read a file as a whole. One that is larger than the limit goes alone.
                let n_bytes = item.n_bytes();
                if !in_transfer.is_empty() && bytes_in_transfer + n_bytes > BYTES_IN_TRANSFER_MAX {
                    break;
                }
                queue.pop_front();
                bytes_in_transfer += n_bytes;
                let delay = pace.delay(now.into_std(), n_bytes);
                in_transfer.push(async move {
                    sleep(delay).await;
                    let start = Instant::now();
                    (i, sink.put(item).await, start.elapsed())
                });
            }
            let next = waiting.iter().map(|(at, _)| *at).min();
            if in_transfer.is_empty() && next.is_none() {
                break;
            }
            let n_in_transfer = in_transfer.len();
            let until_next = next.map_or(POST_INTERVAL, |next| next.saturating_duration_since(now));
            let (i, result, took) = tokio::select! {
                Some(finished) = in_transfer.next(), if n_in_transfer > 0 => finished,
                () = sleep(until_next), if next.is_some() => continue,
                () = stop.cancelled() => return Err(DeliveryError::Stopped),
            };
            bytes_in_transfer -= items[i].delivery.n_bytes();
            let response = match &result {
                Ok(()) | Err(SinkError::Reject { .. }) => Some(TargetResponse::Answered),
                Err(SinkError::Retry { .. }) => Some(TargetResponse::Failed),
                // The target got nothing.
                Err(SinkError::Damaged { .. }) => None,
            };
            if let Some(response) = response {
                lanes.add_response(Instant::now().into_std(), response, took, n_in_transfer);
            }
            match result {
                Ok(()) => {
                    (*n_accepted, n_failed_in_a_row) = (*n_accepted + 1, 0);
                    put.insert(seq(i));
                    results[i] = Some(PutResult::Done);
                }
                Err(SinkError::Damaged { path, damage, source, .. }) => {
                    let reason = source.to_string();
                    results[i] = Some(PutResult::Damaged(DamagedFile { path, damage, reason }));
                }
                Err(SinkError::Reject { source, .. }) => {
                    n_failed_in_a_row = 0;
                    results[i] = Some(PutResult::Rejected(source.to_string()));
                }
                Err(SinkError::Retry { after, source }) => {
                    n_failed_in_a_row += 1;
                    let after = after.filter(|after| !after.is_zero());
                    let (n_tries, n_accepted_before) =
                        failed.entry(seq(i)).or_insert((0, *n_accepted));
                    *n_tries += 1;
                    if *n_tries >= TRIES_MAX && *n_accepted > *n_accepted_before {
                        results[i] = Some(PutResult::Failing(source.to_string()));
                    } else if after.is_some() || n_failed_in_a_row >= FAILURES_MAX {
                        return Err(DeliveryError::Target { after, source });
                    } else {
                        let pause = pause(*n_tries, None, fastrand::f64());
                        waiting.push((Instant::now() + pause, i));
                    }
                }
            }
        }
        let results = results.into_iter();
        Ok(results.map(|result| result.expect("no item is queued or waits")).collect())
    }
}
