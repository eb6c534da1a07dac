//! The state of a run at a target: the store's file `sync/TARGET/RUN.json`, always replaced as a whole.
//!
//! The store remembers nothing else of a target. If a target is removed from the configuration, its files stay. If it
//! is added again, delivery resumes from them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::Disk;
use crate::media::RunId;
use crate::sinks::Receipt;
use crate::store::journal::JournalOffset;

/// The format of the file. Files of a newer format are refused.
const FORMAT: u32 = 1;

/// How long an item that fails, while the target accepts others, is retried: a week.
pub(super) const RETRY_MAX: Duration = Duration::from_hours(7 * 24);

/// A place in a run's journal. Every item before it was delivered, is excluded, or is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetCursor {
    pub(crate) place: JournalOffset,
    /// Sequence number of the last line before it.
    pub(crate) seq: u64,
}

impl TargetCursor {
    pub(crate) const START: Self = Self { place: JournalOffset::START, seq: 0 };
}

/// A parked item: delivery continues with the items after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParkedItem {
    /// Where the item's line starts.
    pub(crate) place: JournalOffset,
    pub(crate) length: u32,
    /// The target's error.
    pub(crate) reason: String,
    /// When it first failed, in seconds since the Unix epoch.
    pub(crate) since: f64,
    pub(crate) n_tries: u32,
    /// When it is retried, in seconds since the Unix epoch; `None`: only by `safelight retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<f64>,
    /// Whether it waits for the repair of a media file. Then it is retried for as long as it takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_damaged: bool,
}

impl ParkedItem {
    /// Schedules the next retry after a failure: pauses grow from a minute to an hour. After a week of failures, no
    /// retry is scheduled, unless a media file must be repaired.
    pub(super) fn failed_again(&mut self, now: f64) {
        let pause = 60.0 * f64::from(2u32.saturating_pow(self.n_tries.min(16)).min(60));
        self.n_tries = self.n_tries.saturating_add(1);
        let is_retried = self.is_damaged || now - self.since < RETRY_MAX.as_secs_f64();
        self.next = is_retried.then_some(now + pause);
    }

    pub(super) fn is_due(&self, now: f64) -> bool {
        // No pause is longer than an hour: a later time comes from a clock that was set back.
        self.next.is_some_and(|next| next <= now || next > now + 3600.0)
    }
}

/// The state of a run at a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    format: u32,
    pub(crate) run: RunId,
    pub(crate) cursor: TargetCursor,
    /// The sink's last receipt: [`Sink::resume`](crate::sinks::Sink::resume) gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<Receipt>,
    /// Items before the cursor that the target doesn't have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parked: Vec<ParkedItem>,
    pub(crate) n_delivered: u64,
    pub(crate) bytes_delivered: u64,
    /// Whether the sink has flushed everything that it had buffered.
    pub(crate) is_at_rest: bool,
    /// Whether the sink got the end of the run, after all items that it has.
    #[serde(default, rename = "is_told_of_end")]
    pub(crate) is_end_reported: bool,
}

/// Why a state can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({source}): remove it to deliver the run from its beginning")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error(
        "{path} has format {got}, this version reads up to {FORMAT}: install a newer safelight"
    )]
    TooNew { path: PathBuf, got: u32 },
}

fn folder(store: &Path, target: &str) -> PathBuf {
    store.join("sync").join(target)
}

fn path(store: &Path, target: &str, run: &RunId) -> PathBuf {
    folder(store, target).join(format!("{}.json", run.folder()))
}

impl RunState {
    fn new(run: RunId) -> Self {
        Self {
            format: FORMAT,
            run,
            cursor: TargetCursor::START,
            receipt: None,
            parked: Vec::new(),
            n_delivered: 0,
            bytes_delivered: 0,
            is_at_rest: true,
            is_end_reported: false,
        }
    }

