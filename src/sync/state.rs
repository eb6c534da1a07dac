//! What a target has of a run: a file of the store, `sync/TARGET/RUN.json`, replaced as a whole.
//!
//! It is the only memory of a target. A target that is taken out of the configuration leaves it, and goes on
//! from there when it comes back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::Disk;
use crate::media::RunId;
use crate::sinks::Receipt;
use crate::store::journal::JournalOffset;

/// The version of the file. One of a newer version is not touched.
const FORMAT: u32 = 1;

/// How long an item that a target fails with, while it takes others, is tried again: a week.
pub(super) const PATIENCE: Duration = Duration::from_hours(7 * 24);

/// A place in a run's journal: everything before it was delivered, is not wanted, or is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub(crate) place: JournalOffset,
    /// The number of the last line before it.
    pub(crate) seq: u64,
}

impl Cursor {
    pub(crate) const START: Self = Self { place: JournalOffset::START, seq: 0 };
}

/// An item that is set aside, so that those behind it go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// Where its line stands.
    pub(crate) place: JournalOffset,
    pub(crate) length: u32,
    /// What failed with it, in the target's words.
    pub(crate) reason: String,
    /// Seconds since the Unix epoch: when it failed first.
    pub(crate) since: f64,
    pub(crate) n_tries: u32,
    /// When it is tried again; none for not before somebody says `safelight retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<f64>,
}

impl Parked {
    /// After a failure: when it is tried again, in a minute at first, in an hour at last. Once it has failed for a
    /// week, it isn't.
    pub(super) fn failed_again(&mut self, now: f64) {
        let pause = 60.0 * f64::from(2u32.saturating_pow(self.n_tries.min(16)).min(60));
        self.n_tries = self.n_tries.saturating_add(1);
        self.next = (now - self.since < PATIENCE.as_secs_f64()).then_some(now + pause);
    }

    pub(super) fn is_due(&self, now: f64) -> bool {
        // A clock that was set back must not hold it up for long.
        self.next.is_some_and(|next| next <= now || next > now + 3600.0)
    }
}

/// What a target has of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    format: u32,
    pub(crate) run: RunId,
    pub(crate) cursor: Cursor,
    /// What the sink wants to be told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<Receipt>,
    /// Items before the cursor that it doesn't have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parked: Vec<Parked>,
    pub(crate) n_delivered: u64,
    pub(crate) bytes_delivered: u64,
    /// Whether the sink has let go of all that it kept back.
    pub(crate) is_at_rest: bool,
    /// Whether it was told, after all that it has, that the run is over.
    #[serde(default)]
    pub(crate) is_told_of_end: bool,
}

/// A state that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({source}): remove it to have the run delivered from its beginning")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("{path} has format {got}, this version reads up to {FORMAT}: use a newer safelight")]
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
            cursor: Cursor::START,
            receipt: None,
            parked: Vec::new(),
            n_delivered: 0,
            bytes_delivered: 0,
            is_at_rest: true,
            is_told_of_end: false,
        }
    }

    /// What a target has of a run: nothing, where it was never delivered to.
    ///
    /// # Errors
    /// If the file can't be read. Nothing is then delivered: it might be there already.
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

    /// Makes it durable.
    ///
    /// # Errors
    /// If the disk fails or is full: what was delivered since will be delivered again.
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

    /// Whether the target has what stands at a place.
    pub(crate) fn has(&self, place: JournalOffset) -> bool {
        place < self.cursor.place && !self.parked.iter().any(|parked| parked.place == place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(since: f64) -> Parked {
        Parked {
            place: JournalOffset { segment: 1, offset: 7 },
            length: 9,
            reason: "no".to_owned(),
            since,
            n_tries: 0,
            next: None,
        }
    }

    #[test]
    fn a_state_is_kept_and_a_damaged_one_is_not_taken_for_none() {
        let store = tempfile::tempdir().expect("a folder");
        let run = RunId::new("a/b").expect("a run");
        let load = || RunState::load(store.path(), "team", &run);
        let mut state = load().expect("a state");
        assert_eq!(state.cursor, Cursor::START);
        state.cursor = Cursor { place: JournalOffset { segment: 2, offset: 40 }, seq: 9 };
        state.parked.push(parked(5.5));
        state.save(&Disk::default(), store.path(), "team").expect("a file");
        assert_eq!(load().expect("a state"), state);
        assert!(!state.has(JournalOffset { segment: 1, offset: 7 }), "it is set aside");
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
    fn what_fails_is_tried_for_a_week_and_then_no_more_by_itself() {
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
        assert!(now - item.since >= PATIENCE.as_secs_f64());
        assert!(now - item.since < PATIENCE.as_secs_f64() + 3600.0 + 1.0);
        assert_eq!(pauses[..3], [60.0, 120.0, 240.0]);
        assert!(pauses.iter().all(|pause| *pause <= 3600.0));
    }
}
