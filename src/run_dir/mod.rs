//! A run directory: opens the files in it, and nothing outside of it.
//!
//! File names come from the job. No link is followed, and no device or pipe is read. The kernel resolves
//! each name beneath the directory's descriptor, so that no name leads out of the directory, even if a
//! folder is renamed at the same time.
//!
//! A bounded number of directories is open at a time. One that was closed is opened again by its path, and
//! must be the same directory: its device, its inode and its time of birth tell.
//!
//! | module | its one job |
//! | --- | --- |
//! | `file` | an open file: its stamp, its digest, its share of the page cache |
//! | `failure` | why a file cannot be read, by what the caller does next |
//! | `open_dirs` | the directories that are open: a bounded number |
//! | `removal` | removes files, without touching a file that the job writes at that moment |

mod failure;
mod file;
mod open_dirs;
mod removal;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

pub(crate) use self::failure::ReadFailure;
use self::file::stamp_of_stat;
pub(crate) use self::file::{RunFile, are_many_files_open, stamp_of};
use self::open_dirs::DirKey;
pub(crate) use self::open_dirs::close_unused;
use crate::decode::ReadAt;
use crate::media::DigestKind;
use crate::pace::Pace;
use crate::store::journal::Stamp;

/// How the files of a run directory are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadOptions {
    /// Limits the bytes that are read per second.
    pub(crate) pace: Arc<Pace>,
    /// Which digest of a dump's content is computed.
    pub(crate) digest: DigestKind,
}

/// A run directory. It is opened when it is used, and closed when it was not used for a while.
#[derive(Debug)]
pub(crate) struct RunDir {
    key: DirKey,
    id: DirId,
    options: ReadOptions,
    path: PathBuf,
    /// The path with all links resolved, as a job may write it, if that is another one.
    canonical: Option<PathBuf>,
}

/// Tells a directory from others that have or had its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DirId {
    dev: (u32, u32),
    ino: u64,
    /// The time of birth: an inode may be used again. `None` if the file system does not know it.
    born: Option<(i64, u32)>,
}

impl DirId {
    /// Of the directory at `path`, or of `at` itself if `path` is empty.
    fn of(at: impl AsFd, path: &Path) -> Result<Self, Errno> {
        let want = StatxFlags::INO | StatxFlags::BTIME;
        let flags =
            if path.as_os_str().is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
        match rustix::fs::statx(&at, path, flags, want) {
            Ok(stat) => {
                let has_born =
                    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
                Ok(Self {
                    dev: (stat.stx_dev_major, stat.stx_dev_minor),
                    ino: stat.stx_ino,
                    born: has_born.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
                })
            }
            // An old kernel, or a sandbox that does not allow the call.
            Err(Errno::NOSYS | Errno::PERM) => {
                let stat = rustix::fs::statat(&at, path, flags)?;
                let dev = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
                Ok(Self { dev, ino: stat.st_ino, born: None })
            }
            Err(error) => Err(error),
        }
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW);

impl RunDir {
    /// Opens the directory at `path`, which is absolute.
    pub(crate) fn open(path: &Path, options: ReadOptions) -> io::Result<Self> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        let canonical = std::fs::canonicalize(path)?;
        Self::new(fd, options, path.to_owned(), canonical)
    }

    /// Opens a directory below this one by its relative path. Follows no link.
    pub(crate) fn open_inner(&self, path: &Path) -> io::Result<Self> {
        let name = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let fd = self.open_beneath_with(name, DIRECTORY | OFlags::NOFOLLOW)?;
        let canonical = self.canonical().join(path);
        Self::new(fd, self.options.clone(), self.path.join(path), canonical)
    }

    fn new(
        fd: OwnedFd,
        options: ReadOptions,
        path: PathBuf,
        canonical: PathBuf,
    ) -> io::Result<Self> {
        let (key, id) = (DirKey::new(), DirId::of(&fd, Path::new(""))?);
        key.keep(fd);
        let canonical = Some(canonical).filter(|canonical| *canonical != path);
        Ok(Self { key, id, options, path, canonical })
    }

