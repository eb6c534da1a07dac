//! One target: what each run has for it is read from the journal, delivered, and noted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backlog::{Ahead, Backlog, Tally, seconds, written};
use super::backoff::pause;
use super::board::{Board, Posted, TargetView};
use super::lanes::{Answer, Lanes};
use super::state::{Cursor, Parked, RunState, StateError};
use crate::config::SyncConfig;
use crate::durable::Disk;
use crate::media::RunId;
use crate::pace::Pace;
use crate::sinks::{BoxError, Delivery, Receipt, Rest, Sink, SinkError, Target};
use crate::store::journal::Position;
use crate::store::{Extent, Reader, StoreError};

/// How often it is looked whether anything came.
const LOOK: Duration = Duration::from_millis(500);

/// How often a target that waits says how much is pending.
const POST: Duration = Duration::from_secs(2);

/// How often a sink is told that nothing comes; when that is for good.
const REST_EVERY: Duration = Duration::from_secs(5);
const REST_AFTER: Duration = Duration::from_mins(15);

/// An item that fails so often, while others are taken, is set aside.
const TRIES_MAX: u32 = 5;

/// So many failures in a row, of items or of runs, are the target's.
const FAILURES_MAX: u32 = 3;

/// So many items of a run may be set aside. When more are refused, it is not the items that are wrong.
const PARKED_MAX: usize = 10_000;

/// What is asked of a target's thread.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Look now; don't wait for the next try.
    pub(super) wake: Notify,
    /// Try all that is set aside.
    pub(super) retry: std::sync::atomic::AtomicBool,
    pub(super) stop: CancellationToken,
}

/// Why a run can't go on for the moment.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{source}")]
    Target { after: Option<Duration>, source: BoxError },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{n} items of run {run} are refused: {reason}")]
    Refused { run: RunId, n: usize, reason: String },
    #[error("it is told to stop")]
    Stopped,
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Retry { after, source } => Self::Target { after, source },
            // Of no item that was given.
            SinkError::Reject { source, .. } => Self::Target { after: None, source },
        }
    }
}

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
            state.is_at_rest = false;
            state.n_delivered += self.n_kept;
            state.bytes_delivered += self.bytes_kept;
        }
        state.parked.extend(self.aside);
    }
}

/// A run.
struct RunWork<S> {
    /// As it is on the disk: see [`Worker::keep`].
    state: RunState,
    /// Resumed.
    sink: Option<S>,
    extent: Extent,
    /// Up to where what is pending is counted.
    counted: Position,
    pending: Tally,
    /// When the first pending item was kept.
    oldest: Option<f64>,
    /// Items whose files are there, and that are not committed.
    put: BTreeSet<u64>,
    /// How often items have failed, and how many others had been taken when they did first.
    failed: BTreeMap<u64, (u32, u64)>,
    last_came: Instant,
    last_rest: Instant,
    wait: Wait,
}

/// How long to leave something alone.
#[derive(Debug, Default)]
struct Wait {
    n_failures: u32,
    until: Option<Instant>,
    trouble: Option<String>,
}

impl Wait {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn failed(&mut self, trouble: &Trouble) {
        let after = if let Trouble::Target { after, .. } = trouble { *after } else { None };
        self.n_failures = self.n_failures.saturating_add(1);
        self.until = Some(Instant::now() + pause(self.n_failures, after, fastrand::f64()));
        self.trouble = Some(trouble.to_string());
    }
}

/// Delivers to one target.
pub(super) struct Worker<T: Target> {
    reader: Reader,
    disk: Disk,
    config: SyncConfig,
    settings: T::Config,
    target: Option<T>,
    runs: BTreeMap<RunId, RunWork<T::Run>>,
    /// Runs whose state can't be read, and why.
    broken: BTreeMap<RunId, String>,
    lanes: Lanes,
    pace: Pace,
    /// [`Reader::n_changes`] when all runs were looked at last.
    n_changes_seen: Option<u64>,
    /// Items that were taken since the start.
    n_taken: u64,
    wait: Wait,
    /// Whether all that was set aside is to be tried in this pass.
    tries_all: bool,
    /// Whether there is only one look: then nothing is kept back for what may come.
    is_once: bool,
    n_passes: u64,
    board: Board,
}

