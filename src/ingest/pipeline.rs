//! Plans → images → commits: renders in parallel within a memory budget, commits in the order of
//! the plans.
//!
//! ```text
//! engine ─ jobs ─▶ workers ─ results ─┐
//!    └──── units, in order ───────────┴▶ committer ─▶ store
//! ```
//!
//! The engine takes memory from the budget before it hands out a job, and a worker gives it back
//! once the media file is written aside. A unit (all that came of one line or dump) is committed
//! when all its images are there and all units before it are.

use std::collections::BTreeMap;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Shared;
use super::ledger::Ledger;
use super::make::{Made, Order, make};
use super::opened::SharedDigest;
use super::request::Request;
use super::unit::{Material, Task, Unit};
use crate::media::{Description, MediaEntry, MediaId, RunId, Source, State};
use crate::plan::ImagePlan;
use crate::pulse::{self, idle};
use crate::store::journal::{Event, SourceCursor};
use crate::store::media_dir::{Staged, Staging};
use crate::store::space::Space;
use crate::store::{Commit, RunInfo, Writer};

/// Units between plan and commit, and so the most that a crash makes to be done again.
const UNITS_MAX: usize = 512;

/// Events of units between plan and commit: a large batch may hold many back.
const EVENTS_MAX: u64 = 131_072;

/// Units, and their events, that are committed at once.
const GROUP_MAX: usize = 256;
const GROUP_EVENTS_MAX: u64 = 8192;

/// How many rejections of one line or dump are logged.
const REJECTED_TOLD_MAX: usize = 3;

/// How long a failed write waits before it is tried again, first and at most.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// An image to make.
struct Job {
    run: Arc<RunInfo>,
    id: MediaId,
    description: Box<Description>,
    plan: Box<ImagePlan>,
    material: Arc<Material>,
    slot: usize,
    results: Sender<(usize, Made)>,
    #[expect(dead_code, reason = "given back when dropped")]
    memory: Share,
}

/// A unit on its way to the committer: events by slot, those of jobs still missing.
struct Pending {
    run: Arc<RunInfo>,
    events: BTreeMap<usize, Event>,
    n_jobs: usize,
    /// What the jobs are to make, by slot.
    to_make: Vec<(usize, MediaId, Box<Description>, Source)>,
    results: Receiver<(usize, Made)>,
    cursor: SourceCursor,
    n_events: u64,
    /// Of those, how many the ledger counts.
    n_counted: u64,
    _events: Share,
    /// The dump's digest; its file is closed once its images are made.
    digest: Option<SharedDigest>,
}

/// What the pipeline has done, for whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Lines and dumps that were found, as far as they are counted.
    n_expected: AtomicU64,
    /// Units that were handed in, and that were committed or given back.
    n_planned: AtomicU64,
    n_done: AtomicU64,
    ledger: Mutex<Ledger>,
    /// How often a group was committed, and how long that took in all, in microseconds.
    n_commits: AtomicU64,
    commit_us: AtomicU64,
    /// Why nothing is written at the moment, if so.
    trouble: Mutex<Option<String>>,
    /// Dumps whose units are done and that the engine has not taken back.
    dumps_done: Mutex<Vec<DumpDone>>,
    /// Images of lines that could not be made: their places are free again.
    failed: Mutex<Vec<(RunId, MediaId)>>,
}

/// A dump that speaks for itself whose unit is done.
#[derive(Debug)]
pub(crate) struct DumpDone {
    pub(crate) run: RunId,
    pub(crate) path: String,
    /// Why it must be read again, if so.
    pub(crate) unread: Option<String>,
}

impl Progress {
    pub(crate) fn n_in_flight(&self) -> u64 {
        self.n_planned.load(Ordering::Acquire).saturating_sub(self.n_done.load(Ordering::Acquire))
    }

    pub(crate) fn n_done(&self) -> u64 {
        self.n_done.load(Ordering::Acquire)
    }

    /// Lines and dumps that were found so far; at least those that were handed in.
    pub(crate) fn n_expected(&self) -> u64 {
        self.n_expected.load(Ordering::Relaxed).max(self.n_planned.load(Ordering::Acquire))
    }

    pub(crate) fn expect(&self, n: u64) {
        self.n_expected.fetch_add(n, Ordering::Relaxed);
    }

    /// What went in and what came of it.
    pub(crate) fn ledger(&self) -> Ledger {
        *lock(&self.ledger)
    }

    /// How many images were kept, held back and rejected.
    pub(crate) fn counts(&self) -> [u64; 3] {
        self.ledger().counts()
    }

