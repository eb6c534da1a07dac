//! `[sync.NAME]`: targets that images are delivered to.
//!
//! A target has the settings of every target ([`CommonSettings`]) and those of its kind
//! ([`TargetConfig`]), all in one table of the file.

mod mlflow;
mod object_store;
mod tensorboard;
#[cfg(test)]
mod tests;
mod trackio;
mod wandb;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::mlflow::MlflowConfig;
pub use self::object_store::ObjectStoreConfig;
pub use self::tensorboard::TensorboardConfig;
pub use self::trackio::{TrackioConfig, TrackioPlace};
pub use self::wandb::WandbConfig;
use super::patterns::NamePattern;
use super::section_schema;
use super::values::{BYTES_MAX, Whole};
use crate::media::{MediaKey, RunId};

/// A target that images are delivered to.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Which images it gets.
    pub selection: Selection,
    /// How many items are on their way to it at the same time, at most.
    pub concurrency_max: NonZeroUsize,
    /// How many bytes it gets each second, at most; `None` for no limit.
    pub bytes_per_s_max: Option<NonZeroU64>,
    /// How long deliveries may fail before the daemon counts as unhealthy.
    pub patience: Duration,
    /// The kind of target, with the settings of that kind.
    pub kind: TargetConfig,
}

/// A kind of target, with the settings of that kind.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(tag = "kind")]
pub enum TargetConfig {
    /// Offline runs of W&B, which `wandb sync` uploads. See docs/wandb.md.
    Wandb(WandbConfig),
    /// Event files of `TensorBoard`. See docs/tensorboard.md.
    Tensorboard(TensorboardConfig),
    /// An `MLflow` server. See docs/mlflow.md.
    #[serde(deserialize_with = "MlflowConfig::checked")]
    Mlflow(MlflowConfig),
    /// `Trackio`: either its directory, whether it runs or not, or its server. See docs/trackio.md.
    Trackio(#[schemars(with = "trackio::TrackioSection")] TrackioConfig),
    /// S3, Google Cloud Storage, Azure Blob Storage, or a directory. See `docs/object_store.md`.
    #[serde(deserialize_with = "ObjectStoreConfig::checked")]
    ObjectStore(ObjectStoreConfig),
}

impl TargetConfig {
    /// The kind's name in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Wandb(_) => "wandb",
            Self::Tensorboard(_) => "tensorboard",
            Self::Mlflow(_) => "mlflow",
            Self::Trackio(_) => "trackio",
            Self::ObjectStore(_) => "object_store",
        }
    }

    /// The directory that a target writes to; `None` if it is reached over the network.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Wandb(config) => Some(config.path.clone()),
            Self::Tensorboard(config) => Some(config.path.clone()),
            Self::Trackio(config) => match &config.place {
                TrackioPlace::Inbox(path) => Some(path.clone()),
                TrackioPlace::Server { .. } => None,
            },
            Self::ObjectStore(config) => url::Url::parse(&config.url).ok()?.to_file_path().ok(),
            Self::Mlflow(_) => None,
        }
    }

    /// Whether the target also gets what became of items that are no images.
    pub(crate) const fn has_notices(&self) -> bool {
        matches!(self, Self::ObjectStore(_))
    }

    /// How long a batch that is not full waits for more items.
    pub(crate) const fn batch_wait(&self) -> Duration {
        match self {
            Self::ObjectStore(config) => Duration::from_secs(config.manifest_s.get()),
            Self::Wandb(_) | Self::Tensorboard(_) | Self::Mlflow(_) | Self::Trackio(_) => {
                Duration::ZERO
            }
        }
    }

    /// The same settings with relative paths starting at `folder`.
    fn below(self, folder: &Path) -> Self {
        match self {
            Self::Wandb(config) => Self::Wandb(config.below(folder)),
            Self::Tensorboard(config) => Self::Tensorboard(config.below(folder)),
            Self::Mlflow(config) => Self::Mlflow(config.below(folder)),
            Self::Trackio(config) => Self::Trackio(config.below(folder)),
            Self::ObjectStore(config) => Self::ObjectStore(config.below(folder)),
        }
    }
}

/// The settings of a target of any kind.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommonSettings {
    /// Which runs the target gets. `*` stands for any characters, slashes too. If empty: all.
    #[schemars(with = "Vec<String>", example = ["resnet-*"])]
    runs: Vec<NamePattern>,
    /// Which of these runs it does not get.
    #[schemars(with = "Vec<String>", example = ["*-debug"])]
    exclude_runs: Vec<NamePattern>,
    /// Which keys the target gets. `*` stands for any characters, slashes too. If empty: all.
    #[schemars(with = "Vec<String>", example = ["val/*"])]
    include: Vec<NamePattern>,
    /// Which of these keys it does not get.
    #[schemars(with = "Vec<String>", example = ["val/large"])]
    exclude: Vec<NamePattern>,
    /// How many items are on their way at the same time, at most. The daemon begins with one and adds more while the
    /// target answers as quickly.
    concurrency_max: Whole<1, 1024>,
    /// How many bytes the target gets each second, at most. If unset: no limit.
    #[schemars(example = 10_485_760)]
    bytes_per_s_max: Option<Whole<1, BYTES_MAX>>,
    /// How long deliveries to the target may fail before `safelight health` says so, in seconds. Nothing is lost
    /// meanwhile, and delivery is retried for as long as it takes.
    patience_s: Whole<1, 31_536_000>,
}

