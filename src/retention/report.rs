//! The report of a sweep: what it removed or would remove, what it skipped, and why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::RemovalDecision;
use crate::media::RunId;

/// The report of a sweep over a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Whether the sweep removed files, instead of only listing them.
    pub applied: bool,
    /// Runs with something removed or skipped.
    pub runs: Vec<RunReport>,
    /// Why the sweep is incomplete, if it is.
    pub problem: Option<String>,
}

/// The part of the report about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// Pruned images.
    pub media: RemovalCounts,
    /// Media files that no item names.
    pub strays: RemovalCounts,
    /// Dumps in the run directory.
    pub dumps: RemovalCounts,
}

/// How much is removed, and how much is skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovalCounts {
    /// Number of removed items.
    pub n: u64,
    /// Bytes of the removed items.
    pub bytes: u64,
    /// Number of removed items by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Number of skipped items by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Number of files that could not be removed, by error.
    pub failed: BTreeMap<String, u64>,
}

impl RunReport {
    pub(super) fn new(run: RunId) -> Self {
        Self {
            run,
            media: RemovalCounts::default(),
            strays: RemovalCounts::default(),
            dumps: RemovalCounts::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.media, &self.strays, &self.dumps]
            .into_iter()
            .all(|counts| *counts == RemovalCounts::default())
    }
}

impl RemovalCounts {
    pub(super) fn count(&mut self, decision: RemovalDecision, bytes: u64) {
        match decision {
            RemovalDecision::Keep => {}
            RemovalDecision::Remove(why) => {
                self.n += 1;
                self.bytes += bytes;
                *self.reasons.entry(why).or_default() += 1;
            }
            RemovalDecision::Skip(why) => *self.skipped.entry(why).or_default() += 1,
        }
    }

    /// Counts and logs files that could not be removed.
    pub(super) fn add_failures(&mut self, failed: Vec<(String, String)>) {
        failed.into_iter().for_each(|(path, error)| self.add_result(&path, Err(error)));
    }

    /// Counts and logs a removal if it failed.
    pub(super) fn add_result(&mut self, path: &str, result: Result<(), String>) {
        if let Err(error) = result {
            tracing::warn!(path, error, "cannot remove file");
            *self.failed.entry(error).or_default() += 1;
        }
    }
}
