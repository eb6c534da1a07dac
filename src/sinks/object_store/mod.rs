//! Object stores: S3, Google Cloud Storage, Azure Blob Storage, and directories.
//!
//! A file's object is named by the file's digest. Each batch of a run's items is a manifest with the next number. No
//! object is ever overwritten. If a manifest was created and its receipt was lost, `resume` reads the manifest, so that
//! its items are not delivered twice. [`crate::formats::object_store`] has the names.

mod connector;
mod directory;
mod location;
mod store;

use std::collections::HashSet;
use std::sync::Arc;

use object_store::Error;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::location::StoreLocation;
use self::store::{ItemFile, ObjectCreation, Store, content_type, missing};
use super::{Delivery, Receipt, Rest, Sink, SinkError, Target};
use crate::config::sync::ObjectStoreConfig;
use crate::formats::object_store as names;
use crate::media::Sha256;
use crate::store::RunInfo;

/// An object store or a directory.
#[derive(Clone)]
pub(crate) struct ObjectStoreTarget(Arc<Store>);

/// One run of the target.
pub(crate) struct ObjectStoreRun {
    store: Arc<Store>,
    run: RunInfo,
    /// The number of the next manifest.
    next: u64,
    /// Items of manifests after the last receipt.
    known: HashSet<Sha256>,
    /// Whether `run.json` exists.
    is_run_recorded: bool,
}

/// The most items of manifests after the last receipt. Their digests are in memory.
const KNOWN_MAX: usize = 4_000_000;

/// The length at which a manifest ends, in bytes. The items that are left make further manifests.
const MANIFEST_BYTES: usize = 8 << 20;

/// The part of an existing `run.json` that is compared.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Existing {
    source: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestReceipt {
    /// The number of the last manifest.
    manifest: u64,
}

impl Target for ObjectStoreTarget {
    type Config = ObjectStoreConfig;
    type Run = ObjectStoreRun;

    async fn open(config: &ObjectStoreConfig) -> Result<Self, SinkError> {
        let location = StoreLocation::open(config)?;
        Self::with(location, config.multipart_bytes.get()).await
    }

    fn run(&self, run: &RunInfo) -> ObjectStoreRun {
        let (store, run) = (Arc::clone(&self.0), run.clone());
        ObjectStoreRun { store, run, next: 1, known: HashSet::new(), is_run_recorded: false }
    }
}

impl ObjectStoreTarget {
    async fn with(location: StoreLocation, multipart_bytes: u64) -> Result<Self, SinkError> {
        let mut store = Store { location, is_conditional: true, multipart_bytes };
        store.is_conditional = store.probe_conditional().await?;
        if !store.is_conditional {
            tracing::warn!(
                "the object store does not support conditional writes: deliver each run from one machine only"
            );
        }
        Ok(Self(Arc::new(store)))
    }
}

impl ObjectStoreRun {
    fn path(&self, name: &str) -> Result<Path, SinkError> {
        self.store.path(name).map_err(|error| self.store.retry(&error))
    }

    /// Reads the items of the next manifest. Returns whether there is one.
    ///
    /// A manifest always has an item that no manifest before it has. A server that answers everything with the same
    /// words would else be asked for ever.
    async fn load_next_manifest(&mut self) -> Result<bool, SinkError> {
        let path = self.path(&names::manifest_name(&self.run.id, self.next))?;
        let Some(content) =
            self.store.content(&path).await.map_err(|error| self.store.retry(&error))?
        else {
            return Ok(false);
        };
        let n_known = self.known.len();
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.known.extend(names::identity_in(line));
        }
        let n_bytes = content.len();
        let n_items = self.known.len();
        if n_items == n_known {
            return Err(SinkError::retry(format!(
                "got a manifest of {n_bytes} bytes without a new item, want items: check the URL, and remove the object if it is damaged: {path}"
            )));
        }
        if n_items > KNOWN_MAX {
            return Err(SinkError::retry(format!(
                "the run's manifests after the last delivery have more than {KNOWN_MAX} items: use another prefix"
            )));
        }
        self.next += 1;
        Ok(true)
    }

    /// Creates the run's `run.json`, once.
    async fn record_run(&mut self) -> Result<(), SinkError> {
        if self.is_run_recorded {
            return Ok(());
        }
        let RunInfo { id, source, identity } = &self.run;
        let source = source.to_string_lossy();
        let run = json!({"run": id.as_str(), "source": source, "identity": identity});
        let bytes = serde_json::to_vec_pretty(&run).map_err(SinkError::retry)?;
        let path = self.path(&names::run_name(id))?;
        let attributes = self.store.attributes(content_type("json"));
        let retry = |error: Error| self.store.retry(&error);
        let creation = self.store.create(&path, bytes, attributes).await.map_err(retry)?;
        if creation == ObjectCreation::AlreadyExists {
            let existing = self.store.content(&path).await.map_err(retry)?;
            let existing = existing.ok_or_else(|| missing(&path))?;
            let existing: Existing = serde_json::from_slice(&existing).unwrap_or_default();
            if existing.source != *source {
                let other = self.store.location.redactor().text(&existing.source);
                tracing::warn!(run = %id, other, "object store has another run with the same id");
            }
        }
        self.is_run_recorded = true;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt, SinkError> {
        Receipt::new(&ManifestReceipt { manifest: self.next - 1 })
    }
}

impl Sink for ObjectStoreRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        let last: Option<ManifestReceipt> = last.and_then(Receipt::get);
        self.next = last.map_or(0, |receipt| receipt.manifest) + 1;
        self.known.clear();
        while self.load_next_manifest().await? {}
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        let file = &item.file;
        let (path, extension) = (file.path.as_str(), file.file_type.extension());
        let layers = &item.layers;
        for (sets, extension) in [(&layers.masks, "png"), (&layers.boxes, "json")] {
            for set in sets.values() {
                let (path, size, sha256) = (set.path.as_str(), set.size, set.sha256);
                self.store.upload(item, ItemFile { path, size, sha256, extension }).await?;
            }
        }
        let (size, sha256) = (file.size, file.sha256);
        self.store.upload(item, ItemFile { path, size, sha256, extension }).await
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        self.record_run().await?;
        loop {
            let mut manifest = Vec::new();
            let mut is_whole = true;
            for item in items {
                let line = names::line(&self.run.id, &item.entry, item.seq, item.time);
                if names::identity(&line).is_some_and(|identity| self.known.contains(&identity)) {
                    continue;
                }
                if manifest.len() >= MANIFEST_BYTES {
                    is_whole = false;
                    break;
                }
                serde_json::to_writer(&mut manifest, &line).map_err(SinkError::retry)?;
                manifest.push(b'\n');
            }
            if manifest.is_empty() {
                return self.receipt();
            }
            let path = self.path(&names::manifest_name(&self.run.id, self.next))?;
            let attributes = self.store.attributes(content_type("jsonl"));
            let creation = self.store.create(&path, manifest, attributes).await;
            match creation.map_err(|error| self.store.retry(&error))? {
                ObjectCreation::Created if is_whole => {
                    self.next += 1;
                    return self.receipt();
                }
                // An answer was lost, or another writer has created it. Its items need no delivery. Or it is the first
                // manifest of several.
                ObjectCreation::Created | ObjectCreation::AlreadyExists => {
                    if !self.load_next_manifest().await? {
                        return Err(missing(&path));
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
