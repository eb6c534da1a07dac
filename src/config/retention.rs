//! `[retention]`: how long media files and dumps are kept.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{BYTES_MAX, Whole};

/// When a dump is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DumpRetention {
    /// Never.
    #[default]
    Keep,
    /// Once its images are in the store.
    Committed,
    /// Once every target has its images.
    Delivered,
}

/// What becomes of a dump with skipped entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SkippedRetention {
    /// The dump is kept.
    #[default]
    Keep,
    /// The entries are not wanted: the dump is removed as any other.
    Remove,
}

/// How long media files and dumps are kept.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSection {
    /// When a dump is removed. `"keep"`: never. `"committed"`: once its images are in the store. `"delivered"`: once
    /// every target has them. A dump with held or rejected items is never removed, nor is a mask, nor a dump that holds
    /// anything that was not read. The systemd unit must allow it: see systemd/safelight-retention.conf.
    pub dumps: DumpRetention,
    /// What becomes of a dump that also holds entries without a picture, such as labels, texts and objects. `"keep"`: it
    /// is kept. `"remove"`: these entries are not wanted, and the dump is removed as any other.
    pub skipped: SkippedRetention,
    /// How long a dump must be unchanged before it is removed, in seconds. A log line that comes later no longer finds
    /// it.
    pub dump_age_min_s: Whole<0, 315_360_000>,
    /// How long media files are kept, in days. If unset: for ever. Their items stay listed, as pruned.
    #[schemars(example = 90)]
    pub media_age_max_days: Option<Whole<1, 36_500>>,
    /// How many bytes of media files a run may have. The oldest files are removed first. If unset: no limit.
    #[schemars(example = 107_374_182_400_u64)]
    pub media_bytes_per_run_max: Option<Whole<1, BYTES_MAX>>,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self {
            dumps: DumpRetention::Keep,
            skipped: SkippedRetention::Keep,
            dump_age_min_s: Whole::nearest(3600),
            media_age_max_days: None,
            media_bytes_per_run_max: None,
        }
    }
}

/// How long media files and dumps are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionRules {
    /// When a dump is removed.
    pub dumps: DumpRetention,
    /// What becomes of a dump with skipped entries.
    pub skipped: SkippedRetention,
    /// How long a dump must be unchanged before it is removed.
    pub dump_age_min: Duration,
    /// How long media files are kept; `None` for ever.
    pub media_age_max: Option<Duration>,
    /// How many bytes of media files a run may have; `None` for any number.
    pub media_bytes_max: Option<u64>,
}

impl RetentionRules {
    /// Whether anything is ever removed.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.media_age_max.is_some()
            || self.media_bytes_max.is_some()
            || self.dumps != DumpRetention::Keep
    }
}

impl From<RetentionSection> for RetentionRules {
    fn from(section: RetentionSection) -> Self {
        Self {
            dumps: section.dumps,
            skipped: section.skipped,
            dump_age_min: Duration::from_secs(section.dump_age_min_s.get()),
            media_age_max: section
                .media_age_max_days
                .map(|days| Duration::from_secs(86_400 * days.get())),
            media_bytes_max: section.media_bytes_per_run_max.map(Whole::get),
        }
    }
}
