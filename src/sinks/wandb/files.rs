//! Staging of media files between the store and a segment.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::{FileError, in_dir};
use crate::sinks::target_dir::TargetDir;
use crate::sinks::{Delivery, SinkError, check_file};
use crate::store::media_check::NamedFile;

/// Files of images that have no row yet. They are staged because the store may remove its files before the row is
/// written.
#[derive(Debug)]
pub(super) struct Staging {
    dir: TargetDir,
    /// Folder of the staged files. All paths here are relative to the target's directory.
    folder: PathBuf,
}

impl Staging {
    pub(super) fn new(dir: TargetDir, folder: PathBuf) -> Self {
        Self { dir, folder }
    }

    /// Returns the staged path of a file. `path` is relative to the run's folder in the store.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Stages an image's files by link or copy.
    ///
    /// # Errors
    /// [`SinkError::Reject`] if a file is missing from the store or damaged, or its path is wrong. [`SinkError::Retry`]
    /// if a file cannot be written.
    pub(super) fn bring(&self, item: &Delivery) -> Result<(), SinkError> {
        let layers = &item.layers;
        let layers = layers.boxes.values().chain(layers.masks.values());
        for file in layers.map(NamedFile::from).chain([(&item.file).into()]) {
            let path = file.path;
            // A path from data must not lead outside the folder.
            let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
            if !Path::new(path).components().all(is_plain) {
                return Err(SinkError::reject(item, format!("{path:?} leaves its folder")));
            }
            check_file(item, file)?;
            let source = item.folder.join(path);
            let staged = self.at(path);
            self.dir.link(&source, &staged).map_err(in_dir(&self.dir, &staged))?;
        }
        Ok(())
    }

    /// Makes the staged files of these paths durable.
    pub(super) fn sync(&self, paths: impl Iterator<Item = String>) -> Result<(), FileError> {
        let staged: Vec<PathBuf> = paths.map(|path| self.at(&path)).collect();
        sync_folders(&self.dir, &self.folder, &staged)
    }

    /// Removes all staged files except those of these paths.
    pub(super) fn sweep(&self, wanted: &BTreeSet<String>) -> Result<(), FileError> {
        let wanted: BTreeSet<PathBuf> = wanted.iter().map(|path| self.at(path)).collect();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let entries = self.dir.entries(&folder).map_err(in_dir(&self.dir, &folder))?;
            for (name, file_type) in entries {
                let path = folder.join(name);
                if file_type == FileType::Directory {
                    folders.push(path);
                } else if !wanted.contains(&path) {
                    self.remove(&path);
                }
            }
        }
        Ok(())
    }

    /// Removes a file that is no longer needed. Ignores a failure, because the next start sweeps the folder.
    pub(super) fn remove(&self, path: &Path) {
        self.dir.remove_file(path).ok();
    }
}

/// Syncs the folders of these files and their parents up to `root`, so that the entries are durable.
pub(super) fn sync_folders(
    dir: &TargetDir,
    root: &Path,
    files: &[PathBuf],
) -> Result<(), FileError> {
    let mut folders = BTreeSet::new();
    for file in files {
        let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.extend(above.map(Path::to_owned));
    }
    folders.iter().try_for_each(|folder| dir.sync_dir(folder).map_err(in_dir(dir, folder)))
}
