//! What is told of a target: in `safelight status`, the metrics, and to whoever waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::backlog::{Tally, seconds};
use super::state::RunState;
use crate::config::SyncConfig;

/// How many reasons of items that are set aside are told.
const REASONS_MAX: usize = 3;

/// A target, and how far it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetView {
    /// Its name in the configuration.
    pub name: String,
    /// What kind of target it is.
    pub kind: String,
    /// Images that it doesn't have yet, and the bytes of their files.
    pub pending: u64,
    #[expect(missing_docs, reason = "said above")]
    pub pending_bytes: u64,
    /// How many seconds ago the oldest of them was kept.
    pub oldest_s: Option<f64>,
    /// Images that it has.
    pub delivered: u64,
    /// Images that are set aside: those that are tried again by and by, and those that it will never take.
    pub set_aside: u64,
    /// Of them, those that are not tried again unless somebody says `safelight retry`.
    pub refused: u64,
    /// Why, of some of them.
    pub reasons: Vec<String>,
    /// What went wrong last, as long as it does.
    pub trouble: Option<String>,
    /// In how many seconds it is tried again.
    pub next_try_s: Option<f64>,
    /// How many items may be on their way at the same time.
    pub lanes: u64,
}

/// The view of a target, with times in seconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct Posted {
    pub(super) view: TargetView,
    pub(super) oldest: Option<f64>,
    pub(super) next_try: Option<f64>,
    /// How many times all runs were looked at.
    pub(super) n_passes: u64,
}

impl Posted {
    /// Of a target without runs.
    pub(super) fn new(config: &SyncConfig) -> Self {
        let (name, kind) = (config.name.clone(), config.kind.kind().to_owned());
        Self { view: TargetView { name, kind, ..TargetView::default() }, ..Self::default() }
    }

    /// Adds a run: what the target has of it, what is pending, and when the first of that was kept.
    pub(super) fn add(&mut self, state: &RunState, pending: Tally, oldest: Option<f64>) {
        let view = &mut self.view;
        view.pending += pending.n_items;
        view.pending_bytes += pending.bytes;
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

    /// How it is now.
    pub(super) fn into_view(self) -> TargetView {
        let now = seconds(SystemTime::now());
        TargetView {
            oldest_s: self.oldest.map(|oldest| (now - oldest).max(0.0)),
            next_try_s: self.next_try.map(|next| (next - now).max(0.0)),
            ..self.view
        }
    }
}

/// Where a target's thread posts how it gets on. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<Posted>>);

impl Board {
    pub(super) fn post(&self, posted: Posted) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = posted;
    }

    pub(super) fn n_passes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).n_passes
    }

    /// How it is now.
    pub(super) fn view(&self) -> TargetView {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().into_view()
    }
}
