//! Object stores: S3, Google Cloud Storage, Azure Blob Storage, and directories.
//!
//! A file's object is named by the file's digest. Each batch of a run's lines is a manifest with the next number. No
//! object is ever overwritten. If a manifest was created and its receipt was lost, `resume` reads the manifest, so that
//! its lines are not delivered twice. A receipt names no manifest with lines that are still to come, which a later
//! `resume` must read again. With `announce`, each manifest gets a marker, from which a catalogue of many boxes
//! learns of it. The marker is made before the receipt: if the receipt was lost, `resume` makes the marker again.
//! [`crate::formats::object_store`] has the names.

mod backfilled;
mod connector;
mod directory;
mod location;
mod reading;
mod store;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use object_store::Error;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::backfilled::{BackfillMarker, BackfillObjects};
pub(crate) use self::location::StoreLocation;
pub(crate) use self::reading::ListedObject;
use self::store::{ItemFile, ObjectCreation, Store, content_type, missing};
use super::{Delivery, News, Notice, Receipt, Rest, Sink, SinkError, Target};
use crate::config::sync::ObjectStoreConfig;
use crate::formats::object_store::{self as names, BoxRun};
use crate::media::{BoxName, Sha256};
use crate::store::RunInfo;

/// An object store or a directory.
#[derive(Clone)]
pub(crate) struct ObjectStoreTarget(Arc<Shared>);

/// What all runs of a target share.
struct Shared {
    store: Store,
    box_name: BoxName,
    /// Whether each manifest gets a marker.
    announces: bool,
    /// See [`ObjectStoreConfig::origin`].
    origin: Option<String>,
}

/// One run of the target.
pub(crate) struct ObjectStoreRun {
    shared: Arc<Shared>,
    info: RunInfo,
    run: BoxRun,
    /// The number of the next manifest.
    next: u64,
    /// The identities of lines in manifests after the receipt that it was resumed from.
    known: HashSet<Sha256>,
    /// The manifests that no receipt names yet, each with its number and the greatest `seq` in it.
    unacknowledged: VecDeque<(u64, u64)>,
    /// The number of the manifest before them.
    acknowledged: u64,
    /// Notices for the next commit.
    notices: Vec<Notice>,
    /// Whether `run.json` exists.
    is_run_recorded: bool,
}

/// The most lines of manifests after the last receipt. Their digests are in memory.
const KNOWN_MAX: usize = 4_000_000;

/// The length at which a manifest ends, in bytes. The lines that are left make further manifests.
const MANIFEST_BYTES: usize = 8 << 20;

/// The part of an existing `run.json` that is compared.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Existing {
    source: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestReceipt {
    /// The number of the last manifest of which all lines, and those of all before it, were delivered.
    manifest: u64,
    /// The box whose manifests these are. A box that gets another name begins with the first manifest again.
    #[serde(rename = "box")]
    box_name: BoxName,
}

impl Target for ObjectStoreTarget {
    type Config = ObjectStoreConfig;
    type Run = ObjectStoreRun;

    async fn open(config: &ObjectStoreConfig) -> Result<Self, SinkError> {
        let location = StoreLocation::open(config)?;
        let mut store =
            Store { location, is_conditional: true, multipart_bytes: config.multipart_bytes.get() };
        store.is_conditional = store.probe_conditional().await?;
        if !store.is_conditional {
            tracing::warn!(
                "the object store does not support conditional writes: deliver each run from one machine only"
            );
        }
        let box_name = config.box_name().map_err(SinkError::retry)?;
        let (announces, origin) = (config.announce, config.origin.clone());
        Ok(Self(Arc::new(Shared { store, box_name, announces, origin })))
    }

    fn run(&self, info: &RunInfo) -> ObjectStoreRun {
        let mut info = info.clone();
        if let Some(origin) = &self.0.origin {
            info.source = origin.into();
        }
        let project = info.identity.get("project").and_then(Value::as_str).map(str::to_owned);
        ObjectStoreRun {
            shared: Arc::clone(&self.0),
            run: BoxRun { box_name: self.0.box_name.clone(), run: info.id.clone(), project },
            info,
            next: 1,
            known: HashSet::new(),
            unacknowledged: VecDeque::new(),
            acknowledged: 0,
            notices: Vec::new(),
            is_run_recorded: false,
        }
    }
}

impl ObjectStoreRun {
    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn path(&self, name: &str) -> Result<Path, SinkError> {
        self.store().path(name).map_err(|error| self.store().retry(&error))
    }

