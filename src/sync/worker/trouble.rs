//! Errors of a target as texts for logs, the status and the stored state.

use std::fmt::Display;

use crate::config::sync::{
    MlflowConfig, ObjectStoreConfig, TargetConfig, TrackioConfig, TrackioPlace, WandbConfig,
};
use crate::secrets::{Redactor, SecretSource};
use crate::sync::sandbox;

/// The longest text of an error, in characters. Sinks shorten the parts of other programs further; the rest is our own,
/// such as a path.
const TROUBLE_CHARS_MAX: usize = 1000;

/// Returns an error as text: without the target's secrets, on one line, and short.
///
/// Every error of a sink becomes text here, because it may quote a server, a file or another program.
pub(super) fn text_of(error: &dyn Display, target: &TargetConfig) -> String {
    let text = Redactor::read(secrets(target)).text_of(&error.to_string(), TROUBLE_CHARS_MAX);
    sandbox::with_advice(text, target)
}

/// Returns the secrets that a target's configuration names.
fn secrets(target: &TargetConfig) -> Vec<&SecretSource> {
    let named = match target {
        TargetConfig::Mlflow(MlflowConfig { token, password, .. }) => {
            vec![token.as_ref(), password.as_ref()]
        }
        TargetConfig::Wandb(WandbConfig { api_key, .. }) => vec![api_key.as_ref()],
        TargetConfig::Trackio(TrackioConfig { place, .. }) => match place {
            TrackioPlace::Server { token, .. } => vec![token.as_ref()],
            TrackioPlace::Inbox(_) => Vec::new(),
        },
        TargetConfig::ObjectStore(config) => {
            let ObjectStoreConfig { secret_access_key, session_token, account_key, .. } = config;
            vec![secret_access_key.as_ref(), session_token.as_ref(), account_key.as_ref()]
        }
        TargetConfig::Tensorboard(_) => Vec::new(),
    };
    named.into_iter().flatten().collect()
}
