//! Plans → images → commits: renders in parallel within a memory budget, commits in the order of the
//! plans.
//!
//! ```text
//!         ┌─ queue of jobs ───▶ workers ─ outcomes ─┐
//! engine ─┤                                         ├▶ committer ─▶ store
//!    ▲    └─ batches, in order ─────────────────────┘      │
//!    └──────────────────────── results ────────────────────┘
//! ```
//!
//! The engine submits a [`SourceBatch`] for each line or dump. An image to make is one [job]: it moves
//! from the plan to a worker, and its [outcome] from there into its batch. A worker takes small images several
//! to a bundle, and the runs in turn, so that no run holds up another. It takes the memory of a bundle from the
//! budget, and gives it back when the media files are staged. The texts of a batch count, too: they are given
//! back when it is committed. A batch is committed when all its images are made and all batches of its run before
//! it are committed; other runs pass it. What the engine must know then comes back as [results], which cannot
//! block the committer.
//!
//! [job]: job::RenderJob
//! [outcome]: job::RenderOutcome

mod batch;
mod batch_values;
mod budget;
mod committer;
mod counts;
mod handover;
mod job;
mod job_queue;
mod make;
mod media_writer;
mod progress;
mod results;
mod retry;
mod worker;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use self::batch::QueuedBatch;
pub(super) use self::batch::{FilesToRepair, SourceBatch, held_at};
use self::budget::Budget;
use self::committer::{Committer, Inbox};
pub(crate) use self::counts::ItemCounts;
use self::handover::Handover;
use self::job_queue::JobQueue;
pub(super) use self::make::CHANGED;
use self::media_writer::MediaWriter;
pub(crate) use self::progress::Progress;
pub(crate) use self::results::{BatchResult, GroupResult, ItemOutcome};
use self::worker::Worker;
use super::Shared;
use crate::media::RunId;
use crate::pulse::idle;
use crate::run_dir::are_many_files_open;
use crate::store::Writer;
use crate::store::space::Space;

/// An upper bound for the batches that wait for their commit: a crash makes them to be read again.
const BATCHES_MAX: usize = 512;

/// An upper bound for the batches of one run between plan and commit.
const RUN_BATCHES_MAX: usize = 512;

/// The part of the memory that batches between plan and commit may take: a quarter. Images in the making
/// take the rest.
const QUEUE_DIVISOR: u64 = 4;

/// The part of that memory which the batches of one run may take, beside a single larger one.
const RUN_DIVISOR: u64 = 8;

/// The longest time that a batch stays in the engine before it is handed over.
const HANDOVER_MAX: Duration = Duration::from_millis(20);

/// The threads that render and commit, and the engine's end of their channels.
#[derive(Debug)]
pub(crate) struct Pipeline {
    jobs: Arc<JobQueue>,
    batches: Sender<Vec<QueuedBatch>>,
    /// Bytes of batches between plan and commit.
    queue: Arc<Budget>,
    queue_bytes_max: u64,
    progress: Arc<Progress>,
    workers: Vec<JoinHandle<()>>,
    committer: JoinHandle<Writer>,
    results: Receiver<GroupResult>,
    /// Results that were received and not taken.
    received: Vec<BatchResult>,
    /// Batches that were submitted, and those of them whose results were received.
    n_submitted: u64,
    n_received: u64,
    /// The batches of each run whose results were not received.
    of_runs: HashMap<RunId, InFlight>,
    /// Runs that have no room until nothing of them is in the pipeline.
    resting: HashSet<RunId>,
    /// Whether a run had no room since the last call of [`Self::take_was_full`].
    was_full: bool,
    handover: Handover,
}

/// The batches of a run whose results were not received.
#[derive(Debug, Default)]
struct InFlight {
    /// The memory that each takes, in the order of their commits, in bytes.
    batches: VecDeque<u64>,
    /// The memory that all of them take.
    n_bytes: u64,
}

