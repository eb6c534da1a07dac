//! A directory as an object store.

use std::fs::File;
use std::io;
use std::path::Path as FilePath;

use object_store::Error;
use object_store::path::Path;
use sha2::Digest;

use super::{Made, Unsent};
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

    /// Makes an object that isn't there, durably.
    pub(super) async fn make(&self, path: &Path, bytes: Vec<u8>) -> Result<Made, Error> {
        let made = self.blocking(path, move |dir, path| {
            publish(dir, path, |staged| {
                staged.file().write_all_at(&bytes, 0)?;
                staged.file().sync()?;
                Ok(true)
            })
        });
        made.await.map_err(error_of).map(|made| made.unwrap_or(Made::Before))
    }

    /// Makes an object of a file's content, durably, unless the content has another digest.
    pub(super) async fn make_from_file(
        &self,
        path: &Path,
        mut from: File,
        sha256: Sha256,
    ) -> Result<Made, Unsent> {
        let made = self.blocking(path, move |dir, path| {
            publish(dir, path, |staged| {
                let mut hasher = sha2::Sha256::new();
                staged.copy(&mut from, |bytes| hasher.update(bytes))?;
                let digest: [u8; 32] = hasher.finalize().into();
                Ok(Sha256::from(digest) == sha256)
            })
        });
        let made = made.await.map_err(|error| Unsent::Refused(error_of(error)))?;
        made.ok_or(Unsent::Changed)
    }

    /// Returns how many bytes an object has; `None` if it isn't there.
    pub(super) async fn n_bytes(&self, path: &Path) -> Result<Option<u64>, Error> {
        let n_bytes =
            self.blocking(path, |dir, path| Ok(dir.open_to_read(path)?.metadata()?.len()));
        found(n_bytes.await)
    }

    /// Returns the content of an object; `None` if it isn't there.
    pub(super) async fn content(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let content = self.blocking(path, |dir, path| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut dir.open_to_read(path)?, &mut bytes)?;
            Ok(bytes)
        });
        found(content.await)
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

/// Publishes a file that `write` has filled; returns `None` if `write` says that its content is wrong.
fn publish(
    dir: &TargetDir,
    path: &FilePath,
    write: impl FnOnce(&StagedFile) -> io::Result<bool>,
) -> io::Result<Option<Made>> {
    let folder = path.parent().unwrap_or(FilePath::new(""));
    dir.create_dir_all(folder)?;
    let staged = dir.stage(path)?;
    if !write(&staged)? {
        return Ok(None);
    }
    let published = staged.publish()?;
    // One that is there may come from a process that was killed before it synced the folder.
    dir.sync_dir(folder)?;
    Ok(Some(match published {
        Published::Now => Made::Now,
        Published::AlreadyThere => Made::Before,
    }))
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
