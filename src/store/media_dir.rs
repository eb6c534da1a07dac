//! Media files: render workers stage them, and the commit publishes them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use crate::descriptors;
use crate::durable::{Disk, DiskFile};
use crate::locks::lock;
use crate::media::{MediaId, RunId, Sha256};
use crate::pulse;

/// The most staged files that stay open until they are synced. Further ones are opened again.
const OPEN_FILES_MAX: usize = 192;

/// The folder of the store where media files are written before their commit. Emptied at each start.
#[derive(Debug, Clone)]
pub(crate) struct Staging {
    disk: Disk,
    folder: PathBuf,
    next: Arc<AtomicU64>,
    /// One clone for each open file.
    open: Arc<()>,
}

/// A media file that is written but not committed. Removed if it is dropped before it is published.
#[derive(Debug)]
pub(crate) struct Staged {
    aside: PathBuf,
    /// Relative to the store.
    place: PathBuf,
    /// Whether a sync of it failed.
    is_doubtful: AtomicBool,
    /// Whether its content is durable.
    is_synced: AtomicBool,
    is_published: AtomicBool,
    /// The open file, and its share of [`OPEN_FILES_MAX`].
    open: Mutex<Option<(DiskFile, Arc<()>)>>,
}

impl Staging {
    /// Empties the folder: its files were never committed.
    ///
    /// # Errors
    /// If the folder cannot be emptied or created.
    pub(crate) fn open(disk: &Disk, store: &Path) -> io::Result<Self> {
        let folder = store.join("tmp");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&folder)?,
        }
        Ok(Self { disk: disk.clone(), folder, next: Arc::default(), open: Arc::default() })
    }

    /// Stages a media file. It is not durable yet.
    ///
    /// # Errors
    /// If the file cannot be written. Then nothing is left of it.
    pub(crate) fn write(&self, run: &RunId, path: &str, bytes: &[u8]) -> io::Result<Staged> {
        let aside = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let place = Path::new("runs").join(run.folder()).join(path);
        let staged = Staged {
            aside,
            place,
            is_doubtful: AtomicBool::new(false),
            is_synced: AtomicBool::new(false),
            is_published: AtomicBool::new(false),
            open: Mutex::new(None),
        };
        let file = self.disk.create(&staged.aside)?;
        file.write_all_at(bytes, 0)?;
        if Arc::strong_count(&self.open) <= descriptors::share(16, OPEN_FILES_MAX) {
            *staged.open_file() = Some((file, self.open.clone()));
        }
        Ok(staged)
    }
}

impl Staging {
    /// Makes the content of a staged file durable ahead of its commit.
    ///
    /// # Errors
    /// If that fails. The commit tries again.
    pub(crate) fn sync(&self, staged: &Staged) -> io::Result<()> {
        sync(&self.disk, staged)
    }

    /// Creates a file without a name, which is gone when it is closed.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub(crate) fn nameless(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.folder)
    }
}

impl Staged {
    /// Whether its place is this one: `path` is relative to the run's folder.
    pub(crate) fn is_at(&self, run: &RunId, path: &str) -> bool {
        self.place == Path::new("runs").join(run.folder()).join(path)
    }

    fn open_file(&self) -> MutexGuard<'_, Option<(DiskFile, Arc<()>)>> {
        lock(&self.open)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !*self.is_published.get_mut() {
            // If it cannot be removed now, the next start removes it.
            drop(fs::remove_file(&self.aside));
        }
    }
}

/// A folder of media files within the run's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaFolder {
    Images,
    Masks,
    Boxes,
}

impl MediaFolder {
    fn name(self) -> &'static str {
        match self {
            Self::Images => "media/images",
            Self::Masks => "media/images/mask",
            Self::Boxes => "media/metadata/boxes2D",
        }
    }
}

