//! `kind = "mlflow"`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::http_url;
use crate::secrets::SecretSource;

/// An `MLflow` server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// The server's URL.
    #[serde(deserialize_with = "http_url")]
    #[schemars(example = "https://mlflow.example.com")]
    pub url: String,
    /// The experiment. It is created if needed.
    #[serde(default = "default_experiment")]
    pub experiment: String,
    /// The token of a server that wants one. Excludes `username` and `password`.
    #[schemars(example = SecretSource::Credential("mlflow".to_owned()))]
    pub token: Option<SecretSource>,
    /// The user name on a server that wants one. Goes with `password`.
    #[schemars(example = &"safelight", extend("x-instead" = "by-name"))]
    pub username: Option<String>,
    /// The password of `username`.
    #[schemars(
        example = SecretSource::File("/etc/safelight/mlflow-password".into()),
        extend("x-instead" = "by-name")
    )]
    pub password: Option<SecretSource>,
}

fn default_experiment() -> String {
    "Default".to_owned()
}

impl MlflowConfig {
    /// Reads the settings and checks that they fit together.
    pub(super) fn checked<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(from)?;
        if config.password.is_some() != config.username.is_some() {
            return Err(de::Error::custom("`username` and `password` go together"));
        }
        if config.password.is_some() && config.token.is_some() {
            return Err(de::Error::custom("want either `token` or `username` and `password`"));
        }
        Ok(config)
    }

    pub(super) fn below(self, folder: &Path) -> Self {
        Self {
            token: self.token.map(|token| token.below(folder)),
            password: self.password.map(|password| password.below(folder)),
            ..self
        }
    }
}
