//! `[store]`: where images are kept.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{BYTES_MAX, Whole, some_path};

/// Where images are kept.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// The directory that holds images, journals and the index. Put it on a local file system, not on the
    /// network. If unset: `/var/lib/safelight` for root, `$XDG_STATE_HOME/safelight` for other users.
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
        folder.join(self.path.unwrap_or_else(default_store))
    }
}

/// The store of a configuration that names none: the system's place for root, the user's own for others.
fn default_store() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/safelight");
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    state.or_else(home).unwrap_or_else(std::env::temp_dir).join("safelight")
}
