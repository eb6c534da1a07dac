//! Media files on their way from the store into a segment.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::{FileError, in_dir};
use crate::sinks::target_dir::TargetDir;
use crate::sinks::{Delivery, SinkError, check_size, unreadable};

/// Files of images that are in no row yet. The store may remove its own meanwhile.
#[derive(Debug)]
pub(super) struct Staging {
    dir: TargetDir,
    /// Relative to the target's directory, as all paths here.
    folder: PathBuf,
}

impl Staging {
    pub(super) fn new(dir: TargetDir, folder: PathBuf) -> Self {
        Self { dir, folder }
    }

    /// Returns where a file is staged that has this path in the run's folder of the store.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Links or copies an image's files.
    ///
    /// # Errors
    /// [`SinkError::Reject`] if a file is not in the store or not what the store keeps; [`SinkError::Retry`] if it
    /// can't be written.
    pub(super) fn bring(&self, item: &Delivery) -> Result<(), SinkError> {
        let layers = &item.layers;
        let layers = layers.boxes.values().chain(layers.masks.values());
        let layers = layers.map(|layer| (layer.path.as_str(), layer.size));
        for (path, size) in layers.chain([(item.file.path.as_str(), item.file.size)]) {
            // A name that came from data never decides where a file goes.
            let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
            if !Path::new(path).components().all(is_plain) {
                return Err(SinkError::reject(item, format!("{path:?} leaves its folder")));
            }
            let source = item.folder.join(path);
            let meta = fs::metadata(&source);
            let meta = meta.map_err(|error| unreadable(item, &source, &error))?;
            check_size(item, &source, meta.len(), size)?;
            let staged = self.at(path);
            self.dir.link(&source, &staged).map_err(in_dir(&self.dir, &staged))?;
        }
        Ok(())
    }

    /// Makes it durable that files of these paths are staged.
    pub(super) fn sync(&self, paths: impl Iterator<Item = String>) -> Result<(), FileError> {
        let staged: Vec<PathBuf> = paths.map(|path| self.at(&path)).collect();
        sync_folders(&self.dir, &self.folder, &staged)
    }

    /// Removes all but the files of these paths.
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

    /// Removes a file that is no longer needed. A failure does no harm: the next start tries again.
    pub(super) fn remove(&self, path: &Path) {
        self.dir.remove_file(path).ok();
    }
}

/// Makes the entries of the folders that hold these files durable, and those of the folders above, up to `root`.
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
