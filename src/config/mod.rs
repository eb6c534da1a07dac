//! What the program is told to do.
//!
//! [`mod@file`] is what was written, [`Config`] what it means: absolute paths, durations, one place for
//! each rule.

pub mod file;
pub mod patterns;
pub mod retention;
pub mod sync;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::file::{Backend, ConfigFile, LogFormat};
use self::patterns::{FilePattern, NamePattern};
use self::retention::RetentionRules;
pub use self::sync::SyncConfig;
use crate::limits::Limits;
use crate::media::{DigestKind, MediaKey};
use crate::record::ImageOptions;
use crate::record::pattern::DumpPattern;

/// The configuration file that is read where none is named, if it is there.
pub const DEFAULT_PATH: &str = "/etc/safelight/safelight.toml";

/// A directory that holds run directories, or is one.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchConfig {
    /// The directory, absolute.
    pub path: PathBuf,
    /// Which of its subdirectories are runs; `None` if the directory itself is the run.
    pub runs: Option<FilePattern>,
    /// Which files of a run are media logs.
    pub logs: Vec<FilePattern>,
    /// Which files of a run are dumps that speak for themselves.
    pub dumps: Vec<DumpPattern>,
    /// How changes are noticed.
    pub backend: Backend,
}

impl WatchConfig {
    /// What is read of a run directory that no configuration speaks of.
    ///
    /// # Errors
    /// Never: the usual patterns can be read.
    pub fn usual(path: &Path) -> Result<Self, ConfigError> {
        let text = format!("[[watch]]\npath = {:?}\nruns = \".\"\n", path.to_string_lossy());
        let mut watches = parse(&text, path)?.watches;
        let usual = watches.pop();
        usual.ok_or_else(|| unreachable!("one [[watch]] is written above"))
    }
}

/// Rules for how images are made, by key.
#[derive(Debug, Clone, Default)]
pub struct ImageRules {
    base: ImageOptions,
    rules: Vec<(NamePattern, ImageOptions)>,
}

impl ImageRules {
    /// What holds for a key: of each field what the last rule says that matches and says anything.
    #[must_use]
    pub fn options(&self, key: &MediaKey) -> ImageOptions {
        let matching = self.rules.iter().filter(|(pattern, _)| pattern.is_match(key.as_str()));
        matching.fold(self.base, |options, (_, rule)| rule.over(options))
    }
}

/// When files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestTimes {
    /// How long a dump must stay the same before it is read.
    pub settle: Duration,
    /// The same after its writer closed it.
    pub close: Duration,
    /// How long a missing or incomplete dump is waited for.
    pub wait: Duration,
    /// The same of a dump that speaks for itself.
    pub incomplete: Duration,
    /// Between two looks at directories that send no events.
    pub poll: Duration,
    /// Between two looks at directories that do.
    pub scan: Duration,
}

/// All that the program is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store, absolute.
    pub store: PathBuf,
    /// What is watched.
    pub watches: Vec<WatchConfig>,
    /// How images are made.
    pub rules: ImageRules,
    /// What is kept.
    pub limits: Limits,
    /// How many bytes of the store's disk must stay free; none for what is usual.
    pub free_bytes_min: Option<u64>,
    /// How many bytes of dumps are read from the disk in a second at most; 0 for as fast as it goes.
    pub read_bytes_per_s_max: u64,
    /// How the content of dumps is told.
    pub dump_digest: DigestKind,
    /// The daemon's nice value, 0 to 19.
    pub nice: u8,
    /// Images that are made at the same time; at least 1.
    pub n_threads: usize,
    /// Targets that images are delivered to, in order of their names.
    pub targets: Vec<SyncConfig>,
    /// What is removed.
    pub retention: RetentionRules,
    /// When files are looked at.
    pub times: IngestTimes,
    /// Where the daemon answers, absolute.
    pub socket: PathBuf,
    /// Where Prometheus asks, beside the socket.
    pub metrics_listen: Option<SocketAddr>,
    /// How the daemon logs.
    pub log_format: LogFormat,
    /// What the daemon logs, as `tracing_subscriber` filters.
    pub log_level: String,
}

/// A configuration that can't be used. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub place: Option<(usize, usize)>,
    /// What was got and what was wanted.
    pub message: String,
    /// A name that was perhaps meant.
    pub suggestion: Option<String>,
    /// The line of the file.
    pub line: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some((number, column)), Some(line)) = (self.place, &self.line) {
            let margin = " ".repeat(number.to_string().len());
            let before: String =
                line.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            write!(f, "\n{margin} |\n{number} | {line}\n{margin} | {before}^")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, " did you mean {suggestion:?}?")?;
        }
        Ok(())
    }
}

/// Reads a configuration file.
///
/// # Errors
/// If it can't be read, isn't TOML, has a field that isn't known, or a value that can't be one.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let error = |error: &std::io::Error| ConfigError {
        path: path.to_owned(),
        place: None,
        message: format!("cannot read: {error}"),
        suggestion: None,
        line: None,
    };
    let text = std::fs::read_to_string(path).map_err(|e| error(&e))?;
    let absolute = std::path::absolute(path).map_err(|e| error(&e))?;
    parse(&text, &absolute)
}

/// Reads the text of the configuration file at `path`; relative paths start at its folder.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let file: ConfigFile =
        toml::from_str(text).map_err(|error| config_error(text, path, &error))?;
    Ok(file.into_config(path.parent().unwrap_or(Path::new("/"))))
}

