//! Targets of images: the contract of a sink, and a module for each kind of target.
//!
//! A sink does not retry, wait, read a clock or use the store. [`crate::sync`] does this for all sinks. What a sink
//! writes depends only on the items, so a redelivery writes the same bytes.

#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod http;
pub(crate) mod mlflow;
pub(crate) mod object_store;
pub(crate) mod target_dir;
pub(crate) mod wandb;
pub(crate) mod tensorboard;
pub(crate) mod trackio;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media::{Layers, MediaEntry, MediaFile, MediaId};
use crate::store::RunInfo;
use crate::store::media_check::{Damage, MediaFiles, NamedFile};

/// An error of any kind.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One image on its way to a target.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The number of the image's line in the run's journal. It increases within the run. A later version of the same
    /// image has another number.
    pub(crate) seq: u64,
    pub(crate) id: MediaId,
    pub(crate) file: MediaFile,
    pub(crate) layers: Layers,
    /// The image's row in the store's index.
    pub(crate) entry: Arc<MediaEntry>,
    /// Seconds since the Unix epoch: the job's time if the record has one, else when the dump was written.
    pub(crate) time: f64,
    /// The run's folder in the store. Paths in the entry are relative to it.
    pub(crate) folder: Arc<Path>,
}

impl Delivery {
    /// Returns the path of the media file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(&self.file.path)
    }

    /// Returns the total size of the image, its masks and its sets of boxes, in bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        let layers = &self.layers;
        let of_layers = layers.boxes.values().chain(layers.masks.values());
        self.file.size + of_layers.map(|annotation| annotation.size).sum::<u64>()
    }
}

/// A line of a run's journal that transfers no files: what became of an item that is no image, or of an image whose file
/// was removed before it could be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// The number of the line in the run's journal, as [`Delivery::seq`].
    pub(crate) seq: u64,
    pub(crate) news: News,
    /// Seconds since the Unix epoch, if known: the job's time if the record has one, else when the dump was written.
    pub(crate) time: Option<f64>,
}

/// What a [`Notice`] says.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// An item that was held or rejected, or an image that was pruned.
    Item(Box<MediaEntry>),
    /// There is no item at this place any more.
    Gone(MediaId),
}

/// The state of a target after a commit. [`crate::sync`] stores it, and passes it to [`Sink::resume`] after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Receipt(Value);

impl Receipt {
    /// Creates a receipt from a value of the sink's type.
    ///
    /// # Errors
    /// [`SinkError::Retry`] if JSON cannot hold the value.
    pub(crate) fn new<T: Serialize>(of: &T) -> Result<Self, SinkError> {
        serde_json::to_value(of).map(Self).map_err(SinkError::retry)
    }

    /// Returns the sink's value; `None` if the receipt has another type.
    pub(crate) fn get<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.0.clone()).ok()
    }
}

/// What is left to do after a delivery failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// The target may accept the same items later: it is unreachable or busy, or refuses the key.
    #[error("{source}")]
    Retry {
        /// The pause that the target requests.
        after: Option<Duration>,
        source: BoxError,
    },
    /// A media file of this item is missing or damaged in the store. The item waits until the file is repaired.
    #[error("{source}")]
    Damaged {
        /// [`Delivery::seq`].
        seq: u64,
        /// The file, relative to the run's folder.
        path: String,
        damage: Box<Damage>,
        source: BoxError,
    },
    /// The target will never accept this item, which is parked.
    #[error("{source}")]
    Reject {
        /// [`Delivery::seq`].
        seq: u64,
        source: BoxError,
    },
}

impl SinkError {
    /// Creates an error that may not occur again.
    pub(crate) fn retry(source: impl Into<BoxError>) -> Self {
        Self::Retry { after: None, source: source.into() }
    }

    /// Creates the rejection of an item.
    pub(crate) fn reject(item: &Delivery, source: impl Into<BoxError>) -> Self {
        Self::Reject { seq: item.seq, source: source.into() }
    }
}

/// Converts damage of a file of an item. An item with a missing or damaged file waits for its repair, so that no target
/// ever gets it. A file that cannot be read now is retried. `path` is relative to the run's folder.
pub(crate) fn damaged(item: &Delivery, path: &str, damage: &Damage) -> SinkError {
    let at = item.folder.join(path);
    let what = match damage {
        Damage::Unreadable(_) => {
            return SinkError::retry(format!("media file {damage}: {}", at.display()));
        }
        Damage::Missing => "is missing".to_owned(),
        Damage::NoFile(what) => what.clone(),
        Damage::Size { .. } | Damage::Content { .. } | Damage::Disk(_) => {
            format!("is damaged: {damage}")
        }
    };
    let advice = "the item waits; `safelight verify --repair` makes the file again from its dump";
    let source = format!("media file {what} ({advice}): {}", at.display()).into();
    let (path, damage) = (path.to_owned(), Box::new(damage.clone()));
    SinkError::Damaged { seq: item.seq, path, damage, source }
}

