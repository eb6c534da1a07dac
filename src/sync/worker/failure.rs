//! Why a run can't be delivered now, and the pause before its next try.

use std::time::Duration;

use tokio::time::Instant;

use super::super::backoff::pause;
use super::super::state::StateError;
use crate::media::RunId;
use crate::sinks::{BoxError, SinkError};
use crate::store::StoreError;

/// An item that fails this often, while the target accepts others, is parked.
pub(super) const TRIES_MAX: u32 = 5;

/// After this many failures in a row, of items or of runs, the target is at fault.
pub(super) const FAILURES_MAX: u32 = 3;

/// Why a run can't be delivered now.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error("{source}")]
    Target { after: Option<Duration>, source: BoxError },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{n} items of run {run} would be parked, over the limit of {max}: {reason}")]
    TooManyParked { run: RunId, n: usize, max: usize, reason: String },
    #[error("delivery was stopped")]
    Stopped,
}

impl From<SinkError> for DeliveryError {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Retry { after, source } => Self::Target { after, source },
            // The sink rejects an item that it was not given.
            SinkError::Reject { source, .. } | SinkError::Damaged { source, .. } => {
                Self::Target { after: None, source }
            }
        }
    }
}

/// The pause of a run or a target after failures.
#[derive(Debug, Default)]
pub(super) struct RetryPause {
    n_failures: u32,
    pub(super) until: Option<Instant>,
    /// The last error.
    pub(super) error: Option<String>,
}

impl RetryPause {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Adds a failure with its text: see [`super::trouble::text_of`].
    pub(super) fn add_failure(&mut self, error: &DeliveryError, text: String) {
        let after = if let DeliveryError::Target { after, .. } = error { *after } else { None };
        self.n_failures = self.n_failures.saturating_add(1);
        self.until = Some(Instant::now() + pause(self.n_failures, after, fastrand::f64()));
        self.error = Some(text);
    }
}
