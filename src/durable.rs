//! *How* bytes become durable: synced files, atomic replacement, synced directories. *When* is
//! decided in [`crate::store`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes the entries of a directory durable.
///
/// # Errors
/// If the directory can't be opened or synced.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the content of a file durable, whoever wrote it.
///
/// # Errors
/// If the file can't be opened or synced.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_data()
}

/// Makes a directory and all above it that are missing, and their entries durable.
///
/// # Errors
/// If one can't be made or synced.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().ok_or(error)?;
            create_dir_all(above)?;
            fs::create_dir(path)?;
        }
        Err(error) => return Err(error),
    }
    match path.parent() {
        Some(above) if above != Path::new("") => sync_dir(above),
        _ => Ok(()),
    }
}

/// Replaces a file by `bytes`, durably: readers see the old one or the new one, whole.
///
/// # Errors
/// If the new file can't be written; the old one is then still there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}
