//! Objects of a store: creation, uploads of files, and what exists already.

use std::io;

use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload,
};
use sha2::Digest;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::location::{Objects, StoreLocation};
use crate::formats::object_store as names;
use crate::media::Sha256;
use crate::sinks::{Delivery, SinkError, check_file, damaged, open_file};
use crate::store::media_check::{Damage, NamedFile};

/// An object store with its limits.
pub(super) struct Store {
    pub(super) location: StoreLocation,
    /// Whether the store refuses to create an object twice. If not, the sink checks before each write, which is correct
    /// unless another writer has the same run.
    pub(super) is_conditional: bool,
    pub(super) multipart_bytes: u64,
}

/// S3's minimum size of a part, except for the last one.
const PART_BYTES_MIN: u64 = 5 << 20;
/// S3's maximum number of parts.
const PARTS_MAX: u64 = 10_000;

/// Whether a request created an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ObjectCreation {
    Created,
    /// The object existed, and was not changed.
    AlreadyExists,
}

/// Returns the error for an object that the store refused to create although it does not exist. Some stores do this while
/// another request changes the object.
pub(super) fn missing(path: &Path) -> SinkError {
    SinkError::retry(format!("the store refused to create {path}, which does not exist"))
}

impl Store {
    /// Converts an error that may not occur again.
    pub(super) fn retry(&self, error: &Error) -> SinkError {
        SinkError::retry(self.location.message(error))
    }

