//! `[store]`: where images are kept.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::places::Places;
use super::values::{BYTES_MAX, Whole, some_path};

/// Where images are kept.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// The directory that holds images, journals and the index. Put it on a local file system, not on the
    /// network. If unset: `/var/lib/safelight` for root, for other users `$XDG_DATA_HOME/safelight`, which is
    /// `~/.local/share/safelight` unless it is set.
    #[serde(deserialize_with = "some_path")]
    #[schemars(example = "/var/lib/safelight", extend("x-restart" = true, "x-set" = true))]
    pub path: Option<PathBuf>,
    /// How many bytes of the store's disk must stay free. Below that, nothing is written until there is room
    /// again, and nothing is lost. If unset: 1 GiB, or a twentieth of a disk smaller than 20 GiB.
    #[schemars(example = 1 << 30)]
    pub free_bytes_min: Option<Whole<0, BYTES_MAX>>,
    /// How often the daemon reads all media files again and compares them with their digests, in days. What it finds
    /// missing or damaged is made again from its dump, if that is left, and else shown by `status` and `health`. 0:
    /// never.
    pub scrub_days: Whole<0, 3650>,
    /// How many bytes of media files it reads each second for that, at most.
    pub scrub_bytes_per_s_max: Whole<1, BYTES_MAX>,
}

/// When media files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubRules {
    /// The pause between two passes; `None` for no passes.
    pub pause: Option<Duration>,
    /// How many bytes are read per second, at most.
    pub bytes_per_s_max: NonZeroU64,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            path: None,
            free_bytes_min: None,
            scrub_days: Whole::nearest(30),
            scrub_bytes_per_s_max: Whole::nearest(256 << 10),
        }
    }
}

impl StoreSection {
    /// When media files are read again.
    pub(super) fn scrub(&self) -> ScrubRules {
        let days = self.scrub_days.get();
        ScrubRules {
            pause: (days > 0).then(|| Duration::from_hours(24 * days)),
            bytes_per_s_max: self.scrub_bytes_per_s_max.non_zero(),
        }
    }

    /// The store's directory; a relative path starts at `folder`.
    pub(super) fn directory(self, folder: &Path) -> PathBuf {
        folder.join(self.path.unwrap_or_else(|| Places::of_process().store()))
    }
}
