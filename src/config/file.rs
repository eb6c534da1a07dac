//! The configuration file as it is written: TOML, unknown names refused.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::patterns::{FilePattern, NamePattern, RunsPattern};
use super::retention::RetentionSection;
use super::sync::SyncSection;
use super::{Config, ImageRules, IngestTimes, WatchConfig};
use crate::limits::{Limits, OverDimension};
use crate::media::DigestKind;
use crate::record::ImageOptions;
use crate::record::pattern::DumpPattern;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Where images are kept.
    pub store: StoreSection,
    /// What is watched.
    pub watch: Vec<WatchSection>,
    /// How images are made.
    pub image: ImageSection,
    /// What is kept.
    pub limits: LimitsSection,
    /// What the work may take.
    pub work: WorkSection,
    /// Targets that images are delivered to, by name.
    pub sync: BTreeMap<TargetName, SyncSection>,
    /// What is removed.
    pub retention: RetentionSection,
    /// When files are looked at.
    pub ingest: IngestSection,
    /// Where the daemon answers.
    pub control: ControlSection,
    /// Where Prometheus asks.
    pub metrics: MetricsSection,
    /// How the daemon logs.
    pub log: LogSection,
}

/// `[store]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// The store's directory.
    #[serde(deserialize_with = "some_path")]
    pub path: Option<PathBuf>,
    /// How many bytes of its disk must stay free: below, nothing more is kept.
    pub free_bytes_min: Option<u64>,
}

/// A path that names something.
fn path<'de, D: serde::Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.as_os_str().is_empty() {
        return Err(serde::de::Error::custom("an empty path: want a directory"));
    }
    Ok(path)
}

fn some_path<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    path(from).map(Some)
}

/// A path that a unix socket can have.
fn socket<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    const BYTES_MAX: usize = 107;
    let path = path(from)?;
    let n_bytes = path.as_os_str().len();
    if n_bytes > BYTES_MAX {
        let problem = format!("a socket's path of {n_bytes} bytes: want at most {BYTES_MAX}");
        return Err(serde::de::Error::custom(problem));
    }
    Ok(Some(path))
}

/// `[[watch]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSection {
    /// A directory that holds run directories, or is one.
    #[serde(deserialize_with = "path")]
    pub path: PathBuf,
    /// Which of its subdirectories are runs: a pattern, or `.` for the directory itself.
    #[serde(default = "all_runs")]
    pub runs: RunsPattern,
    /// Which files of a run are media logs.
    #[serde(default = "default_logs")]
    pub logs: Vec<FilePattern>,
    /// Which files of a run are dumps that speak for themselves.
    #[serde(default = "default_dumps")]
    pub dumps: Vec<DumpPattern>,
    /// How changes are noticed.
    #[serde(default)]
    pub backend: Backend,
}

fn all_runs() -> RunsPattern {
    RunsPattern::try_from("*".to_owned()).expect("a pattern")
}

fn default_logs() -> Vec<FilePattern> {
    FilePattern::try_from("*.media.jsonl".to_owned()).into_iter().collect()
}

fn default_dumps() -> Vec<DumpPattern> {
    let patterns = ["dumps/{key}/{step}.{ext}", "dumps/{key}/{step}_{index}.{ext}"];
    patterns.into_iter().flat_map(DumpPattern::new).collect()
}

/// How changes in a watched directory are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// By events on local file systems, by looking on others.
    #[default]
    Auto,
    /// By events, and by looking now and then.
    Inotify,
    /// By looking.
    Poll,
}

/// The name of a target, which is a folder's too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TargetName(String);

impl TryFrom<String> for TargetName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=64).contains(&name.len()) && name.chars().all(is_plain) {
            return Ok(Self(name));
        }
        Err(format!("a target's name {name:?}: want 1 to 64 letters, digits, - and _"))
    }
}

/// `[image]`: any of the [`ImageOptions`], and what holds for some keys only.
#[derive(Debug, Default)]
pub struct ImageSection {
    /// What holds for all keys.
    pub options: ImageOptions,
    /// What holds for some.
    pub rule: Vec<RuleSection>,
}

/// `[[image.rule]]`: a pattern of keys, and any of the [`ImageOptions`].
#[derive(Debug)]
pub struct RuleSection {
    /// Which keys it holds for.
    pub key: NamePattern,
    /// What holds for them.
    pub options: ImageOptions,
}