fn config_error(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let place = error.span().map(|span| {
        let before = &text[..text.floor_char_boundary(span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    });
    let message = error.message().trim().to_owned();
    let suggestion = suggestion(&message);
    let line = place.and_then(|(line, _)| text.lines().nth(line - 1));
    let line = line.map(|line| {
        let number = place.map_or(0, |(line, _)| line);
        let section = text.lines().take(number).filter(|line| line.trim_start().starts_with('['));
        let is_of_target = section.last().unwrap_or(line).contains("sync");
        // It may hold a secret, under whatever name: no log is to show it.
        match line.split_once('=') {
            Some((name, _)) if is_of_target => format!("{name}= …"),
            _ => line.to_owned(),
        }
    });
    ConfigError { path: path.to_owned(), place, message, suggestion, line }
}

/// The known name that is nearest to the one that serde says is unknown.
fn suggestion(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().filter(|_| message.starts_with("unknown "))?;
    let nearest = names.map(|name| (strsim::damerau_levenshtein(unknown, name), name)).min()?;
    (nearest.0 <= 1 + unknown.chars().count() / 3).then(|| nearest.1.to_owned())
}

impl Default for Config {
    /// What holds where no file says anything; nothing is watched.
    fn default() -> Self {
        ConfigFile::default().into_config(Path::new("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::retention::RetentionSection;
    use super::*;
    use crate::media::{ColorMode, Profile};

    fn error(text: &str) -> String {
        parse(text, Path::new("/x/s.toml"))
            .map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn errors_point_at_the_place_and_suggest() {
        let want = "/x/s.toml:2:1: unknown field `max_itms`, expected one of `max_items`";
        let got = error("[limits]\nmax_itms = 5\n");
        assert!(got.starts_with(want), "{got}");
        assert!(
            got.ends_with("\n  |\n2 | max_itms = 5\n  | ^ did you mean \"max_items\"?"),
            "{got}"
        );
        for (text, want) in [
            ("[limits]\nmax_items = 0", "s.toml:2:13: "),
            ("[image]\nprofile = \"wandb-0.28\"", "s.toml:2:11: unknown variant `wandb-0.28`"),
            (
                "[[watch]]\npath = \"/d\"\ndumps = [\"{key}\"]",
                "pattern \"{key}\": {step} is missing",
            ),
            ("[[watch]]\nruns = \"*\"", "missing field `path`"),
            ("[[image.rule]]\nkey = \"a[\"\n", "s.toml:2:7: "),
            ("[[image.rule]]\nkey = \"a\"\nrange = [3, 1]\n", "low < high"),
            ("x = ", "s.toml:1:5: "),
        ] {
            let got = error(text);
            assert!(got.contains(want), "{text}: {got}");
        }
    }

    #[test]
    fn the_last_rule_that_matches_wins_field_by_field() {
        let text = "[image]\nprofile = \"wandb-0.20\"\n\
                    [[image.rule]]\nkey = \"depth/*\"\nrange = [0, 80]\nmode = \"L\"\n\
                    [[image.rule]]\nkey = \"*/raw\"\nprofile = \"auto\"\nmode = \"RGB\"\n";
        let config = parse(text, Path::new("/x")).unwrap_or_else(|error| panic!("{error}"));
        let of = |key| {
            config.rules.options(&MediaKey::new(key).unwrap_or_else(|error| panic!("{error}")))
        };
        assert_eq!(of("x"), ImageOptions { profile: Some(Profile::Wandb020), ..of("x") });
        let depth = of("depth/a/b");
        assert_eq!(
            (depth.profile, depth.range, depth.mode),
            (Some(Profile::Wandb020), Some((0.0, 80.0)), Some(ColorMode::L))
        );
        let both = of("depth/raw");
        assert_eq!(
            (both.profile, both.range, both.mode),
            (Some(Profile::Auto), Some((0.0, 80.0)), Some(ColorMode::Rgb))
        );
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let config = parse(
            "[store]\npath = \"s\"\n[[watch]]\npath = \"../runs\"\n",
            Path::new("/etc/x/s.toml"),
        );
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (config.store, config.watches[0].path.clone()),
            (PathBuf::from("/etc/x/s"), PathBuf::from("/etc/x/../runs"))
        );
    }

    #[test]
    fn the_example_is_complete_and_holds_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/safelight.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}"));
        parse(&text, &path).unwrap_or_else(|error| panic!("{error}"));
        // With every setting that is commented out put to work, each section is the default.
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty())
                    .unwrap_or(line)
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let shown: ConfigFile =
            toml::from_str(&uncommented).unwrap_or_else(|error| panic!("{error}"));
        let defaults = ConfigFile::default();
        assert_eq!(shown.limits, defaults.limits);
        assert_eq!(shown.work, defaults.work);
        assert_eq!(shown.ingest, defaults.ingest);
        let RetentionSection { dumps, dump_age_min_s, .. } = shown.retention;
        assert_eq!(dumps, defaults.retention.dumps);
        assert_eq!(dump_age_min_s, defaults.retention.dump_age_min_s);
        assert_eq!(shown.log, defaults.log);
        for field in ConfigFile::FIELDS {
            assert!(
                text.contains(&format!("\n{field} = ")) || text.contains(&format!("\n#{field} = ")),
                "{field}"
            );
        }
    }
}
