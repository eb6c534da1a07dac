//! What retention removed, or would remove, and what it left and why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::Verdict;
use crate::media::RunId;

/// Of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Whether anything was removed, not only looked at.
    pub applied: bool,
    /// Runs of which something goes, or would but for a reason.
    pub runs: Vec<RunReport>,
    /// Why not all was judged, if so.
    pub problem: Option<String>,
}

/// Of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// Images whose files go.
    pub media: Going,
    /// Media files that no item names.
    pub strays: Going,
    /// Dumps in the run directory.
    pub dumps: Going,
}

/// How many go, and how many don't.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Going {
    /// How many go.
    pub n: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many go for which reason.
    pub reasons: BTreeMap<String, u64>,
    /// How many stay for which reason.
    pub skipped: BTreeMap<String, u64>,
    /// Files that could not be removed, by reason.
    pub failed: BTreeMap<String, u64>,
}

impl RunReport {
    pub(super) fn new(run: RunId) -> Self {
        Self { run, media: Going::default(), strays: Going::default(), dumps: Going::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.media, &self.strays, &self.dumps].into_iter().all(|going| *going == Going::default())
    }
}

impl Going {
    pub(super) fn count(&mut self, verdict: Verdict, bytes: u64) {
        match verdict {
            Verdict::Keep => {}
            Verdict::Remove(why) => {
                self.n += 1;
                self.bytes += bytes;
                *self.reasons.entry(why).or_default() += 1;
            }
            Verdict::Skip(why) => *self.skipped.entry(why).or_default() += 1,
        }
    }

    /// Notes the files that could not be removed.
    pub(super) fn failed_files(&mut self, failed: Vec<(String, String)>) {
        failed.into_iter().for_each(|(path, error)| self.removed(&path, Err(error)));
    }

    /// Notes how a removal went.
    pub(super) fn removed(&mut self, path: &str, result: Result<(), String>) {
        if let Err(error) = result {
            tracing::warn!(path, error, "cannot remove");
            *self.failed.entry(error).or_default() += 1;
        }
    }
}
