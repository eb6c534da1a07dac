//! `[sync.NAME]`: a target that images are delivered to.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::patterns::NamePattern;
use crate::media::{MediaKey, RunId};
use crate::secrets::SecretSource;

/// A target that images are delivered to.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Which images it gets.
    pub selection: Selection,
    /// How many items are on their way to it at the same time, at most.
    pub concurrency_max: NonZeroUsize,
    /// How many bytes a second it gets at most; none for any number.
    pub bytes_per_s_max: Option<NonZeroU64>,
    /// What kind of target it is, and what that kind wants to know.
    pub kind: TargetConfig,
}

/// What a kind of target wants to know.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetConfig {
    /// W&B's offline runs.
    Wandb(WandbConfig),
    /// `TensorBoard`'s event files.
    Tensorboard(TensorboardConfig),
    /// An `MLflow` server.
    Mlflow(MlflowConfig),
    /// `Trackio`.
    Trackio(TrackioConfig),
    /// S3, Google Cloud Storage, Azure Blob Storage or a directory.
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
}

/// Which images a target gets: those of the runs and keys that match, less those that are excluded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    runs: Vec<NamePattern>,
    exclude_runs: Vec<NamePattern>,
    include: Vec<NamePattern>,
    exclude: Vec<NamePattern>,
}

impl Selection {
    /// Whether the target gets anything of a run.
    #[must_use]
    pub fn has_run(&self, run: &RunId) -> bool {
        selects(&self.runs, &self.exclude_runs, run.as_str())
    }

    /// Whether it gets the images of a key.
    #[must_use]
    pub fn has_key(&self, key: &MediaKey) -> bool {
        selects(&self.include, &self.exclude, key.as_str())
    }
}

fn selects(include: &[NamePattern], exclude: &[NamePattern], name: &str) -> bool {
    let matches = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.is_match(name));
    (include.is_empty() || matches(include)) && !matches(exclude)
}

/// `kind = "wandb"`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct WandbConfig {
    pub path: PathBuf,
    pub entity: Option<String>,
    pub project: Option<String>,
    pub job_type: String,
    pub segment_idle_s: NonZeroU32,
    pub segment_items_max: NonZeroU32,
    pub command: Vec<String>,
    pub api_key: Option<SecretSource>,
}

/// `kind = "tensorboard"`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct TensorboardConfig {
    pub path: PathBuf,
    pub overlays: bool,
}

/// `kind = "mlflow"`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct MlflowConfig {
    pub url: String,
    pub experiment: String,
    pub token: Option<SecretSource>,
    pub username: Option<String>,
    pub password: Option<SecretSource>,
}

/// `kind = "trackio"`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct TrackioConfig {
    pub place: TrackioPlace,
    pub project: Option<String>,
}

/// Where Trackio takes images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackioPlace {
    /// In its directory (`TRACKIO_DIR`), running or not.
    Inbox(PathBuf),
    /// Over HTTP.
    Server {
        /// Where it listens.
        url: String,
        /// Its write token.
        token: Option<SecretSource>,
    },
}

/// `kind = "object_store"`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct ObjectStoreConfig {
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<SecretSource>,
    pub secret_access_key: Option<SecretSource>,
    pub session_token: Option<SecretSource>,
    pub account_key: Option<SecretSource>,
    pub service_account: Option<PathBuf>,
    pub multipart_bytes: NonZeroU64,
}

/// `[sync.NAME]`, as it is written.
#[derive(Debug)]
pub struct SyncSection(Fields);

/// The kinds, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Wandb,
    Tensorboard,
    Mlflow,
    Trackio,
    ObjectStore,
}

/// Declares the fields of all kinds, so that a misspelt one is found at its place.
macro_rules! fields {
    ($($name:ident: $type:ty),* $(,)?) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Fields {
            kind: Option<Kind>,
            $($name: Option<$type>,)*
        }

        impl Fields {
            /// The names of those that are given, `kind` left out.
            fn given(&self) -> Vec<&'static str> {
                let given = [$((stringify!($name), self.$name.is_some())),*];
                given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
            }

            /// All names.
            #[cfg(test)]
            const NAMES: &[&str] = &["kind", $(stringify!($name)),*];
        }
    };
}

