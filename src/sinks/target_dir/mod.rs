//! The directory of a target. A sink opens files only beneath it, and follows no symbolic link.
//!
//! A target's directory is often shared: other programs and other users write to it. One of them may put a symbolic
//! link where Safelight is about to write. The link could lead to any file that the daemon may write, such as the
//! store's journal. [`TargetDir`] therefore opens the folders of a path one by one, each relative to the descriptor of its
//! parent and with `O_NOFOLLOW`. The target's own directory may be a link: its path comes from the configuration.
//!
//! No existing file is truncated on opening or replaced: a file is created, opened as it is, or published under a free
//! name. A file with several names (hard links) is not opened for writing, because another name may be a file elsewhere.

mod entry;
mod error;
mod staged;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::entry::{entries_of, file_type_at, rename_new, type_name};
pub(crate) use self::error::TargetDirError;
pub(crate) use self::staged::{Published, StagedFile};
use crate::durable::{Disk, DiskFile, Step};
use crate::locks::lock;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `NONBLOCK`, because opening a FIFO would wait for its other end.
const FILE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The directory of a target. All paths are relative to it.
#[derive(Debug, Clone)]
pub(crate) struct TargetDir {
    root: Arc<Path>,
    disk: Disk,
    /// Folders whose entries this process has synced. An existing folder may come from a process that was killed before
    /// it synced the parent folder.
    durable_folders: Arc<Mutex<HashSet<PathBuf>>>,
}

impl TargetDir {
    pub(crate) fn new(root: &Path, disk: Disk) -> Self {
        Self { root: root.into(), disk, durable_folders: Arc::default() }
    }

