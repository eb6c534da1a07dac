//! `[log]`: what the daemon logs, and how.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the daemon logs, and how.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// How log lines are written. `"journald"` sends each field by itself, for `journalctl -o verbose` or `-o json`.
    /// `"json"` and `"text"` write to standard error. `"auto"` writes text with priorities where journald reads
    /// standard error, text on a terminal, and JSON elsewhere.
    #[schemars(extend("x-restart" = true))]
    pub format: LogFormat,
    /// The least severe level that is logged: error, warn, info, debug or trace. Or a filter such as
    /// `"info,safelight::ingest=debug"`.
    pub level: LogLevel,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: LogLevel("info".to_owned()) }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text lines with priorities where journald reads them, text on a terminal, JSON in a pipe.
    #[default]
    Auto,
    /// To journald, with fields.
    Journald,
    /// One JSON object a line, to standard error.
    Json,
    /// Text, to standard error.
    Text,
}

/// A level, or a filter such as `info,safelight::ingest=debug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from)]
pub struct LogLevel(String);

impl TryFrom<String> for LogLevel {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        // A word alone must be a level: the filter would take it for a module's name.
        let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let is_known = text.split(',').all(|part| part.contains('=') || is_level(part.trim()));
        let want = "want error, warn, info, debug or trace";
        match tracing_subscriber::EnvFilter::try_new(&text) {
            Ok(_) if is_known => Ok(Self(text)),
            Ok(_) => Err(format!("got level {text:?}, {want}")),
            Err(error) => Err(format!("got level {text:?} ({error}), {want}")),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
