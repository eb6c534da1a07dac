//! Delivers committed items from the journals to the targets.
//!
//! ```text
//! journal of a run ─page─▶ put, put, put ─▶ commit ─▶ STORE/sync/TARGET/RUN.json
//!      ▲                   in parallel,               the cursor and the sink's receipt
//!      └── cursor          one per lane
//! ```
//!
//! A target has no queue of its own: it is a cursor on each run's journal. A target that is configured a month later
//! starts at the beginning of each journal and catches up. A target that is unreachable for days costs only the disk
//! space of the media files that wait for it. Each target has its own thread, so that one that hangs delays no
//! other.
//!
//! An item leaves the backlog in one of three ways:
//! - The target accepts it: it is delivered.
//! - The target rejects it: it is parked with the target's error, and only `safelight retry` retries it.
//! - It fails repeatedly while the target accepts others: it is parked, and retried for a week.
//!
//! If several items in a row fail, the target is at fault. Delivery pauses, and no item is parked.

mod state;
mod backlog;
mod backoff;
mod lanes;
mod status;
mod progress;
mod worker;
mod target_thread;
mod targets;
mod local;
mod coverage;
mod sandbox;
#[cfg(test)]
mod tests;

use std::io;

pub(crate) use self::backlog::time_of;
pub(crate) use self::coverage::{TargetCoverage, coverage};
pub(crate) use self::local::{bytes_delivered, deliver, retry, views};
pub(crate) use self::sandbox::is_forbidden;
use self::state::StateError;
pub use self::status::TargetStatus;
pub(crate) use self::targets::{PreparedTargets, Targets};
use crate::config::SyncConfig;
use crate::store::StoreError;

/// Why nothing can be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The configuration has no target of this name.
    #[error("no target {got:?} in the configuration: it has {known}")]
    Unknown {
        /// The name.
        got: String,
        /// The names of all targets.
        known: String,
    },
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state of a target can't be read or written.
    #[error("{0}")]
    State(String),
    /// The system starts no thread.
    #[error("cannot start a thread for target {name}: {source}")]
    Thread {
        /// The target.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

impl From<StateError> for SyncError {
    fn from(error: StateError) -> Self {
        Self::State(error.to_string())
    }
}

fn check_names<'a>(
    known: impl Iterator<Item = &'a String>,
    names: &[String],
) -> Result<(), SyncError> {
    let known: Vec<&String> = known.collect();
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(got) => {
            let known: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(SyncError::Unknown { got: got.clone(), known })
        }
    }
}

/// Returns the named targets, or all if there are no names.
///
/// # Errors
/// If no target has one of the names.
pub(crate) fn choose(
    configs: &[SyncConfig],
    names: &[String],
) -> Result<Vec<SyncConfig>, SyncError> {
    check_names(configs.iter().map(|config| &config.name), names)?;
    let chosen = configs.iter().filter(|config| names.is_empty() || names.contains(&config.name));
    Ok(chosen.cloned().collect())
}