/// Checks that a file of an item is there and has its journaled size and digest. Blocks.
///
/// # Errors
/// See [`damaged`].
pub(crate) fn check_file(item: &Delivery, file: NamedFile<'_>) -> Result<(), SinkError> {
    let files = MediaFiles::open(&item.folder, Arc::default());
    let checked = files.and_then(|files| files.check(file));
    checked.map_err(|damage| damaged(item, file.path, &damage))
}

/// Reads a file of an item, which must have its journaled size and digest. Blocks.
///
/// # Errors
/// See [`damaged`].
pub(crate) fn read_file_now(item: &Delivery, file: NamedFile<'_>) -> Result<Vec<u8>, SinkError> {
    let files = MediaFiles::open(&item.folder, Arc::default());
    let read = files.and_then(|files| files.read(file));
    read.map_err(|damage| damaged(item, file.path, &damage))
}

/// Opens a file of an item, which must have its journaled size. The caller compares the digest while it reads the file,
/// and calls [`check_file`] if the digest differs. Blocks.
///
/// # Errors
/// See [`damaged`].
pub(crate) fn open_file(item: &Delivery, file: NamedFile<'_>) -> Result<File, SinkError> {
    let files = MediaFiles::open(&item.folder, Arc::default());
    let opened = files.and_then(|files| files.open_file(file));
    opened.map_err(|damage| damaged(item, file.path, &damage))
}

/// Reads a file of an item, which must have its journaled size and digest.
///
/// # Errors
/// See [`damaged`].
pub(crate) async fn read_file(
    item: &Delivery,
    file: impl Into<NamedFile<'_>>,
) -> Result<Vec<u8>, SinkError> {
    let NamedFile { path, size, sha256 } = file.into();
    let (path, item) = (path.to_owned(), item.clone());
    let read = move || read_file_now(&item, NamedFile { path: &path, size, sha256 });
    tokio::task::spawn_blocking(read).await.map_err(SinkError::retry)?
}

/// A kind of target.
pub(crate) trait Target: Sized {
    /// The target's section of the configuration.
    type Config;
    /// The sink of one run.
    type Run: Sink;

    /// How long an item waits after its commit for others of its step. Targets that can't extend a step need it.
    const SETTLE: Duration = Duration::ZERO;

    /// Opens the target: reads secrets, and probes the target's features if needed.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only, because secrets and servers may become available.
    async fn open(config: &Self::Config) -> Result<Self, SinkError>;

    /// Creates the sink of a run. Sends no request.
    fn run(&self, run: &RunInfo) -> Self::Run;
}

/// Delivers the items of one run to a target.
///
/// [`crate::sync`] calls `resume` once. For each batch it then calls `put` for each item and, after all of them, `commit`
/// with the items that were not rejected. A target of a kind that
/// [has notices](crate::config::sync::TargetConfig::has_notices) gets those of the batch by `note` before; then the batch
/// may have no items. Calls of `put` may run at the same time; other calls do not.
///
/// After a failed `put`, the same sink is used again. If `commit` rejects an item, `commit` is called again without the
/// item. After another error of `commit` or `rest`, a new sink is created and resumed.
pub(crate) trait Sink {
    /// Restores the state of the target at `last`: later items are removed, or recognized when they are delivered again.
    /// `last` is `None` if nothing was ever committed.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only.
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError>;

    /// Transfers an item's files, in any order. Repetition has no effect. The item need not be visible yet.
    ///
    /// # Errors
    /// If the files can't be transferred now, or the item is rejected.
    async fn put(&self, item: &Delivery) -> Result<(), SinkError>;

    /// Makes items visible whose files were transferred. Items are in the order of `seq`, except that a parked item may
    /// come late. After `Ok`, the items are durable, even after a power failure.
    ///
    /// # Errors
    /// If no item is durable yet, or an item is rejected. A rejection names the first such item.
    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError>;

    /// Takes notices, which the next `commit` makes visible with its items.
    fn note(&mut self, notices: Vec<Notice>) {
        drop(notices);
    }

    /// Handles a pause: writes the items that the sink holds back for their order. Returns `None` if nothing changed.
    /// Otherwise the receipt is stored and the call is repeated, because some steps need a durable receipt.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only.
    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError>;
}

/// Why a sink gets no more items for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// No item came for this time.
    Idle(Duration),
    /// The job reported the end of the run.
    Finished,
    /// The sink is closed: its run makes room for others, or syncing ends.
    Leaving,
}
