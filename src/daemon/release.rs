//! Has the engine release what was held back, however long that takes.

use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::ingest::{Command, ReleaseReport, ReleaseRequest};
use crate::store::Filter;

/// How long a client waits for an answer before it must ask for it again. (Not long in debug builds, so
/// that the tests come by.)
const ANSWER_MAX: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 20_000 });

/// What came of a release, once it is done.
type Answer = Receiver<Result<ReleaseReport, String>>;

/// The releases: one at a time.
pub(super) struct Releases {
    commands: Sender<Command>,
    /// The one that is under way, or was done and not asked for.
    at_work: Mutex<Option<Answer>>,
}

impl Releases {
    pub(super) fn new(commands: Sender<Command>) -> Self {
        Self { commands, at_work: Mutex::new(None) }
    }

    /// Begins a release, or waits for the one that is under way if it `goes_on`. `None` if it is not
    /// done yet.
    pub(super) fn ask(
        &self,
        filter: Filter,
        goes_on: bool,
    ) -> Result<Option<ReleaseReport>, String> {
        let busy = || "a release is under way: ask again later".to_owned();
        let mut at_work = self.at_work.try_lock().map_err(|_| busy())?;
        let answer = match at_work.take() {
            Some(answer) if goes_on => answer,
            None if goes_on => return Err("no release is under way".to_owned()),
            Some(answer) if answer.try_recv() == Err(TryRecvError::Empty) => {
                *at_work = Some(answer);
                return Err(busy());
            }
            // Nobody asked for what came of an earlier one.
            Some(_) | None => self.begin(filter)?,
        };
        match answer.recv_timeout(ANSWER_MAX) {
            Ok(result) => result.map(Some),
            Err(RecvTimeoutError::Timeout) => {
                *at_work = Some(answer);
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err("the daemon stops: what was not released yet stays held back".to_owned())
            }
        }
    }

    fn begin(&self, filter: Filter) -> Result<Answer, String> {
        let (reply, answer) = bounded(1);
        let command = Command::Release(ReleaseRequest { filter, watches: Vec::new(), reply });
        let busy = |_| "the daemon has not done yet what it was asked before".to_owned();
        self.commands.try_send(command).map_err(busy)?;
        Ok(answer)
    }
}
