//! The media files that the items of a run name. A file may be removed only if no item names it.
//!
//! Every removal of a media file asks [`NamedFiles`]: a prune, and the sweep of files that earlier versions of
//! dumps or a killed process left. It compares paths, never keys, because keys with the same file stem share
//! files.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::journal::{Event, JournalOffset, Line};
use super::{ImageToPrune, Reader, StoreError};
use crate::media::RunId;

/// The media files that items of a run name, at one end of its journal.
#[derive(Debug, Clone)]
pub(crate) struct NamedFiles {
    run: RunId,
    /// Hashes of the paths relative to the run's folder. Two paths with the same hash only keep a file.
    paths: HashSet<u64>,
    journal_end: JournalOffset,
}

impl NamedFiles {
    /// Finds the files of a run that stay named when the images at the places `to_prune` are pruned. Returns these
    /// images as well, each with the files that no other item names.
    pub(crate) fn without(
        reader: &Reader,
        run: &RunId,
        to_prune: &BTreeSet<JournalOffset>,
    ) -> Result<(Self, Vec<ImageToPrune>), StoreError> {
        let journal_end = reader.journal_end(run)?;
        let mut named = Self { run: run.clone(), paths: HashSet::new(), journal_end };
        let mut images = Vec::new();
        for item in reader.placed(run) {
            let (place, entry) = item?;
            let Some(image) = entry.as_image().filter(|image| !image.pruned) else { continue };
            let paths = image.paths();
            if to_prune.contains(&place) {
                images.push(ImageToPrune { id: image.id.clone(), place, paths });
            } else {
                named.add(&paths);
            }
        }
        // A file that several pruned images share is removed with the last of them.
        let mut later = named.paths.clone();
        for image in images.iter_mut().rev() {
            image.paths.retain(|path| later.insert(hash_of(path)));
        }
        Ok((named, images))
    }

    /// Whether an item names the file at this path, relative to the run's folder.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.paths.contains(&hash_of(path))
    }

    /// Keeps these files, too.
    pub(crate) fn add(&mut self, paths: &[String]) {
        self.paths.extend(paths.iter().map(|path| hash_of(path)));
    }

    /// Returns those of `paths`, relative to the run's folder, that no item names now. Items may have been committed
    /// since the files were found.
    pub(super) fn unnamed<'a, P: AsRef<Path> + 'a>(
        &self,
        reader: &Reader,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Vec<P>, StoreError> {
        let end = reader.journal_end(&self.run)?;
        let mut since = HashSet::new();
        for line in reader.lines::<Line>(&self.run, self.journal_end, end) {
            if let Event::Media(entry) = line?.line.event {
                since.extend(entry.paths().iter().map(|path| hash_of(path)));
            }
        }
        let is_named = |path: &P| {
            let hash = path.as_ref().to_str().map(hash_of);
            // Each name that we give is UTF-8.
            hash.is_some_and(|hash| self.paths.contains(&hash) || since.contains(&hash))
        };
        Ok(paths.into_iter().filter(|path| !is_named(path)).collect())
    }

    /// The run.
    pub(super) fn run(&self) -> &RunId {
        &self.run
    }
}

fn hash_of(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
