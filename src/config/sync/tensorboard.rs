//! `kind = "tensorboard"`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::path;

/// Event files of `TensorBoard`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorboardConfig {
    /// The directory for `tensorboard --logdir`. Each run has a folder in it.
    #[serde(deserialize_with = "path")]
    #[schemars(example = "/data/tensorboard")]
    pub path: PathBuf,
    /// Whether boxes and masks are drawn on further images, tagged `KEY/overlay`.
    #[serde(default = "yes")]
    pub overlays: bool,
}

fn yes() -> bool {
    true
}

impl TensorboardConfig {
    pub(super) fn below(self, folder: &Path) -> Self {
        Self { path: folder.join(self.path), ..self }
    }
}
