//! `run.json`: the identity of a run, and the directory that it comes from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FORMAT, StoreError};
use crate::durable::{Disk, open_to_read};
use crate::media::RunId;

/// A run: its id, and the directory that it is written in.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// From `safelight.json`, else the directory's name.
    pub id: RunId,
    /// The run directory, absolute.
    pub source: PathBuf,
    /// The content of `safelight.json`.
    pub identity: Map<String, Value>,
}

/// The content of `run.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunFile {
    format: u32,
    pub(super) id: RunId,
    pub(super) source: PathBuf,
    identity: Map<String, Value>,
}

impl RunFile {
    pub(super) fn of(info: &RunInfo) -> Self {
        let RunInfo { id, source, identity } = info.clone();
        Self { format: FORMAT, id, source, identity }
    }

    pub(super) fn into_info(self) -> RunInfo {
        let Self { id, source, identity, .. } = self;
        RunInfo { id, source, identity }
    }

    /// Reads the file in a run's folder. `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is of a later version.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(folder);
        let text = match open_to_read(&path).and_then(read_all) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::File { path, source }),
        };
        let file: Self = serde_json::from_slice(&text).map_err(|error| StoreError::File {
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        if file.format > FORMAT {
            return Err(StoreError::TooNew { path, got: file.format });
        }
        Ok(Some(file))
    }

    /// Reads the file in a run's folder. A damaged file counts as none: it is written again from the run
    /// directory, which has all of its content.
    ///
    /// # Errors
    /// If it cannot be read, or is of a later version.
    pub(super) fn read_sound(folder: &Path) -> Result<Option<Self>, StoreError> {
        match Self::read(folder) {
            Err(StoreError::File { path, source })
                if source.kind() == io::ErrorKind::InvalidData =>
            {
                tracing::warn!(path = %path.display(), error = %source, "damaged file is replaced");
                Ok(None)
            }
            result => result,
        }
    }

    /// Checks that the folder is that of this run.
    ///
    /// # Errors
    /// [`StoreError::OtherRun`] if it is another run's.
    pub(super) fn check_id(&self, id: &RunId, folder: &Path) -> Result<(), StoreError> {
        if self.id == *id {
            return Ok(());
        }
        let (folder, was, now) = (folder.to_owned(), self.id.clone(), id.clone());
        Err(StoreError::OtherRun { folder, was, now })
    }

    /// Replaces the file in a run's folder, durably.
    ///
    /// # Errors
    /// If the run directory's path is not UTF-8, or the disk fails.
    pub(super) fn write(&self, disk: &Disk, folder: &Path) -> Result<(), StoreError> {
        if self.source.to_str().is_none() {
            return Err(StoreError::NotUtf8 { path: self.source.clone() });
        }
        let text = serde_json::to_vec_pretty(self);
        let text = text.expect("the path is UTF-8, and all map keys are text");
        Ok(disk.replace(&path(folder), &text)?)
    }
}

fn read_all(mut file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn path(folder: &Path) -> PathBuf {
    folder.join("run.json")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_directory_that_is_not_utf8_is_refused_and_nothing_is_written() {
        // It was written as an empty run.json, so that the next start skipped the run.
        let folder = tempfile::tempdir().expect("a folder");
        let source = PathBuf::from(OsStr::from_bytes(b"/runs/\xff"));
        let id = RunId::new("a").expect("a name");
        let file = RunFile::of(&RunInfo { id, source, identity: Map::new() });
        let result = file.write(&Disk::default(), folder.path());
        assert!(matches!(result, Err(StoreError::NotUtf8 { .. })), "{result:?}");
        assert_eq!(RunFile::read(folder.path()).expect("no failure"), None);
    }
}
