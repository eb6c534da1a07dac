//! Requests to the thread that owns the [`Writer`]: it serves them between two commits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{ImageToPrune, NamedFiles, StoreError, Writer};

/// The files that could not be removed, and why.
pub(crate) type Removed = Result<Vec<(String, String)>, StoreError>;

/// A change to the store that is made between two commits.
#[derive(Debug)]
pub(crate) enum Change {
    /// See [`Writer::prune`].
    Prune(Vec<ImageToPrune>, Arc<NamedFiles>),
    /// See [`Writer::remove_strays`].
    RemoveStrays(Vec<PathBuf>, Duration, Arc<NamedFiles>),
    /// See [`Writer::refresh_index`].
    RefreshIndex,
}

impl Change {
    /// Makes the change.
    pub(crate) fn make(self, writer: &mut Writer) -> Removed {
        match self {
            Self::Prune(images, named) => writer.prune(&images, &named),
            Self::RemoveStrays(paths, age_min, named) => {
                writer.remove_strays(&paths, age_min, &named)
            }
            Self::RefreshIndex => writer.refresh_index().map(|()| Vec::new()),
        }
    }
}

/// A change to the store, with the channel for its result.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) change: Change,
    pub(crate) reply: Sender<Removed>,
}

impl Request {
    /// Makes the change and sends the result.
    pub(crate) fn serve(self, writer: &mut Writer) {
        let result = self.change.make(writer);
        // The client may be gone.
        self.reply.try_send(result).ok();
    }
}

/// Both ends of the channel to the thread that owns the writer.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(crate) ask: Sender<Request>,
    pub(crate) asked: Receiver<Request>,
}

impl Default for Requests {
    fn default() -> Self {
        let (ask, asked) = bounded(1);
        Self { ask, asked }
    }
}