impl<'de> Deserialize<'de> for ImageSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (options, rule) = from.deserialize_map(OptionsAnd("rule", PhantomData))?;
        Ok(Self { options, rule: rule.unwrap_or_default() })
    }
}

impl<'de> Deserialize<'de> for RuleSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (options, key) = from.deserialize_map(OptionsAnd("key", PhantomData))?;
        Ok(Self { key: key.ok_or_else(|| de::Error::missing_field("key"))?, options })
    }
}

/// Reads a table of image options and one more field.
struct OptionsAnd<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionsAnd<T> {
    type Value = (ImageOptions, Option<T>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table of image options and {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut options, mut other) = (ImageOptions::default(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                other = Some(map.next_value()?);
            } else if !options.read_field(&name, &mut map)? {
                let known = ImageOptions::FIELDS.iter().chain([&self.0]);
                let known: Vec<String> = known.map(|known| format!("`{known}`")).collect();
                let known = known.join(", ");
                let problem = format!("unknown field `{name}`, expected one of {known}");
                return Err(de::Error::custom(problem));
            }
        }
        Ok((options, other))
    }
}

/// `[limits]`: see the example file for what each means.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "documented in config/safelight.toml and in Limits")]
pub struct LimitsSection {
    pub max_items: NonZeroU32,
    pub max_dimension: NonZeroU32,
    pub over_dimension: OverDimension,
    pub dump_bytes_max: NonZeroU64,
    pub pixels_max: NonZeroU64,
    pub batch_max: NonZeroU64,
    pub line_bytes_max: NonZeroU64,
    pub header_bytes_max: NonZeroU64,
}

const fn non_zero_32(n: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(n - 1)
}

const fn non_zero_64(n: u64) -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(n - 1)
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_items: non_zero_32(limits.max_items),
            max_dimension: non_zero_32(limits.max_dimension),
            over_dimension: limits.over_dimension,
            dump_bytes_max: non_zero_64(limits.dump_bytes_max),
            pixels_max: non_zero_64(limits.pixels_max),
            batch_max: non_zero_64(limits.batch_max),
            line_bytes_max: non_zero_64(limits.line_bytes_max),
            header_bytes_max: non_zero_64(limits.header_bytes_max),
        }
    }
}

/// `[work]`
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct WorkSection {
    pub threads: NonZeroUsize,
    pub memory_bytes_max: NonZeroU64,
    pub read_bytes_per_s_max: u64,
    pub dump_digest: DigestKind,
    pub nice: Nice,
}

impl Default for WorkSection {
    fn default() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
            memory_bytes_max: non_zero_64(Limits::default().memory_bytes_max),
            read_bytes_per_s_max: 256 << 20,
            dump_digest: DigestKind::default(),
            nice: Nice::default(),
        }
    }
}

/// How far the daemon steps back: 0 to 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub struct Nice(pub u8);

impl Default for Nice {
    fn default() -> Self {
        Self(19)
    }
}

impl TryFrom<u8> for Nice {
    type Error = String;
    fn try_from(nice: u8) -> Result<Self, String> {
        if nice <= 19 { Ok(Self(nice)) } else { Err(format!("got {nice}, want 0 to 19")) }
    }
}

/// `[ingest]`
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct IngestSection {
    pub settle_ms: u32,
    pub close_ms: u32,
    pub wait_ms: u32,
    pub incomplete_ms: u32,
    pub poll_ms: NonZeroU32,
    pub scan_ms: NonZeroU32,
}

impl Default for IngestSection {
    fn default() -> Self {
        Self {
            settle_ms: 500,
            close_ms: 5,
            wait_ms: 30_000,
            incomplete_ms: 600_000,
            poll_ms: non_zero_32(2_000),
            scan_ms: non_zero_32(30_000),
        }
    }
}

/// `[control]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct ControlSection {
    #[serde(deserialize_with = "socket")]
    pub socket: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct MetricsSection {
    pub listen: Option<SocketAddr>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text lines with priorities where journald reads them, text on a terminal, JSON in a pipe.
    #[default]
    Auto,
    /// To journald, with fields.
    Journald,
    /// One JSON object a line, to standard error.
    Json,
    /// For eyes, to standard error.
    Text,
}

/// `[log]`
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "documented in config/safelight.toml")]
pub struct LogSection {
    pub format: LogFormat,
    pub level: LogLevel,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: LogLevel("info".to_owned()) }
    }
}