    /// How often a group was committed, and how long that took in all.
    pub(crate) fn commits(&self) -> (u64, Duration) {
        let us = self.commit_us.load(Ordering::Relaxed);
        (self.n_commits.load(Ordering::Relaxed), Duration::from_micros(us))
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(crate) fn take_dumps_done(&self) -> Vec<DumpDone> {
        std::mem::take(&mut lock(&self.dumps_done))
    }

    pub(crate) fn take_failed(&self) -> Vec<(RunId, MediaId)> {
        std::mem::take(&mut lock(&self.failed))
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all renders, or all units, share: bytes of memory, or events.
#[derive(Debug)]
struct Budget {
    free: Mutex<u64>,
    freed: Condvar,
}

/// A share of the budget, given back when dropped.
struct Share {
    budget: Arc<Budget>,
    n: u64,
}

impl Budget {
    /// Waits until `n` are free, and takes them.
    fn take(self: &Arc<Self>, n: u64) -> Share {
        let mut free = lock(&self.free);
        while *free < n {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= n;
        Share { budget: self.clone(), n }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *lock(&self.budget.free) += self.n;
        self.budget.freed.notify_one();
    }
}

/// The threads that render and commit.
#[derive(Debug)]
pub(crate) struct Pipeline {
    jobs: Sender<Job>,
    units: Sender<Pending>,
    memory: Arc<Budget>,
    memory_bytes_max: u64,
    events: Arc<Budget>,
    progress: Arc<Progress>,
    workers: Vec<JoinHandle<()>>,
    committer: JoinHandle<Writer>,
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
        let (jobs, jobs_in) = bounded::<Job>(2 * n_threads);
        let (units, units_in) = bounded(UNITS_MAX);
        let staging = writer.staging();
        let mut workers = Vec::new();
        for i in 0..n_threads {
            let (jobs, staging, space) = (jobs_in.clone(), staging.clone(), space.clone());
            let (progress, stop, pulses) = (progress.clone(), stop.clone(), pulses.clone());
            let name = format!("render-{i}");
            let worker = thread::Builder::new().name(name.clone());
            workers.push(worker.spawn(move || {
                pulses.watch_this_thread(&name);
                let (staging, space) = (&staging, &space);
                let writing = Writing { staging, space, progress: &progress, stop: &stop };
                while let Ok(job) = idle(|| jobs.recv()) {
                    work(&job, &writing);
                }
            })?);
        }
        let committer = thread::Builder::new().name("commit".to_owned());
        let told = progress.clone();
        let committer = committer.spawn(move || {
            pulses.watch_this_thread("commit");
            commit_all(writer, &units_in, &requests.asked, &told, &stop)
        })?;
        let budget = |n: u64| Arc::new(Budget { free: Mutex::new(n), freed: Condvar::new() });
        let (memory, events) = (budget(memory_bytes_max), budget(EVENTS_MAX));
        Ok(Self { jobs, units, memory, memory_bytes_max, events, progress, workers, committer })
    }

    /// Hands in a unit. Blocks while there is no memory or no room for it.
    pub(crate) fn submit(&self, unit: Unit) {
        let Unit { run, digest, tasks, cursor, .. } = unit;
        let (done, results) = bounded(tasks.len().max(1));
        let n_events = tasks.len() as u64;
        let is_counted =
            |task: &&Task| !matches!(task, Task::Tell(event) if !matches!(event, Event::Media(_)));
        let n_counted = tasks.iter().filter(is_counted).count() as u64;
        let events = idle(|| self.events.take(n_events.min(EVENTS_MAX)));
        let mut pending = Pending {
            n_events,
            n_counted,
            _events: events,
            run: run.clone(),
            events: BTreeMap::new(),
            n_jobs: 0,
            to_make: Vec::new(),
            results,
            cursor,
            digest,
        };
        let mut to_make = Vec::new();
        for (slot, task) in tasks.into_iter().enumerate() {
            match task {
                Task::Tell(event) => {
                    pending.events.insert(slot, event);
                }
                Task::Make { id, description, plan, material } => {
                    let source = material.source.clone();
                    pending.to_make.push((slot, id.clone(), description.clone(), source));
                    to_make.push((slot, id, description, plan, material));
                }
            }
        }
        pending.n_jobs = to_make.len();
        self.progress.n_planned.fetch_add(1, Ordering::AcqRel);
        {
            let mut ledger = lock(&self.progress.ledger);
            ledger.n_in += n_counted;
            ledger.n_in_flight += n_counted;
        }
        // The committer only goes when the engine has dropped its end.
        idle(|| drop(self.units.send(pending)));
        for (slot, id, description, plan, material) in to_make {
            // The plan was refused if it needed more than there is.
            let memory = idle(|| self.memory.take(plan.memory_bytes.min(self.memory_bytes_max)));
            let (run, results) = (run.clone(), done.clone());
            let job = Job { run, id, description, plan, material, slot, results, memory };
            idle(|| drop(self.jobs.send(job)));
        }
    }

    /// Whether what is handed in is still committed: not after a bug, or after giving up.
    pub(crate) fn is_alive(&self) -> bool {
        !self.committer.is_finished()
    }

    /// Ends once all that was handed in is done. Gives the writer back.
    pub(crate) fn finish(self) -> Option<Writer> {
        drop(self.jobs);
        drop(self.units);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a render thread died");
            }
        }
        self.committer.join().ok()
    }
}

/// Makes one image, writes it aside, and tells the committer.
fn work(job: &Job, writing: &Writing<'_>) {
    let Job { run, id, description, plan, material, .. } = job;
    let order = Order { run: &run.id, id, description, plan, material };
    // A bug in a decoder must not cost the other images: it rejects the one that it met.
    let made = panic::catch_unwind(AssertUnwindSafe(|| make(&order, writing)));
    let bug = || Made::Failed("the conversion panicked, which is a bug".to_owned());
    let made = made.map_or_else(|_| bug(), |made| made.unwrap_or_else(|failed| failed));
    // The committer is there as long as it waits for a job.
    drop(job.results.send((job.slot, made)));
}

/// Where workers write, and whom they tell.
pub(super) struct Writing<'a> {
    pub(super) staging: &'a Staging,
    space: &'a Space,
    progress: &'a Progress,
    stop: &'a AtomicBool,
}

