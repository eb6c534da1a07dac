//! *How* bytes become durable: synced files, atomic replacement, synced directories. [`crate::store`]
//! decides *when*.
//!
//! All durable changes of the store go through a [`Disk`], step by step. A test can watch the steps, to
//! rebuild the state that a power loss between any two of them leaves. It can also refuse steps, as a
//! full disk does.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::locks::lock;

/// One step that changes the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Creates a file, or empties it.
    Create(&'a Path),
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    SetLen(&'a Path, u64),
    /// Makes a file's content durable.
    Sync(&'a Path),
    Rename(&'a Path, &'a Path),
    CreateDir(&'a Path),
    /// Makes the entries of a directory durable.
    SyncDir(&'a Path),
}

/// Watches each step before it is taken.
pub(crate) trait Observe: Send + Sync {
    /// Called before a step.
    ///
    /// # Errors
    /// An error makes the step fail: a write then writes half of its bytes, and any other step does nothing.
    fn before(&self, step: &Step<'_>) -> io::Result<()>;
}

/// The disk of a store.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    observer: Option<Arc<dyn Observe>>,
    /// Whether nothing on it need outlast the process: nothing is synced.
    is_scratch: bool,
    /// Directories whose own entries this process has made durable. A directory that existed before may
    /// have been created by a process that was killed before it synced the entry.
    durable_dirs: Arc<Mutex<HashSet<PathBuf>>>,
    /// The store's directory. No link below it is followed.
    root: Option<Arc<Root>>,
    /// The folders between which files were renamed last, since most renames are between the same ones.
    folders: Arc<Mutex<Vec<Folder>>>,
}

/// A folder that is open for a short time.
struct Folder {
    path: PathBuf,
    fd: Arc<OwnedFd>,
    opened: Instant,
}

/// How many folders stay open, and for how long: another folder may come to their place.
const FOLDERS_MAX: usize = 4;
const OPEN_MAX: Duration = Duration::from_secs(1);

/// A directory whose files are opened beneath its descriptor.
struct Root {
    path: PathBuf,
    fd: OwnedFd,
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
    /// A disk whose steps `observer` watches.
    #[cfg(test)]
    pub(crate) fn observed(observer: Arc<dyn Observe>) -> Self {
        Self { observer: Some(observer), ..Self::default() }
    }

    /// A disk for what need not outlast the process. Nothing on it is synced.
    pub(crate) fn scratch() -> Self {
        Self { is_scratch: true, ..Self::default() }
    }

    /// Whether nothing on it need outlast the process.
    pub(crate) fn is_scratch(&self) -> bool {
        self.is_scratch
    }

    /// The same disk. Paths below `root`, which exists, are resolved beneath its descriptor, without following links:
    /// others may write there by mistake.
    ///
    /// # Errors
    /// If the directory cannot be opened.
    pub(crate) fn within(self, root: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
        Ok(Self { root: Some(Arc::new(Root { path: root.to_owned(), fd })), ..self })
    }

    /// Opens what lies at a path, which is no link.
    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let (flags, mode) = (flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from(0o666));
        let inner = self.root.as_ref().and_then(|root| {
            Some((root, path.strip_prefix(&root.path).ok().filter(|inner| *inner != "")?))
        });
        if let Some((root, inner)) = inner {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
            match rustix::fs::openat2(&root.fd, inner, flags, mode, resolve) {
                // An old kernel, or a sandbox that does not allow the call.
                Err(Errno::NOSYS | Errno::PERM) => {}
                result => return result.map_err(|errno| no_link(errno, path)),
            }
        }
        rustix::fs::open(path, flags, mode).map_err(|errno| no_link(errno, path))
    }

    /// Opens the folder of a path, and returns the name in it.
    fn open_parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = path.parent().filter(|folder| *folder != "").unwrap_or(Path::new("."));
        Ok((self.open_at(folder, DIRECTORY | OFlags::PATH)?, name))
    }

    /// Returns the open folder of a path, and the name in it.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut folders = lock(&self.folders);
        folders.retain(|folder| folder.opened.elapsed() < OPEN_MAX);
        if let Some(known) = folders.iter().find(|folder| path.parent() == Some(&folder.path)) {
            return Ok((known.fd.clone(), name));
        }
        let fd = Arc::new(self.open_parent(path)?.0);
        if let Some(parent) = path.parent() {
            if folders.len() == FOLDERS_MAX {
                folders.remove(0);
            }
            let (path, opened) = (parent.to_owned(), Instant::now());
            folders.push(Folder { path, fd: fd.clone(), opened });
        }
        Ok((fd, name))
    }

    /// Removes a file, or a link itself.
    ///
    /// # Errors
    /// If it cannot be removed, or lies behind a link.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.open_parent(path)?;
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
    }

    /// Reports a step that the caller performs itself.
    ///
    /// # Errors
    /// If the observer wants the step to fail.
    pub(crate) fn observe(&self, step: &Step<'_>) -> io::Result<()> {
        self.observer.as_ref().map_or(Ok(()), |observer| observer.before(step))
    }

    /// Creates a file, or empties an existing one that has no other name.
    ///
    /// # Errors
    /// If the file cannot be created, or a link or something else than a file is in its place.
    pub(crate) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.observe(&Step::Create(path))?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NONBLOCK;
        let file = File::from(self.open_at(path, flags)?);
        let meta = checked(&file, path)?;
        if meta.len() > 0 {
            if meta.nlink() > 1 {
                let error = format!("it has other names, and is not emptied: {}", path.display());
                return Err(io::Error::other(error));
            }
            file.set_len(0)?;
        }
        Ok(DiskFile { disk: self.clone(), path: path.to_owned(), file })
    }

    /// Opens an existing file.
    ///
    /// # Errors
    /// If the file cannot be opened, or a link or something else than a file is in its place.
    pub(crate) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        let file = File::from(self.open_at(path, OFlags::RDWR | OFlags::NONBLOCK)?);
        checked(&file, path)?;
        Ok(DiskFile { disk: self.clone(), path: path.to_owned(), file })
    }

    /// Renames a file, replacing an existing one.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be renamed.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.observe(&Step::Rename(from, to))?;
        let ((from_folder, from_name), (to_folder, to_name)) =
            (self.parent(from)?, self.parent(to)?);
        match rustix::fs::renameat(from_folder, from_name, to_folder, to_name) {
            // A folder was removed and perhaps made again.
            Err(Errno::NOENT) => {
                lock(&self.folders).clear();
                let (from, to) = (self.parent(from)?, self.parent(to)?);
                Ok(rustix::fs::renameat(from.0, from.1, to.0, to.1)?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// If the directory cannot be opened or synced.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.observe(&Step::SyncDir(path))?;
        if self.is_scratch {
            return Ok(());
        }
        File::from(self.open_at(path, DIRECTORY)?).sync_all()
    }

    /// Creates a directory and its missing parents, and makes their entries durable.
    ///
    /// # Errors
    /// If a directory cannot be created or synced.
    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let is_durable = |dirs: &HashSet<PathBuf>| dirs.contains(path);
        let is_there = path.is_dir();
        if is_there && is_durable(&self.durable_dirs()) {
            return Ok(());
        }
        let above = path.parent().filter(|above| *above != Path::new(""));
        match above {
            // Directories that exist above the store are not ours to sync.
            Some(above) if !is_there => self.create_dir_all(above)?,
            _ => {}
        }
        if !is_there {
            self.observe(&Step::CreateDir(path))?;
            let (folder, name) = self.open_parent(path)?;
            match rustix::fs::mkdirat(folder, name, Mode::from(0o777)) {
                Err(Errno::EXIST) if path.is_dir() => {}
                result => result?,
            }
        }
        if let Some(above) = above {
            self.sync_dir(above)?;
        }
        self.durable_dirs().insert(path.to_owned());
        Ok(())
    }

    fn durable_dirs(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        lock(&self.durable_dirs)
    }

    /// Replaces the content of a file by `bytes`, durably. Readers see the old content or the new one.
    ///
    /// # Errors
    /// If the new file cannot be written. Then the old one is still there.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("tmp");
        let file = self.create(&beside)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| self.sync_dir(folder))
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Says of the errors for a link what is wrong: the kernel says "too many levels of symbolic links".
fn no_link(errno: Errno, path: &Path) -> io::Error {
    let what = match errno {
        Errno::LOOP => "it is a symbolic link or lies behind one, which is not followed",
        Errno::NOTDIR => "want a directory, found something else",
        _ => return errno.into(),
    };
    io::Error::other(format!("{what}: {}", path.display()))
}