    /// Converts an error of an upload of `item`. Only an invalid name rejects the item. A missing bucket, a refused key
    /// or a failing store is retried.
    fn error_of(&self, item: &Delivery, error: &Error) -> SinkError {
        match error {
            Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. } => SinkError::reject(item, self.location.message(error)),
            error => self.retry(error),
        }
    }

    /// Returns the path of an object, with the prefix.
    pub(super) fn path(&self, name: &str) -> Result<Path, Error> {
        self.location.path(name)
    }

    /// Probes whether the store refuses to create an object twice.
    pub(super) async fn probe_conditional(&self) -> Result<bool, SinkError> {
        let name = format!(".safelight-probe-{:016x}", fastrand::u64(..));
        let probe = self.path(&name).map_err(|error| self.retry(&error))?;
        let Objects::Bucket(store) = &self.location.objects else { return Ok(true) };
        let create = async || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&probe, "probe".into(), options).await
        };
        let is_conditional = match create().await {
            Ok(_) => match create().await {
                Ok(_) => false,
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => true,
                Err(error) => return Err(self.retry(&error)),
            },
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => return Ok(false),
            Err(error) => return Err(self.retry(&error)),
        };
        // The credentials may not permit to delete. Five bytes stay in the store.
        if let Err(error) = store.delete(&probe).await {
            tracing::debug!(error = %self.location.message(&error), object = %probe, "probe not removed from the object store");
        }
        Ok(is_conditional)
    }

    /// Creates an object, unless it exists.
    pub(super) async fn create(
        &self,
        path: &Path,
        bytes: Vec<u8>,
        attributes: Attributes,
    ) -> Result<ObjectCreation, Error> {
        let store = match &self.location.objects {
            Objects::Directory(directory) => return directory.create(path, bytes).await,
            Objects::Bucket(store) => store,
        };
        let mode = if self.is_conditional {
            PutMode::Create
        } else if self.n_bytes(path).await?.is_some() {
            return Ok(ObjectCreation::AlreadyExists);
        } else {
            PutMode::Overwrite
        };
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        match store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(ObjectCreation::Created),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Ok(ObjectCreation::AlreadyExists)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the size of an object; `None` if it does not exist.
    async fn n_bytes(&self, path: &Path) -> Result<Option<u64>, Error> {
        self.location.n_bytes(path).await
    }

    /// Returns the content of an object; `None` if it does not exist.
    pub(super) async fn content(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        self.location.content(path).await
    }

    /// Returns the attributes of a new object. Directories store none.
    pub(super) fn attributes(&self, content_type: &'static str) -> Attributes {
        let mut attributes = Attributes::new();
        if matches!(self.location.objects, Objects::Bucket(_)) {
            attributes.insert(Attribute::ContentType, content_type.into());
        }
        attributes
    }

    /// Uploads a file of an item, unless the object exists.
    pub(super) async fn upload(
        &self,
        item: &Delivery,
        file: ItemFile<'_>,
    ) -> Result<(), SinkError> {
        let ItemFile { path, size, sha256, extension } = file;
        let file = NamedFile { path, size, sha256 };
        let name = names::media_name(&sha256, extension);
        let to = self.path(&name).map_err(|error| self.error_of(item, &error))?;
        let attributes = self.attributes(content_type(extension));
        let unreadable =
            |error: io::Error| damaged(item, path, &Damage::Unreadable(error.to_string()));
        let is_large = size > self.multipart_bytes;
        let mut opened = File::from_std(open_file(item, file)?);
        let exists = |found: Option<u64>| match found {
            Some(found) if found != size => Err(SinkError::reject(
                item,
                format!("{name} has {found} bytes in the store, want {size}: remove it there"),
            )),
            found => Ok(found.is_some()),
        };
        let is_directory = matches!(self.location.objects, Objects::Directory(_));
        // A multipart upload would replace an existing object, and a directory would write a whole file. Check first.
        if (is_large || is_directory)
            && exists(self.n_bytes(&to).await.map_err(|error| self.error_of(item, &error))?)?
        {
            return Ok(());
        }
        let changed = || match check_file(item, file) {
            Ok(()) => SinkError::retry(format!("{path} changed while it was read")),
            Err(error) => error,
        };
        let failed = |error: TransferError| match error {
            TransferError::Unreadable(error) => unreadable(error),
            TransferError::Changed => changed(),
            TransferError::Refused(error) => self.error_of(item, &error),
        };
        let store = match &self.location.objects {
            Objects::Directory(directory) => {
                let opened = opened.into_std().await;
                let creation =
                    directory.create_from_file(&to, opened, sha256).await.map_err(failed)?;
                let found = self.n_bytes(&to).await.map_err(|error| self.error_of(item, &error))?;
                if creation == ObjectCreation::AlreadyExists && !exists(found)? {
                    return Err(missing(&to));
                }
                return Ok(());
            }
            Objects::Bucket(store) => store,
        };
        if is_large {
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            let upload = store.put_multipart_opts(&to, options).await;
            let mut upload = upload.map_err(|error| self.error_of(item, &error))?;
            let sent = self.send_parts(upload.as_mut(), &mut opened, size, &sha256).await;
            return match sent {
                Ok(()) => Ok(()),
                Err(error) => {
                    // Parts that stay are removed by a lifecycle rule of the store, if it has one.
                    if let Err(error) = upload.abort().await {
                        tracing::debug!(error = %self.location.message(&error), object = %to, "parts not removed from the object store");
                    }
                    Err(failed(error))
                }
            };
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        opened.read_to_end(&mut bytes).await.map_err(unreadable)?;
        if Sha256::of(&bytes) != sha256 {
            return Err(changed());
        }
        let creation = self
            .create(&to, bytes, attributes)
            .await
            .map_err(|error| self.error_of(item, &error))?;
        if creation == ObjectCreation::AlreadyExists {
            let found = self.n_bytes(&to).await.map_err(|error| self.error_of(item, &error))?;
            if !exists(found)? {
                return Err(missing(&to));
            }
        }
        Ok(())
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &mut File,
        size: u64,
        sha256: &Sha256,
    ) -> Result<(), TransferError> {
        let part = self.multipart_bytes.max(PART_BYTES_MIN).max(size.div_ceil(PARTS_MAX));
        let mut hasher = sha2::Sha256::new();
        loop {
            let mut bytes = Vec::new();
            let n =
                file.take(part).read_to_end(&mut bytes).await.map_err(TransferError::Unreadable)?;
            if n == 0 {
                break;
            }
            hasher.update(&bytes);
            upload.put_part(PutPayload::from(bytes)).await.map_err(TransferError::Refused)?;
        }
        let digest: [u8; 32] = hasher.finalize().into();
        if Sha256::from(digest) != *sha256 {
            return Err(TransferError::Changed);
        }
        upload.complete().await.map_err(TransferError::Refused)?;
        Ok(())
    }
}

/// A file of an item.
pub(super) struct ItemFile<'a> {
    /// Relative to the run's folder.
    pub(super) path: &'a str,
    pub(super) size: u64,
    pub(super) sha256: Sha256,
    pub(super) extension: &'static str,
}

/// Why a file was not transferred.
pub(super) enum TransferError {
    Unreadable(io::Error),
    /// The file has another digest than recorded.
    Changed,
    Refused(Error),
}

/// Returns the MIME type of a file extension.
pub(super) fn content_type(extension: &str) -> &'static str {
    match extension {
        "jpg" | "jpeg" => "image/jpeg",
        "bmp" => "image/bmp",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "tiff" => "image/tiff",
        "json" => "application/json",
        "jsonl" => "application/jsonl",
        _ => "image/png",
    }
}
