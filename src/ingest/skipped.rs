//! Entries of dumps that hold no picture: labels, texts, objects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::Skipped;
use crate::media::RunId;

/// The most dumps that are named. All are counted.
const EXAMPLES_MAX: usize = 10;

/// Entries of dumps that hold no picture, since this process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedEntries {
    /// Number of entries.
    pub n: u64,
    /// Number of dumps with such entries. Retention keeps them, unless `[retention] skipped = "remove"`.
    pub dumps: u64,
    /// The last of these dumps.
    pub examples: Vec<SkippedOfDump>,
}

/// The entries of one dump that hold no picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedOfDump {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// The dump, relative to the run directory.
    pub dump: String,
    /// Its entries, of which the first are named.
    pub entries: String,
}

impl SkippedEntries {
    /// Counts the entries of a dump.
    pub(super) fn add(&mut self, run: RunId, dump: String, skipped: &Skipped) {
        self.n += skipped.n;
        self.dumps += 1;
        if self.examples.len() == EXAMPLES_MAX {
            self.examples.remove(0);
        }
        self.examples.push(SkippedOfDump { run, dump, entries: skipped.to_string() });
    }
}
