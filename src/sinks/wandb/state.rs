//! What is to be known of a run's delivery: its receipt. Decides which images make the next row.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::formats::wandb_log::row::{ROW_BYTES_MAX, n_row_bytes};
use crate::media::{MediaEntry, MediaId, Step};
use crate::sinks::Delivery;

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The segment that is being written.
    pub(super) open: Option<Open>,
    /// Images of steps behind the last row: they are written when one of a later step comes.
    pub(super) held: Vec<Held>,
    /// Images of steps before or at the last row: they wait for the next segment.
    pub(super) late: Vec<Held>,
    /// Segments that are closed and not handed over yet, the first ones first.
    pub(super) closed: Vec<String>,
    /// When the run began: the time of its first image.
    pub(super) start: Option<f64>,
    /// When the last segment began.
    pub(super) last_start: Option<f64>,
    /// The last value of each key. A segment's summary takes the place of the one before, so it has to be whole.
    pub(super) summary: BTreeMap<String, Value>,
    /// The class names of each layer: of each kind, by their place. The same goes for the config.
    pub(super) labels: BTreeMap<String, BTreeMap<String, Value>>,
}

/// A segment that is being written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Of its directory.
    pub(super) name: String,
    /// How long its log is. What comes behind is of no worth.
    pub(super) n_bytes: u64,
    /// The number of the log's last record.
    pub(super) seq: i64,
    /// The step of its last row.
    pub(super) last_step: u64,
    /// The time of its last row.
    pub(super) last_time: f64,
    pub(super) n_items: u64,
}

/// An image that is in no row yet.
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

    /// Its files, relative to the run's folder.
    pub(super) fn paths(&self) -> Vec<String> {
        self.entry.paths()
    }
}

impl State {
    /// Takes an image. Of two versions of one image that both wait, the later counts.
    pub(super) fn take(&mut self, item: Held) {
        let is_late = self.open.as_ref().is_some_and(|open| item.id.step.0 <= open.last_step);
        let list = if is_late { &mut self.late } else { &mut self.held };
        match list.iter_mut().find(|other| other.id == item.id) {
            Some(other) if other.seq > item.seq => {}
            Some(other) => *other = item,
            None => list.push(item),
        }
    }

    /// The step whose row is to be written next; none while it may still get images, unless nothing more comes.
    pub(super) fn next_step(&mut self, is_last: bool) -> Option<Step> {
        if self.open.is_none() {
            // A new segment has no steps yet.
            self.held.append(&mut self.late);
        }
        let steps = || self.held.iter().map(|item| item.id.step);
        let (first, last) = (steps().min()?, steps().max()?);
        (is_last || first < last).then_some(first)
    }

    /// The images of a step, as many as a row can hold; the rest of them are late.
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

    /// Whether there is nothing that could be closed.
    pub(super) fn is_at_rest(&self) -> bool {
        self.open.is_none() && self.held.is_empty() && self.late.is_empty()
    }
}
