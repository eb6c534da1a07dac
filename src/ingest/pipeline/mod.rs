//! Plans → images → commits: renders in parallel within a memory budget, commits in the order of
//! the plans.
//!
//! ```text
//! engine ─ bundles ─▶ workers ─ results ─┐
//!    └────── units, in order ────────────┴▶ committer ─▶ store
//! ```
//!
//! The engine hands over units (all that came of one line or dump) and the images to make for them,
//! several together where they are small. It takes memory from the budget before it hands out a
//! bundle, and the worker gives it back once the media files are written aside. A unit is committed
//! when all its images are there and all units before it are. What the engine must know of it comes
//! back through a channel that can't block the committer: see [`results`].

mod budget;
mod committer;
mod counts;
mod progress;
mod results;
mod worker;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use self::budget::Budget;
use self::committer::{Committer, Pending};
pub(crate) use self::counts::ItemCounts;
pub(crate) use self::progress::Progress;
pub(crate) use self::results::{BatchResult, GroupResult};
use self::worker::{Bundle, Job, Place, work_all};
pub(super) use self::worker::{RETRY_FIRST, Writing};
use super::Shared;
use super::unit::{Task, Unit};
use crate::pulse::idle;
use crate::store::Writer;
use crate::store::journal::Event;
use crate::store::space::Space;

/// Units between plan and commit, and so the most that a crash makes to be done again.
const UNITS_MAX: usize = 512;

/// Events of units between plan and commit: a large batch may hold many back.
const EVENTS_MAX: u64 = 131_072;

/// Units that are handed over together, and the images of a bundle.
const TOGETHER_MAX: usize = 64;

/// Pixels of the images of a bundle, in all: enough small ones that handing them over costs little
/// beside making them, and no second large one.
const BUNDLE_PIXELS_MAX: u64 = 128 << 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads that render and commit.
#[derive(Debug)]
pub(crate) struct Pipeline {
    bundles: Sender<Bundle>,
    units: Sender<Vec<Pending>>,
    memory: Arc<Budget>,
    memory_bytes_max: u64,
    events: Arc<Budget>,
    progress: Arc<Progress>,
    workers: Vec<JoinHandle<()>>,
    committer: JoinHandle<Writer>,
    results: Receiver<GroupResult>,
    /// Results that were received and not taken.
    received: Vec<BatchResult>,
    /// Batches that were submitted and whose results were not received.
    n_in_flight: u64,
    /// What is not handed over yet.
    together: Together,
}

/// Units, and images of the last of them, that are to be handed over together.
#[derive(Debug, Default)]
struct Together {
    /// The number of the next unit.
    next: u64,
    units: Vec<Pending>,
    jobs: Vec<Job>,
    /// Their pixels in all, and the most bytes of memory that one of them needs.
    n_pixels: u64,
    memory_bytes: u64,
}