impl Writing<'_> {
    /// Writes a media file aside as soon as there is room for it; `None` if the program was stopped
    /// meanwhile.
    pub(super) fn write(&self, run: &RunId, path: &str, bytes: &[u8]) -> Option<Staged> {
        retried("media file", self.progress, self.stop, || {
            self.space.check().map_err(io::Error::other)?;
            self.staging.write(run, path, bytes)
        })
    }
}

/// Does `action` until it succeeds; `None` if it was stopped meanwhile.
fn retried<T, E: std::fmt::Display>(
    what: &str,
    progress: &Progress,
    stop: &AtomicBool,
    mut action: impl FnMut() -> Result<T, E>,
) -> Option<T> {
    let mut delay = RETRY_FIRST;
    let mut attempt = 0u32;
    loop {
        pulse::beat();
        match action() {
            Ok(value) => {
                if attempt > 0 {
                    tracing::info!(what, attempt, "writing goes on");
                    progress.set_trouble(None);
                }
                return Some(value);
            }
            Err(error) => {
                attempt += 1;
                if attempt == 1 {
                    tracing::error!(what, %error, "cannot write, will retry");
                }
                progress.set_trouble(Some(format!("{what}: {error}")));
            }
        }
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        thread::sleep(delay);
        delay = (delay * 2).min(RETRY_MAX);
    }
}

/// Commits units in order, several at once where they are ready. Ends early only when it gives up:
/// what comes after a unit must not be committed without it.
fn commit_all(
    mut writer: Writer,
    units: &Receiver<Pending>,
    requests: &Receiver<Request>,
    progress: &Progress,
    stop: &AtomicBool,
) -> Writer {
    let mut next: Option<Pending> = None;
    while let Some(head) = next.take().or_else(|| wait(units, requests, &mut writer)) {
        let mut n_events = head.n_events;
        let mut gathered = vec![head.gather(requests, &mut writer)];
        while gathered.len() < GROUP_MAX && n_events < GROUP_EVENTS_MAX {
            match units.try_recv() {
                Ok(unit) if unit.is_ready() => {
                    n_events += unit.n_events;
                    gathered.push(unit.gather(requests, &mut writer));
                }
                Ok(unit) => {
                    next = Some(unit);
                    break;
                }
                Err(_) => break,
            }
        }
        let (mut group, mut tallies) = (Vec::new(), Vec::new());
        let n_gathered = gathered.len();
        for (commit, tally) in gathered.into_iter().map_while(|unit| unit) {
            group.extend(commit);
            tallies.push(tally);
        }
        let n_given_up = n_gathered - tallies.len();
        let start = Instant::now();
        if retried("journal", progress, stop, || writer.commit(&mut group)).is_none() {
            break;
        }
        let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        progress.commit_us.fetch_add(us, Ordering::Relaxed);
        progress.n_commits.fetch_add(1, Ordering::Relaxed);
        // Whoever sees that a unit is done must find what it gave.
        let n_done = tallies.len() as u64;
        tallies.into_iter().for_each(|tally| tally.tell(progress));
        progress.n_done.fetch_add(n_done, Ordering::AcqRel);
        if n_given_up > 0 {
            break;
        }
    }
    writer
}

/// Waits for what comes next, and does meanwhile what the committer is asked for: where the disk is full,
/// that is what makes room.
fn wait<T>(next: &Receiver<T>, requests: &Receiver<Request>, writer: &mut Writer) -> Option<T> {
    loop {
        let request = idle(|| {
            crossbeam_channel::select! {
                recv(next) -> next => Err(next.ok()),
                recv(requests) -> request => Ok(request),
            }
        });
        match request {
            Err(next) => return next,
            Ok(request) => request.into_iter().for_each(|request| request.serve(writer)),
        }
    }
}

