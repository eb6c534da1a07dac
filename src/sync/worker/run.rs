//! One run: a page of what it has is delivered and noted, then what is due of that which was set aside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::super::backlog::{Ahead, Backlog, Tally, seconds, written};
use super::super::backoff::pause;
use super::super::lanes::Answer;
use super::super::state::{Parked, RunState, StateError};
use super::trouble::{FAILURES_MAX, TRIES_MAX, Trouble, Wait};
use super::{Control, POST, Worker};
use crate::sinks::{Delivery, Receipt, Rest, Sink, SinkError, Target};
use crate::store::journal::JournalOffset;
use crate::store::{Extent, StoreError};

/// How often a sink is told that nothing comes; when that is for good.
const REST_EVERY: Duration = Duration::from_secs(5);
const REST_AFTER: Duration = Duration::from_mins(15);

/// So many items of a run may be set aside. When more are refused, it is not the items that are wrong.
const PARKED_MAX: usize = 10_000;

/// What a target did with an item's files.
enum Put {
    Done,
    Rejected(String),
    /// It fails with this one and takes others.
    SetAside(String),
}

/// What became of items that were to be delivered.
#[derive(Default)]
struct Outcome {
    /// Those that are to be set aside.
    aside: Vec<Parked>,
    /// Of the others, if there were any.
    receipt: Option<Receipt>,
    n_kept: u64,
    bytes_kept: u64,
}

impl Outcome {
    /// Notes what the target has by now.
    fn note(self, state: &mut RunState) {
        if let Some(receipt) = self.receipt {
            state.receipt = Some(receipt);
            (state.is_at_rest, state.is_told_of_end) = (false, false);
            state.n_delivered += self.n_kept;
            state.bytes_delivered += self.bytes_kept;
        }
        state.parked.extend(self.aside);
    }
}

/// A run.
pub(super) struct RunWork<S> {
    /// As it is on the disk: see [`Worker::keep`].
    pub(super) state: RunState,
    /// Resumed.
    pub(super) sink: Option<S>,
    pub(super) extent: Extent,
    /// Up to where what is pending is counted.
    pub(super) counted: JournalOffset,
    pub(super) pending: Tally,
    /// When the first pending item was kept.
    pub(super) oldest: Option<f64>,
    /// Items whose files are there, and that are not committed.
    put: BTreeSet<u64>,
    /// How often items have failed, and how many others had been taken when they did first.
    failed: BTreeMap<u64, (u32, u64)>,
    pub(super) last_came: Instant,
    last_rest: Instant,
    pub(super) wait: Wait,
}

impl<S> RunWork<S> {
    pub(super) fn new(state: RunState, extent: Extent) -> Self {
        let now = Instant::now();
        Self {
            counted: state.cursor.place,
            state,
            sink: None,
            extent,
            pending: Tally::default(),
            oldest: None,
            put: BTreeSet::new(),
            failed: BTreeMap::new(),
            last_came: now,
            last_rest: now,
            wait: Wait::default(),
        }
    }
}

impl<T: Target> Worker<T> {
    /// Delivers a page of what a run has, then what is due of that which was set aside. Returns whether there
    /// was anything.
    pub(super) async fn run(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &Control,
        tries_all: bool,
    ) -> Result<bool, Trouble> {
        let mut did = false;
        if work.state.cursor.place < work.extent.end {
            did |= self.page(work, control).await?;
        }
        did |= self.parked(work, control, tries_all).await?;
        let RunState { receipt, is_at_rest, is_told_of_end, .. } = &work.state;
        let is_over = work.extent.finished && receipt.is_some() && !is_told_of_end;
        if work.state.cursor.place >= work.extent.end && (!is_at_rest || is_over) {
            self.rest(work).await?;
        }
        Ok(did)
    }

