//! The status of a target, as `safelight status`, the metrics and the control API show it.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backlog::{BacklogCount, unix_seconds};
use super::state::RunState;
use crate::config::SyncConfig;

/// How many different reasons of parked items are shown.
const REASONS_MAX: usize = 3;

/// A target's status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetStatus {
    /// The target's name in the configuration.
    pub name: String,
    /// The kind of target.
    pub kind: String,
    /// Number of items in the backlog: committed, and not delivered yet. An object store gets all items, other targets
    /// images only.
    pub pending: u64,
    /// Bytes of the backlog's media files.
    pub pending_bytes: u64,
    /// Age of the backlog's oldest image, in seconds since its media file was written.
    pub oldest_s: Option<f64>,
    /// Number of delivered items.
    pub delivered: u64,
    /// Number of parked items, with and without a scheduled retry.
    pub set_aside: u64,
    /// Number of parked items without a scheduled retry. `safelight retry` retries them.
    pub refused: u64,
    /// Errors of parked items, a few at most.
    pub reasons: Vec<String>,
    /// The error that delays delivery now.
    pub trouble: Option<String>,
    /// How long deliveries have failed, in seconds.
    #[serde(default)]
    pub trouble_s: Option<f64>,
    /// How long they may fail before the daemon counts as unhealthy, in seconds.
    #[serde(default)]
    pub patience_s: u64,
    /// Time until the next try, in seconds.
    pub next_try_s: Option<f64>,
    /// How many images may be in transfer at the same time.
    pub lanes: u64,
}

/// A target's status with absolute times, in seconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct TargetProgress {
    pub(super) view: TargetStatus,
    pub(super) oldest: Option<f64>,
    pub(super) next_try: Option<f64>,
    /// Number of passes over all runs.
    pub(super) n_passes: u64,
}

impl TargetProgress {
    /// The progress of a target without runs.
    pub(super) fn new(config: &SyncConfig) -> Self {
        let (name, kind) = (config.name.clone(), config.kind.kind().to_owned());
        let patience_s = config.patience.as_secs();
        let view = TargetStatus { name, kind, patience_s, ..TargetStatus::default() };
        Self { view, ..Self::default() }
    }

    /// Adds a run: the target's state of it, its backlog, and when the first backlog item was written.
    pub(super) fn add(&mut self, state: &RunState, backlog: BacklogCount, oldest: Option<f64>) {
        let view = &mut self.view;
        view.pending += backlog.n_items;
        view.pending_bytes += backlog.bytes;
        view.delivered += state.n_delivered;
        view.set_aside += state.parked.len() as u64;
        for parked in &state.parked {
            view.refused += u64::from(parked.next.is_none());
            if view.reasons.len() < REASONS_MAX && !view.reasons.contains(&parked.reason) {
                view.reasons.push(parked.reason.clone());
            }
        }
        self.oldest = [self.oldest, oldest].into_iter().flatten().reduce(f64::min);
    }

    /// The status now: with ages and delays instead of times.
    pub(super) fn into_view(self) -> TargetStatus {
        let now = unix_seconds(SystemTime::now());
        TargetStatus {
            oldest_s: self.oldest.map(|oldest| (now - oldest).max(0.0)),
            next_try_s: self.next_try.map(|next| (next - now).max(0.0)),
            ..self.view
        }
    }
}