    /// Loads the state of a run at a target. Without a file, nothing was delivered.
    ///
    /// # Errors
    /// If the file can't be read. The caller must not deliver then, because the target may have the items already.
    pub(crate) fn load(store: &Path, target: &str, run: &RunId) -> Result<Self, StateError> {
        let path = path(store, target, run);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::new(run.clone()));
            }
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let state: Self = match serde_json::from_slice(&text) {
            Ok(state) => state,
            Err(source) => return Err(StateError::Damaged { path, source }),
        };
        if state.format > FORMAT {
            return Err(StateError::TooNew { path, got: state.format });
        }
        Ok(state)
    }

    /// Writes the state durably.
    ///
    /// # Errors
    /// If the disk fails or is full. Items that were delivered since the last save are delivered again.
    pub(crate) fn save(&self, disk: &Disk, store: &Path, target: &str) -> Result<(), StateError> {
        let path = path(store, target, &self.run);
        let text = match serde_json::to_vec(self) {
            Ok(text) => text,
            Err(source) => return Err(StateError::Io { path, source: source.into() }),
        };
        disk.create_dir_all(&folder(store, target))
            .and_then(|()| disk.replace(&path, &text))
            .map_err(|source| StateError::Io { path, source })
    }

    /// Whether the target has the item at a place of the journal.
    pub(crate) fn has(&self, place: JournalOffset) -> bool {
        place < self.cursor.place && !self.parked.iter().any(|parked| parked.place == place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(since: f64) -> ParkedItem {
        ParkedItem {
            place: JournalOffset { segment: 1, offset: 7 },
            length: 9,
            reason: "no".to_owned(),
            since,
            n_tries: 0,
            next: None,
            is_damaged: false,
        }
    }

    #[test]
    fn a_state_is_saved_and_a_damaged_one_is_not_taken_for_none() {
        let store = tempfile::tempdir().expect("a folder");
        let run = RunId::new("a/b").expect("a run");
        let load = || RunState::load(store.path(), "team", &run);
        let mut state = load().expect("a state");
        assert_eq!(state.cursor, TargetCursor::START);
        state.cursor = TargetCursor { place: JournalOffset { segment: 2, offset: 40 }, seq: 9 };
        state.parked.push(parked(5.5));
        state.save(&Disk::default(), store.path(), "team").expect("a file");
        assert_eq!(load().expect("a state"), state);
        assert!(!state.has(JournalOffset { segment: 1, offset: 7 }), "it is parked");
        assert!(state.has(JournalOffset { segment: 1, offset: 8 }));
        assert!(!state.has(JournalOffset { segment: 2, offset: 40 }));
        let file = store.path().join("sync/team/a%2Fb.json");
        let text = fs::read_to_string(&file).expect("a file");
        fs::write(&file, &text[..text.len() - 3]).expect("a file");
        assert!(load().expect_err("damaged").to_string().contains("remove it"));
        fs::write(&file, text.replace("\"format\":1", "\"format\":2")).expect("a file");
        assert!(load().expect_err("too new").to_string().contains("newer safelight"));
    }

    #[test]
    fn a_failing_item_is_retried_for_a_week_and_then_only_on_request() {
        let mut item = parked(1000.0);
        let mut now = 1000.0;
        let mut pauses = Vec::new();
        loop {
            item.failed_again(now);
            let Some(next) = item.next else { break };
            assert!(item.is_due(next) && !item.is_due(next - 1.0));
            pauses.push(next - now);
            now = next;
        }
        assert!(now - item.since >= RETRY_MAX.as_secs_f64());
        assert!(now - item.since < RETRY_MAX.as_secs_f64() + 3600.0 + 1.0);
        assert_eq!(pauses[..3], [60.0, 120.0, 240.0]);
        assert!(pauses.iter().all(|pause| *pause <= 3600.0));
        item.is_damaged = true;
        item.failed_again(now);
        assert_eq!(item.next, Some(now + 3600.0), "its file may be repaired at any time");
    }
}