/// The path of a media file, relative to the run's folder: `<folder>/<key>_<step>_<20 hex digits of
/// its digest>.<suffix>`, as W&B names it, but with the true step.
pub(crate) fn media_path(
    folder: MediaFolder,
    id: &MediaId,
    sha256: Sha256,
    suffix: &str,
) -> String {
    let (folder, stem, step) = (folder.name(), id.key.file_stem(), id.step);
    let digest = sha256.to_string();
    format!("{folder}/{stem}_{step}_{}.{suffix}", &digest[..20])
}

/// Publishes staged files: renames them to their names, durably. An existing file has the same content,
/// since its name ends in its digest. Can be called again after a failure.
///
/// # Errors
/// If a file cannot be synced or renamed, or a directory cannot be created or synced.
pub(crate) fn publish<'a>(
    disk: &Disk,
    store: &Path,
    files: impl Iterator<Item = &'a Staged> + Clone,
) -> io::Result<()> {
    files.clone().try_for_each(|file| {
        pulse::beat();
        sync(disk, file)
    })?;
    let mut folders = BTreeSet::new();
    for file in files {
        pulse::beat();
        let place = store.join(&file.place);
        let folder = place.parent().unwrap_or(store).to_owned();
        if !folders.contains(&folder) {
            disk.create_dir_all(&folder)?;
        }
        match disk.rename(&file.aside, &place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.is_file() => {}
            result => result?,
        }
        file.is_published.store(true, Ordering::Relaxed);
        folders.insert(folder);
    }
    folders.iter().try_for_each(|folder| disk.sync_dir(folder))
}

/// Prepares the place of a media file for a rename over what lies there. `path` is relative to the run's folder.
/// Removes nothing but an empty directory.
///
/// # Errors
/// If the place lies behind a link, or is a directory with files in it: the error is for people.
pub(crate) fn make_way(folder: &Path, path: &str) -> Result<(), String> {
    let mut place = folder.to_owned();
    let mut parts = Path::new(path).components().peekable();
    while let Some(part) = parts.next() {
        if !matches!(part, Component::Normal(_)) {
            return Err(format!("the path {path:?} leaves the store"));
        }
        place.push(part);
        let is_last = parts.peek().is_none();
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{error}: {}", place.display())),
            Ok(meta) if is_last && meta.is_dir() => fs::remove_dir(&place).map_err(|error| {
                format!("a directory lies in its place, move it away: {error}: {}", place.display())
            })?,
            Ok(meta) if !is_last && !meta.is_dir() => {
                let place = place.display();
                return Err(format!(
                    "want a directory in the store, found something else: {place}"
                ));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Makes the content of a staged file durable.
fn sync(disk: &Disk, staged: &Staged) -> io::Result<()> {
    if staged.is_synced.load(Ordering::Relaxed) {
        return Ok(());
    }
    let open = staged.open_file().take();
    let (file, _open) = match open.map_or_else(
        || disk.open(&staged.aside).map(|file| (file, None)),
        |(file, open)| Ok((file, Some(open))),
    ) {
        // An earlier call published it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    // After a failed sync, the next one may succeed without writing anything.
    if staged.is_doubtful.swap(true, Ordering::Relaxed) {
        let bytes = file.read_all()?;
        let digest = Sha256::of(&bytes).to_string();
        if !staged.place.to_string_lossy().contains(&digest[..20]) {
            let what = "a media file was lost in a failed write: the next start renders it again";
            return Err(io::Error::other(what));
        }
        file.write_all_at(&bytes, 0)?;
    }
    file.sync()?;
    file.give_back_cache();
    staged.is_doubtful.store(false, Ordering::Relaxed);
    staged.is_synced.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether a file was published at least `age` ago. Publishing sets the change time, which is compared.
pub(crate) fn is_older(path: &Path, age: Duration) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        let since = Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(u64::MAX));
        let since = SystemTime::UNIX_EPOCH.checked_add(since);
        since.and_then(|since| since.elapsed().ok()).is_some_and(|got| got >= age)
    })
}
