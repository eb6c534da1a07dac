//! What the committer is asked to do between two commits, by whoever removes things.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::media::RunId;
use crate::store::{ImageToPrune, StoreError, Writer};

/// The files that could not be removed, and why.
pub(crate) type Removed = Result<Vec<(String, String)>, StoreError>;

/// Something to do with the store, and whom to tell what came of it.
#[derive(Debug)]
pub(crate) enum Request {
    /// As [`Writer::prune`].
    Prune(RunId, Vec<ImageToPrune>, Sender<Removed>),
    /// As [`Writer::remove_strays`].
    Strays(Vec<PathBuf>, Duration, Sender<Removed>),
}

impl Request {
    /// Does it.
    pub(super) fn serve(self, writer: &mut Writer) {
        // Whoever asked may have gone.
        match self {
            Self::Prune(run, leaving, told) => told.try_send(writer.prune(&run, &leaving)).ok(),
            Self::Strays(paths, age, told) => told.try_send(writer.remove_strays(&paths, age)).ok(),
        };
    }
}

/// The way to the committer, both ends.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(crate) ask: Sender<Request>,
    pub(super) asked: Receiver<Request>,
}

impl Default for Requests {
    fn default() -> Self {
        let (ask, asked) = bounded(1);
        Self { ask, asked }
    }
}
