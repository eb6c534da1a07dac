//! A directory as an object store.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path as FilePath;

use object_store::Error;
use object_store::path::Path;
use rustix::fs::FileType;
use sha2::Digest;

use super::reading::ListedObject;
use super::store::{ObjectCreation, TransferError};
use crate::durable::Disk;
use crate::media::Sha256;
use crate::sinks::target_dir::{Published, StagedFile, TargetDir};

/// Objects as files beneath a directory.
#[derive(Debug, Clone)]
pub(super) struct Directory(TargetDir);

impl Directory {
    pub(super) fn new(root: &FilePath) -> Self {
        Self(TargetDir::new(root, Disk::default()))
    }

    /// Creates an object durably, unless it exists.
    pub(super) async fn create(
        &self,
        path: &Path,
        bytes: Vec<u8>,
    ) -> Result<ObjectCreation, Error> {
        let creation = self.blocking(path, move |dir, path| {
            publish(dir, path, |staged| {
                staged.file().write_all_at(&bytes, 0)?;
                staged.file().sync()?;
                Ok(true)
            })
        });
        creation
            .await
            .map_err(error_of)
            .map(|creation| creation.unwrap_or(ObjectCreation::AlreadyExists))
    }

    /// Creates an object from a file durably, unless it exists or the file has another digest.
    pub(super) async fn create_from_file(
        &self,
        path: &Path,
        mut from: File,
        sha256: Sha256,
    ) -> Result<ObjectCreation, TransferError> {
        let creation = self.blocking(path, move |dir, path| {
            publish(dir, path, |staged| {
                let mut hasher = sha2::Sha256::new();
                staged.copy(&mut from, |bytes| hasher.update(bytes))?;
                let digest: [u8; 32] = hasher.finalize().into();
                Ok(Sha256::from(digest) == sha256)
            })
        });
        let creation = creation.await.map_err(|error| TransferError::Refused(error_of(error)))?;
        creation.ok_or(TransferError::Changed)
    }

    /// Returns the size of an object; `None` if it does not exist.
    pub(super) async fn n_bytes(&self, path: &Path) -> Result<Option<u64>, Error> {
        let n_bytes =
            self.blocking(path, |dir, path| Ok(dir.open_to_read(path)?.metadata()?.len()));
        found(n_bytes.await)
    }

    /// Returns the content of an object of at most `n_bytes_max` bytes; `None` if it does not exist.
    pub(super) async fn content(
        &self,
        path: &Path,
        n_bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let content = self.blocking(path, move |dir, path| {
            let mut bytes = Vec::new();
            dir.open_to_read(path)?.take(n_bytes_max + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > n_bytes_max {
                let path = dir.path(path);
                return Err(io::Error::other(format!(
                    "got more than {n_bytes_max} bytes: {}",
                    path.display()
                )));
            }
            Ok(bytes)
        });
        found(content.await)
    }

    /// Lists the folders in a folder.
    pub(super) async fn folders(&self, path: &Path) -> Result<Vec<String>, Error> {
        let listed = self.blocking(path, |dir, path| names(dir, path, FileType::Directory));
        listed.await.map_err(error_of)
    }

    /// Lists the files in a folder.
    pub(super) async fn files(&self, path: &Path) -> Result<Vec<ListedObject>, Error> {
        let listed = self.blocking(path, |dir, path| {
            let listed = names(dir, path, FileType::RegularFile)?.into_iter().map(|name| {
                let meta = dir.path(&path.join(&name)).symlink_metadata();
                let created = meta.and_then(|meta| meta.modified()).ok();
                ListedObject { name, created }
            });
            Ok(listed.collect())
        });
        listed.await.map_err(error_of)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&TargetDir, &FilePath) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (dir, path) = (self.0.clone(), path.as_ref().to_owned());
        let work = move || work(&dir, FilePath::new(&path));
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

/// Publishes a file after `write` has filled it. Returns `None` if `write` returns `false`, for wrong content.
fn publish(
    dir: &TargetDir,
    path: &FilePath,
    write: impl FnOnce(&StagedFile) -> io::Result<bool>,
) -> io::Result<Option<ObjectCreation>> {
    let folder = path.parent().unwrap_or(FilePath::new(""));
    dir.create_dir_all(folder)?;
    let staged = dir.stage(path)?;
    if !write(&staged)? {
        return Ok(None);
    }
    let published = staged.publish()?;
    // An existing file may come from a process that was killed before it synced the folder.
    dir.sync_dir(folder)?;
    Ok(Some(match published {
        Published::Now => ObjectCreation::Created,
        Published::AlreadyExists => ObjectCreation::AlreadyExists,
    }))
}

/// The names of a folder's entries of one type. Names that no object can have are left out.
fn names(dir: &TargetDir, path: &FilePath, want: FileType) -> io::Result<Vec<String>> {
    let of_type = dir.entries(path)?.into_iter().filter(|(_, file_type)| *file_type == want);
    Ok(of_type.filter_map(|(name, _)| name.into_string().ok()).collect())
}

fn found<T>(result: io::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error_of(error)),
    }
}

fn error_of(error: io::Error) -> Error {
    Error::Generic { store: "directory", source: Box::new(error) }
}