impl<T: Target> Worker<T> {
    pub(super) fn new(
        reader: Reader,
        config: SyncConfig,
        settings: T::Config,
        board: Board,
    ) -> Self {
        let pace = Pace::default();
        pace.set(config.bytes_per_s_max.map(std::num::NonZeroU64::get));
        let worker = Self {
            reader,
            disk: Disk::default(),
            lanes: Lanes::new(config.concurrency_max.get()),
            config,
            settings,
            target: None,
            runs: BTreeMap::new(),
            broken: BTreeMap::new(),
            pace,
            n_changes_seen: None,
            n_taken: 0,
            wait: Wait::default(),
            tries_all: false,
            is_once: false,
            n_passes: 0,
            board,
        };
        worker.post();
        worker
    }

    /// Delivers what there is and what comes, until it is told to stop.
    pub(super) async fn keep_on(mut self, control: &Control) {
        let mut is_in_trouble = false;
        while !control.stop.is_cancelled() {
            let did = self.pass(control).await;
            self.tell(&mut is_in_trouble);
            if did {
                continue;
            }
            // What waits for its next try is seen to come nearer, and what came meanwhile to be pending.
            let pause = if self.is_waiting() { POST.min(self.next_try()) } else { LOOK };
            tokio::select! {
                () = sleep(pause.max(Duration::from_millis(20))) => {}
                () = control.stop.cancelled() => {}
                () = control.wake.notified() => self.wake(control),
            }
        }
    }

    /// Delivers what there is. Returns whether all of it was, but what is set aside.
    pub(super) async fn once(mut self, control: &Control) -> bool {
        self.is_once = true;
        self.wake(control);
        let mut n_rounds = 0;
        let mut is_in_trouble = false;
        loop {
            let did = self.pass(control).await;
            self.tell(&mut is_in_trouble);
            if control.stop.is_cancelled() {
                return false;
            }
            if did {
                n_rounds = 0;
                continue;
            }
            if !self.is_waiting() {
                return true;
            }
            n_rounds += 1;
            if n_rounds == TRIES_MAX {
                return false;
            }
            tokio::select! {
                () = sleep(self.next_try()) => {}
                () = control.stop.cancelled() => {}
            }
        }
    }

    fn wake(&mut self, control: &Control) {
        self.tries_all = control.retry.swap(false, std::sync::atomic::Ordering::Relaxed);
        self.wait.until = None;
        self.broken.clear();
        self.n_changes_seen = None;
        self.runs.values_mut().for_each(|work| work.wait.until = None);
    }

    fn is_waiting(&self) -> bool {
        self.wait.trouble.is_some()
            || !self.broken.is_empty()
            || self.runs.values().any(|work| work.wait.trouble.is_some())
    }

    /// How long until something is tried again.
    fn next_try(&self) -> Duration {
        let now = Instant::now();
        let of_runs = self.runs.values().filter_map(|work| work.wait.until);
        let first = match self.wait.until {
            Some(until) if until > now => Some(until),
            _ => of_runs.min(),
        };
        first.map_or(POST, |first| first.saturating_duration_since(now))
    }

    /// Looks at each run once. Returns whether anything was delivered.
    async fn pass(&mut self, control: &Control) -> bool {
        self.n_passes += 1;
        let looked = self.look();
        self.post();
        if let Err(trouble) = looked {
            self.wait.failed(&trouble);
            return false;
        }
        if !self.wait.is_over(Instant::now()) {
            return false;
        }
        let tries_all = std::mem::take(&mut self.tries_all);
        let (mut did, mut is_posted, mut n_failed_in_a_row) = (false, true, 0);
        let runs: Vec<RunId> = self.runs.keys().cloned().collect();
        for run in runs {
            let Some(mut work) = self.runs.remove(&run) else { continue };
            if control.stop.is_cancelled() || !work.wait.is_over(Instant::now()) {
                self.runs.insert(run, work);
                continue;
            }
            let n_taken = self.n_taken;
            let done = self.run(&mut work, control, tries_all).await;
            if self.n_taken > n_taken {
                did = true;
                // It takes some: that it fails with others now and then is no reason to leave it alone for long.
                (work.wait, self.wait, n_failed_in_a_row) = (Wait::default(), Wait::default(), 0);
            }
            match done {
                Ok(did_some) => {
                    did |= did_some;
                    work.wait = Wait::default();
                    if did_some {
                        self.wait = Wait::default();
                        n_failed_in_a_row = 0;
                        is_posted = false;
                    }
                }
                Err(Trouble::Stopped) => {}
                Err(trouble) => {
                    work.wait.failed(&trouble);
                    n_failed_in_a_row += 1;
                    tracing::debug!(%run, target_name = self.config.name, error = %trouble, "run is not delivered");
                    if n_failed_in_a_row >= FAILURES_MAX {
                        self.wait.failed(&trouble);
                        self.target = None;
                    }
                }
            }
            self.runs.insert(run, work);
            if n_failed_in_a_row >= FAILURES_MAX {
                break;
            }
        }
        // With thousands of runs not after each of them.
        if !is_posted || n_failed_in_a_row > 0 {
            self.post();
        }
        if !did && n_failed_in_a_row == 0 && self.wait.is_over(Instant::now()) {
            self.wait = Wait::default();
        }
        did
    }

