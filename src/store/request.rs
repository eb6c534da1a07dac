//! Requests to the thread that owns the [`Writer`]: it serves them between two commits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{ImageToPrune, NamedFiles, StoreError, Writer};

/// The files that could not be removed, and why.
pub(crate) type Removed = Result<Vec<(String, String)>, StoreError>;

/// A change to the store, with the channel for its result.
#[derive(Debug)]
pub(crate) enum Request {
    /// See [`Writer::prune`].
    Prune(Vec<ImageToPrune>, Arc<NamedFiles>, Sender<Removed>),
    /// See [`Writer::remove_strays`].
    Strays(Vec<PathBuf>, Duration, Arc<NamedFiles>, Sender<Removed>),
    /// See [`Writer::refresh_index`].
    RefreshIndex(Sender<Removed>),
}

impl Request {
    /// Makes the change and sends the result.
    pub(crate) fn serve(self, writer: &mut Writer) {
        let (reply, result) = match self {
            Self::Prune(images, named, reply) => (reply, writer.prune(&images, &named)),
            Self::Strays(paths, age, named, reply) => {
                (reply, writer.remove_strays(&paths, age, &named))
            }
            Self::RefreshIndex(reply) => (reply, writer.refresh_index().map(|()| Vec::new())),
        };
        // The client may be gone.
        reply.try_send(result).ok();
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
