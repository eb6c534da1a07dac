//! Releases held items by the engine. A release may take longer than a client waits for an answer.

use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::ingest::{Command, ReleaseReport, ReleaseRequest};
use crate::store::Filter;

/// How long a request waits for the result. The client then repeats the request with `goes_on`. Short in debug builds,
/// so that tests cover it.
const ANSWER_MAX: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 20_000 });

/// The result of a release, when it is done.
type Answer = Receiver<Result<ReleaseReport, String>>;

/// Runs one release at a time.
pub(super) struct Releases {
    commands: Sender<Command>,
    /// The running release, or one whose result no client has fetched.
    at_work: Mutex<Option<Answer>>,
}

impl Releases {
    pub(super) fn new(commands: Sender<Command>) -> Self {
        Self { commands, at_work: Mutex::new(None) }
    }

    /// Starts a release or, with `goes_on`, waits for the running one. `None` if it is still running.
    pub(super) fn release(
        &self,
        filter: Filter,
        goes_on: bool,
    ) -> Result<Option<ReleaseReport>, String> {
        let busy = || "another release is running: try again later".to_owned();
        let mut at_work = self.at_work.try_lock().map_err(|_| busy())?;
        let answer = match at_work.take() {
            Some(answer) if goes_on => answer,
            None if goes_on => return Err("no release is running".to_owned()),
            Some(answer) if answer.try_recv() == Err(TryRecvError::Empty) => {
                *at_work = Some(answer);
                return Err(busy());
            }
            // No client fetched the result of the last one.
            Some(_) | None => self.begin(filter)?,
        };
        match answer.recv_timeout(ANSWER_MAX) {
            Ok(result) => result.map(Some),
            Err(RecvTimeoutError::Timeout) => {
                *at_work = Some(answer);
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err("the daemon is stopping: what is not released yet stays held back".to_owned())
            }
        }
    }

    fn begin(&self, filter: Filter) -> Result<Answer, String> {
        let (reply, answer) = bounded(1);
        let command = Command::Release(ReleaseRequest { filter, watches: Vec::new(), reply });
        let busy = |_| "the daemon is busy with earlier requests: try again later".to_owned();
        self.commands.try_send(command).map_err(busy)?;
        Ok(answer)
    }
}
