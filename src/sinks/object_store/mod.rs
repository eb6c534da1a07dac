//! Object stores: S3, Google Cloud Storage, Azure Blob Storage, and directories.
//!
//! Files go under names that their content gives, so that one that is there already is there; each batch of a
//! run's items is a manifest with the next number, made only if nobody has made it. Nothing is ever written again.
//! A manifest without a receipt is met when its successor is looked for: its items are then known. The names are in
//! [`crate::formats::object_store`].

mod directory;
mod place;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Digest;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use self::place::{Objects, Place};
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target, unreadable};
use crate::config::sync::ObjectStoreConfig;
use crate::formats::object_store as names;
use crate::media::Sha256;
use crate::store::RunInfo;

/// A store.
#[derive(Clone)]
pub(crate) struct ObjectStoreTarget(Arc<Store>);

struct Store {
    place: Place,
    /// Whether it refuses to make an object that is there. Else we look before we write, which is right as long as
    /// nobody else writes the same run.
    is_conditional: bool,
    multipart_bytes: u64,
}

/// One run of it.
pub(crate) struct ObjectStoreRun {
    store: Arc<Store>,
    run: RunInfo,
    /// The number of the manifest that comes next.
    next: u64,
    /// Items of manifests that no receipt told of.
    known: HashSet<Sha256>,
    is_run_told: bool,
}

/// The number of the last manifest.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    manifest: u64,
}

/// The least that S3 takes as a part, but for the last.
const PART_BYTES_MIN: u64 = 5 << 20;
/// The most parts of one object.
const PARTS_MAX: u64 = 10_000;

/// What became of an object that was to be made.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

/// The store said that an object is there already (or, as some do, that it is just being changed), and then that
/// there is none.
fn vanished(path: &Path) -> SinkError {
    SinkError::retry(format!("{path} was not taken, and is not there"))
}

impl Target for ObjectStoreTarget {
    type Config = ObjectStoreConfig;
    type Run = ObjectStoreRun;

    async fn open(config: &ObjectStoreConfig) -> Result<Self, SinkError> {
        let place = Place::open(config)?;
        Self::with(place, config.multipart_bytes.get()).await
    }

    fn run(&self, run: &RunInfo) -> ObjectStoreRun {
        let (store, run) = (Arc::clone(&self.0), run.clone());
        ObjectStoreRun { store, run, next: 1, known: HashSet::new(), is_run_told: false }
    }
}

impl ObjectStoreTarget {
    async fn with(place: Place, multipart_bytes: u64) -> Result<Self, SinkError> {
        let mut store = Store { place, is_conditional: true, multipart_bytes };
        store.is_conditional = store.is_found_conditional().await?;
        if !store.is_conditional {
            tracing::warn!(
                "the object store overwrites where it should refuse to: only one writer of a run may use it"
            );
        }
        Ok(Self(Arc::new(store)))
    }
}

impl Store {
    fn later(&self, error: &Error) -> SinkError {
        SinkError::retry(self.place.words(error))
    }

