//! Opens files of a run directory, and nothing outside of it.
//!
//! Names come from the job. No link is followed, no device or pipe is read, and no name leaves the
//! directory, whatever is renamed meanwhile: the kernel resolves the name beneath the directory's
//! descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Access, Advice, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::decode::{DecodeError, ReadAt};
use crate::media::{Digest, DigestKind, Hasher};
use crate::pace::Pace;
use crate::plan::CHUNK_BYTES;
use crate::pulse;
use crate::store::journal::Stamp;

/// What the engine does about a file that can't be read.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may yet come, or be completed: wait a while.
    Wait(String),
    /// The machine or the mount fails, not the file: wait as long as that lasts.
    Trouble(String),
    /// Nothing can come of it.
    Reject(String),
}

impl Verdict {
    /// Why.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Wait(reason) | Self::Trouble(reason) | Self::Reject(reason) => reason,
        }
    }

    /// The same about a mask's file.
    pub(crate) fn about_mask(self) -> Self {
        let named = |reason: String| format!("mask {reason}");
        match self {
            Self::Wait(reason) => Self::Wait(named(reason)),
            Self::Trouble(reason) => Self::Trouble(named(reason)),
            Self::Reject(reason) => Self::Reject(named(reason)),
        }
    }

    /// The same about a file of this name.
    pub(crate) fn about(self, path: &str) -> Self {
        let named = |reason: String| format!("{path:?} {reason}");
        match self {
            Self::Wait(reason) => Self::Wait(named(reason)),
            Self::Trouble(reason) => Self::Trouble(named(reason)),
            Self::Reject(reason) => Self::Reject(named(reason)),
        }
    }
}

impl From<DecodeError> for Verdict {
    fn from(error: DecodeError) -> Self {
        let reason = error.to_string();
        match error {
            DecodeError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Trouble(reason)
            }
            DecodeError::Truncated { .. } | DecodeError::Unfinished(_) | DecodeError::Io(_) => {
                Self::Wait(reason)
            }
            DecodeError::Malformed(_) | DecodeError::Unsupported(_) | DecodeError::OverLimit(_) => {
                Self::Reject(reason)
            }
        }
    }
}

/// How dumps are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) pace: Arc<Pace>,
    /// How their content is told.
    pub(crate) digest: DigestKind,
}

/// A run directory.
#[derive(Debug)]
pub(crate) struct RunDir {
    fd: OwnedFd,
    pub(super) reading: Reading,
    path: PathBuf,
    /// The same without links, as a job may name it.
    canonical: PathBuf,
}

/// A regular file of a run directory, open for reading.
#[derive(Debug)]
pub(crate) struct Dump {
    file: File,
    pace: Arc<Pace>,
    /// Whether the kernel had it in memory before it was read.
    was_cached: OnceLock<bool>,
    /// Up to where it was read: what is read again comes from the kernel's memory.
    read_until: AtomicU64,
    /// What it looked like when it was opened.
    pub(crate) stamp: Stamp,
}

/// What a file is told from its earlier versions by.
pub(crate) fn stamp_of(meta: &std::fs::Metadata) -> Stamp {
    let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stamp {
        ino: meta.ino(),
        size: meta.len(),
        mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
    }
}

fn stamp_of_stat(stat: &rustix::fs::Stat) -> Stamp {
    let ns = |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stamp {
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
    }
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW);

/// What ends the name of a file that is about to be removed, before a number.
const ASIDE: &str = ".safelight-removed-";

/// How many names are tried for a file that is about to be removed.
const ASIDE_NAMES: u32 = 64;

/// The name that a file had before [`rename_aside`]; `None` if it was not renamed by that.
fn name_before(aside: &str) -> Option<&str> {
    let (name, number) = aside.strip_prefix('.')?.rsplit_once(ASIDE)?;
    let is_ours = !name.is_empty() && number.parse::<u32>().is_ok_and(|n| n < ASIDE_NAMES);
    is_ours.then_some(name)
}

/// Renames a file to one of the names that [`name_before`] knows. No file is replaced.
fn rename_aside(folder: &OwnedFd, name: &str) -> Result<String, Errno> {
    for n in 0..ASIDE_NAMES {
        let aside = format!(".{name}{ASIDE}{n}");
        let result =
            match rustix::fs::renameat_with(folder, name, folder, &aside, RenameFlags::NOREPLACE) {
                // Not every file system can. Then an empty file of ours takes the name first.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    rustix::fs::openat(folder, &aside, flags, Mode::RUSR | Mode::WUSR)
                        .and_then(|_| rustix::fs::renameat(folder, name, folder, &aside))
                }
                result => result,
            };
        match result {
            Err(Errno::EXIST) => {}
            result => return result.map(|()| aside),
        }
    }
    Err(Errno::EXIST)
}

