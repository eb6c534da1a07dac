//! `kind = "trackio"`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::some_http_url;
use crate::config::values::some_path;
use crate::secrets::SecretSource;

/// `Trackio`, as it is written: `path` or `url`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackioSection {
    /// Trackio's directory (`TRACKIO_DIR`). Excludes `url`.
    #[serde(default, deserialize_with = "some_path")]
    #[schemars(example = "/data/trackio")]
    path: Option<PathBuf>,
    /// The project. The run's safelight.json takes precedence.
    #[schemars(example = &"vision")]
    project: Option<String>,
    /// The URL of Trackio's server. Excludes `path`.
    #[serde(default, deserialize_with = "some_http_url")]
    #[schemars(example = "http://127.0.0.1:7860", extend("x-instead" = "server"))]
    url: Option<String>,
    /// The server's write token.
    #[schemars(
        example = SecretSource::Env("TRACKIO_WRITE_TOKEN".to_owned()),
        extend("x-instead" = "server")
    )]
    token: Option<SecretSource>,
}

/// A Trackio, and the project of the runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TrackioSection")]
pub struct TrackioConfig {
    /// Where Trackio receives images.
    pub place: TrackioPlace,
    /// The project; the run's safelight.json takes precedence.
    pub project: Option<String>,
}

/// Where Trackio receives images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackioPlace {
    /// In its directory (`TRACKIO_DIR`), running or not.
    Inbox(PathBuf),
    /// Over HTTP.
    Server {
        /// The server's URL.
        url: String,
        /// The server's write token.
        token: Option<SecretSource>,
    },
}

impl TryFrom<TrackioSection> for TrackioConfig {
    type Error = &'static str;
    fn try_from(section: TrackioSection) -> Result<Self, &'static str> {
        let TrackioSection { path, project, url, token } = section;
        let place = match (path, url) {
            (Some(path), None) => TrackioPlace::Inbox(path),
            (None, Some(url)) => TrackioPlace::Server { url, token },
            _ => {
                return Err(
                    "a target of kind \"trackio\" wants either `path`, its directory, or `url`",
                );
            }
        };
        Ok(Self { place, project })
    }
}

impl TrackioConfig {
    pub(super) fn below(self, folder: &Path) -> Self {
        let place = match self.place {
            TrackioPlace::Inbox(path) => TrackioPlace::Inbox(folder.join(path)),
            TrackioPlace::Server { url, token } => {
                TrackioPlace::Server { url, token: token.map(|token| token.below(folder)) }
            }
        };
        Self { place, ..self }
    }
}