    /// What an error means for the item whose file was to be brought over: only what lies in its name is its fault.
    /// A bucket that isn't there, a key that is refused, a store that is out of order is a matter of time.
    fn of(&self, item: &Delivery, error: &Error) -> SinkError {
        match error {
            Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. } => SinkError::reject(item, self.place.words(error)),
            error => self.later(error),
        }
    }

    fn path(&self, name: &str) -> Result<Path, Error> {
        let prefix = self.place.prefix.as_ref();
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Path::parse(format!("{prefix}{slash}{name}"))?)
    }

    /// Tries it: makes an object twice.
    async fn is_found_conditional(&self) -> Result<bool, SinkError> {
        let name = format!(".safelight-probe-{:016x}", fastrand::u64(..));
        let probe = self.path(&name).map_err(|error| self.later(&error))?;
        let Objects::Bucket(store) = &self.place.objects else { return Ok(true) };
        let make = async || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&probe, "probe".into(), options).await
        };
        let is_conditional = match make().await {
            Ok(_) => match make().await {
                Ok(_) => false,
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => true,
                Err(error) => return Err(self.later(&error)),
            },
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => return Ok(false),
            Err(error) => return Err(self.later(&error)),
        };
        // A key may be one that can't remove: five bytes stay.
        if let Err(error) = store.delete(&probe).await {
            tracing::debug!(error = %self.place.words(&error), object = %probe, "the probe stays in the object store");
        }
        Ok(is_conditional)
    }

    /// Makes an object that isn't there.
    async fn make(
        &self,
        path: &Path,
        bytes: Vec<u8>,
        attributes: Attributes,
    ) -> Result<Made, Error> {
        let store = match &self.place.objects {
            Objects::Directory(directory) => return directory.make(path, bytes).await,
            Objects::Bucket(store) => store,
        };
        let mode = if self.is_conditional {
            PutMode::Create
        } else if self.n_bytes(path).await?.is_some() {
            return Ok(Made::Before);
        } else {
            PutMode::Overwrite
        };
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        match store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(Made::Now),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Made::Before),
            Err(error) => Err(error),
        }
    }

    /// How many bytes an object has; none if it isn't there.
    async fn n_bytes(&self, path: &Path) -> Result<Option<u64>, Error> {
        let store = match &self.place.objects {
            Objects::Directory(directory) => return directory.n_bytes(path).await,
            Objects::Bucket(store) => store,
        };
        match store.head(path).await {
            Ok(object) => Ok(Some(object.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content of an object; none if it isn't there.
    async fn content(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let store = match &self.place.objects {
            Objects::Directory(directory) => return directory.content(path).await,
            Objects::Bucket(store) => store,
        };
        match store.get(path).await {
            Ok(object) => Ok(Some(object.bytes().await?.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn attributes(&self, content_type: &'static str) -> Attributes {
        let mut attributes = Attributes::new();
        if matches!(self.place.objects, Objects::Bucket(_)) {
            attributes.insert(Attribute::ContentType, content_type.into());
        }
        attributes
    }

    /// Brings a file of an item over.
    async fn bring(&self, item: &Delivery, file: Brought<'_>) -> Result<(), SinkError> {
        let Brought { path, size, sha256, extension } = file;
        let from = item.folder.join(path);
        let name = names::media_name(&sha256, extension);
        let to = self.path(&name).map_err(|error| self.of(item, &error))?;
        let attributes = self.attributes(content_type(extension));
        let unreadable = |error: io::Error| unreadable(item, &from, &error);
        let is_large = size > self.multipart_bytes;
        let mut opened = File::open(&from).await.map_err(unreadable)?;
        let is_whole = |found: Option<u64>| match found {
            Some(found) if found != size => Err(SinkError::reject(
                item,
                format!("{name} is in the store with {found} bytes, want {size}: remove it there"),
            )),
            found => Ok(found.is_some()),
        };
        let is_directory = matches!(self.place.objects, Objects::Directory(_));
        // An upload in parts replaces an object that is there, and a copy to a directory costs a whole file: both look
        // first.
        if (is_large || is_directory)
            && is_whole(self.n_bytes(&to).await.map_err(|error| self.of(item, &error))?)?
        {
            return Ok(());
        }
        let changed = || {
            let words = format!("is no more what was kept: {}", from.display());
            SinkError::reject(item, words)
        };
        let failed = |why: Unsent| match why {
            Unsent::Unreadable(error) => unreadable(error),
            Unsent::Changed => changed(),
            Unsent::Refused(error) => self.of(item, &error),
        };
        let store = match &self.place.objects {
            Objects::Directory(directory) => {
                let opened = opened.into_std().await;
                let made = directory.make_from_file(&to, opened, sha256).await.map_err(failed)?;
                let found = self.n_bytes(&to).await.map_err(|error| self.of(item, &error))?;
                if made == Made::Before && !is_whole(found)? {
                    return Err(vanished(&to));
                }
                return Ok(());
            }
            Objects::Bucket(store) => store,
        };
        if is_large {
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            let upload = store.put_multipart_opts(&to, options).await;
            let mut upload = upload.map_err(|error| self.of(item, &error))?;
            let sent = self.send_parts(upload.as_mut(), &mut opened, size, &sha256).await;
            return match sent {
                Ok(()) => Ok(()),
                Err(why) => {
                    // What can't be removed now the store removes by its own rules, if it has any.
                    if let Err(error) = upload.abort().await {
                        tracing::debug!(error = %self.place.words(&error), object = %to, "parts stay in the object store");
                    }
                    Err(failed(why))
                }
            };
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        opened.read_to_end(&mut bytes).await.map_err(unreadable)?;
        if Sha256::of(&bytes) != sha256 {
            return Err(changed());
        }
        let made =
            self.make(&to, bytes, attributes).await.map_err(|error| self.of(item, &error))?;
        if made == Made::Before {
            let found = self.n_bytes(&to).await.map_err(|error| self.of(item, &error))?;
            if !is_whole(found)? {
                return Err(vanished(&to));
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
    ) -> Result<(), Unsent> {
        let part = self.multipart_bytes.max(PART_BYTES_MIN).max(size.div_ceil(PARTS_MAX));
        let mut hasher = sha2::Sha256::new();
        loop {
            let mut bytes = Vec::new();
            let n = file.take(part).read_to_end(&mut bytes).await.map_err(Unsent::Unreadable)?;
            if n == 0 {
                break;
            }
            hasher.update(&bytes);
            upload.put_part(PutPayload::from(bytes)).await.map_err(Unsent::Refused)?;
        }
        let digest: [u8; 32] = hasher.finalize().into();
        if Sha256::from(digest) != *sha256 {
            return Err(Unsent::Changed);
        }
        upload.complete().await.map_err(Unsent::Refused)?;
        Ok(())
    }
}

/// A file that is to be brought over.
struct Brought<'a> {
    /// Below the run's folder.
    path: &'a str,
    size: u64,
    sha256: Sha256,
    extension: &'static str,
}

/// Why a file was not sent in parts.
enum Unsent {
    Unreadable(io::Error),
    Changed,
    Refused(Error),
}

fn content_type(extension: &str) -> &'static str {
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

impl ObjectStoreRun {
    fn path(&self, name: &str) -> Result<Path, SinkError> {
        self.store.path(name).map_err(|error| self.store.later(&error))
    }

    /// Knows the items of the next manifest, if there is one.
    async fn know_next(&mut self) -> Result<bool, SinkError> {
        let path = self.path(&names::manifest_name(&self.run.id, self.next))?;
        let Some(content) =
            self.store.content(&path).await.map_err(|error| self.store.later(&error))?
        else {
            return Ok(false);
        };
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let item: Value = serde_json::from_slice(line)
                .map_err(|error| SinkError::retry(format!("not a manifest: {error}: {path}")))?;
            self.known.extend(names::identity(&item));
        }
        self.next += 1;
        Ok(true)
    }

    /// Says once whose run it is.
    async fn tell_run(&mut self) -> Result<(), SinkError> {
        if self.is_run_told {
            return Ok(());
        }
        let RunInfo { id, source, identity } = &self.run;
        let source = source.to_string_lossy();
        let run = json!({"run": id.as_str(), "source": source, "identity": identity});
        let bytes = serde_json::to_vec_pretty(&run).map_err(SinkError::retry)?;
        let path = self.path(&names::run_name(id))?;
        let attributes = self.store.attributes(content_type("json"));
        let later = |error: Error| self.store.later(&error);
        let made = self.store.make(&path, bytes, attributes).await.map_err(later)?;
        if made == Made::Before {
            let there = self.store.content(&path).await.map_err(later)?;
            let there = there.ok_or_else(|| vanished(&path))?;
            let there: Value = serde_json::from_slice(&there).unwrap_or_default();
            if there["source"] != *source {
                tracing::warn!(run = %id, other = %there["source"], "a run with the same id is in the object store");
            }
        }
        self.is_run_told = true;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt, SinkError> {
        Receipt::new(&Kept { manifest: self.next - 1 })
    }
}

impl Sink for ObjectStoreRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        let last: Option<Kept> = last.and_then(Receipt::get);
        self.next = last.map_or(0, |kept| kept.manifest) + 1;
        self.known.clear();
        while self.know_next().await? {}
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        let file = &item.file;
        let (path, extension) = (file.path.as_str(), file.file_type.extension());
        let layers = &item.layers;
        for (sets, extension) in [(&layers.masks, "png"), (&layers.boxes, "json")] {
            for set in sets.values() {
                let (path, size, sha256) = (set.path.as_str(), set.size, set.sha256);
                self.store.bring(item, Brought { path, size, sha256, extension }).await?;
            }
        }
        let (size, sha256) = (file.size, file.sha256);
        self.store.bring(item, Brought { path, size, sha256, extension }).await
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        self.tell_run().await?;
        loop {
            let mut manifest = Vec::new();
            for item in items {
                let line = names::line(&self.run.id, &item.entry, item.seq, item.time);
                if names::identity(&line).is_none_or(|identity| !self.known.contains(&identity)) {
                    serde_json::to_writer(&mut manifest, &line).map_err(SinkError::retry)?;
                    manifest.push(b'\n');
                }
            }
            if manifest.is_empty() {
                return self.receipt();
            }
            let path = self.path(&names::manifest_name(&self.run.id, self.next))?;
            let attributes = self.store.attributes(content_type("jsonl"));
            let made = self.store.make(&path, manifest, attributes).await;
            match made.map_err(|error| self.store.later(&error))? {
                Made::Now => {
                    self.next += 1;
                    return self.receipt();
                }
                // Ours, of which we didn't hear, or another writer's: what is in it is known now.
                Made::Before => {
                    if !self.know_next().await? {
                        return Err(vanished(&path));
                    }
                }
            }
        }
    }

    async fn rest(&mut self, _why: Rest) -> Result<Option<Receipt>, SinkError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