impl Default for CommonSettings {
    fn default() -> Self {
        let none = Vec::new;
        Self {
            runs: none(),
            exclude_runs: none(),
            include: none(),
            exclude: none(),
            concurrency_max: Whole::nearest(16),
            bytes_per_s_max: None,
            patience_s: Whole::nearest(3600),
        }
    }
}

/// Which images a target gets: those of the runs and keys that match, less the excluded ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    runs: Vec<NamePattern>,
    exclude_runs: Vec<NamePattern>,
    include: Vec<NamePattern>,
    exclude: Vec<NamePattern>,
}

impl Selection {
    /// Whether nothing is left out by name.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the target gets any images of a run.
    #[must_use]
    pub fn has_run(&self, run: &RunId) -> bool {
        selects(&self.runs, &self.exclude_runs, run.as_str())
    }

    /// Whether the target gets the images of a key.
    #[must_use]
    pub fn has_key(&self, key: &MediaKey) -> bool {
        selects(&self.include, &self.exclude, key.as_str())
    }
}

fn selects(include: &[NamePattern], exclude: &[NamePattern], name: &str) -> bool {
    let matches = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.is_match(name));
    (include.is_empty() || matches(include)) && !matches(exclude)
}

/// `[sync.NAME]` after `split_targets`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSection {
    #[serde(default)]
    common: CommonSettings,
    kind: TargetConfig,
}

impl TargetSection {
    /// The section's meaning; relative paths start at `folder`.
    pub(super) fn into_config(self, name: String, folder: &Path) -> SyncConfig {
        let CommonSettings { runs, exclude_runs, include, exclude, .. } = self.common;
        SyncConfig {
            name,
            selection: Selection { runs, exclude_runs, include, exclude },
            concurrency_max: NonZeroUsize::new(self.common.concurrency_max.as_usize())
                .unwrap_or(NonZeroUsize::MIN),
            bytes_per_s_max: self.common.bytes_per_s_max.map(Whole::non_zero),
            patience: Duration::from_secs(self.common.patience_s.get()),
            kind: self.kind.below(folder),
        }
    }
}

/// The table as it stands in the file: the settings of each kind, and those of every kind.
impl JsonSchema for TargetSection {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = CommonSettings::json_schema(generator);
        let mut kinds = TargetConfig::json_schema(generator);
        let variants = kinds.get_mut("oneOf").and_then(serde_json::Value::as_array_mut);
        for variant in variants.into_iter().flatten() {
            section_schema::add_properties(variant, &common);
        }
        kinds
    }
}

/// The span and kind of a target's table in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetTable {
    /// The span of the table.
    pub(super) span: std::ops::Range<usize>,
    /// Its kind, if one is given.
    pub(super) kind: Option<String>,
}

/// Splits each `[sync.NAME]` into `common` (the settings of every target) and `kind.KIND` (the rest), so that serde
/// reads both without losing the place of a mistake in the file.
pub(super) fn split_targets(root: &mut DeTable<'_>) -> Vec<TargetTable> {
    let Some(DeValue::Table(targets)) = root.get_mut("sync").map(Spanned::get_mut) else {
        return Vec::new();
    };
    let mut tables = Vec::new();
    for (_, target) in targets.iter_mut() {
        let span = target.span();
        if let DeValue::Table(settings) = target.get_mut() {
            let kind = split(settings, &span);
            tables.push(TargetTable { span, kind });
        }
    }
    tables
}

fn split(settings: &mut DeTable<'_>, span: &std::ops::Range<usize>) -> Option<String> {
    let common = section_schema::field_names::<CommonSettings>();
    let (mut of_all, mut of_kind, mut kind) = (DeTable::new(), DeTable::new(), None);
    for (name, value) in std::mem::take(settings) {
        if name.get_ref() == "kind" {
            kind = Some(value);
        } else if common.contains(&name.get_ref().as_ref()) {
            of_all.insert(name, value);
        } else {
            of_kind.insert(name, value);
        }
    }
    let table = |table| Spanned::new(span.clone(), DeValue::Table(table));
    let key = |name: &'static str| Spanned::new(span.clone(), name.into());
    settings.insert(key("common"), table(of_all));
    let kind = kind?;
    let kind_span = kind.span();
    let (name, kind) = match kind.into_inner() {
        DeValue::String(name) => {
            let shown = name.to_string();
            let variant = DeTable::from_iter([(Spanned::new(kind_span, name), table(of_kind))]);
            (Some(shown), table(variant))
        }
        // Serde refuses it, and says where.
        _ => (None, Spanned::new(kind_span, DeValue::Boolean(false))),
    };
    settings.insert(key("kind"), kind);
    name
}

/// The names of the settings that every target has.
pub(super) fn common_names() -> &'static [&'static str] {
    section_schema::field_names::<CommonSettings>()
}

/// Reads an `http` or `https` URL.
fn http_url<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let url = String::deserialize(from)?;
    check_url(&url, &["http", "https"]).map_err(D::Error::custom)?;
    Ok(url)
}

fn some_http_url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    http_url(from).map(Some)
}

/// Checks a URL. No message repeats it, because it may hold a secret.
fn check_url(url: &str, schemes: &[&str]) -> Result<(), String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("got no URL: {error}"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "got a URL with a user name or password: the configuration must not contain a secret"
                .to_owned(),
        );
    }
    if !schemes.contains(&parsed.scheme()) {
        let (got, want) = (parsed.scheme(), schemes.join(", "));
        return Err(format!("got a URL that begins with {got:?}, want one of {want}"));
    }
    Ok(())
}