impl InFlight {
    fn push(&mut self, n_bytes: u64) {
        self.batches.push_back(n_bytes);
        self.n_bytes += n_bytes;
    }

    /// Removes the first `n` batches.
    fn remove_first(&mut self, n: u64) {
        let n = usize::try_from(n).unwrap_or(usize::MAX).min(self.batches.len());
        self.n_bytes -= self.batches.drain(..n).sum::<u64>();
    }
}

impl Pipeline {
    /// Starts `n_threads` workers and the committer. While the shared stop flag is set, a write that
    /// fails is given up instead of retried.
    ///
    /// # Errors
    /// If a thread can't be started.
    pub(crate) fn start(
        writer: Writer,
        n_threads: usize,
        memory_bytes_max: u64,
        space: &Space,
        shared: &Shared,
    ) -> io::Result<Self> {
        let Shared { progress, stop, pulses, requests, .. } = shared.clone();
        let queue_bytes_max = memory_bytes_max / QUEUE_DIVISOR;
        let (jobs, memory) = (JobQueue::new(), Budget::new(memory_bytes_max - queue_bytes_max));
        let (batches, batches_in) = bounded(BATCHES_MAX);
        let (outcomes, outcomes_in) = bounded(4 * n_threads);
        let (results_out, results) = results::channel();
        let media_writer =
            MediaWriter::new(writer.staging(), space.clone(), progress.clone(), stop.clone());
        let mut workers = Vec::new();
        for i in 0..n_threads {
            let worker = Worker {
                jobs: jobs.clone(),
                outcomes: outcomes.clone(),
                memory: memory.clone(),
                media_writer: media_writer.clone(),
            };
            let pulses = pulses.clone();
            let name = format!("render-{i}");
            let thread = thread::Builder::new().name(name.clone());
            workers.push(thread.spawn(move || {
                pulses.watch_this_thread(&name);
                worker.work_all();
            })?);
        }
        let inbox = Inbox { batches: batches_in, outcomes: outcomes_in, requests: requests.asked };
        let committer = Committer::new(writer, inbox, results_out, progress.clone(), stop);
        let thread = thread::Builder::new().name("commit".to_owned());
        let committer = thread.spawn(move || {
            pulses.watch_this_thread("commit");
            committer.run()
        })?;
        Ok(Self {
            jobs,
            batches,
            queue: Budget::new(queue_bytes_max),
            queue_bytes_max,
            progress,
            workers,
            committer,
            results,
            received: Vec::new(),
            n_submitted: 0,
            n_received: 0,
            of_runs: HashMap::new(),
            resting: HashSet::new(),
            was_full: false,
            handover: Handover::default(),
        })
    }

    /// Submits a batch. Blocks while there is no memory or no room for it. The batch may stay here until
    /// more are submitted or [`Self::flush`] is called.
    pub(crate) fn submit(&mut self, batch: SourceBatch) {
        let n_bytes = batch.n_bytes();
        let share = self.queue.try_take(n_bytes).unwrap_or_else(|| {
            // The batches that are still here hold shares, which only their commit gives back.
            self.flush();
            idle(|| self.queue.take(n_bytes))
        });
        self.progress.add_submitted(batch.n_items());
        let (batch, jobs) = QueuedBatch::new(self.n_submitted, batch, share);
        self.n_submitted += 1;
        match self.of_runs.get_mut(batch.run()) {
            Some(of_run) => of_run.push(n_bytes),
            None => self.of_runs.entry(batch.run().clone()).or_default().push(n_bytes),
        }
        self.handover.push(batch, jobs);
        if self.handover.is_full() {
            self.flush();
        }
        self.flush_due(Instant::now());
    }

    /// Hands over what has waited for more for long enough.
    pub(crate) fn flush_due(&mut self, now: Instant) {
        let since = self.handover.since();
        if since.is_some_and(|since| now.saturating_duration_since(since) >= HANDOVER_MAX) {
            self.flush();
        }
    }

