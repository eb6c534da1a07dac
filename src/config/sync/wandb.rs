//! `kind = "wandb"`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Whole, path};
use crate::secrets::SecretSource;

/// The longest `segment_idle_s`: a run makes room for others this long after its last image.
const SEGMENT_IDLE_S_MAX: u64 = 900;

/// Offline runs of W&B.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WandbConfig {
    /// The directory of the offline runs; closed ones are in its folder `wandb`. Only this target may write there. If it
    /// is on the store's file system, files are linked instead of copied.
    #[serde(deserialize_with = "path")]
    #[schemars(example = "/data/wandb")]
    pub path: PathBuf,
    /// The entity that owns the runs. The run's safelight.json takes precedence.
    #[schemars(example = &"team")]
    pub entity: Option<String>,
    /// The project of the runs. The run's safelight.json takes precedence.
    #[schemars(example = &"vision")]
    pub project: Option<String>,
    /// The job type of the run that holds the images, in the training's group.
    #[serde(default = "media")]
    pub job_type: String,
    /// How long after its last image an offline run is closed, in seconds, so that `wandb sync` can upload it. It is also
    /// closed when the training ends. Later images start another offline run of the same run.
    #[serde(default = "idle")]
    pub segment_idle_s: Whole<1, SEGMENT_IDLE_S_MAX>,
    /// How many images an offline run may have before it is closed.
    #[serde(default = "items")]
    pub segment_items_max: Whole<1, 1_000_000>,
    /// The command that uploads a closed offline run, whose directory is added as the last argument. If unset: none. Its
    /// output is read, because it exits with 0 even if nothing was uploaded.
    #[serde(default)]
    #[schemars(example = ["/usr/bin/wandb", "sync"])]
    pub command: Vec<String>,
    /// The key that the command gets as `WANDB_API_KEY`.
    #[schemars(example = SecretSource::Credential("wandb".to_owned()))]
    pub api_key: Option<SecretSource>,
}

fn media() -> String {
    "media".to_owned()
}

fn idle() -> Whole<1, SEGMENT_IDLE_S_MAX> {
    Whole::nearest(300)
}

fn items() -> Whole<1, 1_000_000> {
    Whole::nearest(10_000)
}

impl WandbConfig {
    pub(super) fn below(self, folder: &Path) -> Self {
        let api_key = self.api_key.map(|key| key.below(folder));
        Self { path: folder.join(self.path), api_key, ..self }
    }
}
