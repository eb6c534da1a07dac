//! Retention in the daemon: every hour, and on request.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::config::Live;
use crate::config::retention::DumpRetention;
use crate::ingest::Shared;
use crate::locks::lock;
use crate::retention::{self, Report, RetentionClock, StoreRemover};
use crate::run_dir::ReadOptions;
use crate::store::{Change, Reader, Removed, Request, StoreError};

/// How often a sweep runs by itself.
const EVERY: Duration = Duration::from_hours(1);

/// How long a sweep waits for the commit thread.
const COMMIT_MAX: Duration = Duration::from_mins(1);

pub(super) struct Retention {
    reader: Reader,
    /// The configuration, and how often a change ended a running sweep.
    config: Mutex<(Arc<Live>, u64)>,
    clock: RetentionClock,
    shared: Shared,
    /// One sweep at a time.
    at_work: Mutex<()>,
}

impl Retention {
    pub(super) fn new(reader: Reader, live: &Live, shared: Shared) -> Arc<Self> {
        let (clock, at_work) = (RetentionClock::start(), Mutex::new(()));
        let config = Mutex::new((Arc::new(live.clone()), 0));
        Arc::new(Self { reader, config, clock, shared, at_work })
    }

    /// Sets the configuration. If its rules, targets or logs are new, a running sweep ends.
    pub(super) fn set(&self, live: &Live) {
        let mut now = lock(&self.config);
        let parts = |live: &Live| (live.retention, live.targets.clone(), live.watches.clone());
        let number = now.1 + u64::from(parts(&now.0) != parts(live));
        *now = (Arc::new(live.clone()), number);
    }

    /// The configuration, and its number.
    pub(super) fn config(&self) -> (Arc<Live>, u64) {
        lock(&self.config).clone()
    }

    /// Says that nothing is removed by age, if that is so and a rule asks for it.
    pub(super) fn trouble(&self) -> Option<String> {
        let rules = self.config().0.retention;
        let is_by_age = rules.media_age_max.is_some() || rules.dumps != DumpRetention::Keep;
        self.clock.trouble().filter(|_| is_by_age)
    }

    /// Reports what the rules would remove or, with `apply`, removes it.
    pub(super) fn sweep(&self, apply: bool) -> Result<Report, StoreError> {
        let Ok(_at_work) = self.at_work.try_lock() else {
            return Err(io::Error::other("another prune is running: try again later").into());
        };
        let (config, number) = self.config();
        let mut committer = Committer { retention: self, number };
        let remove: Option<&mut dyn StoreRemover> = if apply { Some(&mut committer) } else { None };
        let reading = ReadOptions { pace: self.shared.pace.clone(), ..ReadOptions::default() };
        retention::sweep(&self.reader, &config, self.clock, &reading, remove)
    }

    /// Sweeps every hour if there are rules, until `stop` is closed.
    pub(super) fn sweep_hourly(self: Arc<Self>, stop: Receiver<()>) -> io::Result<()> {
        thread::Builder::new().name("retention".to_owned()).spawn(move || {
            while stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if self.config().0.retention.is_any() {
                    self.sweep_and_log();
                }
            }
        })?;
        Ok(())
    }

    fn sweep_and_log(&self) {
        match self.sweep(true) {
            Ok(report) => {
                for run in &report.runs {
                    let (n_media, n_dumps) = (run.media.n, run.dumps.n);
                    let bytes = run.media.bytes + run.strays.bytes + run.dumps.bytes;
                    tracing::info!(run = %run.run, n_media, n_dumps, bytes, "removed by retention");
                }
                if let Some(problem) = report.problem {
                    tracing::warn!("{problem}");
                }
            }
            Err(error) => tracing::warn!(%error, "retention failed, next try in an hour"),
        }
    }
}

/// The commit thread, which removes files between its commits.
struct Committer<'a> {
    retention: &'a Retention,
    /// The number of the configuration that the sweep applies.
    number: u64,
}

impl StoreRemover for Committer<'_> {
    fn make(&mut self, change: Change) -> Removed {
        let busy = || io::Error::other("the commit thread is busy: try again later");
        let (reply, answer) = bounded(1);
        let requests = &self.retention.shared.requests.ask;
        requests.send_timeout(Request { change, reply }, COMMIT_MAX).map_err(|_| busy())?;
        answer.recv_timeout(COMMIT_MAX).map_err(|_| busy())?
    }

    fn may_continue(&self) -> bool {
        let is_stopped = self.retention.shared.stop.load(Ordering::Relaxed);
        self.retention.config().1 == self.number && !is_stopped
    }
}
