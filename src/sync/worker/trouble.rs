//! Why a run can't go on for the moment, and how long it is left alone.

use std::time::Duration;

use tokio::time::Instant;

use super::super::backoff::pause;
use super::super::state::StateError;
use crate::media::RunId;
use crate::sinks::{BoxError, SinkError};
use crate::store::StoreError;

/// An item that fails so often, while others are taken, is set aside.
pub(super) const TRIES_MAX: u32 = 5;

/// So many failures in a row, of items or of runs, are the target's.
pub(super) const FAILURES_MAX: u32 = 3;

/// Why a run can't go on for the moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{source}")]
    Target { after: Option<Duration>, source: BoxError },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{n} items of run {run} are refused: {reason}")]
    Refused { run: RunId, n: usize, reason: String },
    #[error("it is told to stop")]
    Stopped,
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Retry { after, source } => Self::Target { after, source },
            // Of no item that was given.
            SinkError::Reject { source, .. } => Self::Target { after: None, source },
        }
    }
}

/// How long to leave something alone.
#[derive(Debug, Default)]
pub(super) struct Wait {
    pub(super) n_failures: u32,
    pub(super) until: Option<Instant>,
    pub(super) trouble: Option<String>,
}

impl Wait {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    pub(super) fn failed(&mut self, trouble: &Trouble) {
        let after = if let Trouble::Target { after, .. } = trouble { *after } else { None };
        self.n_failures = self.n_failures.saturating_add(1);
        self.until = Some(Instant::now() + pause(self.n_failures, after, fastrand::f64()));
        self.trouble = Some(trouble.to_string());
    }
}