fields! {
    runs: Vec<NamePattern>,
    exclude_runs: Vec<NamePattern>,
    include: Vec<NamePattern>,
    exclude: Vec<NamePattern>,
    concurrency_max: NonZeroUsize,
    bytes_per_s_max: NonZeroU64,
    path: PathBuf,
    url: String,
    entity: String,
    project: String,
    job_type: String,
    segment_idle_s: NonZeroU32,
    segment_items_max: NonZeroU32,
    command: Vec<String>,
    api_key: SecretSource,
    overlays: bool,
    experiment: String,
    token: SecretSource,
    username: String,
    password: SecretSource,
    endpoint: String,
    region: String,
    access_key_id: SecretSource,
    secret_access_key: SecretSource,
    session_token: SecretSource,
    account_key: SecretSource,
    service_account: PathBuf,
    multipart_bytes: NonZeroU64,
}

/// The fields that every kind has.
const COMMON: [&str; 6] =
    ["runs", "exclude_runs", "include", "exclude", "concurrency_max", "bytes_per_s_max"];

/// The longest `segment_idle_s`: so long after its last image a run makes room for others.
const SEGMENT_IDLE_S_MAX: u32 = 900;

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Wandb => "wandb",
            Self::Tensorboard => "tensorboard",
            Self::Mlflow => "mlflow",
            Self::Trackio => "trackio",
            Self::ObjectStore => "object_store",
        }
    }

    /// The fields of this kind, beside those that every kind has.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Wandb => &[
                "path",
                "entity",
                "project",
                "job_type",
                "segment_idle_s",
                "segment_items_max",
                "command",
                "api_key",
            ],
            Self::Tensorboard => &["path", "overlays"],
            Self::Mlflow => &["url", "experiment", "token", "username", "password"],
            Self::Trackio => &["path", "url", "project", "token"],
            Self::ObjectStore => &[
                "url",
                "endpoint",
                "region",
                "access_key_id",
                "secret_access_key",
                "session_token",
                "account_key",
                "service_account",
                "multipart_bytes",
            ],
        }
    }
}

impl<'de> Deserialize<'de> for SyncSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(from)?;
        check(&fields).map_err(de::Error::custom)?;
        Ok(Self(fields))
    }
}

/// Checks that a target has the fields of its kind and no others.
fn check(fields: &Fields) -> Result<(), String> {
    let kind = fields.kind.ok_or(
        "missing field `kind`: want \"wandb\", \"tensorboard\", \"mlflow\", \"trackio\" or \"object_store\"",
    )?;
    let name = kind.name();
    let given = fields.given();
    let is_known = |field: &&str| COMMON.contains(field) || kind.fields().contains(field);
    if let Some(field) = given.iter().find(|field| !is_known(field)) {
        let known = kind.fields().join(", ");
        return Err(format!(
            "`{field}` is nothing that a target of kind {name:?} has: it has {known}"
        ));
    }
    let wants = |field: &str, example: &str| {
        let is_given = given.contains(&field);
        let missing = || format!("a target of kind {name:?} wants `{field}`, such as {example}");
        if is_given { Ok(()) } else { Err(missing()) }
    };
    match kind {
        Kind::Wandb => wants("path", "\"/data/wandb\"")?,
        Kind::Tensorboard => wants("path", "\"/data/tensorboard\"")?,
        Kind::Mlflow => wants("url", "\"https://mlflow.example.com\"")?,
        Kind::Trackio if given.contains(&"path") == given.contains(&"url") => {
            return Err(
                "a target of kind \"trackio\" wants either `path`, its directory, or `url`"
                    .to_owned(),
            );
        }
        Kind::Trackio => {}
        Kind::ObjectStore => wants("url", "\"s3://bucket/prefix\"")?,
    }
    if fields.path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Err("`path` is empty: want a directory".to_owned());
    }
    let object_stores = ["s3", "gs", "az", "file"];
    let schemes = if kind == Kind::ObjectStore { &object_stores[..] } else { &["http", "https"] };
    fields.url.iter().try_for_each(|url| check_url("url", url, schemes))?;
    fields.endpoint.iter().try_for_each(|url| check_url("endpoint", url, &["http", "https"]))?;
    if fields.segment_idle_s.is_some_and(|idle| idle.get() > SEGMENT_IDLE_S_MAX) {
        return Err(format!("`segment_idle_s` is too long: want at most {SEGMENT_IDLE_S_MAX}"));
    }
    if fields.password.is_some() != fields.username.is_some() {
        return Err("`username` and `password` go together".to_owned());
    }
    if fields.password.is_some() && fields.token.is_some() {
        return Err("want either `token` or `username` and `password`".to_owned());
    }
    if fields.access_key_id.is_some() != fields.secret_access_key.is_some() {
        return Err("`access_key_id` and `secret_access_key` go together".to_owned());
    }
    Ok(())
}