    /// Hands over everything that was submitted.
    pub(crate) fn flush(&mut self) {
        let (batches, jobs) = self.handover.take();
        // The batches first: outcomes must find theirs. A send fails only if the committer gave up, which
        // `is_alive` reports.
        if !batches.is_empty() {
            idle(|| drop(self.batches.send(batches)));
        }
        for (run, jobs) in jobs {
            self.jobs.push(&run, jobs);
        }
    }

    /// The channel of results, to wait for the next one. [`Self::take_results`] receives it.
    pub(crate) fn results(&self) -> &Receiver<GroupResult> {
        &self.results
    }

    /// Takes the results since the last call, in the order of the commits.
    pub(crate) fn take_results(&mut self) -> Vec<BatchResult> {
        while let Ok(group) = self.results.try_recv() {
            self.receive(group);
        }
        std::mem::take(&mut self.received)
    }

    /// Waits until a result comes, but not longer than `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        if let Ok(group) = idle(|| self.results.recv_timeout(timeout)) {
            self.receive(group);
        }
    }

    fn receive(&mut self, group: GroupResult) {
        let GroupResult { n_batches, of_runs, results } = group;
        self.n_received += n_batches;
        self.received.extend(results);
        for (run, n_done) in of_runs {
            if let Some(of_run) = self.of_runs.get_mut(&run) {
                of_run.remove_first(n_done);
                if of_run.batches.is_empty() {
                    self.of_runs.remove(&run);
                    self.resting.remove(&run);
                }
            }
        }
    }

    /// Whether another batch of a run may be submitted. A run whose images take long must not fill the pipeline,
    /// so that others find room. Results that are taken make room.
    pub(crate) fn has_room_for(&mut self, run: &RunId) -> bool {
        let is_resting = !self.resting.is_empty() && self.resting.contains(run);
        // Each batch may hold a dump open.
        let has_descriptors = !are_many_files_open() || self.n_in_flight() == 0;
        let has_room_in_queue = self.of_runs.get(run).is_none_or(|of_run| {
            of_run.batches.len() < RUN_BATCHES_MAX
                && of_run.n_bytes < self.queue_bytes_max / RUN_DIVISOR
        });
        let has_room = !is_resting && has_descriptors && has_room_in_queue;
        self.was_full |= !has_room;
        has_room
    }

    /// Gives a run no room until nothing of it is in the pipeline. Returns whether anything is.
    pub(crate) fn rest(&mut self, run: &RunId) -> bool {
        let is_in_flight = self.n_in_flight_of(run) > 0;
        if is_in_flight {
            self.resting.insert(run.clone());
        }
        is_in_flight
    }

    /// The number of batches of a run whose results were not received.
    pub(crate) fn n_in_flight_of(&self, run: &RunId) -> u64 {
        self.of_runs.get(run).map_or(0, |of_run| of_run.batches.len() as u64)
    }

    /// Returns whether a run had no room since the last call.
    pub(crate) fn take_was_full(&mut self) -> bool {
        std::mem::take(&mut self.was_full)
    }

    /// The number of batches from the first on whose results were not received.
    pub(crate) fn n_in_flight(&self) -> u64 {
        self.n_submitted.saturating_sub(self.n_received)
    }

    /// The number of batches that were submitted.
    pub(crate) fn n_submitted(&self) -> u64 {
        self.n_submitted
    }

    /// The number of batches whose results were received: the first ones that were submitted.
    pub(crate) fn n_received(&self) -> u64 {
        self.n_received
    }

    /// Whether batches are still committed: the committer ends early if it gives a batch up, or panics.
    pub(crate) fn is_alive(&self) -> bool {
        !self.committer.is_finished()
    }

    /// Waits until everything that was submitted is done. Returns the writer, unless the committer
    /// panicked.
    pub(crate) fn finish(mut self) -> Option<Writer> {
        self.flush();
        self.jobs.close();
        drop(self.batches);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a render thread died");
            }
        }
        self.committer.join().ok()
    }
}