    /// Reads the lines of the next manifest. Returns whether there is one.
    ///
    /// A manifest always has a line that no manifest before it has. A server that answers everything with the same
    /// words would else be asked for ever.
    async fn load_next_manifest(&mut self) -> Result<bool, SinkError> {
        let path = self.path(&self.run.manifest_name(self.next))?;
        let store = self.store();
        let Some(content) = store.content(&path).await.map_err(|error| store.retry(&error))? else {
            return Ok(false);
        };
        let (n_known, mut last_seq) = (self.known.len(), 0);
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Some((seq, identity)) = names::identity_in(line) else { continue };
            self.known.insert(identity);
            last_seq = last_seq.max(seq);
        }
        let n_bytes = content.len();
        let n_lines = self.known.len();
        if n_lines == n_known {
            return Err(SinkError::retry(format!(
                "got a manifest of {n_bytes} bytes without a new line, want items: check the URL, and remove the object if it is damaged: {path}"
            )));
        }
        if n_lines > KNOWN_MAX {
            return Err(SinkError::retry(format!(
                "the run's manifests after the last delivery have more than {KNOWN_MAX} lines: use another prefix"
            )));
        }
        self.finish_manifest(last_seq).await?;
        Ok(true)
    }

    /// Announces the manifest `next`, which is there.
    async fn finish_manifest(&mut self, last_seq: u64) -> Result<(), SinkError> {
        self.announce().await?;
        self.unacknowledged.push_back((self.next, last_seq));
        self.next += 1;
        Ok(())
    }

    /// Notes that all lines up to this one were delivered.
    fn acknowledge(&mut self, seq: u64) {
        while let Some((manifest, _)) = self.unacknowledged.pop_front_if(|(_, last)| *last <= seq) {
            self.acknowledged = manifest;
        }
    }

    /// Makes the marker of the manifest `next`, which is there.
    async fn announce(&self) -> Result<(), SinkError> {
        if !self.shared.announces {
            return Ok(());
        }
        let (path, store) = (self.path(&self.run.marker_name(self.next))?, self.store());
        let created = store.create(&path, Vec::new(), store.attributes("text/plain")).await;
        created.map(drop).map_err(|error| store.retry(&error))
    }

    /// Creates the run's `run.json`, once.
    async fn record_run(&mut self) -> Result<(), SinkError> {
        if self.is_run_recorded {
            return Ok(());
        }
        let RunInfo { id, source, identity } = &self.info;
        let (source, store) = (source.to_string_lossy(), self.store());
        let run = self.run.description(&source, identity);
        let bytes = serde_json::to_vec_pretty(&run).map_err(SinkError::retry)?;
        let path = self.path(&self.run.run_name())?;
        let attributes = store.attributes(content_type("json"));
        let retry = |error: Error| store.retry(&error);
        let creation = store.create(&path, bytes, attributes).await.map_err(retry)?;
        if creation == ObjectCreation::AlreadyExists {
            let existing = store.content(&path).await.map_err(retry)?;
            let existing = existing.ok_or_else(|| missing(&path))?;
            let existing: Existing = serde_json::from_slice(&existing).unwrap_or_default();
            if existing.source != *source {
                let other = store.location.redactor().text(&existing.source);
                let box_name = &self.run.box_name;
                tracing::warn!(run = %id, r#box = %box_name, other, "object store has another run with the same box and id");
            }
        }
        self.is_run_recorded = true;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt, SinkError> {
        let box_name = self.run.box_name.clone();
        Receipt::new(&ManifestReceipt { manifest: self.acknowledged, box_name })
    }

    /// Returns the lines of items and of the waiting notices that no manifest has, in the order of `seq`.
    fn new_lines(&self, items: &[Delivery]) -> Vec<Value> {
        let of_item = |item: &Delivery| self.run.line(&item.entry, item.seq, Some(item.time));
        let of_notice = |Notice { seq, news, time }: &Notice| match news {
            News::Item(entry) => self.run.line(entry, *seq, *time),
            News::Gone(id) => self.run.gone_line(id, *seq),
        };
        let items = items.iter().map(|item| (item.seq, of_item(item)));
        let notices = self.notices.iter().map(|notice| (notice.seq, of_notice(notice)));
        let is_new = |(_, line): &(u64, Value)| {
            names::identity(line).is_none_or(|identity| !self.known.contains(&identity))
        };
        let mut lines: Vec<_> = items.chain(notices).filter(is_new).collect();
        lines.sort_by_key(|(seq, _)| *seq);
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

impl Sink for ObjectStoreRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        let last: Option<ManifestReceipt> = last.and_then(Receipt::get);
        let last = last.filter(|last| last.box_name == self.run.box_name);
        self.acknowledged = last.map_or(0, |receipt| receipt.manifest);
        self.next = self.acknowledged + 1;
        self.unacknowledged.clear();
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
                self.store().upload(item, ItemFile { path, size, sha256, extension }).await?;
            }
        }
        let (size, sha256) = (file.size, file.sha256);
        self.store().upload(item, ItemFile { path, size, sha256, extension }).await
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        self.record_run().await?;
        let seqs = items.iter().map(|item| item.seq);
        let last_seq = seqs.chain(self.notices.iter().map(|notice| notice.seq)).max().unwrap_or(0);
        loop {
            let (mut manifest, mut is_whole) = (Vec::new(), true);
            for line in self.new_lines(items) {
                if manifest.len() >= MANIFEST_BYTES {
                    is_whole = false;
                    break;
                }
                serde_json::to_writer(&mut manifest, &line).map_err(SinkError::retry)?;
                manifest.push(b'\n');
            }
            if manifest.is_empty() {
                break;
            }
            let (path, store) = (self.path(&self.run.manifest_name(self.next))?, self.store());
            let attributes = store.attributes(content_type("jsonl"));
            let creation = store.create(&path, manifest, attributes).await;
            match creation.map_err(|error| store.retry(&error))? {
                ObjectCreation::Created if is_whole => {
                    self.finish_manifest(last_seq).await?;
                    break;
                }
                // An answer was lost, or another writer has created it. Its lines need no delivery. Or it is the first
                // manifest of several.
                ObjectCreation::Created | ObjectCreation::AlreadyExists => {
                    if !self.load_next_manifest().await? {
                        return Err(missing(&path));
                    }
                }
            }
        }
        self.notices.clear();
        self.acknowledge(last_seq);
        self.receipt()
    }

    fn note(&mut self, notices: Vec<Notice>) {
        self.notices = notices;
    }

    async fn rest(&mut self, _why: Rest) -> Result<Option<Receipt>, SinkError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
