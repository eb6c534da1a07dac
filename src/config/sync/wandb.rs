//! `kind = "wandb"`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::config::values::{non_zero_32, path};
use crate::secrets::SecretSource;

/// The longest `segment_idle_s`: a run makes room for others this long after its last image.
const SEGMENT_IDLE_S_MAX: u32 = 900;

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
    #[serde(default = "idle", deserialize_with = "segment_idle")]
    #[schemars(range(max = 900))]
    pub segment_idle_s: NonZeroU32,
    /// How many images an offline run may have before it is closed.
    #[serde(default = "items")]
    pub segment_items_max: NonZeroU32,
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

fn idle() -> NonZeroU32 {
    non_zero_32(300)
}

fn items() -> NonZeroU32 {
    non_zero_32(10_000)
}

fn segment_idle<'de, D: Deserializer<'de>>(from: D) -> Result<NonZeroU32, D::Error> {
    let seconds = NonZeroU32::deserialize(from)?;
    if seconds.get() > SEGMENT_IDLE_S_MAX {
        let problem = format!("got {seconds}, want at most {SEGMENT_IDLE_S_MAX}");
        return Err(de::Error::custom(problem));
    }
    Ok(seconds)
}

impl WandbConfig {
    pub(super) fn below(self, folder: &Path) -> Self {
        let api_key = self.api_key.map(|key| key.below(folder));
        Self { path: folder.join(self.path), api_key, ..self }
    }
}
