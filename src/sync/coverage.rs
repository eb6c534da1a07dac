//! Which items of a run the targets have: retention must not remove the others.

use std::path::Path;

use super::SyncError;
use super::state::RunState;
use crate::config::SyncConfig;
use crate::media::RunId;
use crate::store::journal::JournalOffset;

/// Which items of a run one target has.
#[derive(Debug)]
pub(crate) struct TargetCoverage {
    target: String,
    /// `None` if the configuration excludes the run from the target: then nothing is missing.
    state: Option<RunState>,
}

impl TargetCoverage {
    /// A target that has everything before a place.
    #[cfg(test)]
    pub(crate) fn until(target: &str, place: JournalOffset) -> Self {
        let run = RunId::new("run").expect("a run");
        let nothing = Path::new("/nowhere");
        let mut state = RunState::load(nothing, target, &run).expect("a state");
        state.cursor.place = place;
        Self { target: target.to_owned(), state: Some(state) }
    }

    /// The target's name.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Whether the target has the item at a place of the run's journal, or will never get it.
    pub(crate) fn has(&self, place: JournalOffset) -> bool {
        self.state.as_ref().is_none_or(|state| state.has(place))
    }
}

/// Reads which items of a run each target has.
///
/// # Errors
/// If a target's state can't be read. Then it is unknown what the target has.
pub(crate) fn coverage(
    store: &Path,
    configs: &[SyncConfig],
    run: &RunId,
) -> Result<Vec<TargetCoverage>, SyncError> {
    let of = |config: &SyncConfig| {
        let is_selected = config.selection.has_run(run);
        let state = is_selected.then(|| RunState::load(store, &config.name, run)).transpose()?;
        Ok(TargetCoverage { target: config.name.clone(), state })
    };
    configs.iter().map(of).collect()
}