/// A level, or a filter such as `info,safelight::ingest=debug`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(String);

impl TryFrom<String> for LogLevel {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        // A word alone must be a level: the filter would take it for a module's name.
        let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let is_known = text.split(',').all(|part| part.contains('=') || is_level(part.trim()));
        match tracing_subscriber::EnvFilter::try_new(&text) {
            Ok(_) if is_known => Ok(Self(text)),
            Ok(_) => Err(format!("level {text:?}: want error, warn, info, debug or trace")),
            Err(error) => {
                Err(format!("level {text:?}: {error}; want error, warn, info, debug or trace"))
            }
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ConfigFile {
    /// The names of all settings, for the test that the example shows each.
    #[cfg(test)]
    pub(super) const FIELDS: [&str; 38] = [
        "path",
        "runs",
        "logs",
        "dumps",
        "backend",
        "profile",
        "file_type",
        "key",
        "range",
        "format",
        "mode",
        "max_items",
        "max_dimension",
        "over_dimension",
        "dump_bytes_max",
        "pixels_max",
        "batch_max",
        "line_bytes_max",
        "header_bytes_max",
        "threads",
        "memory_bytes_max",
        "read_bytes_per_s_max",
        "dump_digest",
        "nice",
        "free_bytes_min",
        "incomplete_ms",
        "settle_ms",
        "close_ms",
        "wait_ms",
        "poll_ms",
        "scan_ms",
        "dumps",
        "dump_age_min_s",
        "media_age_max_days",
        "media_bytes_per_run_max",
        "socket",
        "listen",
        "level",
    ];

    /// What the file means; relative paths start at `folder`.
    #[must_use]
    pub fn into_config(self, folder: &Path) -> Config {
        let Self {
            store,
            watch,
            image,
            limits,
            work,
            sync,
            retention,
            ingest,
            control,
            metrics,
            log,
        } = self;
        let watches = watch.into_iter().map(|watch| WatchConfig {
            path: folder.join(watch.path),
            runs: watch.runs.into_pattern(),
            logs: watch.logs,
            dumps: watch.dumps,
            backend: watch.backend,
        });
        let rules = image.rule.into_iter().map(|rule| {
            let RuleSection { key, options } = rule;
            (key, options)
        });
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        Config {
            store: folder.join(store.path.unwrap_or_else(default_store)),
            watches: watches.collect(),
            rules: ImageRules { base: image.options, rules: rules.collect() },
            limits: Limits {
                max_items: limits.max_items.get(),
                max_dimension: limits.max_dimension.get(),
                over_dimension: limits.over_dimension,
                dump_bytes_max: limits.dump_bytes_max.get(),
                pixels_max: limits.pixels_max.get(),
                batch_max: limits.batch_max.get(),
                line_bytes_max: limits.line_bytes_max.get(),
                header_bytes_max: limits.header_bytes_max.get(),
                memory_bytes_max: work.memory_bytes_max.get(),
            },
            free_bytes_min: store.free_bytes_min,
            n_threads: work.threads.get(),
            read_bytes_per_s_max: work.read_bytes_per_s_max,
            dump_digest: work.dump_digest,
            nice: work.nice.0,
            targets: sync
                .into_iter()
                .map(|(name, section)| section.into_config(name.0, folder))
                .collect(),
            retention: retention.into(),
            times: IngestTimes {
                settle: ms(ingest.settle_ms),
                close: ms(ingest.close_ms),
                wait: ms(ingest.wait_ms),
                incomplete: ms(ingest.incomplete_ms),
                poll: ms(ingest.poll_ms.get()),
                scan: ms(ingest.scan_ms.get()),
            },
            socket: folder.join(control.socket.unwrap_or_else(default_socket)),
            metrics_listen: metrics.listen,
            log_format: log.format,
            log_level: log.level.to_string(),
        }
    }
}

/// Where a store is kept unless told: the system's place for root, the user's own for others.
fn default_store() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/safelight");
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    state.or_else(home).unwrap_or_else(std::env::temp_dir).join("safelight")
}

/// Where the daemon answers unless told.
fn default_socket() -> PathBuf {
    let runtime = if rustix::process::geteuid().is_root() {
        None
    } else {
        std::env::var_os("XDG_RUNTIME_DIR")
    };
    runtime.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("safelight/control.sock")
}
