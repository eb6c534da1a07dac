//! *How* bytes become durable: synced files, atomic replacement, synced directories. *When* is
//! decided in [`crate::store`].
//!
//! Everything that the store's truth consists of goes through a [`Disk`], step by step. A test can
//! watch the steps, to rebuild what a power loss between any two of them leaves, and refuse them, as
//! a full disk does.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One step that changes the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A file is made, or emptied.
    Create(&'a Path),
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    SetLen(&'a Path, u64),
    /// A file's content becomes durable.
    Sync(&'a Path),
    Rename(&'a Path, &'a Path),
    CreateDir(&'a Path),
    /// The entries of a directory become durable.
    SyncDir(&'a Path),
}

/// Sees each step before it is done.
pub(crate) trait Observe: Send + Sync {
    /// # Errors
    /// To have the step fail: a write is then done by half, all else not at all.
    fn before(&self, step: &Step<'_>) -> io::Result<()>;
}

/// The disk of a store.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    observer: Option<Arc<dyn Observe>>,
    /// Directories whose own entries this process has made durable. One that was only found may have
    /// been made by a process that was killed before it got to that.
    durable_dirs: Arc<Mutex<HashSet<PathBuf>>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.observer.is_some() { "Disk(observed)" } else { "Disk" })
    }
}

/// A file that is open for writing.
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    path: PathBuf,
    file: File,
}

impl Disk {
    /// A disk whose steps are seen by `observer`.
    #[cfg(test)]
    pub(crate) fn observed(observer: Arc<dyn Observe>) -> Self {
        Self { observer: Some(observer), ..Self::default() }
    }

    fn see(&self, step: &Step<'_>) -> io::Result<()> {
        self.observer.as_ref().map_or(Ok(()), |observer| observer.before(step))
    }

    /// Makes a file, or empties the one that is there.
    ///
    /// # Errors
    /// If it can't be made.
    pub(crate) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.see(&Step::Create(path))?;
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).read(true).write(true).open(path)?;
        Ok(DiskFile { disk: self.clone(), path: path.to_owned(), file })
    }

    /// Makes a file that isn't there yet.
    ///
    /// # Errors
    /// If it is there, or can't be made.
    pub(crate) fn create_new(&self, path: &Path) -> io::Result<DiskFile> {
        self.see(&Step::Create(path))?;
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        Ok(DiskFile { disk: self.clone(), path: path.to_owned(), file })
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// If it can't be opened.
    pub(crate) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(DiskFile { disk: self.clone(), path: path.to_owned(), file })
    }

    /// # Errors
    /// If there is no such file, or it can't get that name.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.see(&Step::Rename(from, to))?;
        fs::rename(from, to)
    }

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// If the directory can't be opened or synced.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.see(&Step::SyncDir(path))?;
        File::open(path)?.sync_all()
    }

    /// Makes a directory and all above it that are missing, and their entries durable.
    ///
    /// # Errors
    /// If one can't be made or synced.
    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let is_durable = |dirs: &HashSet<PathBuf>| dirs.contains(path);
        let is_there = path.is_dir();
        if is_there && is_durable(&self.durable_dirs()) {
            return Ok(());
        }
        let above = path.parent().filter(|above| *above != Path::new(""));
        match above {
            // The directories above the store are somebody else's.
            Some(above) if !is_there => self.create_dir_all(above)?,
            _ => {}
        }
        if !is_there {
            self.see(&Step::CreateDir(path))?;
            match fs::create_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
                    return Err(error);
                }
                _ => {}
            }
        }
        if let Some(above) = above {
            self.sync_dir(above)?;
        }
        self.durable_dirs().insert(path.to_owned());
        Ok(())
    }

    fn durable_dirs(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a file by `bytes`, durably: readers see the old one or the new one, whole.
    ///
    /// # Errors
    /// If the new file can't be written; the old one is then still there.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("tmp");
        let file = self.create(&beside)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| self.sync_dir(folder))
    }
}

impl DiskFile {
    /// # Errors
    /// If not all is written; some of it may be.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let seen = self.disk.see(&Step::Write { path: &self.path, offset, bytes });
        let n = if seen.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.file.write_all_at(&bytes[..n], offset)?;
        seen
    }

    /// Makes the content durable. After a failure nobody knows what of it is: the kernel may take
    /// for written what is not, so that it must be written once more.
    ///
    /// # Errors
    /// If it can't be synced.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.see(&Step::Sync(&self.path))?;
        self.file.sync_data()
    }

    /// Has the kernel forget the content, which must be durable: it is not read again soon, and the
    /// memory is better used for what the training reads.
    pub(crate) fn give_back_cache(&self) {
        // Only advice: some file systems take none.
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed).ok();
    }

    /// # Errors
    /// If the file can't be cut or lengthened.
    pub(crate) fn set_len(&self, n_bytes: u64) -> io::Result<()> {
        self.disk.see(&Step::SetLen(&self.path, n_bytes))?;
        self.file.set_len(n_bytes)
    }

    /// # Errors
    /// If the file can't be asked.
    pub(crate) fn n_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Takes the file for this process alone, until it is closed.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if another has it.
    pub(crate) fn try_lock(&self) -> io::Result<()> {
        self.file.try_lock().map_err(Into::into)
    }

    /// # Errors
    /// If it can't be read, or ends before `bytes` is full.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// # Errors
    /// If it can't be read.
    pub(crate) fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.n_bytes()?).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}
