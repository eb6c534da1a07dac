//! Retention in the daemon: now and then by itself, and when it is asked.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::config::retention::RetentionRules;
use crate::config::{Live, SyncConfig};
use crate::ingest::{Reading, Removed, Request, Shared};
use crate::media::RunId;
use crate::retention::{self, Clock, Remove, Report};
use crate::store::{ImageToPrune, Reader, StoreError};

/// How often the store is looked through.
const EVERY: Duration = Duration::from_hours(1);

/// How long the committer may take to do what it is asked for.
const COMMIT_MAX: Duration = Duration::from_mins(1);

pub(super) struct Retention {
    reader: Reader,
    /// The rules, the targets that they speak of, and how often both were set.
    rules: Mutex<(RetentionRules, Arc<[SyncConfig]>, u64)>,
    clock: Clock,
    shared: Shared,
    /// One sweep at a time.
    at_work: Mutex<()>,
}

impl Retention {
    pub(super) fn new(reader: Reader, live: &Live, shared: Shared) -> Arc<Self> {
        let (clock, at_work) = (Clock::start(), Mutex::new(()));
        let rules = Mutex::new((live.retention, live.targets.as_slice().into(), 0));
        Arc::new(Self { reader, rules, clock, shared, at_work })
    }

    /// Goes by these rules from now on. A sweep by others ends.
    pub(super) fn set(&self, live: &Live) {
        let mut now = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0 != live.retention || *now.1 != *live.targets {
            *now = (live.retention, live.targets.as_slice().into(), now.2 + 1);
        }
    }

    pub(super) fn rules(&self) -> (RetentionRules, Arc<[SyncConfig]>, u64) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for what may go and, with `apply`, removes it.
    pub(super) fn sweep(&self, apply: bool) -> Result<Report, StoreError> {
        let Ok(_at_work) = self.at_work.try_lock() else {
            return Err(io::Error::other("a sweep is under way: ask again later").into());
        };
        let (rules, targets, number) = self.rules();
        let mut committer = Committer { retention: self, number };
        let remove: Option<&mut dyn Remove> = if apply { Some(&mut committer) } else { None };
        let reading = Reading { pace: self.shared.pace.clone(), ..Reading::default() };
        retention::sweep(&self.reader, (&rules, &targets), self.clock, &reading, remove)
    }

    /// Sweeps every hour where the configuration has anything removed, until `stop` is closed.
    pub(super) fn keep_on(self: Arc<Self>, stop: Receiver<()>) -> io::Result<()> {
        thread::Builder::new().name("retention".to_owned()).spawn(move || {
            while stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if self.rules().0.is_any() {
                    self.sweep_and_tell();
                }
            }
        })?;
        Ok(())
    }

    fn sweep_and_tell(&self) {
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
            Err(error) => tracing::warn!(%error, "retention is not done, will retry in an hour"),
        }
    }
}

/// The committer, which removes between its commits.
struct Committer<'a> {
    retention: &'a Retention,
    /// Which rules the sweep goes by.
    number: u64,
}

impl Committer<'_> {
    fn ask(&self, request: impl FnOnce(Sender<Removed>) -> Request) -> Removed {
        let busy = || io::Error::other("what is committed at the moment holds it up");
        let (told, tell) = bounded(1);
        let ask = &self.retention.shared.requests.ask;
        ask.send_timeout(request(told), COMMIT_MAX).map_err(|_| busy())?;
        tell.recv_timeout(COMMIT_MAX).map_err(|_| busy())?
    }
}

impl Remove for Committer<'_> {
    fn prune(&mut self, run: &RunId, leaving: Vec<ImageToPrune>) -> Removed {
        self.ask(|told| Request::Prune(run.clone(), leaving, told))
    }

    fn remove_strays(&mut self, strays: Vec<PathBuf>, age_min: Duration) -> Removed {
        self.ask(|told| Request::Strays(strays, age_min, told))
    }

    fn goes_on(&self) -> bool {
        let is_stopped = self.retention.shared.stop.load(Ordering::Relaxed);
        self.retention.rules().2 == self.number && !is_stopped
    }
}