/// Checks that an open file is a regular file.
fn checked(file: &File, path: &Path) -> io::Result<fs::Metadata> {
    let meta = file.metadata()?;
    if meta.is_file() {
        return Ok(meta);
    }
    let error = format!("want a regular file, found something else: {}", path.display());
    Err(io::Error::other(error))
}

/// Opens a file of the store to read it. Follows no link at its place, and does not wait for a FIFO.
///
/// # Errors
/// If the file cannot be opened, or a link or something else than a file is in its place.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|errno| no_link(errno, path))?);
    checked(&file, path)?;
    Ok(file)
}

impl DiskFile {
    /// Wraps a file that the caller has opened for writing. The observer gets `path`.
    pub(crate) fn new(disk: &Disk, path: PathBuf, file: File) -> Self {
        Self { disk: disk.clone(), path, file }
    }

    /// Writes all of `bytes` at an offset.
    ///
    /// # Errors
    /// If not all bytes are written. Some of them may be.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let seen = self.disk.observe(&Step::Write { path: &self.path, offset, bytes });
        let n = if seen.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.file.write_all_at(&bytes[..n], offset)?;
        seen
    }

    /// Makes the content durable.
    ///
    /// # Errors
    /// If the file cannot be synced. Then its content is in doubt and must be written again: the kernel may
    /// count pages as written that are not.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.observe(&Step::Sync(&self.path))?;
        if self.disk.is_scratch { Ok(()) } else { self.file.sync_data() }
    }

    /// Drops the content, which must be durable, from the page cache. It is not read again soon, and the
    /// training needs the memory.
    pub(crate) fn give_back_cache(&self) {
        // Only advice, which some file systems do not take.
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed).ok();
    }

    /// Cuts or lengthens the file.
    ///
    /// # Errors
    /// If its length cannot be set.
    pub(crate) fn set_len(&self, n_bytes: u64) -> io::Result<()> {
        self.disk.observe(&Step::SetLen(&self.path, n_bytes))?;
        self.file.set_len(n_bytes)
    }

    /// The file's length.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub(crate) fn n_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Locks the file for this process, until it is closed.
    ///
    /// # Errors
    /// Of kind `WouldBlock` if another process holds the lock.
    pub(crate) fn try_lock(&self) -> io::Result<()> {
        self.file.try_lock().map_err(Into::into)
    }

    /// Fills `bytes` from an offset.
    ///
    /// # Errors
    /// If the file cannot be read, or ends before `bytes` is full.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.n_bytes()?).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_renamed_into_a_folder_that_was_made_again() {
        let temp = tempfile::tempdir().expect("a folder");
        let disk = Disk::default().within(temp.path()).expect("a disk");
        let (from, folder) = (temp.path().join("a"), temp.path().join("b"));
        for _ in 0..3 {
            fs::create_dir(&folder).expect("a folder");
            fs::write(&from, "a").expect("a file");
            disk.rename(&from, &folder.join("c")).expect("a rename");
            assert!(folder.join("c").is_file());
            fs::remove_dir_all(&folder).expect("a removal");
        }
        fs::write(&from, "a").expect("a file");
        disk.rename(&from, &folder.join("c")).expect_err("a missing folder");
    }
}
