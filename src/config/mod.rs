//! The configuration: what the file says, and what it means.
//!
//! Each section is one struct in a module of its own. A field's name, unit, default, bounds and doc comment stand there
//! and nowhere else: the example (`config/safelight.toml`), the reference page (`docs/configuration.md`) and the schema
//! for editors (`config/safelight.schema.json`) are generated from them ([`schema`]), and a test keeps them equal.
//!
//! [`mod@file`] is the file as it is written, [`Config`] its meaning: absolute paths, durations. [`Boot`] holds what
//! needs a restart, [`Live`] what a reload changes.

pub(crate) mod checks;
pub mod control;
mod error;
pub mod file;
pub mod gallery;
pub mod image;
mod in_effect;
pub mod ingest;
pub mod limits;
pub mod log;
mod overrides;
pub mod patterns;
pub(crate) mod places;
pub mod retention;
pub mod schema;
mod section_schema;
mod shape;
pub mod store;
pub mod sync;
#[cfg(test)]
mod tests;
pub mod values;
pub mod watch;
pub mod work;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use self::checks::Facts;
pub use self::error::ConfigError;
use self::file::ConfigFile;
pub use self::gallery::{GalleryConfig, GalleryListen};
pub use self::image::ImageRules;
pub(crate) use self::in_effect::InEffect;
pub use self::ingest::IngestTimes;
use self::log::LogFormat;
pub(crate) use self::overrides::{ConfigSource, NamedDirectory, Overrides};
use self::retention::RetentionRules;
use self::store::ScrubRules;
pub use self::sync::SyncConfig;
pub use self::watch::WatchConfig;
use crate::limits::Limits;
use crate::media::DigestKind;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings that need a restart.
    pub boot: Boot,
    /// The settings that a reload changes.
    pub live: Live,
}

/// The settings that need a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The store, absolute.
    pub store: PathBuf,
    /// The control socket, absolute.
    pub socket: PathBuf,
    /// How many images are made at the same time; at least 1.
    pub n_threads: usize,
    /// The memory that all images in the making may take together, in bytes.
    pub memory_bytes_max: u64,
    /// How an item records the content of its dump.
    pub dump_digest: DigestKind,
    /// The daemon's nice value, 0 to 19.
    pub nice: u8,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Where metrics are served over TCP.
    pub metrics_listen: Option<SocketAddr>,
    /// The gallery.
    pub gallery: GalleryConfig,
}

/// The settings that a reload changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// The watched directories.
    pub watches: Vec<WatchConfig>,
    /// How images are made.
    pub rules: ImageRules,
    /// How many images a step may have, and how large they may be. `memory_bytes_max` is that of [`Boot`].
    pub limits: Limits,
    /// How many bytes of the store's disk must stay free; `None` for the default.
    pub free_bytes_min: Option<u64>,
    /// When media files are read again.
    pub scrub: ScrubRules,
    /// How many bytes of dumps are read from disk each second, at most; 0 for no limit.
    pub read_bytes_per_s_max: u64,
    /// Targets that images are delivered to, in order of their names.
    pub targets: Vec<SyncConfig>,
    /// How long media files and dumps are kept.
    pub retention: RetentionRules,
    /// When directories are listed and dumps are read.
    pub times: IngestTimes,
    /// What the daemon logs, as `tracing_subscriber` filters.
    pub log_level: String,
}

impl Boot {
    /// The settings that differ from `other`, by their names in the file.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            store,
            socket,
            n_threads,
            memory_bytes_max,
            dump_digest,
            nice,
            log_format,
            metrics_listen,
            gallery,
        } = self;
        let settings = [
            ("store.path", *store != other.store),
            ("control.socket", *socket != other.socket),
            ("work.threads", *n_threads != other.n_threads),
            ("work.memory_bytes_max", *memory_bytes_max != other.memory_bytes_max),
            ("work.dump_digest", *dump_digest != other.dump_digest),
            ("work.nice", *nice != other.nice),
            ("log.format", *log_format != other.log_format),
            ("metrics.listen", *metrics_listen != other.metrics_listen),
        ];
        let settings = settings.into_iter().chain(gallery.differences(&other.gallery));
        settings.filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