/// What a unit counts for.
#[derive(Default)]
struct Tally {
    /// How many the ledger counts, and what became of them.
    n_counted: u64,
    n_image: u64,
    n_held: u64,
    n_rejected: u64,
    n_given_back: u64,
    /// What to log of the rejected ones.
    told: Vec<(Source, Option<String>)>,
    dump: Option<DumpDone>,
    failed: Vec<(RunId, MediaId)>,
}

impl Tally {
    fn count(&mut self, event: &Event) {
        if let Event::Media(entry) = event {
            match entry.state {
                State::Image => self.n_image += 1,
                State::Held => self.n_held += 1,
                State::Rejected => {
                    self.n_rejected += 1;
                    if self.told.len() < REJECTED_TOLD_MAX {
                        self.told.push((entry.source.clone(), entry.reason.clone()));
                    }
                }
            }
        }
    }

    fn tell(self, progress: &Progress) {
        for (source, reason) in &self.told {
            let Source { path, log, line, .. } = source;
            tracing::info!(path, log, line, reason, "rejected");
        }
        {
            let mut ledger = lock(&progress.ledger);
            ledger.n_in_flight = ledger.n_in_flight.saturating_sub(self.n_counted);
            ledger.n_image += self.n_image;
            ledger.n_held += self.n_held;
            ledger.n_rejected += self.n_rejected;
            ledger.n_given_back += self.n_given_back;
        }
        lock(&progress.dumps_done).extend(self.dump);
        lock(&progress.failed).extend(self.failed);
    }
}

impl Pending {
    /// Whether all images of the unit are made.
    fn is_ready(&self) -> bool {
        self.results.len() == self.n_jobs
    }

    /// Waits for the unit's images. The commit is missing for a dump that speaks for itself and
    /// could not be read whole: it is read again. `None` means that the unit was given up.
    fn gather(
        mut self,
        requests: &Receiver<Request>,
        writer: &mut Writer,
    ) -> Option<(Option<Commit>, Tally)> {
        let mut files = Vec::new();
        let (mut unread, mut failed) = (None, Vec::new());
        for _ in 0..self.n_jobs {
            let (slot, made) = wait(&self.results, requests, writer)?;
            let event = match made {
                Made::Image(entry, staged) => {
                    files.extend(staged);
                    Some(Event::Media(entry))
                }
                Made::Failed(reason) => {
                    failed.extend(self.id_of(slot));
                    self.rejected(slot, reason)
                }
                Made::Unread(reason) => {
                    failed.extend(self.id_of(slot));
                    unread = Some(reason.clone());
                    self.rejected(slot, reason)
                }
                Made::GivenUp => return None,
            };
            self.events.extend(event.map(|event| (slot, event)));
        }
        let mut tally = Tally { n_counted: self.n_counted, ..Tally::default() };
        if let SourceCursor::Dump(cursor) = &mut self.cursor {
            let again = unread.is_some();
            tally.dump =
                Some(DumpDone { run: self.run.id.clone(), path: cursor.path.clone(), unread });
            if again {
                tally.n_given_back = self.events.len() as u64 - self.n_uncounted();
                return Some((None, tally));
            }
            let digest = self.digest.as_ref().and_then(|digest| digest.get().copied());
            cursor.sha256 = digest.or(cursor.sha256);
            // What was rejected may be an image the next time, though the dump is the same.
            let is_rejected = |event: &Event| matches!(event, Event::Media(entry) if entry.state == State::Rejected);
            cursor.sha256 = cursor.sha256.filter(|_| !self.events.values().any(is_rejected));
        } else {
            tally.failed = failed;
        }
        let events: Vec<Event> = self.events.into_values().collect();
        events.iter().for_each(|event| tally.count(event));
        Some((Some(Commit { run: self.run, events, files, cursor: self.cursor }), tally))
    }

    fn n_uncounted(&self) -> u64 {
        self.n_events - self.n_counted
    }

    fn id_of(&self, slot: usize) -> Option<(RunId, MediaId)> {
        let (_, id, ..) = self.to_make.iter().find(|(of, ..)| *of == slot)?;
        Some((self.run.id.clone(), id.clone()))
    }

    fn rejected(&self, slot: usize, reason: String) -> Option<Event> {
        let (_, id, description, source) = self.to_make.iter().find(|(of, ..)| *of == slot)?;
        let place = Some((id.key.clone(), id.step, Some(id.index)));
        let description = (**description).clone();
        Some(Event::Media(Box::new(MediaEntry::rejected(
            place,
            reason,
            description,
            source.clone(),
        ))))
    }
}
