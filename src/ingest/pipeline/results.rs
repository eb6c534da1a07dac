//! Results of the pipeline, on their way from the committer to the engine.
//!
//! A bounded channel carries one [`GroupResult`] for each group that was committed.
//!
//! # Why it cannot deadlock
//!
//! The engine submits and receives on one thread, so it receives nothing while `Pipeline::submit`
//! blocks. `submit` waits for the committer: for room in its queue, for its share of the events, or
//! for a worker that waits for the committer in turn. If the committer waited for the engine as well,
//! neither would go on. So it never does: [`ResultSender::send`] does not block. If the channel is
//! full, the sender holds the results and merges those of later groups into them, and the committer
//! sends them when the engine has received a message.
//!
//! The sender holds at most the results of the batches that the engine submitted since it last
//! received: those of one turn of its loop.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded};

use crate::media::{MediaId, MediaKey, RunId, State};

/// Messages in the channel. A full channel costs nothing but a merge.
const GROUPS_MAX: usize = 64;

/// What the engine must know of a batch that is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BatchResult {
    /// The batch of a dump that is described by its path is done.
    Dump {
        run: RunId,
        path: String,
        /// Why the dump must be read again. Nothing was committed then.
        unread: Option<String>,
    },
    /// A planned image of a log line or a waiting item was not made: its index has what the store has there.
    NotMade { run: RunId, id: MediaId },
    /// The release of a held image was tried.
    Released {
        run: RunId,
        id: MediaId,
        /// The error is the reason why the image stays held.
        result: Result<(), String>,
    },
    /// Batches of a run were given back, because its files in the store fail. The other results say which.
    LeftOut { run: RunId },
    /// An image was made again to repair its files.
    Repaired {
        id: MediaId,
        /// The error is the reason why not all of its damaged files were made again.
        result: Result<(), String>,
    },
    /// A waiting item was tried again.
    Retried {
        run: RunId,
        /// Its dump, if the dump's path describes it.
        path: Option<String>,
        /// What came of it. The error is the reason why the dump could not be read whole. Nothing was
        /// committed then.
        result: Result<Vec<ItemOutcome>, String>,
    },
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ItemOutcome {
    pub(crate) key: Option<MediaKey>,
    pub(crate) state: State,
    pub(crate) is_waiting: bool,
    /// Why it is no image, if it is none.
    pub(crate) reason: Option<String>,
}

/// What came of a group of batches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupResult {
    /// By how many the batches have grown that are done and come before every batch that is not.
    pub(super) n_batches: u64,
    /// The number of batches of each run that are done.
    pub(super) of_runs: BTreeMap<RunId, u64>,
    /// In the order of the commits.
    pub(super) results: Vec<BatchResult>,
}

impl GroupResult {
    /// No results yet. `n_batches` more batches are done that come before every batch that is not.
    pub(super) fn of_batches(n_batches: u64) -> Self {
        Self { n_batches, ..Self::default() }
    }

    /// Adds a batch, and its results if it has any.
    pub(super) fn push_batch(&mut self, run: &RunId, results: Vec<BatchResult>) {
        self.push_done(run, 1);
        self.results.extend(results);
    }

    /// Adds results that belong to no single batch.
    pub(super) fn push_results(&mut self, results: Vec<BatchResult>) {
        self.results.extend(results);
    }

    fn push_done(&mut self, run: &RunId, n_batches: u64) {
        match self.of_runs.get_mut(run) {
            Some(n) => *n += n_batches,
            None => drop(self.of_runs.insert(run.clone(), n_batches)),
        }
    }

    /// Adds the results of the next group.
    fn merge(&mut self, next: Self) {
        self.n_batches += next.n_batches;
        next.of_runs.iter().for_each(|(run, n)| self.push_done(run, *n));
        self.results.extend(next.results);
    }
}

/// The committer's end of the channel.
#[derive(Debug)]
pub(super) struct ResultSender {
    channel: Sender<GroupResult>,
    /// Results that the channel had no room for.
    held: Option<GroupResult>,
}

/// Opens the channel.
pub(super) fn channel() -> (ResultSender, Receiver<GroupResult>) {
    let (channel, receiver) = bounded(GROUPS_MAX);
    (ResultSender { channel, held: None }, receiver)
}

impl ResultSender {
    /// Sends a group's results, or holds them if the channel is full. Never blocks.
    pub(super) fn send(&mut self, group: GroupResult) {
        self.held.get_or_insert_default().merge(group);
        self.send_held();
    }

    /// Sends what is held, if there is room now.
    pub(super) fn send_held(&mut self) {
        let Some(group) = self.held.take() else { return };
        match self.channel.try_send(group) {
            Err(TrySendError::Full(group)) => self.held = Some(group),
            // The engine is gone and needs no results.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Makes `select` ready when what is held can be sent.
    pub(super) fn select<'a>(&'a self, select: &mut Select<'a>) {
        if self.held.is_some() {
            select.send(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(i: usize) -> GroupResult {
        let run = RunId::new(format!("run{i}")).unwrap_or_else(|error| panic!("{error}"));
        let mut group = GroupResult::of_batches(3);
        let path = format!("{i}.npy");
        group.push_batch(&run.clone(), vec![BatchResult::Dump { run, path, unread: None }]);
        group
    }

    #[test]
    fn a_sender_never_blocks_and_loses_nothing() {
        let (mut sender, receiver) = channel();
        let n = 3 * GROUPS_MAX;
        (0..n).for_each(|i| sender.send(group(i)));
        assert_eq!(receiver.len(), GROUPS_MAX);
        let mut got = GroupResult::default();
        while let Ok(group) = receiver.try_recv() {
            got.merge(group);
            sender.send_held();
        }
        let want: Vec<_> = (0..n).flat_map(|i| group(i).results).collect();
        assert_eq!((got.n_batches, got.results), (3 * n as u64, want));
    }

    #[test]
    fn a_sender_with_held_results_wakes_when_the_engine_has_received() {
        let (mut sender, receiver) = channel();
        (0..=GROUPS_MAX).for_each(|i| sender.send(group(i)));
        let is_ready = |sender: &ResultSender| {
            let mut select = Select::new();
            sender.select(&mut select);
            select.try_ready().is_ok()
        };
        assert!(!is_ready(&sender));
        receiver.try_recv().unwrap_or_else(|error| panic!("{error}"));
        assert!(is_ready(&sender));
        sender.send_held();
        assert!(!is_ready(&sender), "nothing is held any more");
        drop(receiver);
        (0..=GROUPS_MAX).for_each(|i| sender.send(group(i)));
        assert!(!is_ready(&sender), "without an engine nothing is held");
    }
}
