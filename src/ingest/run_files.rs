//! Which files of a run directory are logs, dumps and sidecars.

use std::sync::Arc;

use crate::config::WatchConfig;
use crate::record::pattern::{DumpPath, EXTENSIONS};
use crate::run_dir::RunDir;
use crate::store::journal::Stamp;

/// A run directory, and the patterns that its files are found by.
#[derive(Debug)]
pub(crate) struct RunFiles {
    dir: Arc<RunDir>,
    watch: Arc<WatchConfig>,
}

impl RunFiles {
    pub(crate) fn new(dir: RunDir, watch: Arc<WatchConfig>) -> Self {
        Self { dir: Arc::new(dir), watch }
    }

    /// The run directory.
    pub(crate) fn dir(&self) -> &Arc<RunDir> {
        &self.dir
    }

    /// The `[[watch]]` section that the patterns come from.
    pub(crate) fn watch(&self) -> &Arc<WatchConfig> {
        &self.watch
    }

    /// Whether logs or dumps may lie in or below a folder.
    pub(crate) fn may_lie_below(&self, folder: &str) -> bool {
        if self.is_in_store(folder) {
            return false;
        }
        folder.is_empty() || self.watch.may_lie_below(folder)
    }

    /// Whether a folder is the store, or lies in it.
    pub(crate) fn is_in_store(&self, folder: &str) -> bool {
        self.watch.store.is_some() && self.watch.is_in_store(&self.dir.path().join(folder))
    }

    /// Whether a path is that of a media log.
    pub(crate) fn is_log(&self, path: &str) -> bool {
        self.watch.is_log(path)
    }

    /// Returns what a dump's path says of it, or why it says too little. `None` if no pattern for dumps
    /// matches the path.
    pub(crate) fn dump_path(&self, path: &str) -> Option<Result<DumpPath, String>> {
        self.watch.dump_path(path)
    }

    /// Returns the dump that a path stands for: the path itself, or the dump that it is a sidecar of.
    pub(crate) fn dump_of(&self, path: &str) -> Option<String> {
        if self.dump_path(path).is_some() {
            return Some(path.to_owned());
        }
        let stem = path.strip_suffix(".json")?;
        let is_there =
            |path: &String| self.dump_path(path).is_some() && self.dir.stat(path).is_some();
        let endings = EXTENSIONS.iter().map(|ending| format!("{stem}.{ending}"));
        std::iter::once(stem.to_owned()).chain(endings).find(is_there)
    }

    /// Whether a folder lies in a folder that a pattern for dumps begins with, such as `dumps`.
    pub(crate) fn is_in_dump_folder(&self, folder: &str) -> bool {
        self.watch.dumps.iter().any(|pattern| pattern.has_in_folder(folder))
    }

    /// The folder that a pattern for dumps begins with and that `folder` lies in; else `""`.
    pub(crate) fn dump_folder_of(&self, folder: &str) -> String {
        let pattern = self.watch.dumps.iter().find(|pattern| pattern.has_in_folder(folder));
        pattern.map_or_else(String::new, |pattern| pattern.folder().to_owned())
    }

    /// Whether a file lies beside a sidecar that its name begins with, as `120.mask.png` beside `120.json` or
    /// `120.npy.json`. The sidecar may name it.
    pub(crate) fn is_annotation(&self, path: &str) -> bool {
        let name = path.rfind('/').map_or(0, |at| at + 1);
        let ends = path[name..].match_indices(['.', '_', '-']).map(|(at, _)| name + at);
        ends.filter(|end| *end > name).any(|end| {
            let stem = &path[..end];
            let endings = EXTENSIONS.iter().map(|ending| format!("{stem}.{ending}.json"));
            let mut sidecars = std::iter::once(format!("{stem}.json")).chain(endings);
            sidecars.any(|sidecar| self.dir.stat(&sidecar).is_some())
        })
    }

    /// Returns the path and the stamp of a dump's sidecar, if it has one.
    pub(crate) fn sidecar(&self, dump: &str) -> Option<(String, Stamp)> {
        let stem = dump.rsplit_once('.').map_or(dump, |(stem, _)| stem);
        [format!("{dump}.json"), format!("{stem}.json")]
            .into_iter()
            .find_map(|path| self.dir.stat(&path).map(|stamp| (path, stamp)))
    }
}
