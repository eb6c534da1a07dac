//! Why something of a fleet cannot be read.

use std::io;

use crate::media::RunId;
use crate::store::StoreError;

/// Why something of a fleet cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    /// The configuration names no object store that can be opened.
    #[error("the object store cannot be opened: {0}")]
    Location(String),
    /// Nothing was delivered under this id.
    #[error("no run {run:?} at {url}: want BOX/RUN, as `safelight ls --from` lists them")]
    NoRun {
        /// `BOX/RUN`, as it was asked for.
        run: String,
        /// The URL of the object store.
        url: String,
    },
    /// The object store does not answer, or with an error.
    #[error("{what}: {reason}")]
    Objects {
        /// What was asked for.
        what: String,
        /// The error, without secrets.
        reason: String,
    },
    /// A line names an object that is not there.
    #[error("the object store lacks {0}")]
    NoObject(String),
    /// An object is not what its name says.
    #[error("{name}: {damage}")]
    Damaged {
        /// The name of the object.
        name: String,
        /// What was found, and what was expected.
        damage: String,
    },
    /// A run has more lines than are read.
    #[error(
        "run {:?} has more than {max} lines in its manifests: query the catalogue with SQL (docs/fleet.md)",
        .run.as_str()
    )]
    TooManyLines {
        /// The run.
        run: RunId,
        /// The lines that are read.
        max: u64,
    },
    /// The scratch store fails.
    #[error("the scratch store fails: {0}")]
    Store(#[from] StoreError),
    /// There is no room for the scratch store, or no thread.
    #[error("the scratch store fails: {0}")]
    Io(#[from] io::Error),
}

impl FleetError {
    pub(super) fn no_run(run: &RunId, url: &str) -> Self {
        Self::NoRun { run: run.as_str().to_owned(), url: url.to_owned() }
    }
}
