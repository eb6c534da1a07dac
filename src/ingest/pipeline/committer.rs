//! Commits batches in the order of their plans, several at once if they are ready.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError};

use super::BATCHES_MAX;
use super::batch::{BatchTally, QueuedBatch};
use super::job::BatchSlot;
use super::progress::Progress;
use super::results::{BatchResult, GroupResult, ResultSender};
use super::retry::write_until_stopped;
use super::worker::BundleOutcomes;
use crate::media::RunId;
use crate::pulse::idle;
use crate::store::{Commit, Request, RunInfo, Writer};

/// An upper bound for the batches, and their events, of one commit.
const GROUP_BATCHES_MAX: usize = 256;
const GROUP_EVENTS_MAX: u64 = 8192;

/// The shortest pause between two looks at runs that are left out.
const RETRY_EVERY_MIN: Duration = Duration::from_millis(500);

/// What comes to the committer, and from where.
pub(super) struct Inbox {
    /// Batches in the order of their plans.
    pub(super) batches: Receiver<Vec<QueuedBatch>>,
    /// Outcomes of the workers.
    pub(super) outcomes: Receiver<BundleOutcomes>,
    /// Removals from the store.
    pub(super) requests: Receiver<Request>,
}

/// The thread that owns the store's writer.
pub(super) struct Committer {
    writer: Writer,
    inbox: Inbox,
    results: ResultSender,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    /// Batches that are not committed, in order.
    waiting: VecDeque<QueuedBatch>,
    /// The number of the first of them.
    first: u64,
    /// Whether more batches may come.
    is_open: bool,
}

impl Committer {
    pub(super) fn new(
        writer: Writer,
        inbox: Inbox,
        results: ResultSender,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let (waiting, first, is_open) = (VecDeque::new(), 0, true);
        Self { writer, inbox, results, progress, stop, waiting, first, is_open }
    }

    /// Commits until the engine has closed the channel of batches and all of them are done. Returns the
    /// writer.
    ///
    /// Ends early if a batch is given up: no later batch may be committed without it.
    pub(super) fn run(mut self) -> Writer {
        loop {
            // A group is as large as possible: outcomes that are there already belong to it.
            while let Ok(outcomes) = self.inbox.outcomes.try_recv() {
                self.place(outcomes);
            }
            let group = self.take_group();
            if group.is_empty() {
                if !self.wait() {
                    return self.writer;
                }
            } else if !self.commit(group) {
                return self.writer;
            }
        }
    }

