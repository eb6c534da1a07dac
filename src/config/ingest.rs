//! `[ingest]`: when directories are listed and dumps are read.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Whole;

/// When directories are listed and dumps are read.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IngestSection {
    /// How long a dump without a log line must stay unchanged before it is read, in milliseconds. Raise it on network
    /// mounts, where writes arrive late.
    pub settle_ms: Whole<0, 600_000>,
    /// How long to wait after a writer closed a dump without a log line, in milliseconds: long enough for a sidecar
    /// that follows at once. If a sidecar comes later, or the dump is written again, the result is a new version.
    pub close_ms: Whole<0, 60_000>,
    /// How long to wait for a dump that a log line names, while it is missing or shorter than its header says, in
    /// milliseconds. Later lines of the log wait too.
    pub wait_ms: Whole<0, 86_400_000>,
    /// How long to wait for a dump without a log line that is incomplete and unchanged, in milliseconds. If it is
    /// completed later, it is read all the same.
    pub incomplete_ms: Whole<0, 604_800_000>,
    /// How often directories are listed that send no events, in milliseconds.
    pub poll_ms: Whole<1, 3_600_000>,
    /// How often directories are listed that do send events, in case some were lost, in milliseconds.
    pub scan_ms: Whole<1, 86_400_000>,
}

impl Default for IngestSection {
    fn default() -> Self {
        Self {
            settle_ms: Whole::nearest(500),
            close_ms: Whole::nearest(5),
            wait_ms: Whole::nearest(30_000),
            incomplete_ms: Whole::nearest(600_000),
            poll_ms: Whole::nearest(2_000),
            scan_ms: Whole::nearest(30_000),
        }
    }
}

/// When directories are listed and dumps are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestTimes {
    /// How long a dump must stay unchanged before it is read.
    pub settle: Duration,
    /// The same after its writer closed it.
    pub close: Duration,
    /// How long to wait for a missing or incomplete dump that a log line names.
    pub wait: Duration,
    /// The same for an incomplete dump without a log line.
    pub incomplete: Duration,
    /// Between two listings of a directory that sends no events.
    pub poll: Duration,
    /// Between two listings of a directory that sends events.
    pub scan: Duration,
}

impl From<IngestSection> for IngestTimes {
    fn from(section: IngestSection) -> Self {
        let ms = Duration::from_millis;
        Self {
            settle: ms(section.settle_ms.get()),
            close: ms(section.close_ms.get()),
            wait: ms(section.wait_ms.get()),
            incomplete: ms(section.incomplete_ms.get()),
            poll: ms(section.poll_ms.get()),
            scan: ms(section.scan_ms.get()),
        }
    }
}
