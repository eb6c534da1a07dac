//! `[store]`: where images are kept.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::some_path;

/// Where images are kept.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
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
    pub free_bytes_min: Option<u64>,
}

impl StoreSection {
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
