//! Media files: written aside by whoever renders them, brought to their place by the commit.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::durable;
use crate::encode::EncodedImage;
use crate::media::{MediaId, RunId};

/// Where media files are written aside: a folder of the store, emptied at each start.
#[derive(Debug, Clone)]
pub(crate) struct Staging {
    folder: PathBuf,
    next: Arc<AtomicU64>,
}

/// A media file that was written aside. Removed again if it is dropped without being published.
#[derive(Debug)]
pub(crate) struct Staged {
    aside: PathBuf,
    /// Relative to the store.
    place: PathBuf,
}

impl Staging {
    /// Empties the folder: what lies there was never committed.
    ///
    /// # Errors
    /// If it can't be emptied or made.
    pub(crate) fn open(store: &Path) -> io::Result<Self> {
        let folder = store.join("tmp");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&folder)?,
        }
        Ok(Self { folder, next: Arc::default() })
    }

    /// Writes an image aside. It isn't durable yet.
    ///
    /// # Errors
    /// If it can't be written; nothing is then left of it.
    pub(crate) fn write(
        &self,
        run: &RunId,
        path: &str,
        image: &EncodedImage,
    ) -> io::Result<Staged> {
        let aside = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let staged = Staged { aside, place: Path::new("runs").join(run.folder()).join(path) };
        File::create(&staged.aside)?.write_all(&image.bytes)?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After publishing, nothing is there. What can't be removed is removed at the next start.
        drop(fs::remove_file(&self.aside));
    }
}

/// The path of an image's file, relative to the run's folder: `media/images/<key>_<step>_<20 hex
/// digits of its digest>.<extension>`, as W&B has it (`spec/image.md` F), but with the true step.
pub(crate) fn image_path(id: &MediaId, image: &EncodedImage) -> String {
    let digest = image.sha256.to_string();
    let (stem, step, extension) = (id.key.file_stem(), id.step, image.file_type.extension());
    format!("media/images/{stem}_{step}_{}.{extension}", &digest[..20])
}

/// Brings files to their places, durably. A file that is there already has the same content, since
/// its name ends in its digest. Can be called again after a failure.
///
/// # Errors
/// If a file can't be synced or renamed, or a directory made or synced.
pub(crate) fn publish<'a>(
    store: &Path,
    files: impl Iterator<Item = &'a Staged> + Clone,
) -> io::Result<()> {
    for file in files.clone() {
        match durable::sync_file(&file.aside) {
            // An earlier try brought it to its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    let mut folders = BTreeSet::new();
    for file in files {
        let place = store.join(&file.place);
        let folder = place.parent().unwrap_or(store).to_owned();
        if !folders.contains(&folder) {
            durable::create_dir_all(&folder)?;
        }
        match fs::rename(&file.aside, &place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.is_file() => {}
            result => result?,
        }
        folders.insert(folder);
    }
    folders.iter().try_for_each(|folder| durable::sync_dir(folder))
}