/// Renames a file to a name that no other file has.
fn rename_to_free(folder: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?;
            rustix::fs::unlinkat(folder, from, AtFlags::empty())
        }
        result => result,
    }
}

impl RunDir {
    /// Opens the directory at `path`, which is absolute. Its files are read in this way.
    pub(crate) fn open(path: &Path, reading: Reading) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let canonical = std::fs::canonicalize(path)?;
        Ok(Self { fd, reading, path: path.to_owned(), canonical })
    }

    /// Opens a directory below this one, `path` being relative. No link is followed, whatever is renamed
    /// meanwhile.
    pub(crate) fn open_inner(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NOFOLLOW;
        let name = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let fd = self.open_beneath_with(name, flags)?;
        let (reading, canonical) = (self.reading.clone(), self.canonical.join(path));
        Ok(Self { fd, reading, path: self.path.join(path), canonical })
    }

    /// The directory's path without links.
    pub(crate) fn canonical(&self) -> &Path {
        &self.canonical
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to this directory.
    pub(crate) fn is_in_place(&self) -> bool {
        match (rustix::fs::stat(&self.path), rustix::fs::fstat(&self.fd)) {
            (Ok(there), Ok(here)) => (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino),
            _ => false,
        }
    }

    /// The path that a record names, relative to the run directory and in its plainest form.
    ///
    /// # Errors
    /// Why it can't be, for a person to read.
    pub(crate) fn relative(&self, name: &str) -> Result<String, String> {
        let given = Path::new(name);
        // An absolute name may lead here by way of links.
        let resolved = || {
            let folder = std::fs::canonicalize(given.parent()?).ok()?;
            Some(folder.join(given.file_name()?))
        };
        let within = |path: &Path| {
            let inner =
                path.strip_prefix(&self.path).or_else(|_| path.strip_prefix(&self.canonical));
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
    /// `Wait` if it may yet come or become readable, `Reject` if it is no regular file or lies
    /// behind a link.
    pub(crate) fn open_file(&self, path: &str) -> Result<Dump, Verdict> {
        let fd = self.open_beneath(path).map_err(|errno| match errno {
            Errno::NOENT => Verdict::Wait(format!("{path:?} is missing")),
            Errno::LOOP => Verdict::Reject(format!(
                "{path:?} is a symbolic link or lies behind one, which is not followed"
            )),
            Errno::XDEV => Verdict::Reject(format!("{path:?} leaves the run directory")),
            Errno::NOTDIR => Verdict::Reject(format!("{path:?} goes through what is no directory")),
            Errno::NXIO => {
                Verdict::Reject(format!("{path:?} is a socket or a device, want a regular file"))
            }
            Errno::NAMETOOLONG => Verdict::Reject(format!("{path:?} is too long a path")),
            errno => {
                Verdict::Trouble(format!("{path:?} cannot be opened: {}", io::Error::from(errno)))
            }
        })?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|error| Verdict::Trouble(error.to_string()))?;
        let kind = meta.file_type();
        if !kind.is_file() {
            let what = match kind {
                _ if kind.is_dir() => "a directory",
                _ if kind.is_fifo() => "a FIFO",
                _ => "a device",
            };
            return Err(Verdict::Reject(format!("{path:?} is {what}, want a regular file")));
        }
        let (stamp, pace) = (stamp_of(&meta), self.reading.pace.clone());
        let (was_cached, read_until) = (OnceLock::new(), AtomicU64::new(0));
        Ok(Dump { file, pace, was_cached, read_until, stamp })
    }

    fn open_beneath(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open_beneath_with(path, FLAGS)
    }

    fn open_beneath_with(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            // An old kernel, or a sandbox that doesn't know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.open_by_steps(path, flags),
            result => result,
        }
    }

    /// The same, one folder at a time.
    fn open_by_steps(&self, path: &str, last: OFlags) -> Result<OwnedFd, Errno> {
        let (folders, name) =
            path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
        let mut at: Option<OwnedFd> = None;
        for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            let from = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            at = Some(rustix::fs::openat(from, folder, flags, Mode::empty())?);
        }
        let from = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        rustix::fs::openat(from, name, last, Mode::empty())
    }

    /// Whether a file may be removed, as far as its folder goes.
    pub(crate) fn may_remove(&self, path: &str) -> bool {
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        rustix::fs::accessat(&self.fd, folder, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    }

    /// Removes a file that still looks like this.
    ///
    /// It is renamed aside first, to a name that no other file has: what a job renames to its place
    /// meanwhile is another file, and stays. If the process ends in between, [`Self::put_back`] brings
    /// the file back.
    ///
    /// # Errors
    /// Why it is still there.
    pub(crate) fn remove(&self, path: &str, stamp: Stamp) -> Result<(), String> {
        let told = |errno: Errno| io::Error::from(errno).to_string();
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let folder = self.open_folder(folder).map_err(told)?;
        let is_same = |name: &str| {
            rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stamp.has_content_of(stamp_of_stat(&stat)))
        };
        if !is_same(name) {
            return Err("it was written anew meanwhile".to_owned());
        }
        let aside = rename_aside(&folder, name).map_err(told)?;
        if is_same(&aside) {
            return rustix::fs::unlinkat(&folder, &aside, AtFlags::empty()).map_err(told);
        }
        rename_to_free(&folder, &aside, name).map_err(told)?;
        Err("it was written anew meanwhile".to_owned())
    }

    /// Brings back the files of a folder that a killed process had renamed aside to remove them, unless
    /// another file has the name now. Only paths for which `is_known` is true are looked at. Returns the
    /// paths that were brought back.
    ///
    /// # Errors
    /// If the folder can't be read. One that is gone holds nothing.
    pub(crate) fn put_back(
        &self,
        folder: &str,
        is_known: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let fd = match self.open_folder(if folder.is_empty() { "." } else { folder }) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            fd => fd?,
        };
        let mut back = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let Ok(aside) = entry.file_name().to_str() else { continue };
            let Some(name) = name_before(aside) else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let is_dump = |stat: rustix::fs::Stat| {
                // An empty one only holds the name free.
                FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_size > 0
            };
            let stat = rustix::fs::statat(&fd, aside, AtFlags::SYMLINK_NOFOLLOW);
            if !is_known(&path) || !stat.is_ok_and(is_dump) {
                continue;
            }
            match rename_to_free(&fd, aside, name) {
                Err(Errno::EXIST) => {}
                result => {
                    result?;
                    back.push(path);
                }
            }
        }
        Ok(back)
    }

    fn open_folder(&self, folder: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        self.open_beneath_with(folder, flags)
    }

    /// Whether a file may have its length before its bytes, as a memory map has: it has fewer blocks than
    /// its length asks for or, where one block would do for all of it, ends in nothing but zero bytes.
    pub(crate) fn may_be_unfilled(&self, path: &str) -> bool {
        const BLOCK_BYTES: u64 = 4096;
        let Ok(stat) = rustix::fs::statat(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW) else {
            return false;
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > BLOCK_BYTES {
            return u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
        }
        let Ok(file) = self.open_file(path) else { return false };
        let mut bytes = vec![0; usize::try_from(size - size / 2).unwrap_or(0)];
        let is_read = file.read_exact_at(&mut bytes, size / 2).is_ok();
        is_read && bytes.iter().all(|byte| *byte == 0)
    }

    /// What a file looks like, without following a link; `None` if it isn't there.
    pub(crate) fn stat(&self, path: &str) -> Option<Stamp> {
        rustix::fs::statat(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .map(|stat| stamp_of_stat(&stat))
    }
}

impl Dump {
    /// Whether nobody wrote to the file since it was opened. (A new name or other rights, which
    /// only the change time tells of, do no harm.)
    pub(crate) fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| self.is_same_as(stamp_of(&meta)))
    }

    /// Whether the file was opened with the content that it had by another stamp.
    pub(crate) fn is_same_as(&self, stamp: Stamp) -> bool {
        self.stamp.has_content_of(stamp)
    }

    /// The digest of the whole file.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn digest(&self, kind: DigestKind) -> io::Result<Digest> {
        let mut hasher = Hasher::new(kind);
        self.digest_rest(&mut hasher, 0)?;
        Ok(hasher.digest())
    }

    /// Has `hasher` see the file from `at` on.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn digest_rest(&self, hasher: &mut Hasher, mut at: u64) -> io::Result<()> {
        if at == self.n_bytes() {
            return Ok(());
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < self.n_bytes() {
            let n = usize::try_from(self.n_bytes() - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            self.read_exact_at(&mut chunk[..n], at)?;
            hasher.update(&chunk[..n]);
            at += n as u64;
        }
        Ok(())
    }

    /// Whether the kernel has the file in memory, as far as a look at three places tells.
    fn is_cached(&self) -> bool {
        let last = self.stamp.size.saturating_sub(1);
        [0, last / 2, last].into_iter().all(|offset| {
            let mut byte = [0];
            let mut buffers = [io::IoSliceMut::new(&mut byte)];
            let without_waiting = ReadWriteFlags::NOWAIT;
            rustix::io::preadv2(&self.file, &mut buffers, offset, without_waiting).is_ok()
        })
    }

    /// How many of these bytes were not read before. (A digest, the range of the values and the pixels
    /// take a look of their own each.)
    fn n_unread(&self, offset: u64, n: u64) -> u64 {
        let end = offset.saturating_add(n);
        let before = self.read_until.fetch_max(end, Ordering::Relaxed);
        end.saturating_sub(before.max(offset))
    }

    /// Leaves the kernel's memory of files as it was before this one was read.
    pub(crate) fn give_back_cache(&self) {
        if self.was_cached.get() == Some(&false) {
            // Only advice: some file systems take none.
            rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed).ok();
        }
    }

    /// The open file.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