    /// Waits for the next batches, outcomes or requests, and takes them in. Returns whether more can
    /// come.
    ///
    /// Requests are served here, between two commits: on a full disk they make the room that commits
    /// wait for.
    fn wait(&mut self) -> bool {
        if !self.is_open && self.waiting.is_empty() {
            return false;
        }
        let takes_batches = self.is_open && self.waiting.len() < BATCHES_MAX;
        let takes_outcomes = !self.waiting.is_empty();
        let mut select = Select::new();
        select.recv(&self.inbox.requests);
        if takes_batches {
            select.recv(&self.inbox.batches);
        }
        if takes_outcomes {
            select.recv(&self.inbox.outcomes);
        }
        self.results.select(&mut select);
        match self.writer.next_retry() {
            None => {
                idle(|| select.ready());
            }
            Some(at) => {
                let timeout = at.saturating_duration_since(Instant::now()).max(RETRY_EVERY_MIN);
                idle(|| select.ready_timeout(timeout)).ok();
                self.writer.retry_left_out();
            }
        }
        drop(select);
        self.results.send_held();
        if let Ok(request) = self.inbox.requests.try_recv() {
            request.serve(&mut self.writer);
        }
        if takes_outcomes {
            match self.inbox.outcomes.try_recv() {
                Ok(outcomes) => self.place(outcomes),
                Err(TryRecvError::Empty) => {}
                // All workers are gone, and the missing images with them.
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if takes_batches {
            match self.inbox.batches.try_recv() {
                Ok(batches) => self.waiting.extend(batches),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.is_open = false,
            }
        }
        true
    }

    /// Puts outcomes into their batches.
    fn place(&mut self, outcomes: BundleOutcomes) {
        for (BatchSlot { batch, event_idx }, outcome) in outcomes {
            let Some(number) = batch.checked_sub(self.first) else { continue };
            // A batch is sent before its jobs: if it is not here, it is in the channel.
            while number >= self.waiting.len() as u64 {
                match self.inbox.batches.recv() {
                    Ok(batches) => self.waiting.extend(batches),
                    Err(_) => return,
                }
            }
            let batch = usize::try_from(number).ok().and_then(|i| self.waiting.get_mut(i));
            if let Some(batch) = batch {
                batch.place(event_idx, outcome);
            }
        }
    }

    /// Takes the batches that are ready and come before every batch that is not.
    fn take_group(&mut self) -> Vec<QueuedBatch> {
        let mut n_events = 0;
        let group = self.waiting.iter().take(GROUP_BATCHES_MAX).take_while(|batch| {
            let has_room = n_events == 0 || n_events + batch.n_events() <= GROUP_EVENTS_MAX;
            n_events += batch.n_events();
            batch.is_ready() && has_room
        });
        let n = group.count();
        self.first += n as u64;
        self.waiting.drain(..n).collect()
    }

    /// Commits a group. Returns whether the committer goes on.
    fn commit(&mut self, group: Vec<QueuedBatch>) -> bool {
        let n_ready = group.len();
        let group = group.into_iter().take_while(|batch| !batch.is_given_up());
        let (commits, mut tallies): (Vec<_>, Vec<_>) = group.map(QueuedBatch::finish).unzip();
        let is_given_up = tallies.len() < n_ready;
        let journaled = |commit: &Option<Commit>| {
            let commit = commit.as_ref().filter(|commit| !commit.is_repair())?;
            Some(commit.run.clone())
        };
        let runs: Vec<Option<Arc<RunInfo>>> = commits.iter().map(journaled).collect();
        let mut commits: Vec<Commit> = commits.into_iter().flatten().collect();
        let start = Instant::now();
        let (writer, progress) = (&mut self.writer, &self.progress);
        let committed =
            write_until_stopped("journal", progress, &self.stop, || writer.commit(&mut commits));
        if committed.is_none() {
            return false;
        }
        progress.add_commit(start.elapsed());
        let left_out = if commits.is_empty() {
            Vec::new()
        } else {
            self.give_back(commits, &runs, &mut tallies)
        };
        let progress = &self.progress;
        let mut group = GroupResult::default();
        let mut counts = Vec::with_capacity(tallies.len());
        for mut tally in tallies {
            if let Some((run, dump, skipped)) = tally.take_skipped() {
                progress.add_skipped(run, dump, &skipped);
            }
            let (of_batch, results) = tally.close();
            counts.push(of_batch);
            group.push_batch(results);
        }
        progress.add_done(&counts);
        group.push_results(left_out);
        self.results.send(group);
        !is_given_up
    }

    /// Gives the batches back whose commits are left, because the files of their runs fail. `runs` has the run of each
    /// batch that has something to journal. Returns a result for each run.
    fn give_back(
        &self,
        left: Vec<Commit>,
        runs: &[Option<Arc<RunInfo>>],
        tallies: &mut [BatchTally],
    ) -> Vec<BatchResult> {
        let mut by_run: BTreeMap<RunId, Vec<Commit>> = BTreeMap::new();
        for commit in left {
            by_run.entry(commit.run.id.clone()).or_default().push(commit);
        }
        let results = by_run.keys().map(|run| BatchResult::LeftOut { run: run.clone() }).collect();
        let reader = self.writer.reader();
        // Of each run, the last commits are left.
        for (run, tally) in runs.iter().zip(tallies).rev() {
            let Some(run) = run else { continue };
            let Some(commit) = by_run.get_mut(&run.id).and_then(Vec::pop) else { continue };
            let reason = reader.left_out().reason(&run.id).unwrap_or_default();
            tally.give_back(&commit, &reason);
        }
        results
    }
}
