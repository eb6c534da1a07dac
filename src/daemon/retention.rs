//! Retention in the daemon: now and then by itself, and when it is asked.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::ingest::Command;
use crate::media::MediaId;
use crate::retention::{self, Clock, Report, Rules};
use crate::store::{Reader, RunInfo, StoreError};

/// How often the store is looked through.
const EVERY: Duration = Duration::from_hours(1);

/// How long the daemon may take to journal that images are pruned.
const COMMIT_MAX: Duration = Duration::from_mins(1);

pub(super) struct Retention {
    reader: Reader,
    rules: Mutex<Rules>,
    clock: Clock,
    commands: Sender<Command>,
    /// One sweep at a time.
    at_work: Mutex<()>,
}

impl Retention {
    pub(super) fn new(reader: Reader, rules: Rules, commands: Sender<Command>) -> Arc<Self> {
        let (clock, at_work) = (Clock::start(), Mutex::new(()));
        Arc::new(Self { reader, rules: Mutex::new(rules), clock, commands, at_work })
    }

    /// Goes by these rules from now on.
    pub(super) fn set(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn rules(&self) -> Rules {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for what may go and, with `apply`, removes it.
    pub(super) fn sweep(&self, apply: bool) -> Result<Report, StoreError> {
        let _at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = || io::Error::other("what is committed at the moment holds it up");
        let mut prune = |run: &Arc<RunInfo>, ids: Vec<MediaId>| {
            let (done, is_done) = bounded(1);
            let command = Command::Prune(run.clone(), ids, done);
            self.commands.send_timeout(command, COMMIT_MAX).map_err(|_| busy())?;
            Ok(is_done.recv_timeout(COMMIT_MAX).map_err(|_| busy())?)
        };
        let apply: Option<&mut retention::Prune<'_>> = if apply { Some(&mut prune) } else { None };
        retention::sweep(&self.reader, &self.rules(), self.clock, apply)
    }

    /// Sweeps every hour where the configuration has anything removed, until `stop` is closed.
    pub(super) fn keep_on(self: Arc<Self>, stop: Receiver<()>) -> io::Result<()> {
        thread::Builder::new().name("retention".to_owned()).spawn(move || {
            while stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if self.rules().is_any() {
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
