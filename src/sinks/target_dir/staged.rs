//! A new file that gets its name when it is complete.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::entry::{file_type_at, rename_new};
use super::{TargetDir, TargetDirError};
use crate::durable::{DiskFile, Step};

const CHUNK_BYTES: usize = 1 << 20;

/// Whether a file got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The file has the name now.
    Now,
    /// Another file has the name, and keeps it.
    AlreadyExists,
}

/// A new file under a temporary name, which is removed unless the file is published.
#[derive(Debug)]
pub(crate) struct StagedFile {
    pub(super) dir: TargetDir,
    pub(super) folder: OwnedFd,
    pub(super) temporary: OsString,
    pub(super) path: PathBuf,
    pub(super) file: DiskFile,
    pub(super) is_published: bool,
}

impl StagedFile {
    pub(crate) fn file(&self) -> &DiskFile {
        &self.file
    }

    /// Copies `from` to its end and syncs the file. Calls `see` with each part.
    ///
    /// # Errors
    /// If it can't be read, written or synced.
    pub(crate) fn copy(&self, from: &mut impl Read, mut see: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut n_bytes = 0;
        loop {
            let n = match from.read(&mut chunk) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            see(&chunk[..n]);
            self.file.write_all_at(&chunk[..n], n_bytes)?;
            n_bytes += n as u64;
        }
        self.file.sync()?;
        Ok(n_bytes)
    }

    /// Gives the file its name, unless another file has it.
    ///
    /// # Errors
    /// If the name is taken by a link, or can't be given.
    pub(crate) fn publish(mut self) -> io::Result<Published> {
        let name = self.path.file_name().unwrap_or_default();
        let absolute = self.dir.path(&self.path);
        let temporary = absolute.with_file_name(&self.temporary);
        self.dir.disk.observe(&Step::Rename(&temporary, &absolute))?;
        match rename_new(&self.folder, &self.temporary, &self.folder, name) {
            Err(Errno::EXIST) => match file_type_at(&self.folder, name)? {
                Some(FileType::Symlink) => Err(TargetDirError::Link(absolute).into()),
                _ => Ok(Published::AlreadyExists),
            },
            renamed => {
                renamed?;
                self.is_published = true;
                Ok(Published::Now)
            }
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_published {
            // If this fails, the temporary file does no harm.
            rustix::fs::unlinkat(&self.folder, &self.temporary, AtFlags::empty()).ok();
        }
    }
}
