//! Targets that images are delivered to: what a sink is, and one file for each kind.
//!
//! A sink neither retries nor waits, looks at no clock and doesn't touch the store: [`crate::sync`] does all
//! that, once, for all of them. What it delivers is a function of the items alone, so that an item that is
//! delivered again is the same, byte for byte.

#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod http;
pub(crate) mod mlflow;
pub(crate) mod object_store;
pub(crate) mod target_dir;
pub(crate) mod wandb;
pub(crate) mod tensorboard;
pub(crate) mod trackio;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media::{Layers, MediaEntry, MediaFile, MediaId};
use crate::store::RunInfo;

/// An error of any kind.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One image that is to reach a target.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The number of its line in the run's journal: rises within the run, and is another one for a later
    /// version of the same image.
    pub(crate) seq: u64,
    pub(crate) id: MediaId,
    pub(crate) file: MediaFile,
    /// Its boxes, masks and classes.
    pub(crate) layers: Layers,
    /// All that is known of it.
    pub(crate) entry: Arc<MediaEntry>,
    /// Seconds since the Unix epoch: what the job said, else when its media file was written.
    pub(crate) time: f64,
    /// The run's folder in the store, which paths of the entry are relative to.
    pub(crate) folder: Arc<Path>,
}

impl Delivery {
    /// Its media file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(&self.file.path)
    }

    /// How many bytes all its files have: the image, its masks, its sets of boxes.
    pub(crate) fn n_bytes(&self) -> u64 {
        let layers = &self.layers;
        let of_layers = layers.boxes.values().chain(layers.masks.values());
        self.file.size + of_layers.map(|annotation| annotation.size).sum::<u64>()
    }
}

/// Where a target stood when it last kept everything: what a sink wants to be told again after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Receipt(Value);

impl Receipt {
    /// Makes a receipt of a value of the sink's own type.
    ///
    /// # Errors
    /// [`SinkError::Retry`] if JSON cannot hold the value.
    pub(crate) fn new<T: Serialize>(of: &T) -> Result<Self, SinkError> {
        serde_json::to_value(of).map(Self).map_err(SinkError::retry)
    }

    /// What the sink said; `None` if it is of another version or kind.
    pub(crate) fn get<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.0.clone()).ok()
    }
}

/// What is left to do after a delivery failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// The target may accept the same later: it can't be reached, is busy, or wants another key.
    #[error("{source}")]
    Retry {
        /// How long it asked to be left alone.
        after: Option<Duration>,
        source: BoxError,
    },
    /// The target will never accept this item: it is to be set aside.
    #[error("{source}")]
    Reject {
        /// [`Delivery::seq`].
        seq: u64,
        source: BoxError,
    },
}

impl SinkError {
    /// The target may accept it later.
    pub(crate) fn retry(source: impl Into<BoxError>) -> Self {
        Self::Retry { after: None, source: source.into() }
    }

    /// The target will never accept this one.
    pub(crate) fn reject(item: &Delivery, source: impl Into<BoxError>) -> Self {
        Self::Reject { seq: item.seq, source: source.into() }
    }
}

/// A file of an item that can't be read: if it is gone, that is the item's fault; a disk that is out of order is not.
pub(crate) fn unreadable(item: &Delivery, path: &Path, error: &io::Error) -> SinkError {
    let words = format!("{error}: {}", path.display());
    if error.kind() == io::ErrorKind::NotFound {
        SinkError::reject(item, words)
    } else {
        SinkError::retry(words)
    }
}

/// Checks that a file of an item has the size that it was kept with.
///
/// # Errors
/// [`SinkError::Reject`] if it hasn't.
pub(crate) fn check_size(
    item: &Delivery,
    path: &Path,
    got: u64,
    want: u64,
) -> Result<(), SinkError> {
    if got == want {
        return Ok(());
    }
    Err(SinkError::reject(item, format!("got {got} bytes, want {want}: {}", path.display())))
}

/// A file of an item, which has `size` bytes: below the run's folder.
///
/// # Errors
/// As [`unreadable`] and [`check_size`] say.
pub(crate) async fn read_file(
    item: &Delivery,
    path: &str,
    size: u64,
) -> Result<Vec<u8>, SinkError> {
    let path = item.folder.join(path);
    let bytes = tokio::fs::read(&path).await.map_err(|error| unreadable(item, &path, &error))?;
    check_size(item, &path, bytes.len() as u64, size)?;
    Ok(bytes)
}

/// A kind of target.
pub(crate) trait Target: Sized {
    /// What its section of the configuration says.
    type Config;
    /// What delivers a run's items to it.
    type Run: Sink;

    /// How long ago an item must have been kept before it is delivered, where a target can't add to a step that it
    /// has: others of the step may come yet.
    const SETTLE: Duration = Duration::ZERO;

    /// Gets ready to deliver: reads secrets, asks the target what it can do if that must be known.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only: a secret may be put where it should be, a server come up.
    async fn open(config: &Self::Config) -> Result<Self, SinkError>;

    /// The target as one run sees it. Asks nothing yet.
    fn run(&self, run: &RunInfo) -> Self::Run;
}

/// A target as one run sees it.
///
/// [`crate::sync`] drives it: `resume` once, then for each batch of items `put` for each of them and, when all
/// that were accepted are there, `commit`. After a failed `put` the same sink is asked again; after a failed `commit` or
/// `rest` a new one is made and resumed, but where `commit` rejects an item: that comes again without it. Only one call that takes `&mut self` is under way at a time; of `put` there may be many.
pub(crate) trait Sink {
    /// Puts the target back to where it stood at `last`: what came after it is removed, or known again when it
    /// is delivered once more. `None` if nothing was ever kept there.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only.
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError>;

    /// Brings an item's files over, in any order and beside others. Again does no harm. Nobody need see them
    /// yet.
    ///
    /// # Errors
    /// If it can't be brought over now, or never.
    async fn put(&self, item: &Delivery) -> Result<(), SinkError>;

    /// Makes items, whose files are there, seen: in the order of `seq`, but that one which was set aside may
    /// come late. `Ok` means: kept, even if the power goes now.
    ///
    /// # Errors
    /// If none of them is kept for now; or the first that never will be: the call comes again without it.
    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError>;

    /// Nothing more comes for the moment: for a while, or for good as far as anybody knows. What
    /// was kept back to be put in order is to be let go. `None` if nothing changed; else the receipt is stored, and
    /// the call comes again: some things can only be done when what they follow from is durable.
    ///
    /// # Errors
    /// [`SinkError::Retry`] only.
    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError>;
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing came for so long.
    Idle(Duration),
    /// The job said that the run is over.
    Finished,
    /// Nothing came for so long that the run makes room for others, or nobody will look again soon.
    Leaving,
}