    /// Returns the directory's descriptor, and opens the directory again if it was closed.
    ///
    /// # Errors
    /// `NOENT` if the path leads to another directory now.
    fn fd(&self) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = self.key.get() {
            return Ok(fd);
        }
        let fd = rustix::fs::open(&self.path, DIRECTORY, Mode::empty())?;
        if DirId::of(&fd, Path::new(""))? != self.id {
            return Err(Errno::NOENT);
        }
        Ok(self.key.keep(fd))
    }

    /// The digest that dumps of this directory get.
    pub(crate) fn digest_kind(&self) -> DigestKind {
        self.options.digest
    }

    /// The directory's path with all links resolved.
    pub(crate) fn canonical(&self) -> &Path {
        self.canonical.as_deref().unwrap_or(&self.path)
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to this directory.
    pub(crate) fn is_in_place(&self) -> bool {
        DirId::of(rustix::fs::CWD, &self.path).is_ok_and(|there| there == self.id)
    }

    /// Converts a path that a record names into a normal path relative to the run directory.
    ///
    /// # Errors
    /// If the path names no file, or lies outside of the run directory. The error is for people.
    pub(crate) fn relative(&self, name: &str) -> Result<String, String> {
        let given = Path::new(name);
        // An absolute path may lead here through links.
        let resolved = || {
            let folder = std::fs::canonicalize(given.parent()?).ok()?;
            Some(folder.join(given.file_name()?))
        };
        let within = |path: &Path| {
            let inner =
                path.strip_prefix(&self.path).or_else(|_| path.strip_prefix(self.canonical()));
            inner.ok().map(Path::to_owned)
        };
        let inner = if given.is_absolute() {
            let inner = within(given).or_else(|| within(&resolved()?));
            inner.ok_or_else(|| format!("{name:?} lies outside of the run directory"))?
        } else {
            given.to_owned()
        };
        let mut parts: Vec<&str> = Vec::new();
        for component in inner.components() {
            match component {
                Component::Normal(part) => parts.extend(part.to_str()),
                Component::CurDir => {}
                Component::ParentDir if parts.pop().is_some() => {}
                _ => return Err(format!("{name:?} leaves the run directory")),
            }
        }
        if parts.is_empty() || name.contains('\0') {
            return Err(format!("{name:?} names no file"));
        }
        Ok(parts.join("/"))
    }

    /// Opens a regular file by its path relative to the directory.
    ///
    /// # Errors
    /// `Wait` if the file is missing, `Retry` if it cannot be opened now, `Reject` if it is no regular
    /// file or lies behind a link.
    pub(crate) fn open_file(&self, path: &str) -> Result<RunFile, ReadFailure> {
        let fd = self.open_beneath(path).map_err(|errno| match errno {
            Errno::NOENT => ReadFailure::Wait(format!("{path:?} is missing")),
            Errno::LOOP => ReadFailure::Reject(format!(
                "{path:?} is a symbolic link or lies behind one, which is not followed"
            )),
            Errno::XDEV => ReadFailure::Reject(format!("{path:?} leaves the run directory")),
            Errno::NOTDIR => {
                ReadFailure::Reject(format!("{path:?} goes through something that is no directory"))
            }
            Errno::NXIO => ReadFailure::Reject(format!(
                "{path:?} is a socket or a device, want a regular file"
            )),
            Errno::NAMETOOLONG => ReadFailure::Reject(format!("{path:?} is too long a path")),
            errno => {
                let advice = match errno {
                    Errno::MFILE => "; allow more open files (LimitNOFILE= of the unit, ulimit -n)",
                    _ => "",
                };
                let error = io::Error::from(errno);
                ReadFailure::Retry(format!("{path:?} cannot be opened: {error}{advice}"))
            }
        })?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|error| ReadFailure::Retry(error.to_string()))?;
        let kind = meta.file_type();
        if !kind.is_file() {
            let what = match kind {
                _ if kind.is_dir() => "a directory",
                _ if kind.is_fifo() => "a FIFO",
                _ => "a device",
            };
            return Err(ReadFailure::Reject(format!("{path:?} is {what}, want a regular file")));
        }
        Ok(RunFile::new(file, &meta, self.options.pace.clone()))
    }

    fn open_beneath(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open_beneath_with(path, FLAGS)
    }

    fn open_beneath_with(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(self.fd()?, path, flags, Mode::empty(), resolve) {
            // An old kernel, or a sandbox that does not allow the call.
            Err(Errno::NOSYS | Errno::PERM) => self.open_by_steps(path, flags),
            result => result,
        }
    }

    /// Does what `openat2` does, one folder at a time.
    fn open_by_steps(&self, path: &str, last: OFlags) -> Result<OwnedFd, Errno> {
        let (folders, name) =
            path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
        let (dir, mut at) = (self.fd()?, None::<OwnedFd>);
        for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            let from = at.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
            at = Some(rustix::fs::openat(from, folder, flags, Mode::empty())?);
        }
        let from = at.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        rustix::fs::openat(from, name, last, Mode::empty())
    }

    /// Whether the permissions of a file's folder allow removing the file.
    pub(crate) fn may_remove(&self, path: &str) -> bool {
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let access = |fd| rustix::fs::accessat(fd, folder, Access::WRITE_OK, AtFlags::EACCESS);
        self.fd().and_then(access).is_ok()
    }

    /// Whether a file may have its full length before its bytes, as a memory map has. Such a file has
    /// fewer blocks than its length needs. If one block holds all of it, its second half is zero bytes.
    pub(crate) fn may_be_unfilled(&self, path: &str) -> bool {
        const BLOCK_BYTES: u64 = 4096;
        let stat = |fd| rustix::fs::statat(fd, path, AtFlags::SYMLINK_NOFOLLOW);
        let Ok(stat) = self.fd().and_then(stat) else { return false };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > BLOCK_BYTES {
            return u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
        }
        let Ok(file) = self.open_file(path) else { return false };
        let mut bytes = vec![0; usize::try_from(size - size / 2).unwrap_or(0)];
        let is_read = file.read_exact_at(&mut bytes, size / 2).is_ok();
        is_read && bytes.iter().all(|byte| *byte == 0)
    }

    /// Returns a file's stamp without following a link, or `None` if the file is missing.
    pub(crate) fn stat(&self, path: &str) -> Option<Stamp> {
        let stat = |fd| rustix::fs::statat(fd, path, AtFlags::SYMLINK_NOFOLLOW);
        self.fd().and_then(stat).ok().map(|stat| stamp_of_stat(&stat))
    }

    /// Returns a file's device and stamp without opening the directory. Good enough to see whether a file of
    /// a quiet run has changed; whatever is read of it is opened beneath the directory.
    pub(crate) fn look(&self, path: &str) -> Option<(u64, Stamp)> {
        let stat = rustix::fs::lstat(self.path.join(path)).ok()?;
        Some((stat.st_dev, stamp_of_stat(&stat)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn reason(result: Result<RunFile, ReadFailure>) -> String {
        match result {
            Ok(_) => "opened".to_owned(),
            Err(ReadFailure::Wait(reason)) => format!("wait: {reason}"),
            Err(ReadFailure::OverLimit(reason)) => format!("limit: {reason}"),
            Err(ReadFailure::Reject(reason)) => format!("reject: {reason}"),
            Err(ReadFailure::Retry(reason)) => format!("retry: {reason}"),
        }
    }

    #[test]
    fn only_regular_files_beneath_are_opened() {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("secret.npy"), "x").expect("a file");
        let run = tempfile::tempdir().expect("a folder");
        let at = |name: &str| run.path().join(name);
        fs::create_dir(at("d.npy")).expect("a folder");
        fs::write(at("a.npy"), "x").expect("a file");
        symlink(outside.path().join("secret.npy"), at("link.npy")).expect("a link");
        symlink(outside.path(), at("folder")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo.npy"), Mode::RUSR).expect("a FIFO");
        drop(std::os::unix::net::UnixListener::bind(at("socket.npy")).expect("a socket"));
        let dir = RunDir::open(run.path(), ReadOptions::default()).expect("the run directory");
        for (path, want) in [
            ("a.npy", "opened"),
            ("d.npy", "reject: \"d.npy\" is a directory"),
            ("fifo.npy", "reject: \"fifo.npy\" is a FIFO"),
            ("socket.npy", "reject: \"socket.npy\" is a socket"),
            ("link.npy", "reject: \"link.npy\" is a symbolic link"),
            (
                "folder/secret.npy",
                "reject: \"folder/secret.npy\" is a symbolic link or lies behind",
            ),
            ("a.npy/b", "reject: \"a.npy/b\" goes through something that is no directory"),
            ("no.npy", "wait: \"no.npy\" is missing"),
        ] {
            let by_kernel = reason(dir.open_file(path));
            assert!(by_kernel.starts_with(want), "{path}: {by_kernel}");
            let by_steps = dir.open_by_steps(path, FLAGS).is_ok();
            let opens = !["link.npy", "socket.npy", "folder/secret.npy", "a.npy/b", "no.npy"]
                .contains(&path);
            assert_eq!(by_steps, opens, "{path}");
        }
    }

    #[test]
    fn what_is_read_again_is_not_paid_again() {
        // A dump was read three times, and each time counted against `read_bytes_per_s_max`: the rate
        // was a third of what the configuration says.
        let run = tempfile::tempdir().expect("a folder");
        fs::write(run.path().join("a.npy"), [0; 300]).expect("a file");
        let dir = RunDir::open(run.path(), ReadOptions::default()).expect("the run directory");
        let dump = dir.open_file("a.npy").expect("a dump");
        let reads = [(0, 10), (0, 10), (10, 190), (0, 100), (150, 150), (0, 300)];
        let paid = reads.map(|(offset, n)| dump.n_unread(offset, n));
        assert_eq!(paid, [10, 0, 190, 0, 100, 0]);
    }

    #[test]
    fn names_are_brought_into_the_run_directory_or_refused() {
        let run = tempfile::tempdir().expect("a folder");
        let dir = RunDir::open(run.path(), ReadOptions::default()).expect("the run directory");
        let absolute = run.path().join("t/x.npy");
        for (name, want) in [
            ("t/x.npy", Some("t/x.npy")),
            ("./t/../t//x.npy", Some("t/x.npy")),
            (absolute.to_str().unwrap_or(""), Some("t/x.npy")),
            ("../x.npy", None),
            ("t/../../x.npy", None),
            ("/etc/passwd", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(dir.relative(name).ok().as_deref(), want, "{name}");
        }
    }
}
