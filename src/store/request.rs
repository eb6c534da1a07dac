//! Requests to the thread that owns the [`Writer`]: it serves them between two commits.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{ImageToPrune, StoreError, Writer};
use crate::media::RunId;

/// The files that could not be removed, and why.
pub(crate) type Removed = Result<Vec<(String, String)>, StoreError>;

/// A change to the store, with the channel for its result.
#[derive(Debug)]
pub(crate) enum Request {
    /// See [`Writer::prune`].
    Prune(RunId, Vec<ImageToPrune>, Sender<Removed>),
    /// See [`Writer::remove_strays`].
    Strays(Vec<PathBuf>, Duration, Sender<Removed>),
}

impl Request {
    /// Makes the change and sends the result.
    pub(crate) fn serve(self, writer: &mut Writer) {
        // The client may be gone.
        match self {
            Self::Prune(run, leaving, reply) => reply.try_send(writer.prune(&run, &leaving)).ok(),
            Self::Strays(paths, age, reply) => {
                reply.try_send(writer.remove_strays(&paths, age)).ok()
            }
        };
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
