//! Media files on their way from the store into a segment: as hard links, or copies where there can be none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::FileError;
use crate::durable::Disk;
use crate::sinks::{Delivery, SinkError, check_size, unreadable};

/// Files of images that are in no row yet. The store may remove its own meanwhile.
#[derive(Debug)]
pub(super) struct Staging {
    disk: Disk,
    folder: PathBuf,
}

impl Staging {
    pub(super) fn new(disk: Disk, folder: PathBuf) -> Self {
        Self { disk, folder }
    }

    /// Where a file is staged that has this path in the run's folder of the store.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Brings an image's files over.
    ///
    /// # Errors
    /// If one is not in the store or not what the store keeps: then never; or can't be written.
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
            link(&source, &staged).map_err(FileError::at(&staged))?;
        }
        Ok(())
    }

    /// Makes it durable that files of these paths are staged.
    pub(super) fn sync(&self, paths: impl Iterator<Item = String>) -> Result<(), FileError> {
        let staged: Vec<PathBuf> = paths.map(|path| self.at(&path)).collect();
        sync_folders(&self.disk, &self.folder, &staged)
    }

    /// Removes all but the files of these paths.
    pub(super) fn sweep(&self, wanted: &BTreeSet<String>) -> Result<(), FileError> {
        let wanted: BTreeSet<PathBuf> = wanted.iter().map(|path| self.at(path)).collect();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(FileError::at(&folder))?,
            };
            for entry in entries {
                let path = entry.map_err(FileError::at(&folder))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !wanted.contains(&path) {
                    remove(&path);
                }
            }
        }
        Ok(())
    }
}

/// Removes a file that is no longer needed. If that fails, it is in nobody's way.
pub(super) fn remove(path: &Path) {
    fs::remove_file(path).ok();
}

/// Makes the file `from` be at `to`, too, with the folders above it: by a link or, where there can be none, a
/// copy, whose content is durable. One that is there already stays: names say what is in a file.
///
/// # Errors
/// If neither can be made.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    let mut is_second_try = false;
    loop {
        match fs::hard_link(from, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_second_try => {
                fs::create_dir_all(to.parent().unwrap_or(to))?;
                is_second_try = true;
            }
            Err(error) if can_be_copied(&error) => return copy(from, to),
            result => return result,
        }
    }
}

/// Across file systems, of another's files, of too many links, on a file system without links.
fn can_be_copied(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::NOSYS, Errno::OPNOTSUPP]
        .map(Some)
        .contains(&errno)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder)?;
    let mut copy = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut fs::File::open(from)?, &mut copy)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    copy.as_file().set_permissions(mode)?;
    copy.as_file().sync_data()?;
    copy.persist(to).map(drop).map_err(|error| error.error)
}

/// Makes the entries of the folders that hold these files durable, and those of the folders above, up to `root`.
pub(super) fn sync_folders(disk: &Disk, root: &Path, files: &[PathBuf]) -> Result<(), FileError> {
    let mut folders = BTreeSet::new();
    for file in files {
        let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.extend(above.map(Path::to_owned));
    }
    folders.iter().try_for_each(|folder| disk.sync_dir(folder).map_err(FileError::at(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_linked_or_copied_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("from"), b"pixels").expect("a file");
        for (name, bring) in [("a/b/link", link as fn(&Path, &Path) -> _), ("c/copy", copy)] {
            bring(&at("from"), &at(name)).expect("a file");
            assert_eq!(fs::read(at(name)).expect("a file"), b"pixels");
            link(&at("from"), &at(name)).expect("it is there");
        }
        let gone = link(&at("gone"), &at("d/e")).expect_err("nothing to link");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
