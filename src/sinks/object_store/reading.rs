//! Reads a store: objects, and the names of folders and objects.

use std::time::SystemTime;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};

use super::location::{Objects, StoreLocation};
use crate::sinks::http::policy::OBJECT_BYTES_MAX;

/// An object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedObject {
    /// The part of its name after the folder.
    pub(crate) name: String,
    /// When it was created, if the store says so.
    pub(crate) created: Option<SystemTime>,
}

impl StoreLocation {
    /// Returns the path of an object, with the prefix.
    pub(crate) fn path(&self, name: &str) -> Result<Path, Error> {
        let prefix = self.prefix.as_ref();
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Path::parse(format!("{prefix}{slash}{name}"))?)
    }

    /// Returns the size of an object; `None` if it does not exist.
    pub(super) async fn n_bytes(&self, path: &Path) -> Result<Option<u64>, Error> {
        let store = match &self.objects {
            Objects::Directory(directory) => return directory.n_bytes(path).await,
            Objects::Bucket(store) => store,
        };
        match store.head(path).await {
            Ok(object) => Ok(Some(object.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the content of an object; `None` if it does not exist.
    pub(super) async fn content(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        self.content_up_to(path, OBJECT_BYTES_MAX).await
    }

    /// Returns the content of an object of at most `n_bytes_max` bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// If it is longer, or the store fails.
    pub(crate) async fn content_up_to(
        &self,
        path: &Path,
        n_bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let store = match &self.objects {
            Objects::Directory(directory) => return directory.content(path, n_bytes_max).await,
            Objects::Bucket(store) => store,
        };
        match store.get(path).await {
            // Read in parts, because the crate reserves memory for the size that the server announces.
            Ok(object) => {
                let mut parts = object.into_stream();
                let mut content = Vec::new();
                while let Some(part) = parts.next().await {
                    content.extend_from_slice(&part?);
                    if content.len() as u64 > n_bytes_max {
                        let source = format!("{path} has more than {n_bytes_max} bytes").into();
                        return Err(Error::Generic { store: "object store", source });
                    }
                }
                Ok(Some(content))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the names of the folders that lie directly in a folder, in order. A folder that does not exist has none.
    pub(crate) async fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.path(folder)?;
        let mut names = match &self.objects {
            Objects::Directory(directory) => directory.folders(&path).await?,
            Objects::Bucket(store) => {
                let listed = store.list_with_delimiter(Some(&path)).await?;
                let name = |path: Path| path.filename().map(str::to_owned);
                listed.common_prefixes.into_iter().filter_map(name).collect()
            }
        };
        names.sort_unstable();
        Ok(names)
    }

    /// Lists the objects that lie directly in a folder and whose names come after `after`, in order.
    pub(crate) async fn objects_after(
        &self,
        folder: &str,
        after: &str,
    ) -> Result<Vec<ListedObject>, Error> {
        let path = self.path(folder)?;
        let mut objects = match &self.objects {
            Objects::Directory(directory) => directory.files(&path).await?,
            Objects::Bucket(store) => {
                let offset = self.path(&format!("{folder}/{after}"))?;
                let listed: Vec<_> =
                    store.list_with_offset(Some(&path), &offset).try_collect().await?;
                let below = format!("{path}/");
                let object = |listed: object_store::ObjectMeta| {
                    let name = listed.location.as_ref().strip_prefix(&below)?.to_owned();
                    Some(ListedObject { name, created: Some(listed.last_modified.into()) })
                };
                listed.into_iter().filter_map(object).collect()
            }
        };
        objects.retain(|object| object.name.as_str() > after && !object.name.contains('/'));
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }
}