    /// Returns the absolute path of a file, for messages and for other programs.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Opens the folder at `path`; an empty path is the target's directory.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.open_root()?;
        let mut so_far = PathBuf::new();
        for name in self.names(path)? {
            so_far.push(name);
            folder = self.open_folder(&folder, name, &so_far)?;
        }
        Ok(folder)
    }

    fn open_root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, &*self.root, flags, Mode::empty())?)
    }

    fn open_folder(&self, above: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<OwnedFd> {
        rustix::fs::openat(above, name, FOLDER, Mode::empty())
            .map_err(|errno| self.explained(above, name, path, errno, FileType::Directory))
    }

    fn names<'a>(&self, path: &'a Path) -> io::Result<Vec<&'a OsStr>> {
        let names = path.components().map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(TargetDirError::Outside(self.path(path)).into()),
        });
        names.collect()
    }

    /// Opens the folder of a file, and returns it with the file's name.
    fn folder_of<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| TargetDirError::Outside(self.path(path)))?;
        Ok((self.folder(above(path))?, name))
    }

    /// Explains why an entry could not be opened as `want`, if its type is the reason.
    fn explained(
        &self,
        folder: &OwnedFd,
        name: &OsStr,
        path: &Path,
        errno: Errno,
        want: FileType,
    ) -> io::Error {
        let Ok(Some(found)) = file_type_at(folder, name) else { return errno.into() };
        let path = self.path(path);
        match found {
            FileType::Symlink => TargetDirError::Link(path).into(),
            found if found != want => {
                TargetDirError::WrongType { path, found: type_name(found), want: type_name(want) }
                    .into()
            }
            _ => errno.into(),
        }
    }

    /// Returns the type of what is at `path`, without following a link; `None` if nothing is there.
    ///
    /// # Errors
    /// If a folder above is a link or can't be opened.
    pub(crate) fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        match self.folder_of(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => {
                let (folder, name) = found?;
                Ok(file_type_at(&folder, name)?)
            }
        }
    }

    /// Returns the names and types of a folder's entries; none if there is no such folder.
    ///
    /// # Errors
    /// If the folder is a link, lies behind one, or can't be read.
    pub(crate) fn entries(&self, path: &Path) -> io::Result<Vec<(OsString, FileType)>> {
        match self.folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            folder => Ok(entries_of(&folder?)?),
        }
    }

    /// Creates a folder and those above it, and makes their entries durable.
    ///
    /// # Errors
    /// If one is a link or a file, or can't be created or synced.
    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let is_durable = self.durable_folders().contains(path);
        if is_durable && self.folder(path).is_ok() {
            return Ok(());
        }
        self.disk.create_dir_all(&self.root)?;
        let mut folder = self.open_root()?;
        let mut so_far = PathBuf::new();
        for name in self.names(path)? {
            so_far.push(name);
            if file_type_at(&folder, name)?.is_none() {
                self.disk.observe(&Step::CreateDir(&self.path(&so_far)))?;
                match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                    Err(Errno::EXIST) => {}
                    created => created?,
                }
                self.durable_folders().remove(&so_far);
            }
            let below = self.open_folder(&folder, name, &so_far)?;
            if !self.durable_folders().contains(&so_far) {
                self.sync_opened(&folder, above(&so_far))?;
                self.durable_folders().insert(so_far.clone());
            }
            folder = below;
        }
        Ok(())
    }

    fn durable_folders(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        lock(&self.durable_folders)
    }

    /// Makes the entries of a folder durable.
    ///
    /// # Errors
    /// If the folder is a link, lies behind one, or can't be synced.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_opened(&self.folder(path)?, path)
    }

    fn sync_opened(&self, folder: &OwnedFd, path: &Path) -> io::Result<()> {
        self.disk.observe(&Step::SyncDir(&self.path(path)))?;
        Ok(rustix::fs::fsync(folder)?)
    }

    /// Creates a file.
    ///
    /// # Errors
    /// If its name is taken, by a link for example, or the file can't be created.
    pub(crate) fn create_new(&self, path: &Path) -> io::Result<DiskFile> {
        let (folder, name) = self.folder_of(path)?;
        self.create_new_at(&folder, name, path)
    }

    fn create_new_at(&self, folder: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<DiskFile> {
        let absolute = self.path(path);
        self.disk.observe(&Step::Create(&absolute))?;
        let flags = FILE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o666));
        match file {
            Ok(file) => Ok(DiskFile::new(&self.disk, absolute, file.into())),
            Err(errno) => Err(self.explained(folder, name, path, errno, FileType::RegularFile)),
        }
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// If it is missing, is a link or no regular file, has other names, or can't be opened.
    pub(crate) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        let file = self.open_with(path, OFlags::RDWR)?;
        Ok(DiskFile::new(&self.disk, self.path(path), file))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_to_read(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::RDONLY)
    }

    /// Opens a file for appending, or creates it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_to_append(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let (folder, name) = self.folder_of(path)?;
        let want = FileType::RegularFile;
        let file: File =
            rustix::fs::openat(&folder, name, FILE | flags, Mode::from_raw_mode(0o666))
                .map_err(|errno| self.explained(&folder, name, path, errno, want))?
                .into();
        let stat = rustix::fs::fstat(&file)?;
        let found = FileType::from_raw_mode(stat.st_mode);
        if found != want {
            let path = self.path(path);
            return Err(TargetDirError::WrongType {
                path,
                found: type_name(found),
                want: type_name(want),
            }
            .into());
        }
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR) && stat.st_nlink > 1 {
            return Err(TargetDirError::HardLinks(self.path(path)).into());
        }
        Ok(file)
    }

    /// Creates a file that [`StagedFile::publish`] gives the name `path`.
    ///
    /// # Errors
    /// If its folder is missing, is a link or lies behind one, or the file can't be created.
    pub(crate) fn stage(&self, path: &Path) -> io::Result<StagedFile> {
        let (folder, name) = self.folder_of(path)?;
        let name = name.as_bytes();
        // Leaves room for the suffix if the name has the maximum length.
        let beginning = OsStr::from_bytes(&name[..name.len().min(200)]);
        let mut temporary = OsString::from(".");
        temporary.push(beginning);
        temporary.push(format!(".{:016x}.tmp", fastrand::u64(..)));
        let file = self.create_new_at(&folder, &temporary, &above(path).join(&temporary))?;
        let (dir, path) = (self.clone(), path.to_owned());
        Ok(StagedFile { dir, folder, temporary, path, file, is_published: false })
    }

    /// Writes a file atomically and makes its content durable. An existing file with the same bytes stays. The folder's
    /// entries are not synced.
    ///
    /// # Errors
    /// If another file has the name, or the file can't be written.
    pub(crate) fn write_once(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.file_type(path)?.is_some() {
            return self.check_content(path, bytes);
        }
        let staged = self.stage(path)?;
        staged.file().write_all_at(bytes, 0)?;
        staged.file().sync()?;
        match staged.publish()? {
            Published::Now => Ok(()),
            Published::AlreadyExists => self.check_content(path, bytes),
        }
    }

    fn check_content(&self, path: &Path, want: &[u8]) -> io::Result<()> {
        // A file that is only read and synced may have other names.
        let file = DiskFile::new(&self.disk, self.path(path), self.open_to_read(path)?);
        if file.n_bytes()? == want.len() as u64 && file.read_all()? == want {
            // The process that wrote the file may not have synced it.
            return file.sync();
        }
        Err(TargetDirError::NotOurs(self.path(path)).into())
    }

    /// Creates a hard link at `to` to the file `from`, which is outside of the directory. Creates parent folders. If a hard
    /// link is not possible, makes a durable copy. An existing regular file stays.
    ///
    /// # Errors
    /// If `from` is missing, `to` is a link or lies behind one, or neither can be created.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (folder, name) = match self.folder_of(to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_dir_all(above(to))?;
                self.folder_of(to)?
            }
            found => found?,
        };
        match rustix::fs::linkat(CWD, from, &folder, name, AtFlags::empty()) {
            Err(Errno::EXIST) => match file_type_at(&folder, name)? {
                Some(FileType::RegularFile) => Ok(()),
                _ => Err(self.explained(&folder, name, to, Errno::EXIST, FileType::RegularFile)),
            },
            // Another file system, a file of another user, too many links, or no support for links.
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.copy(from, to)
            }
            linked => Ok(linked?),
        }
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut from = File::open(from)?;
        let staged = self.stage(to)?;
        staged.copy(&mut from, |_| {})?;
        match staged.publish()? {
            Published::Now => Ok(()),
            // An existing file stays, as with a link, because names contain digests.
            Published::AlreadyExists => self.open_to_read(to).map(drop),
        }
    }

    /// Renames a file or folder to a free name.
    ///
    /// # Errors
    /// If nothing is at `from`, something is at `to`, or a folder above one is a link.
    pub(crate) fn rename_to_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from_name) = self.folder_of(from)?;
        let (to_folder, to_name) = self.folder_of(to)?;
        self.disk.observe(&Step::Rename(&self.path(from), &self.path(to)))?;
        match rename_new(&from_folder, from_name, &to_folder, to_name) {
            Err(Errno::EXIST) => {
                let found = file_type_at(&to_folder, to_name)?;
                let path = self.path(to);
                Err(match found {
                    Some(FileType::Symlink) => TargetDirError::Link(path),
                    _ => TargetDirError::NotOurs(path),
                }
                .into())
            }
            renamed => Ok(renamed?),
        }
    }

    /// Removes a file; a link is removed itself.
    ///
    /// # Errors
    /// If it is missing, a folder above is a link, or it can't be removed.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.folder_of(path)?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// Removes a folder and all below it. Links below are removed themselves.
    ///
    /// # Errors
    /// If it is missing, is a link or lies behind one, or can't be removed.
    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let (above, name) = self.folder_of(path)?;
        let folder = self.open_folder(&above, name, path)?;
        for (entry, file_type) in entries_of(&folder)? {
            if file_type == FileType::Directory {
                self.remove_dir_all(&path.join(entry))?;
            } else {
                rustix::fs::unlinkat(&folder, &entry, AtFlags::empty())?;
            }
        }
        Ok(rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR)?)
    }
}

/// Returns the folder of a path; the empty path if it has none.
fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests;
