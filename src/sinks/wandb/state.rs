//! State of a run's delivery. Selects the images of the next row.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::formats::wandb_log::row::{ROW_BYTES_MAX, n_row_bytes};
use crate::media::{MediaEntry, MediaId, Step};
use crate::sinks::Delivery;

/// State of a run's delivery. [`super::stored`] has its form in a receipt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    /// The open segment.
    pub(super) open: Option<Open>,
    /// Images of steps after the last row. Their row is written when an image of a later step arrives.
    pub(super) held: Waiting,
    /// Images of steps at or before the last row. They wait for the next segment.
    pub(super) late: Waiting,
    /// Names of the segments that are closed and not handed over yet, oldest first.
    pub(super) closed: Vec<String>,
    /// Start time of the run: the time of its first image.
    pub(super) start: Option<f64>,
    /// Start time of the last segment.
    pub(super) last_start: Option<f64>,
    /// Shared between clones, because a run may have many keys.
    pub(super) totals: Arc<Totals>,
}

/// Images that have no row yet. Shared between clones, because a step may have many.
pub(super) type Waiting = BTreeMap<MediaId, Arc<Held>>;

/// What each segment repeats, because it replaces that of the segment before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Last value of each key.
    pub(super) summary: BTreeMap<String, Value>,
    /// Class names of each layer, by kind and then by place.
    pub(super) labels: BTreeMap<String, BTreeMap<String, Value>>,
}

/// The segment that is being written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Name of the segment's directory.
    pub(super) name: String,
    /// Valid length of the log. Bytes after it are discarded on resume.
    pub(super) n_bytes: u64,
    /// Number of the log's last record.
    pub(super) seq: i64,
    /// Step of the last row.
    pub(super) last_step: u64,
    /// Time of the last row.
    pub(super) last_time: f64,
    pub(super) n_items: u64,
}

/// An image that has no row yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    seq: u64,
    pub(super) id: MediaId,
    pub(super) time: f64,
    pub(super) entry: MediaEntry,
    /// The run's folder in the store.
    pub(super) folder: PathBuf,
}

impl Held {
    pub(super) fn of(item: &Delivery) -> Self {
        Self {
            seq: item.seq,
            id: item.id.clone(),
            time: item.time,
            entry: (*item.entry).clone(),
            folder: item.folder.to_path_buf(),
        }
    }

    /// Returns the paths of the image's files, relative to the run's folder.
    pub(super) fn paths(&self) -> Vec<String> {
        self.entry.paths()
    }
}

impl State {
    /// Adds an image to the held or late images. If another version of the image waits, keeps the later version.
    pub(super) fn take(&mut self, item: Arc<Held>) {
        let is_late = self.open.as_ref().is_some_and(|open| item.id.step.0 <= open.last_step);
        let waiting = if is_late { &mut self.late } else { &mut self.held };
        let other = waiting.entry(item.id.clone()).or_insert_with(|| item.clone());
        if other.seq <= item.seq {
            *other = item;
        }
    }

    /// Returns all images that have no row yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.held.values().chain(self.late.values())
    }

    /// Returns the step of the next row. Returns `None` if no image is held, or if the step may still get images.
    /// If `is_last`, no step gets more images.
    pub(super) fn next_step(&mut self, is_last: bool) -> Option<Step> {
        if self.open.is_none() {
            // A new segment has no rows yet, so it can take late images.
            self.held.append(&mut self.late);
        }
        let steps = || self.held.keys().map(|id| id.step);
        let (first, last) = (steps().min()?, steps().max()?);
        (is_last || first < last).then_some(first)
    }

    /// Removes and returns the images of a step that fit in one row. The others become late.
    pub(super) fn take_step(&mut self, step: Step) -> Vec<Arc<Held>> {
        let mut row: Vec<Arc<Held>> = Vec::new();
        self.held.retain(|id, item| {
            let is_of_step = id.step == step;
            if is_of_step {
                row.push(item.clone());
            }
            !is_of_step
        });
        let mut n_bytes = 0;
        let n_fit = row.iter().take_while(|item| {
            n_bytes += n_row_bytes(&item.id, &item.entry);
            n_bytes <= ROW_BYTES_MAX
        });
        let n_fit = n_fit.count().max(1).min(row.len());
        self.late.extend(row.drain(n_fit..).map(|item| (item.id.clone(), item)));
        row
    }

    /// Returns whether no segment is open and no image waits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.open.is_none() && self.held.is_empty() && self.late.is_empty()
    }
}