    /// Sees what runs there are, and counts what came.
    fn look(&mut self) -> Result<(), Trouble> {
        let n_changes = self.reader.n_changes();
        if self.n_changes_seen == Some(n_changes) {
            return Ok(());
        }
        let name = &self.config.name;
        for (run, extent) in self.reader.extents()? {
            if !self.config.selection.has_run(&run) || self.broken.contains_key(&run) {
                continue;
            }
            if !self.runs.contains_key(&run) {
                match self.begin(&run, extent) {
                    Ok(work) => drop(self.runs.insert(run.clone(), work)),
                    Err(Trouble::State(error)) => {
                        tracing::error!(target_name = name, %run, %error, "run is not delivered");
                        self.broken.insert(run, error.to_string());
                        continue;
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
            let Some(work) = self.runs.get_mut(&run) else { continue };
            if work.extent.end != extent.end {
                work.last_came = Instant::now();
            }
            work.extent = extent;
            if work.counted < extent.end {
                let selection = &self.config.selection;
                let backlog = Backlog { reader: &self.reader, run: &run, selection };
                work.pending.add(backlog.tally(work.counted, extent.end)?);
                work.counted = extent.end;
            }
        }
        self.n_changes_seen = Some(n_changes);
        Ok(())
    }

    fn begin(&self, run: &RunId, extent: Extent) -> Result<RunWork<T::Run>, Trouble> {
        let mut state = RunState::load(self.reader.root(), &self.config.name, run)?;
        let Cursor { place, seq } = state.cursor;
        if place > extent.end || seq > extent.last_seq {
            self.begin_anew(&mut state);
        }
        let now = Instant::now();
        Ok(RunWork {
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
        })
    }

    /// The run's journal is another one than that which was delivered.
    fn begin_anew(&self, state: &mut RunState) {
        tracing::warn!(
            target_name = self.config.name,
            run = %state.run,
            "its journal is another one than that which was delivered: it is delivered from its beginning"
        );
        state.cursor = Cursor::START;
        state.parked.clear();
    }

    /// Delivers a page of what a run has, then what is due of that which was set aside. Returns whether there
    /// was anything.
    async fn run(
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
        if work.state.cursor.place >= work.extent.end && !work.state.is_at_rest {
            self.rest(work).await?;
        }
        Ok(did)
    }

    /// Changes what is noted of a run, on the disk first: a cursor and its receipt must not come apart.
    fn keep(
        &self,
        work: &mut RunWork<T::Run>,
        change: impl FnOnce(&mut RunState),
    ) -> Result<(), StateError> {
        let mut state = work.state.clone();
        change(&mut state);
        state.save(&self.disk, self.reader.root(), &self.config.name)?;
        work.state = state;
        Ok(())
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
        let kept = self.keep(work, |state| {
            state.cursor = page.end;
            outcome.note(state);
        });
        if let Err(error) = kept {
            // The target is ahead of what is noted.
            work.sink = None;
            return Err(error.into());
        }
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
            let (reason, next) = match verdict {
                Put::Done => {
                    let delivery = item.delivery.clone();
                    accepted.push((item, delivery));
                    continue;
                }
                Put::Rejected(reason) => (reason, None),
                Put::SetAside(reason) => (reason, Some(now + 60.0)),
            };
            outcome.aside.push(self.set_aside(&item, reason, next, now));
        }
        let n = work.state.parked.len() + outcome.aside.len();
        if let Some(last) = outcome.aside.last().filter(|_| n > PARKED_MAX) {
            let (run, reason) = (work.state.run.clone(), last.reason.clone());
            return Err(Trouble::Refused { run, n, reason });
        }
        let (mut ahead, mut deliveries): (Vec<_>, Vec<_>) = accepted.into_iter().unzip();
        let sink = work.sink.as_mut().ok_or(Trouble::Stopped)?;
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
                    outcome.aside.push(self.set_aside(&item, source.to_string(), None, now));
                }
                Err(error) => {
                    work.sink = None;
                    return Err(error.into());
                }
            }
        }
        Ok(outcome)
    }

    fn set_aside(&self, item: &Ahead, reason: String, next: Option<f64>, now: f64) -> Parked {
        let id = &item.delivery.id;
        tracing::warn!(
            target_name = self.config.name,
            key = %id.key,
            step = id.step.0,
            index = id.index,
            error = reason,
            is_tried_again = next.is_some(),
            "item is set aside"
        );
        let Ahead { place, length, .. } = *item;
        Parked { place, length, reason, since: now, n_tries: 1, next }
    }

    /// Opens the target and the run's sink, unless they are open.
    async fn open(&mut self, work: &mut RunWork<T::Run>) -> Result<(), Trouble> {
        if work.sink.is_some() {
            return Ok(());
        }
        if self.target.is_none() {
            self.target = Some(T::open(&self.settings).await?);
        }
        let Some(target) = &self.target else { return Err(Trouble::Stopped) };
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
        let sink = sink.as_ref().ok_or(Trouble::Stopped)?;
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
        Ok(verdicts.into_iter().map(|verdict| verdict.unwrap_or(Put::Done)).collect())
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
        for parked in due {
            let run = work.state.run.clone();
            let selection = &self.config.selection;
            let backlog = Backlog { reader: &self.reader, run: &run, selection };
            let result = match backlog.parked(&parked)? {
                // Another image stands in its place by now, or none.
                None => Ok(Outcome::default()),
                Some(item) => {
                    work.failed.clear();
                    self.deliver(work, vec![item], control).await
                }
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
                    let mut parked = parked.clone();
                    parked.failed_again(now, source.to_string());
                    self.keep(work, |state| {
                        others(state);
                        state.parked.push(parked);
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
        let why = if self.is_once || idle >= REST_AFTER {
            Rest::Leaving
        } else if work.extent.finished {
            Rest::Finished
        } else if work.last_rest.elapsed() >= REST_EVERY {
            Rest::Idle(idle)
        } else {
            return Ok(());
        };
        work.last_rest = Instant::now();
        self.open(work).await?;
        self.let_go(work, why).await?;
        if !matches!(why, Rest::Idle(_)) {
            self.keep(work, |state| state.is_at_rest = true)?;
            work.sink = None;
        }
        Ok(())
    }

    async fn let_go(&self, work: &mut RunWork<T::Run>, why: Rest) -> Result<(), Trouble> {
        loop {
            let sink = work.sink.as_mut().ok_or(Trouble::Stopped)?;
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
            if let Err(error) = self.keep(work, |state| state.receipt = Some(receipt)) {
                work.sink = None;
                return Err(error.into());
            }
        }
    }

    /// Logs that trouble began, or is over.
    fn tell(&self, is_in_trouble: &mut bool) {
        let trouble = self.trouble();
        let name = &self.config.name;
        match (trouble, *is_in_trouble) {
            (Some(error), false) => {
                let next_s = self.next_try().as_secs();
                tracing::warn!(target_name = name, error, next_s, "delivery failed, will retry");
                *is_in_trouble = true;
            }
            (None, true) => {
                tracing::info!(target_name = name, "target takes items again");
                *is_in_trouble = false;
            }
            _ => {}
        }
    }

    fn trouble(&self) -> Option<String> {
        let of_runs = self.runs.values().filter_map(|work| work.wait.trouble.as_ref());
        self.wait.trouble.iter().chain(of_runs).chain(self.broken.values()).next().cloned()
    }

    fn post_with(&self, work: &RunWork<T::Run>) {
        self.post_all(Some(work));
    }

    fn post(&self) {
        self.post_all(None);
    }

    fn post_all(&self, of_now: Option<&RunWork<T::Run>>) {
        let mut view = TargetView {
            name: self.config.name.clone(),
            kind: self.config.kind.kind().to_owned(),
            trouble: self.trouble(),
            lanes: self.lanes.n() as u64,
            ..TargetView::default()
        };
        let mut oldest: Option<f64> = None;
        for work in self.runs.values().chain(of_now) {
            view.pending += work.pending.n_items;
            view.pending_bytes += work.pending.bytes;
            view.delivered += work.state.n_delivered;
            view.set_aside += work.state.parked.len() as u64;
            for parked in &work.state.parked {
                view.refused += u64::from(parked.next.is_none());
                view.add_reason(&parked.reason);
            }
            oldest = [oldest, work.oldest].into_iter().flatten().reduce(f64::min);
        }
        let waits = view.trouble.is_some().then(|| self.next_try());
        let next_try = waits.map(|wait| seconds(SystemTime::now()) + wait.as_secs_f64());
        self.board.post(Posted { view, oldest, next_try, n_passes: self.n_passes });
    }
}
