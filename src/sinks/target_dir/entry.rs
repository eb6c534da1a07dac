//! Entries of an open folder: their types, and renames that replace nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, RenameFlags};
use rustix::io::Errno;

/// Renames an entry. Fails with `EXIST` if the new name is taken.
pub(super) fn rename_new(
    from_folder: &OwnedFd,
    from: &OsStr,
    to_folder: &OwnedFd,
    to: &OsStr,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from_folder, from, to_folder, to, RenameFlags::NOREPLACE) {
        // The file system does not support the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if file_type_at(to_folder, to)?.is_some() {
                return Err(Errno::EXIST);
            }
            rustix::fs::renameat(from_folder, from, to_folder, to)
        }
        renamed => renamed,
    }
}

/// Returns the type of an entry, without following a link; `None` if there is none.
pub(super) fn file_type_at(folder: &OwnedFd, name: &OsStr) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Returns the names and types of a folder's entries.
pub(super) fn entries_of(folder: &OwnedFd) -> Result<Vec<(OsString, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name == "." || name == ".." {
            continue;
        }
        let file_type = match entry.file_type() {
            // The file system does not report types.
            FileType::Unknown => match file_type_at(folder, &name)? {
                Some(file_type) => file_type,
                None => continue,
            },
            file_type => file_type,
        };
        entries.push((name, file_type));
    }
    Ok(entries)
}

/// Returns the name of a type for messages.
pub(super) fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}