impl Live {
    /// How the run directory at `source` (absolute, without links) is read: as its `[[watch]]` says, or by the default
    /// patterns.
    #[must_use]
    pub fn watch_of(&self, source: &Path) -> WatchConfig {
        let is_of_watch = |watch: &&WatchConfig| {
            let canonical = std::fs::canonicalize(&watch.path);
            source.starts_with(&watch.path) || canonical.is_ok_and(|path| source.starts_with(path))
        };
        let watch = self.watches.iter().find(is_of_watch).cloned();
        watch.unwrap_or_else(|| WatchConfig::of_run(source.to_owned()))
    }

    /// These settings in a process that was started with `boot`.
    #[must_use]
    pub fn under(mut self, boot: &Boot) -> Self {
        self.limits.memory_bytes_max = boot.memory_bytes_max;
        self
    }
}

/// Reads a configuration file.
///
/// # Errors
/// If the file cannot be read, is not TOML, has an unknown field, or a value of the wrong kind.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_with(Some(path), &Overrides::default())
}

/// Reads a configuration file; without one, the defaults hold. What the command line says wins.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_with(path: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigError> {
    let text = Text::read(path)?;
    Ok(overrides.apply(text.parse()?, text.folder()))
}

/// Reads a configuration file as [`load_with`], and checks that its parts fit together. Also returns what is hardly
/// meant, for people.
///
/// # Errors
/// As [`load`], and if something cannot work, such as two targets that write to one directory.
pub(crate) fn load_whole(
    path: Option<&Path>,
    overrides: &Overrides,
) -> Result<(Config, Vec<String>), ConfigError> {
    whole(&Text::read(path)?, overrides)
}

/// Checks the text of a configuration file that is to be written at `path`, as [`load_whole`] does.
///
/// # Errors
/// As there.
pub(crate) fn check_text(text: &str, path: &Path) -> Result<(), ConfigError> {
    let text = Text { text: text.to_owned(), path: path.to_owned() };
    whole(&text, &Overrides::default()).map(drop)
}

fn whole(text: &Text, overrides: &Overrides) -> Result<(Config, Vec<String>), ConfigError> {
    let config = overrides.apply(text.parse()?, text.folder());
    let mut warnings = Vec::new();
    for finding in checks::check(&config, &Facts::of_machine(&config)) {
        // The text was parsed above.
        let root = DeTable::parse(&text.text).ok().filter(|_| !overrides.has(&finding.place));
        let span = root.and_then(|root| checks::span(root.get_ref(), &finding.place));
        let error = ConfigError::at(&text.text, &text.path, span.as_ref(), finding.message, &[]);
        if finding.is_error {
            return Err(error);
        }
        let place = error.place.map_or_else(String::new, |(line, _)| format!("line {line}: "));
        warnings.push(format!("{place}{}", error.message));
    }
    Ok((config, warnings))
}

/// The text of a configuration file.
struct Text {
    text: String,
    /// Absolute. Without a file, what an error names instead.
    path: PathBuf,
}

impl Text {
    fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self { text: String::new(), path: "command line".into() });
        };
        let unreadable = |error: std::io::Error| ConfigError::unreadable(path, &error);
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok(Self { text, path: std::path::absolute(path).map_err(unreadable)? })
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn parse(&self) -> Result<ConfigFile, ConfigError> {
        parse_file(&self.text, &self.path)
    }
}

/// Reads the text of the configuration file at `path`; relative paths start at its folder.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let file = parse_file(text, path)?;
    Ok(file.into_config(path.parent().unwrap_or(Path::new("/"))))
}

fn parse_file(text: &str, path: &Path) -> Result<ConfigFile, ConfigError> {
    let mut root =
        DeTable::parse(text).map_err(|error| ConfigError::of_toml(text, path, &error, &[]))?;
    if let Some((span, message)) = shape::mistake(root.get_ref()) {
        return Err(ConfigError::at(text, path, Some(&span), message, &[]));
    }
    let targets = sync::split_targets(root.get_mut());
    ConfigFile::deserialize(toml::Deserializer::from(root))
        .map_err(|error| ConfigError::of_toml(text, path, &error, &targets))
}

impl Default for Config {
    /// The configuration of an empty file.
    fn default() -> Self {
        ConfigFile::default().into_config(Path::new("/"))
    }
}
