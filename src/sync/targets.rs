//! The targets of a daemon: one thread each.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::progress::{ChangeSignal, ProgressBoard};
use super::status::TargetStatus;
use super::target_thread::{DeliveryMode, TargetThread, WaitingThread};
use super::worker::WorkerControl;
use super::{SyncError, check_names};
use crate::config::SyncConfig;
use crate::locks::lock;
use crate::store::Reader;

/// How long [`Targets::stop`] waits for the threads to end.
const STOP_MAX: Duration = Duration::from_secs(6);

/// Started threads of new targets, which wait for [`Targets::apply`].
pub(crate) struct PreparedTargets {
    /// Names of the targets whose threads stay.
    unchanged: Vec<String>,
    new: Vec<WaitingThread>,
}

/// The targets of a daemon.
pub(crate) struct Targets {
    reader: Reader,
    threads: Mutex<TargetThreads>,
    changes: ChangeSignal,
}

/// Threads by the names of their targets.
#[derive(Default)]
struct TargetThreads {
    running: BTreeMap<String, TargetThread>,
    /// Stopped, perhaps not ended yet.
    stopping: BTreeMap<String, TargetThread>,
}

impl TargetThreads {
    fn stop(&mut self, name: &str) {
        if let Some(thread) = self.running.remove(name) {
            thread.control.stop.cancel();
            self.stopping.insert(name.to_owned(), thread);
        }
    }
}

impl Targets {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, threads: Mutex::default(), changes: ChangeSignal::default() }
    }

    fn threads(&self) -> MutexGuard<'_, TargetThreads> {
        lock(&self.threads)
    }

    /// Starts the threads that these targets need. They wait for [`Self::apply`], and end if the result is dropped.
    ///
    /// # Errors
    /// If a thread cannot be started. Nothing has changed then.
    pub(crate) fn prepare(&self, configs: &[SyncConfig]) -> Result<PreparedTargets, SyncError> {
        let threads = self.threads();
        let mut prepared = PreparedTargets { unchanged: Vec::new(), new: Vec::new() };
        for config in configs {
            let running = threads.running.get(&config.name);
            if running.is_some_and(|it| it.config == *config && !it.board.is_ended()) {
                prepared.unchanged.push(config.name.clone());
                continue;
            }
            let (reader, mode) = (self.reader.clone(), DeliveryMode::Continuous);
            prepared.new.push(WaitingThread::start(reader, config.clone(), mode, &self.changes)?);
        }
        Ok(prepared)
    }

    /// Delivers to the prepared targets from now on, and to no others. Threads of unchanged targets go on.
    pub(crate) fn apply(&self, prepared: PreparedTargets) {
        let mut threads = self.threads();
        let names = threads.running.keys().filter(|name| !prepared.unchanged.contains(name));
        let others: Vec<String> = names.cloned().collect();
        others.iter().for_each(|name| threads.stop(name));
        for waiting in prepared.new {
            let name = waiting.target().to_owned();
            let previous = threads.stopping.remove(&name).map(|thread| thread.handle);
            threads.running.insert(name, waiting.begin(previous));
        }
    }

    /// The status of each target.
    pub(crate) fn views(&self) -> Vec<TargetStatus> {
        self.threads().running.values().map(|thread| thread.board.view()).collect()
    }

    /// Names of targets whose threads ended without being stopped.
    pub(crate) fn dead(&self) -> Vec<String> {
        let threads = self.threads();
        let dead = threads.running.iter().filter(|(_, thread)| thread.board.is_ended());
        dead.map(|(name, _)| name.clone()).collect()
    }

    /// Makes the named targets, or all, deliver their backlog now and retry what failed; with `retry`, also all
    /// parked items. Returns each target's status after that, or after `patience`.
    ///
    /// # Errors
    /// If no target has one of the names.
    pub(crate) fn poke(
        &self,
        names: &[String],
        retry: bool,
        patience: Duration,
    ) -> Result<Vec<TargetStatus>, SyncError> {
        let chosen: Vec<(ProgressBoard, Arc<WorkerControl>)> = {
            let running = &self.threads().running;
            check_names(running.keys(), names)?;
            let chosen =
                running.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
            chosen.map(|(_, thread)| (thread.board.clone(), thread.control.clone())).collect()
        };
        let deadline = Instant::now() + patience;
        let mut waiting: Vec<(&ProgressBoard, u64)> =
            chosen.iter().map(|(board, _)| (board, board.n_passes())).collect();
        for (_, control) in &chosen {
            control.retries_parked.fetch_or(retry, Ordering::Relaxed);
            control.wake.notify_one();
        }
        self.changes.wait_until(Some(deadline), || {
            // The first pass delivers. The second finds that nothing is left, or which error remains.
            waiting.retain(|(board, n_before)| {
                let view = board.view();
                let is_settled = board.n_passes() >= n_before + 2
                    && (view.pending == 0 || view.trouble.is_some());
                !is_settled && !board.is_ended()
            });
            waiting.is_empty()
        });
        Ok(chosen.iter().map(|(board, _)| board.view()).collect())
    }

    /// Stops all threads and waits until they end. Abandons a thread that takes too long.
    pub(crate) fn stop(&self) {
        let mut threads = std::mem::take(&mut *self.threads());
        let names: Vec<String> = threads.running.keys().cloned().collect();
        names.iter().for_each(|name| threads.stop(name));
        let are_ended = || threads.stopping.values().all(|thread| thread.board.is_ended());
        self.changes.wait_until(Some(Instant::now() + STOP_MAX), are_ended);
        for (name, _) in threads.stopping.iter().filter(|(_, thread)| !thread.board.is_ended()) {
            tracing::warn!(target_name = name, "abandoned the target's thread: it does not end");
        }
    }
}
