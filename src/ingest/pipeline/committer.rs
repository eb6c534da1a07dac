//! Commits the batches of each run in the order of their plans, several at once if they are ready.
//!
//! A batch that is not ready holds up the later ones of its run, and no other run.

use std::collections::{BTreeMap, HashSet, VecDeque};
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
use crate::store::media_dir::Staging;
use crate::store::{Commit, Request, RunInfo, Writer};

/// An upper bound for the batches of one commit, and for the memory that their events take, in bytes.
const GROUP_BATCHES_MAX: usize = 256;
const GROUP_BYTES_MAX: u64 = 16 << 20;

/// The shortest pause between two commits while more batches are being made. A commit costs 0.3 ms of CPU and its syncs,
/// however few batches it has.
const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Batches that wait here: those of other runs pass one that takes long.
const WAITING_MAX: usize = 8 * BATCHES_MAX;

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
    staging: Staging,
    inbox: Inbox,
    results: ResultSender,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    /// Batches in the order of their numbers, from the first that is not committed on. `None` for those that
    /// are.
    waiting: VecDeque<Option<QueuedBatch>>,
    /// The number of the first of them.
    first: u64,
    /// Whether more batches may come.
    is_open: bool,
    /// When the last commit ended.
    last_commit: Option<Instant>,
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
        let staging = writer.staging();
        Self {
            writer,
            staging,
            inbox,
            results,
            progress,
            stop,
            waiting,
            first,
            is_open,
            last_commit: None,
        }
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
            let rest = self.rest();
            let group = if rest.is_none() { self.take_group() } else { Vec::new() };
            let has_group = !group.is_empty();
            if has_group && !self.commit(group) {
                return self.writer;
            }
            let at_most = if self.sync_large() { Some(Duration::ZERO) } else { rest };
            if !has_group && !self.wait(at_most) {
                return self.writer;
            }
        }
    }

    /// How long batches that are ready wait for those that are being made. `None` if there are none, or enough for a
    /// group.
    fn rest(&self) -> Option<Duration> {
        let rest = COMMIT_PAUSE_MIN.checked_sub(self.last_commit?.elapsed())?;
        let (mut n_ready, mut is_making) = (0, false);
        for batch in self.waiting.iter().flatten() {
            if batch.is_ready() {
                n_ready += 1;
            } else {
                is_making = true;
            }
        }
        (is_making && n_ready > 0 && n_ready < GROUP_BATCHES_MAX).then_some(rest)
    }

    /// Makes some files durable of a batch that is ready and has many. Returns whether there is one.
    fn sync_large(&mut self) -> bool {
        let mut ready = self.waiting.iter_mut().flatten().filter(|batch| batch.is_ready());
        let Some(batch) = ready.find(|batch| batch.is_large()) else { return false };
        batch.sync_slice(&self.staging);
        true
    }

    /// Waits for the next batches, outcomes or requests, `at_most` as long as this or until something comes, and takes in
    /// what is there. Returns whether more can come.
    ///
    /// Requests are served here, between two commits: on a full disk they make the room that commits
    /// wait for.
    fn wait(&mut self, at_most: Option<Duration>) -> bool {
        if !self.is_open && self.waiting.is_empty() {
            return false;
        }
        let takes_batches = self.is_open && self.waiting.len() < WAITING_MAX;
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
        match (at_most, self.writer.next_retry()) {
            (Some(at_most), _) => {
                idle(|| select.ready_timeout(at_most)).ok();
            }
            (None, None) => {
                idle(|| select.ready());
            }
            (None, Some(at)) => {
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
                // All workers are gone, and the missing images with them.
                Err(TryRecvError::Disconnected) if at_most.is_none() => return false,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
        }
        if takes_batches {
            match self.inbox.batches.try_recv() {
                Ok(batches) => self.waiting.extend(batches.into_iter().map(Some)),
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
                    Ok(batches) => self.waiting.extend(batches.into_iter().map(Some)),
                    Err(_) => return,
                }
            }
            let batch = usize::try_from(number).ok().and_then(|i| self.waiting.get_mut(i));
            if let Some(Some(batch)) = batch {
                batch.place(event_idx, outcome);
            }
        }
    }

    /// Takes the batches that are ready and come before every batch of their run that is not.
    fn take_group(&mut self) -> Vec<QueuedBatch> {
        let (mut places, mut n_bytes) = (Vec::new(), 0);
        let mut held_up: HashSet<&RunId> = HashSet::new();
        for (place, batch) in self.waiting.iter().enumerate() {
            let Some(batch) = batch else { continue };
            // `sync_large` makes a large batch smaller.
            if !batch.is_ready() || batch.is_large() {
                held_up.insert(batch.run());
            }
            if held_up.contains(batch.run()) {
                continue;
            }
            let is_full = places.len() == GROUP_BATCHES_MAX
                || n_bytes > 0 && n_bytes + batch.n_bytes() > GROUP_BYTES_MAX;
            if is_full {
                break;
            }
            n_bytes += batch.n_bytes();
            places.push(place);
        }
        places.into_iter().filter_map(|place| self.waiting[place].take()).collect()
    }

    /// Forgets the batches from the first on that are done. Returns their number.
    fn advance(&mut self) -> u64 {
        let n = self.waiting.iter().take_while(|slot| slot.is_none()).count();
        self.waiting.drain(..n);
        self.first += n as u64;
        n as u64
    }

    /// Commits a group. Returns whether the committer goes on.
    fn commit(&mut self, group: Vec<QueuedBatch>) -> bool {
        let n_ready = group.len();
        let group = group.into_iter().take_while(|batch| !batch.is_given_up());
        let finished = group.map(|batch| (batch.run().clone(), batch.finish()));
        let (run_ids, finished): (Vec<_>, Vec<_>) = finished.unzip();
        let (commits, mut tallies): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
        let is_given_up = tallies.len() < n_ready;
        let journaled = |commit: &Option<Commit>| {
            let commit = commit.as_ref().filter(|commit| !commit.is_repair())?;
            Some(commit.run.clone())
        };
        let runs: Vec<Option<Arc<RunInfo>>> = commits.iter().map(journaled).collect();
        let mut commits: Vec<Commit> = commits.into_iter().flatten().collect();
        let start = Instant::now();
        let n_done = self.advance();
        let (writer, progress) = (&mut self.writer, &self.progress);
        let committed =
            write_until_stopped("journal", progress, &self.stop, || writer.commit(&mut commits));
        if committed.is_none() {
            return false;
        }
        progress.add_commit(start.elapsed());
        self.last_commit = Some(Instant::now());
        let left_out = if commits.is_empty() {
            Vec::new()
        } else {
            self.give_back(commits, &runs, &mut tallies)
        };
        let progress = &self.progress;
        let mut group = GroupResult::of_batches(n_done);
        let mut counts = Vec::with_capacity(tallies.len());
        for (run, mut tally) in run_ids.into_iter().zip(tallies) {
            if let Some((run, dump, skipped)) = tally.take_skipped() {
                progress.add_skipped(run, dump, &skipped);
            }
            let (of_batch, results) = tally.close();
            counts.push(of_batch);
            group.push_batch(&run, results);
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

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::bounded;
    use serde_json::Map;

    use super::*;
    use crate::ingest::Shared;
    use crate::ingest::pipeline::batch::SourceBatch;
    use crate::ingest::pipeline::budget::Budget;
    use crate::ingest::pipeline::results;
    use crate::media::Step;
    use crate::store::journal::{Event, SourceCursor};
    use crate::store::lock::Holder;
    use crate::store::open_scratch;

    fn batch_of(run: &str) -> SourceBatch {
        let id = RunId::new(run).expect("a name");
        let run = RunInfo { id, source: "/runs".into(), identity: Map::new() };
        SourceBatch::of_event(&Arc::new(run), Event::Commit { step: Step(1) }, SourceCursor::None)
    }

    #[test]
    fn commits_are_few_while_a_batch_is_being_made_and_do_not_wait_for_it() {
        const N: u64 = 40;
        let store = tempfile::tempdir().expect("a folder");
        let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
        let (writer, _) = open_scratch(store.path(), &me).expect("a store");
        let ((to_commit, batches), (makers, outcomes)) = (bounded(BATCHES_MAX), bounded(1));
        let Shared { progress, stop, requests, .. } = Shared::default();
        let (results, done) = results::channel();
        let inbox = Inbox { batches, outcomes, requests: requests.asked.clone() };
        let committer = Committer::new(writer, inbox, results, progress.clone(), stop);
        let thread = thread::Builder::new().name("commit".to_owned());
        let thread = thread.spawn(|| committer.run()).expect("a thread");
        let start = Instant::now();
        let share = || Budget::new(1).take(1);
        let slow = QueuedBatch::unmade(0, batch_of("slow"), share());
        to_commit.send(vec![slow]).expect("the committer");
        for number in 1..=N {
            let (ready, _) = QueuedBatch::new(number, batch_of("fast"), share());
            to_commit.send(vec![ready]).expect("the committer");
            thread::sleep(Duration::from_millis(2));
        }
        let mut n_done = 0;
        while n_done < N {
            let group = done.recv_timeout(Duration::from_mins(1)).expect("a commit");
            n_done += group.of_runs.values().sum::<u64>();
        }
        let (n_commits, _) = progress.commits();
        let n_max = start.elapsed().as_millis() / COMMIT_PAUSE_MIN.as_millis() + 1;
        assert!(u128::from(n_commits) <= n_max, "{n_commits} commits, want at most {n_max}");
        drop((to_commit, makers));
        thread.join().expect("no panic");
    }
}
