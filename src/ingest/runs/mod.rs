//! The run directories that are read.
//!
//! Runs live in a slot map, with an index by path and one by id, so that an event costs the same however
//! many runs there are. The slot of a run is freed when its directory goes.
//!
//! | module | its one job |
//! | --- | --- |
//! | `reader` | reads one run directory: its identity, folders and logs |
//! | `adoption` | whether a directory may continue a run from another directory |
//! | `identity` | reads `safelight.json` |

mod adoption;
mod identity;
mod reader;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use slotmap::{SlotMap, new_key_type};

pub(crate) use self::adoption::check_adoption;
pub(crate) use self::identity::IDENTITY_FILE;
pub(crate) use self::reader::{RunReader, UnknownFields, sort_logs};
use crate::config::WatchConfig;
use crate::media::RunId;
use crate::run_dir::ReadOptions;
use crate::store::{RunInfo, StoreError};

/// Why a run directory is not read. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOpened {
    /// Another directory has its id.
    #[error("{0}")]
    IdTaken(String),
    /// Another reason.
    #[error("{0}")]
    Other(String),
}

impl From<String> for NotOpened {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

impl From<StoreError> for NotOpened {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OtherSource { .. } => Self::IdTaken(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

/// Identifies a watched directory for as long as it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RootId(u64);

impl RootId {
    /// The id of the `n`-th directory that is watched.
    pub(crate) fn new(n: u64) -> Self {
        Self(n)
    }
}

/// Reads what a watched run directory says of its run. The watch has the name of a run without an id.
///
/// # Errors
/// If the directory or its `safelight.json` cannot be read.
pub(crate) fn run_info(watch: &WatchConfig) -> Result<RunInfo, NotOpened> {
    let name = watch.name.as_deref().unwrap_or("run");
    let run = RunReader::open(&watch.path, name, watch.clone().into(), ReadOptions::default())?;
    Ok(RunInfo::clone(&run.info))
}

new_key_type! {
    /// Identifies a run for as long as its directory is read. A later run in the same slot has another key.
    pub(crate) struct RunKey;
}

/// A dump or a log: its run, and its path relative to the run directory.
pub(crate) type SourceId = (RunKey, String);

/// The run directories that are read.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    slots: SlotMap<RunKey, Entry>,
    by_path: HashMap<PathBuf, RunKey>,
    by_id: HashMap<RunId, RunKey>,
}

#[derive(Debug)]
struct Entry {
    root: RootId,
    reader: RunReader,
}

impl Runs {
    /// Adds a run, found in the watched directory `root`. No other run may have its path or id.
    pub(crate) fn insert(&mut self, root: RootId, reader: RunReader) -> RunKey {
        let (path, id) = (reader.path().to_owned(), reader.id().clone());
        let key = self.slots.insert(Entry { root, reader });
        let same_path = self.by_path.insert(path, key);
        let same_id = self.by_id.insert(id, key);
        assert!(same_path.is_none() && same_id.is_none(), "a run is read once");
        key
    }

    /// Removes a run. Returns the watched directory that it was found in.
    pub(crate) fn remove(&mut self, key: RunKey) -> Option<(RootId, RunReader)> {
        let Entry { root, reader } = self.slots.remove(key)?;
        self.by_path.remove(reader.path());
        self.by_id.remove(reader.id());
        Some((root, reader))
    }

    /// The run of this key, if it is still read.
    pub(crate) fn get(&self, key: RunKey) -> Option<&RunReader> {
        self.slots.get(key).map(|entry| &entry.reader)
    }

    /// The run of this key, if it is still read.
    pub(crate) fn get_mut(&mut self, key: RunKey) -> Option<&mut RunReader> {
        self.slots.get_mut(key).map(|entry| &mut entry.reader)
    }

    /// The watched directory that a run was found in.
    pub(crate) fn root_of(&self, key: RunKey) -> Option<RootId> {
        self.slots.get(key).map(|entry| entry.root)
    }

    /// The run whose directory is `path`.
    pub(crate) fn at(&self, path: &Path) -> Option<RunKey> {
        self.by_path.get(path).copied()
    }

    /// The run whose directory is `path` or a folder above it.
    pub(crate) fn around(&self, path: &Path) -> Option<RunKey> {
        path.ancestors().find_map(|above| self.at(above))
    }

    /// The run of this id.
    pub(crate) fn with_id(&self, id: &RunId) -> Option<RunKey> {
        self.by_id.get(id).copied()
    }

    /// The number of runs.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All runs, each with the watched directory that it was found in.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RootId, &RunReader)> {
        self.slots.values().map(|entry| (entry.root, &entry.reader))
    }

    /// All runs, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut RunReader> {
        self.slots.values_mut().map(|entry| &mut entry.reader)
    }

    /// The runs that were found in a watched directory. Goes through all runs.
    pub(crate) fn of_root(&self, root: RootId) -> Vec<RunKey> {
        let of_root = self.slots.iter().filter(|(_, entry)| entry.root == root);
        of_root.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::config::WatchConfig;
    use crate::ingest::Mode;
    use crate::ingest::watching::Watching;
    use crate::run_dir::ReadOptions;

    #[test]
    fn a_slot_is_freed_with_its_run_and_an_old_key_leads_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let watch = WatchConfig::of_run(folder.path().to_owned());
        let watching = Watching::new(Mode::Once, std::slice::from_ref(&watch), Path::new("/store"));
        let root = watching.due_roots(std::time::Instant::now())[0];
        let watch = Arc::new(watch);
        let open = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).expect("a folder");
            RunReader::open(&path, name, watch.clone(), ReadOptions::default()).expect("a run")
        };
        let mut runs = Runs::default();
        let a = runs.insert(root, open("a"));
        let b = runs.insert(root, open("a/b"));
        let at = |path: &str| folder.path().join(path);
        assert_eq!(runs.around(&at("a/x.npy")), Some(a));
        assert_eq!(runs.around(&at("a/b/c/x.npy")), Some(b), "the innermost run counts");
        assert_eq!(runs.around(&at("c")), None);
        assert_eq!(runs.of_root(root), [a, b]);
        let id = RunId::new("a").expect("an id");
        assert_eq!(runs.with_id(&id), Some(a));

        let (of, removed) = runs.remove(a).expect("the run");
        assert_eq!((of, removed.id()), (root, &id));
        assert!(runs.remove(a).is_none());
        let again = runs.insert(root, open("a"));
        assert_ne!(again, a);
        assert!(runs.get(a).is_none() && runs.root_of(a).is_none());
        assert_eq!((runs.at(&at("a")), runs.with_id(&id)), (Some(again), Some(again)));
    }
}
