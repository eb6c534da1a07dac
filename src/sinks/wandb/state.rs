//! State of a run's delivery, stored as its receipt. Selects the images of the next row.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::formats::wandb_log::row::{ROW_BYTES_MAX, n_row_bytes};
use crate::media::{MediaEntry, MediaId, Step};
use crate::sinks::Delivery;

/// State of a run's delivery.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The open segment.
    pub(super) open: Option<Open>,
    /// Images of steps after the last row. Their row is written when an image of a later step arrives.
    pub(super) held: Vec<Held>,
    /// Images of steps at or before the last row. They wait for the next segment.
    pub(super) late: Vec<Held>,
    /// Names of the segments that are closed and not handed over yet, oldest first.
    pub(super) closed: Vec<String>,
    /// Start time of the run: the time of its first image.
    pub(super) start: Option<f64>,
    /// Start time of the last segment.
    pub(super) last_start: Option<f64>,
    /// Last value of each key. A segment's summary replaces the one before, so each segment needs the full summary.
    pub(super) summary: BTreeMap<String, Value>,
    /// Class names of each layer, by kind and then by place. Each segment needs all of them too, for its config.
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
    pub(super) fn take(&mut self, item: Held) {
        let is_late = self.open.as_ref().is_some_and(|open| item.id.step.0 <= open.last_step);
        let list = if is_late { &mut self.late } else { &mut self.held };
        match list.iter_mut().find(|other| other.id == item.id) {
            Some(other) if other.seq > item.seq => {}
            Some(other) => *other = item,
            None => list.push(item),
        }
    }

    /// Returns the step of the next row. Returns `None` if no image is held, or if the step may still get images.
    /// If `is_last`, no step gets more images.
    pub(super) fn next_step(&mut self, is_last: bool) -> Option<Step> {
        if self.open.is_none() {
            // A new segment has no rows yet, so it can take late images.
            self.held.append(&mut self.late);
        }
        let steps = || self.held.iter().map(|item| item.id.step);
        let (first, last) = (steps().min()?, steps().max()?);
        (is_last || first < last).then_some(first)
    }

    /// Removes and returns the images of a step that fit in one row. The others become late.
    pub(super) fn take_step(&mut self, step: Step) -> Vec<Held> {
        let (mut row, held) = self.held.drain(..).partition(|item| item.id.step == step);
        self.held = held;
        row.sort_by(|a: &Held, b| a.id.cmp(&b.id));
        let mut n_bytes = 0;
        let n_fit = row.iter().take_while(|item| {
            n_bytes += n_row_bytes(&item.id, &item.entry);
            n_bytes <= ROW_BYTES_MAX
        });
        let n_fit = n_fit.count().max(1);
        self.late.extend(row.drain(n_fit.min(row.len())..));
        row
    }

    /// Returns whether no segment is open and no image waits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.open.is_none() && self.held.is_empty() && self.late.is_empty()
    }
}