impl ReadAt for Dump {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        pulse::beat();
        if !*self.was_cached.get_or_init(|| self.is_cached()) {
            self.pace.wait_for(self.n_unread(offset, buffer.len() as u64));
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn n_bytes(&self) -> u64 {
        self.stamp.size
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn reason(result: Result<Dump, Verdict>) -> String {
        match result {
            Ok(_) => "opened".to_owned(),
            Err(Verdict::Wait(reason)) => format!("wait: {reason}"),
            Err(Verdict::Reject(reason)) => format!("reject: {reason}"),
            Err(Verdict::Trouble(reason)) => format!("trouble: {reason}"),
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
        let dir = RunDir::open(run.path(), Reading::default()).expect("the run directory");
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
            ("a.npy/b", "reject: \"a.npy/b\" goes through what is no directory"),
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
        let dir = RunDir::open(run.path(), Reading::default()).expect("the run directory");
        let dump = dir.open_file("a.npy").expect("a dump");
        let reads = [(0, 10), (0, 10), (10, 190), (0, 100), (150, 150), (0, 300)];
        let paid = reads.map(|(offset, n)| dump.n_unread(offset, n));
        assert_eq!(paid, [10, 0, 190, 0, 100, 0]);
    }

    #[test]
    fn a_file_is_removed_without_replacing_another() {
        // Retention renamed a dump to `.NAME.removed` before it removed it, and so destroyed a file of
        // the job that had this name.
        let run = tempfile::tempdir().expect("a folder");
        let dir = RunDir::open(run.path(), Reading::default()).expect("the run directory");
        let of_job = [".a.npy.removed", ".a.npy.safelight-removed-0", ".a.npy.safelight-removed-1"];
        for name in ["a.npy"].iter().chain(&of_job) {
            fs::write(run.path().join(name), name).expect("a file");
        }
        let stamp = dir.stat("a.npy").expect("a stamp");
        dir.remove("a.npy", stamp).expect("a removal");
        for name in of_job {
            assert_eq!(fs::read_to_string(run.path().join(name)).expect("a file"), name);
        }
        assert_eq!(fs::read_dir(run.path()).expect("a folder").count(), of_job.len());
    }

    #[test]
    fn what_a_killed_process_renamed_aside_is_put_back() {
        let run = tempfile::tempdir().expect("a folder");
        let dir = RunDir::open(run.path(), Reading::default()).expect("the run directory");
        let at = |name: &str| run.path().join("d").join(name);
        fs::create_dir(run.path().join("d")).expect("a folder");
        let folder = dir.open_folder("d").expect("a folder");
        fs::write(at("a.npy"), "a").expect("a file");
        fs::write(at("b.npy"), "old").expect("a file");
        let aside = rename_aside(&folder, "a.npy").expect("a rename");
        assert_eq!(name_before(&aside), Some("a.npy"));
        let of_b = rename_aside(&folder, "b.npy").expect("a rename");
        fs::write(at("b.npy"), "new").expect("a file");
        // None of these is a known dump that was renamed.
        let others = [
            (".c.npy.safelight-removed-0", ""),
            (".d.npy.removed", "d"),
            (".unknown.npy.safelight-removed-0", "x"),
        ];
        for (name, text) in others {
            fs::write(at(name), text).expect("a file");
        }
        let is_known = |path: &str| path != "d/unknown.npy";
        assert_eq!(dir.put_back("d", is_known).expect("a folder"), ["d/a.npy"]);
        assert_eq!(dir.put_back("gone", is_known).expect("no folder"), Vec::<String>::new());
        let want = [("a.npy", "a"), ("b.npy", "new"), (of_b.as_str(), "old")];
        for (name, want) in want.iter().chain(&others) {
            assert_eq!(fs::read_to_string(at(name)).expect("a file"), *want, "{name}");
        }
        assert_eq!(fs::read_dir(run.path().join("d")).expect("a folder").count(), 6);
    }

    #[test]
    fn names_are_brought_into_the_run_directory_or_refused() {
        let run = tempfile::tempdir().expect("a folder");
        let dir = RunDir::open(run.path(), Reading::default()).expect("the run directory");
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