    /// Changes what is noted of a run, on the disk first: a cursor and its receipt must not come apart. If that
    /// fails, the target may be ahead of what is noted: its sink is resumed from there.
    fn keep(
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

    async fn page(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &Control,
    ) -> Result<bool, Trouble> {
        let run = work.state.run.clone();
        let selection = &self.config.selection;
        let backlog = Backlog { reader: &self.reader, run: &run, selection };
        let settled = (!self.is_once && !T::SETTLE.is_zero())
            .then(|| seconds(SystemTime::now()) - T::SETTLE.as_secs_f64());
        let page = backlog.page(work.state.cursor, work.extent.end, settled)?;
        if page.is_of_other {
            self.begin_anew(&mut work.state);
            (work.counted, work.pending) = (work.state.cursor.place, Tally::default());
            // What was brought over is of other lines with the same numbers.
            work.sink = None;
            (work.put, work.failed) = (BTreeSet::new(), BTreeMap::new());
            self.n_changes_seen = None;
            return Ok(true);
        }
        if page.end == work.state.cursor {
            if !page.is_held {
                // Nothing but a damaged end.
                work.state.cursor.place = work.extent.end;
            }
            return Ok(false);
        }
        let first = page.items.first();
        work.oldest = first.and_then(|first| written(&first.delivery.path()));
        self.post_with(work);
        let outcome = if page.items.is_empty() {
            Outcome::default()
        } else {
            self.deliver(work, page.items, control).await?
        };
        self.keep(work, |state| {
            state.cursor = page.end;
            outcome.note(state);
        })?;
        work.pending.take(page.tally);
        work.oldest = None;
        (work.put, work.failed) = (BTreeSet::new(), BTreeMap::new());
        Ok(true)
    }

    /// Delivers items.
    async fn deliver(
        &mut self,
        work: &mut RunWork<T::Run>,
        items: Vec<Ahead>,
        control: &Control,
    ) -> Result<Outcome, Trouble> {
        self.open(work).await?;
        let verdicts = self.put(work, &items, control).await?;
        let now = seconds(SystemTime::now());
        let mut outcome = Outcome::default();
        let mut accepted: Vec<(Ahead, Delivery)> = Vec::new();
        for (item, verdict) in items.into_iter().zip(verdicts) {
            let (reason, is_for_good) = match verdict {
                Put::Done => {
                    let delivery = item.delivery.clone();
                    accepted.push((item, delivery));
                    continue;
                }
                Put::Rejected(reason) => (reason, true),
                Put::SetAside(reason) => (reason, false),
            };
            outcome.aside.push(self.set_aside(&item, reason, is_for_good, now));
        }
        let n = work.state.parked.len() + outcome.aside.len();
        if let Some(last) = outcome.aside.last().filter(|_| n > PARKED_MAX) {
            let (run, reason) = (work.state.run.clone(), last.reason.clone());
            return Err(Trouble::Refused { run, n, reason });
        }
        let (mut ahead, mut deliveries): (Vec<_>, Vec<_>) = accepted.into_iter().unzip();
        let sink = work.sink.as_mut().expect("it was opened above");
        while !deliveries.is_empty() {
            match sink.commit(&deliveries).await {
                Ok(receipt) => {
                    outcome.receipt = Some(receipt);
                    outcome.n_kept = deliveries.len() as u64;
                    outcome.bytes_kept = deliveries.iter().map(|item| item.file.size).sum();
                    break;
                }
                Err(SinkError::Reject { seq, source })
                    if let Some(i) = deliveries.iter().position(|item| item.seq == seq) =>
                {
                    drop(deliveries.remove(i));
                    let item = ahead.remove(i);
                    outcome.aside.push(self.set_aside(&item, source.to_string(), true, now));
                }
                Err(error) => {
                    work.sink = None;
                    return Err(error.into());
                }
            }
        }
        Ok(outcome)
    }

    fn set_aside(&self, item: &Ahead, reason: String, is_for_good: bool, now: f64) -> Parked {
        let id = &item.delivery.id;
        tracing::warn!(
            target_name = self.config.name,
            key = %id.key,
            step = id.step.0,
            index = id.index,
            error = reason,
            is_for_good,
            "item is set aside"
        );
        let Ahead { place, length, .. } = *item;
        let mut parked = Parked { place, length, reason, since: now, n_tries: 0, next: None };
        if !is_for_good {
            parked.failed_again(now);
        }
        parked
    }

    /// Opens the target and the run's sink, unless they are open.
    async fn open(&mut self, work: &mut RunWork<T::Run>) -> Result<(), Trouble> {
        if work.sink.is_some() {
            return Ok(());
        }
        if self.target.is_none() {
            self.target = Some(T::open(&self.settings).await?);
        }
        let target = self.target.as_ref().expect("it was opened above");
        let run = &work.state.run;
        let Some(info) = self.reader.run_info(run)? else {
            let what = format!("run.json of run {run} is missing or damaged");
            return Err(Trouble::Target { after: None, source: what.into() });
        };
        let mut sink = target.run(&info);
        sink.resume(work.state.receipt.as_ref()).await?;
        work.put.clear();
        work.sink = Some(sink);
        Ok(())
    }

    /// Brings the items' files over, as many at a time as there are lanes. What failed is tried again while
    /// others are taken; failures of several in a row are the target's.
    async fn put(
        &mut self,
        work: &mut RunWork<T::Run>,
        items: &[Ahead],
        control: &Control,
    ) -> Result<Vec<Put>, Trouble> {
        let Self { lanes, pace, n_taken, .. } = self;
        let RunWork { put, failed, sink, .. } = work;
        let sink = sink.as_ref().expect("who calls has opened it");
        let seq = |i: usize| items[i].delivery.seq;
        let mut verdicts: Vec<Option<Put>> = items
            .iter()
            .map(|item| put.contains(&item.delivery.seq).then_some(Put::Done))
            .collect();
        let mut queue: VecDeque<usize> =
            (0..items.len()).filter(|&i| verdicts[i].is_none()).collect();
        let mut waiting: Vec<(Instant, usize)> = Vec::new();
        let mut under_way = FuturesUnordered::new();
        let mut n_failed_in_a_row = 0;
        loop {
            let now = Instant::now();
            waiting.retain(|&(at, i)| {
                let is_due = at <= now;
                if is_due {
                    queue.push_back(i);
                }
                !is_due
            });
            while under_way.len() < lanes.n()
                && let Some(i) = queue.pop_front()
            {
                let item = &items[i].delivery;
                let delay = pace.delay(now.into_std(), item.n_bytes());
                under_way.push(async move {
                    sleep(delay).await;
                    let start = Instant::now();
                    (i, sink.put(item).await, start.elapsed())
                });
            }
            let next = waiting.iter().map(|(at, _)| *at).min();
            if under_way.is_empty() && next.is_none() {
                break;
            }
            let n_under_way = under_way.len();
            let until_next = next.map_or(POST, |next| next.saturating_duration_since(now));
            let (i, result, took) = tokio::select! {
                Some(answer) = under_way.next(), if n_under_way > 0 => answer,
                () = sleep(until_next), if next.is_some() => continue,
                () = control.stop.cancelled() => return Err(Trouble::Stopped),
            };
            let answer = match &result {
                Ok(()) | Err(SinkError::Reject { .. }) => Answer::Given,
                Err(SinkError::Retry { .. }) => Answer::Trouble,
            };
            lanes.answered(Instant::now().into_std(), answer, took, n_under_way);
            match result {
                Ok(()) => {
                    (*n_taken, n_failed_in_a_row) = (*n_taken + 1, 0);
                    put.insert(seq(i));
                    verdicts[i] = Some(Put::Done);
                }
                Err(SinkError::Reject { source, .. }) => {
                    n_failed_in_a_row = 0;
                    verdicts[i] = Some(Put::Rejected(source.to_string()));
                }
                Err(SinkError::Retry { after, source }) => {
                    n_failed_in_a_row += 1;
                    let after = after.filter(|after| !after.is_zero());
                    let (n_tries, n_taken_before) = failed.entry(seq(i)).or_insert((0, *n_taken));
                    *n_tries += 1;
                    if *n_tries >= TRIES_MAX && *n_taken > *n_taken_before {
                        verdicts[i] = Some(Put::SetAside(source.to_string()));
                    } else if after.is_some() || n_failed_in_a_row >= FAILURES_MAX {
                        return Err(Trouble::Target { after, source });
                    } else {
                        let pause = pause(*n_tries, None, fastrand::f64());
                        waiting.push((Instant::now() + pause, i));
                    }
                }
            }
        }
        let verdicts = verdicts.into_iter();
        Ok(verdicts.map(|verdict| verdict.expect("none is queued or waits")).collect())
    }

    /// Tries what was set aside and is due. Returns whether any of it was delivered.
    async fn parked(
        &mut self,
        work: &mut RunWork<T::Run>,
        control: &Control,
        tries_all: bool,
    ) -> Result<bool, Trouble> {
        let now = seconds(SystemTime::now());
        let is_due = |parked: &Parked| tries_all || parked.is_due(now);
        let due: Vec<Parked> = work.state.parked.iter().filter(|p| is_due(p)).cloned().collect();
        let mut did = false;
        for mut parked in due {
            if tries_all {
                // As if it had failed for the first time.
                (parked.since, parked.n_tries) = (now, 0);
            }
            let run = work.state.run.clone();
            let selection = &self.config.selection;
            let backlog = Backlog { reader: &self.reader, run: &run, selection };
            let result = match backlog.parked(&parked) {
                // Another image stands in its place by now, or none.
                Ok(None) => Ok(Outcome::default()),
                Ok(Some(item)) => {
                    work.failed.clear();
                    self.deliver(work, vec![item], control).await
                }
                Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    // Its line is damaged: nobody knows any more what it was.
                    let lost = Parked { reason: error.to_string(), next: None, ..parked.clone() };
                    Ok(Outcome { aside: vec![lost], ..Outcome::default() })
                }
                Err(error) => Err(error.into()),
            };
            let others =
                |state: &mut RunState| state.parked.retain(|other| other.place != parked.place);
            match result {
                Ok(mut outcome) => {
                    did |= outcome.aside.is_empty();
                    for refused in &mut outcome.aside {
                        (refused.since, refused.n_tries) = (parked.since, parked.n_tries + 1);
                    }
                    self.keep(work, |state| {
                        others(state);
                        outcome.note(state);
                    })?;
                }
                Err(Trouble::Target { after: None, source }) => {
                    work.sink = None;
                    let mut again = parked.clone();
                    again.reason = source.to_string();
                    again.failed_again(now);
                    self.keep(work, |state| {
                        others(state);
                        state.parked.push(again);
                    })?;
                    // The others wait for the next pass: it may be the target that fails.
                    break;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(did)
    }

    /// Tells a sink that nothing comes.
    async fn rest(&mut self, work: &mut RunWork<T::Run>) -> Result<(), Trouble> {
        let idle = work.last_came.elapsed();
        let why = if work.extent.finished {
            Rest::Finished
        } else if self.is_once || idle >= REST_AFTER {
            Rest::Leaving
        } else if work.last_rest.elapsed() >= REST_EVERY {
            Rest::Idle(idle)
        } else {
            return Ok(());
        };
        work.last_rest = Instant::now();
        self.open(work).await?;
        self.let_go(work, why).await?;
        if !matches!(why, Rest::Idle(_)) {
            self.keep(work, |state| {
                (state.is_at_rest, state.is_told_of_end) = (true, why == Rest::Finished);
            })?;
            work.sink = None;
        }
        Ok(())
    }

    async fn let_go(&self, work: &mut RunWork<T::Run>, why: Rest) -> Result<(), Trouble> {
        loop {
            let sink = work.sink.as_mut().expect("who calls has opened it");
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
            self.keep(work, |state| state.receipt = Some(receipt))?;
        }
    }
}
