//! `[[watch]]`: directories that hold run directories.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;
use super::patterns::{FilePattern, RunsPattern};
use super::values::path;
use crate::record::LooseKey;
use crate::record::pattern::{DumpPath, DumpPattern};

/// A directory that holds run directories, or is one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchSection {
    /// A directory that holds run directories. A relative path starts at the folder of the configuration file.
    #[serde(deserialize_with = "path")]
    #[schemars(example = "/data/runs", extend("x-set" = true))]
    pub path: PathBuf,
    /// Which subdirectories are runs. `*` stays within one folder, `**` does not. `"."` means that `path` itself
    /// is the run.
    #[serde(default = "all_runs")]
    #[schemars(with = "String", extend("x-set" = true))]
    pub runs: RunsPattern,
    /// Which files of a run are media logs: JSON Lines that describe images.
    #[serde(default = "default_logs")]
    #[schemars(with = "Vec<String>", extend("x-set" = true))]
    pub logs: Vec<FilePattern>,
    /// Which files of a run are dumps that need no log line. `{key}` stands for one or more folders or a part of
    /// a name, `{step}` and `{index}` for digits, `{ext}` for the extension of a dump.
    #[serde(default = "default_dumps")]
    #[schemars(with = "Vec<String>", extend("x-set" = true, "default" = DEFAULT_DUMPS))]
    pub dumps: Vec<DumpPattern>,
    /// How changes are noticed. `"inotify"` uses events of the kernel, `"poll"` lists directories every
    /// `ingest.poll_ms`. `"auto"` uses events where the file system sends them, which NFS, CIFS, FUSE and the like
    /// do not.
    #[serde(default)]
    #[schemars(extend("x-set" = true))]
    pub backend: Backend,
}

const DEFAULT_DUMPS: [&str; 2] = ["dumps/{key}/{step}.{ext}", "dumps/{key}/{step}_{index}.{ext}"];

fn all_runs() -> RunsPattern {
    RunsPattern::of_depth(1)
}

fn default_logs() -> Vec<FilePattern> {
    vec![FilePattern::try_from("*.media.jsonl".to_owned()).expect("a pattern")]
}

fn default_dumps() -> Vec<DumpPattern> {
    DEFAULT_DUMPS.into_iter().map(|pattern| DumpPattern::new(pattern).expect("a pattern")).collect()
}

/// How changes in a watched directory are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// By events on local file systems, by listing on others.
    #[default]
    Auto,
    /// By events, and by listing every `ingest.scan_ms`.
    Inotify,
    /// By listing every `ingest.poll_ms`.
    Poll,
}

/// A watched directory, and which of its files are read.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchConfig {
    /// The directory, absolute.
    pub path: PathBuf,
    /// Which of its subdirectories are runs; `None` if the directory itself is the run.
    pub runs: Option<FilePattern>,
    /// Which files of a run are media logs.
    pub logs: Vec<FilePattern>,
    /// Which files of a run are dumps that need no log line.
    pub dumps: Vec<DumpPattern>,
    /// How changes are noticed.
    pub backend: Backend,
    /// The name of the run, if `runs` is `None`; else its directory's name is taken.
    pub(crate) name: Option<String>,
    /// The key of arrays and pictures that lie directly in a run directory; `None` if these are no dumps.
    pub(crate) loose_key: Option<LooseKey>,
    /// The store's path from this directory, links resolved, if one of them lies in the other. Nothing below it is
    /// read, whatever the patterns say: the store's journal would feed itself. Empty if the directory lies in the
    /// store.
    pub(crate) store: Option<PathBuf>,
}

impl WatchConfig {
    /// A run directory that no configuration mentions, read by the default patterns. `path` is absolute.
    #[must_use]
    pub fn of_run(path: PathBuf) -> Self {
        Self {
            path,
            runs: None,
            logs: default_logs(),
            dumps: default_dumps(),
            backend: Backend::default(),
            name: None,
            loose_key: None,
            store: None,
        }
    }

    /// The same directory, without the files of this store.
    #[must_use]
    pub(crate) fn without_store(self, store: &Path) -> Self {
        let store = checks::relative_store(&self.path, store);
        Self { store, ..self }
    }

    /// Whether a path in the directory is that of the store, or of something in it.
    pub(crate) fn is_in_store(&self, path: &Path) -> bool {
        self.store.as_ref().is_some_and(|store| {
            path.strip_prefix(&self.path).is_ok_and(|inner| inner.starts_with(store))
        })
    }

    /// Returns what a dump's path says of it, or why it says too little. `None` if the file is no dump. `path` is
    /// relative to the run directory, with slashes.
    pub(crate) fn dump_path(&self, path: &str) -> Option<Result<DumpPath, String>> {
        let by_pattern = self.dumps.iter().find_map(|pattern| pattern.read(path));
        by_pattern.or_else(|| self.loose_key.as_ref()?.read(path))
    }

    /// Whether media logs or dumps may lie in a folder of a run, or below it.
    pub(crate) fn may_lie_below(&self, folder: &str) -> bool {
        self.may_have_logs_below(folder)
            || self.dumps.iter().any(|pattern| pattern.may_lie_below(folder))
    }

    /// Whether a file of a run is a media log. `path` is relative to the run directory, with slashes.
    #[must_use]
    pub fn is_log(&self, path: &str) -> bool {
        self.logs.iter().any(|pattern| pattern.is_match(path))
    }

    /// Whether media logs may lie in a folder of a run, or below it.
    #[must_use]
    pub fn may_have_logs_below(&self, folder: &str) -> bool {
        self.logs.iter().any(|pattern| pattern.may_lie_below(folder))
    }
}

impl WatchSection {
    /// The section's meaning; a relative path starts at `folder`.
    pub(super) fn into_config(self, folder: &Path) -> WatchConfig {
        let Self { path, runs, logs, dumps, backend } = self;
        let (path, runs) = (folder.join(path), runs.into_pattern());
        WatchConfig { path, runs, logs, dumps, backend, name: None, loose_key: None, store: None }
    }
}