impl Pipeline {
    /// Starts `n_threads` workers and the committer. While `stop` is set, failed writes are given up
    /// instead of tried again.
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
        let (bundles, bundles_in) = bounded::<Bundle>(2 * n_threads);
        let (units, units_in) = bounded(UNITS_MAX / TOGETHER_MAX);
        let (results, results_in) = bounded(4 * n_threads);
        let staging = writer.staging();
        let (space, told) = (space.clone(), progress.clone());
        let writing = Writing::new(staging, space, told, stop.clone());
        let mut workers = Vec::new();
        for i in 0..n_threads {
            let (bundles, results) = (bundles_in.clone(), results.clone());
            let (writing, pulses) = (writing.clone(), pulses.clone());
            let name = format!("render-{i}");
            let worker = thread::Builder::new().name(name.clone());
            workers.push(worker.spawn(move || {
                pulses.watch_this_thread(&name);
                work_all(&bundles, &results, &writing);
            })?);
        }
        let (results_out, group_results) = results::channel();
        let (asked, told) = (requests.asked, progress.clone());
        let committer =
            Committer::new(writer, units_in, results_in, asked, results_out, told, stop);
        let thread = thread::Builder::new().name("commit".to_owned());
        let committer = thread.spawn(move || {
            pulses.watch_this_thread("commit");
            committer.run()
        })?;
        let (memory, events) = (Budget::new(memory_bytes_max), Budget::new(EVENTS_MAX));
        let together = Together::default();
        Ok(Self {
            bundles,
            units,
            memory,
            memory_bytes_max,
            events,
            progress,
            workers,
            committer,
            results: group_results,
            received: Vec::new(),
            n_in_flight: 0,
            together,
        })
    }

    /// Hands in a unit. Blocks while there is no memory or no room for it. It may stay here for a
    /// while, until more come or [`Self::flush`] is called.
    pub(crate) fn submit(&mut self, unit: Unit) {
        let Unit { run, digest, tasks, cursor, .. } = unit;
        let n_events = tasks.len() as u64;
        let is_counted =
            |task: &&Task| !matches!(task, Task::Tell(event) if !matches!(event, Event::Media(_)));
        let n_counted = tasks.iter().filter(is_counted).count() as u64;
        let share = self.events.try_take(n_events.min(EVENTS_MAX)).unwrap_or_else(|| {
            // What is here holds room that only the commit gives back.
            self.flush();
            idle(|| self.events.take(n_events.min(EVENTS_MAX)))
        });
        let number = self.together.next;
        self.together.next += 1;
        let (mut events, mut jobs) = (Vec::with_capacity(tasks.len()), Vec::new());
        for (slot, task) in tasks.into_iter().enumerate() {
            match task {
                Task::Tell(event) => events.push(Some(event)),
                Task::Make { id, description, plan, material } => {
                    events.push(None);
                    let (run, place) = (run.clone(), Place { unit: number, slot });
                    jobs.push(Job { run, id, description, plan, material, place });
                }
            }
        }
        self.progress.add_submitted(n_counted);
        self.n_in_flight += 1;
        self.together.units.push(Pending {
            run,
            events,
            n_to_make: jobs.len(),
            files: Vec::new(),
            cursor,
            n_events,
            n_counted,
            share,
            digest,
            unread: None,
            failed: Vec::new(),
            is_given_up: false,
        });
        for job in jobs {
            let n_pixels = job.n_pixels();
            let Together { jobs, n_pixels: before, .. } = &self.together;
            if jobs.len() == TOGETHER_MAX
                || !jobs.is_empty() && before.saturating_add(n_pixels) > BUNDLE_PIXELS_MAX
            {
                self.flush();
            }
            let Together { jobs, n_pixels: all, memory_bytes, .. } = &mut self.together;
            *all = all.saturating_add(n_pixels);
            *memory_bytes = job.plan.memory_bytes.max(*memory_bytes);
            jobs.push(job);
        }
        if self.together.units.len() == TOGETHER_MAX {
            self.flush();
        }
    }

    /// Hands over what was handed in.
    pub(crate) fn flush(&mut self) {
        let Together { units, jobs, n_pixels, memory_bytes, .. } = &mut self.together;
        let (units, jobs) = (std::mem::take(units), std::mem::take(jobs));
        let n_bytes = std::mem::take(memory_bytes);
        *n_pixels = 0;
        // The units first: what is made must find its place. The committer only goes when the engine
        // has dropped its end, or gave up.
        if !units.is_empty() {
            idle(|| drop(self.units.send(units)));
        }
        if !jobs.is_empty() {
            // The images of a bundle are made one after the other. The plan was refused if it needed
            // more than there is.
            let memory = idle(|| self.memory.take(n_bytes.min(self.memory_bytes_max)));
            idle(|| drop(self.bundles.send(Bundle { jobs, memory })));
        }
    }

    /// The channel of results, to wait for the next one. [`Self::take_results`] receives it.
    pub(crate) fn results(&self) -> &Receiver<GroupResult> {
        &self.results
    }

    /// Takes the results that came since the last call, in the order of the commits.
    pub(crate) fn take_results(&mut self) -> Vec<BatchResult> {
        while let Ok(group) = self.results.try_recv() {
            self.receive(group);
        }
        std::mem::take(&mut self.received)
    }

    /// Waits for a result, `timeout` at most.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        if let Ok(group) = idle(|| self.results.recv_timeout(timeout)) {
            self.receive(group);
        }
    }

    fn receive(&mut self, group: GroupResult) {
        self.n_in_flight = self.n_in_flight.saturating_sub(group.n_batches);
        self.received.extend(group.results);
    }

    /// Batches that were submitted and whose results were not received.
    pub(crate) fn n_in_flight(&self) -> u64 {
        self.n_in_flight
    }

    /// Whether what is handed in is still committed: not after a bug, or after giving up.
    pub(crate) fn is_alive(&self) -> bool {
        !self.committer.is_finished()
    }

    /// Ends once all that was handed in is done. Gives the writer back.
    pub(crate) fn finish(mut self) -> Option<Writer> {
        self.flush();
        drop(self.bundles);
        drop(self.units);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a render thread died");
            }
        }
        self.committer.join().ok()
    }
}