/// Checks a URL. It is repeated in no message: it may hold a secret.
fn check_url(field: &str, url: &str, schemes: &[&str]) -> Result<(), String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("`{field}` is no URL: {error}"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "a URL with a name or password in it: a secret must not stand in the configuration"
                .to_owned(),
        );
    }
    if !schemes.contains(&parsed.scheme()) {
        let (got, want) = (parsed.scheme(), schemes.join(", "));
        return Err(format!("`{field}` begins with {got:?}: want one of {want}"));
    }
    Ok(())
}

const fn or_32(given: Option<NonZeroU32>, default: u32) -> NonZeroU32 {
    match given {
        Some(given) => given,
        None => NonZeroU32::MIN.saturating_add(default - 1),
    }
}

impl SyncSection {
    /// What it means; relative paths start at `folder`.
    pub(super) fn into_config(self, name: String, folder: &Path) -> SyncConfig {
        let Self(fields) = self;
        let selection = Selection {
            runs: fields.runs.unwrap_or_default(),
            exclude_runs: fields.exclude_runs.unwrap_or_default(),
            include: fields.include.unwrap_or_default(),
            exclude: fields.exclude.unwrap_or_default(),
        };
        let below = |source: Option<SecretSource>| source.map(|source| source.below(folder));
        let path = fields.path.map(|path| folder.join(path)).unwrap_or_default();
        let url = fields.url.unwrap_or_default();
        // `check` has seen that there is one.
        let kind = match fields.kind.unwrap_or(Kind::Tensorboard) {
            Kind::Wandb => TargetConfig::Wandb(WandbConfig {
                path,
                entity: fields.entity,
                project: fields.project,
                job_type: fields.job_type.unwrap_or_else(|| "media".to_owned()),
                segment_idle_s: or_32(fields.segment_idle_s, 300),
                segment_items_max: or_32(fields.segment_items_max, 10_000),
                command: fields.command.unwrap_or_default(),
                api_key: below(fields.api_key),
            }),
            Kind::Tensorboard => TargetConfig::Tensorboard(TensorboardConfig {
                path,
                overlays: fields.overlays.unwrap_or(true),
            }),
            Kind::Mlflow => TargetConfig::Mlflow(MlflowConfig {
                url,
                experiment: fields.experiment.unwrap_or_else(|| "Default".to_owned()),
                token: below(fields.token),
                username: fields.username,
                password: below(fields.password),
            }),
            Kind::Trackio => TargetConfig::Trackio(TrackioConfig {
                place: if url.is_empty() {
                    TrackioPlace::Inbox(path)
                } else {
                    TrackioPlace::Server { url, token: below(fields.token) }
                },
                project: fields.project,
            }),
            Kind::ObjectStore => TargetConfig::ObjectStore(ObjectStoreConfig {
                url,
                endpoint: fields.endpoint,
                region: fields.region,
                access_key_id: below(fields.access_key_id),
                secret_access_key: below(fields.secret_access_key),
                session_token: below(fields.session_token),
                account_key: below(fields.account_key),
                service_account: fields.service_account.map(|path| folder.join(path)),
                multipart_bytes: fields
                    .multipart_bytes
                    .unwrap_or(NonZeroU64::MIN.saturating_add((8 << 20) - 1)),
            }),
        };
        SyncConfig {
            name,
            selection,
            concurrency_max: fields.concurrency_max.unwrap_or(NonZeroUsize::MIN.saturating_add(15)),
            bytes_per_s_max: fields.bytes_per_s_max,
            kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, parse};

    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        parse(text, Path::new("/etc/safelight/s.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_is_what_its_kind_says() {
        let text = "[sync.team]\nkind = \"mlflow\"\nurl = \"https://m.example\"\ntoken = { file = \"key\" }\n\
                    runs = [\"a*\"]\nexclude = [\"debug/*\"]\n\
                    [sync.disk]\nkind = \"tensorboard\"\npath = \"tb\"\n";
        let config = config(text).expect("a configuration");
        let [disk, team] = &config.targets[..] else { panic!("{:?}", config.targets) };
        let file = SecretSource::File("/etc/safelight/key".into());
        let TargetConfig::Mlflow(mlflow) = &team.kind else { panic!("{team:?}") };
        assert_eq!((mlflow.token.clone(), mlflow.experiment.as_str()), (Some(file), "Default"));
        let tensorboard = TensorboardConfig { path: "/etc/safelight/tb".into(), overlays: true };
        assert_eq!(disk.kind, TargetConfig::Tensorboard(tensorboard));
        let run = |id| RunId::new(id).expect("a run");
        let key = |key| MediaKey::new(key).expect("a key");
        assert!(team.selection.has_run(&run("ab")) && !team.selection.has_run(&run("b")));
        assert!(team.selection.has_key(&key("val")) && !team.selection.has_key(&key("debug/x/y")));
    }

    #[test]
    fn what_a_target_can_not_have_is_refused_at_its_place() {
        for (text, want) in [
            ("kind = \"mlfow\"", "s.toml:2:8: unknown variant `mlfow`"),
            ("kind = \"mlflow\"", "wants `url`, such as \"https://"),
            ("kind = \"mlflow\"\nurl = \"ftp://x\"", "want one of http, https"),
            ("kind = \"mlflow\"\nurl = \"https://x\"\nusername = \"a\"", "go together"),
            ("kind = \"tensorboard\"\npath = \"/x\"\nurl = \"https://x\"", "`url` is nothing that"),
            ("kind = \"tensorboard\"\npth = \"/x\"", "s.toml:3:1: unknown field `pth`"),
            ("kind = \"trackio\"\nurl = \"http://x\"\npath = \"/x\"", "either `path`"),
            ("kind = \"wandb\"\npath = \"/x\"\nsegment_idle_s = 901", "want at most 900"),
            ("kind = \"object_store\"\nurl = \"ftp://x\"", "want one of s3, gs, az, file"),
            ("path = \"/x\"", "missing field `kind`"),
            ("kind = \"tensorboard\"\npath = \"/x\"\nconcurrency_max = 0", "s.toml:4:19: "),
        ] {
            let got = config(&format!("[sync.x]\n{text}\n")).expect_err(text);
            assert!(got.contains(want), "{text}: {got}");
        }
    }

    #[test]
    fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
        for text in [
            "kind = \"mlflow\"\nurl = \"https://x\"\ntoken = \"hunter2\"",
            "kind = \"mlflow\"\nurl = \"https://me:hunter2@x\"",
            "kind = \"object_store\"\nurl = \"s3://b\"\nsecret_access_key = \"hunter2\"",
            "kind = \"mlflow\"\nurl = \"https://x\"\n  token=[\"hunter2\"]",
            "kind = \"mlflow\"\nurl = \"https://x\"\ntokn = \"hunter2\"",
            "kind = \"mlflow\"\nurl = \"https://x\"\ntoken = 42424242",
            "kind = \"mlflow\"\nurl = \"https://x\"\ntoken = { file = 42424242 }",
        ] {
            let got =
                parse(&format!("[ sync.x ]\n{text}\n"), Path::new("/s.toml")).expect_err(text);
            let wants = ["secret must not stand", "want { credential", "unknown field `tokn`"];
            assert!(wants.iter().any(|want| got.message.contains(want)), "{got}");
            let is_hidden = |secret| !got.to_string().contains(secret);
            assert!(is_hidden("hunter2") && is_hidden("42424242"), "{got}");
        }
        for text in [
            "[sync]\nx = { kind = \"mlflow\", tokn = \"hunter2\" }\n",
            "sync.x.tokn = \"hunter2\"\n",
        ] {
            let got = parse(text, Path::new("/s.toml")).expect_err(text).to_string();
            assert!(!got.contains("hunter2"), "{got}");
        }
    }

    #[test]
    fn the_example_shows_every_field_of_a_target() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/safelight.toml");
        let text = std::fs::read_to_string(&path).expect("the example");
        let part = text.split_once("[sync.").expect("a target").1;
        for field in Fields::NAMES {
            assert!(part.contains(&format!("\n#{field} = ")), "{field}");
        }
    }
}
