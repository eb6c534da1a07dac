//! Finds finished dumps and new lines, plans what becomes of them, and hands them to the pipeline.
//!
//! ```text
//! events ─hint─▶ ┌────────┐ dumps ─▶ settle ─▶ ┌──────┐
//! timer ───────▶ │  scan  │                    │ plan │─▶ pipeline ─▶ store
//!                └────────┘ logs ──▶ tail ───▶ └──────┘
//! ```
//!
//! One thread runs the `Engine`. A scan is the truth and an event only a hint; plans are made in
//! order; a log that waits for a dump keeps its place while other logs go on.
mod beneath;
mod engine;
mod evidence;
mod lines;
mod log_lines;
mod opened;
mod path_dumps;
mod pipeline;
mod release;
mod request;
mod root;
mod run;
mod settle;
mod tail;
mod to_plan;
mod troubles;
mod view;
mod watch;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use self::beneath::{Dump, Reading, RunDir, Verdict};
pub(crate) use self::engine::Engine;
pub(crate) use self::pipeline::ItemCounts;
use self::pipeline::Progress;
pub(crate) use self::release::Asked;
pub use self::release::{Admitting, KeyReport, Report as ReleaseReport};
pub(crate) use self::request::{Removed, Request, Requests};
pub use self::view::{RootView, View, Waiting};
use crossbeam_channel::{Receiver, Sender};

use crate::config::Live;
use crate::pace::Pace;
use crate::pulse::Pulses;

/// What to do with a run directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Follow it until told to stop.
    Follow,
    /// Read what is there, and end.
    Once,
}

/// What the engine can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Apply the configuration that comes through the first channel, and report through the second. If none comes,
    /// the reload was given up.
    Reload(Receiver<Live>, Sender<()>),
    /// Release what was held back.
    Release(release::Asked),
    /// End. The stop flag is set too, for whoever waits for the disk.
    Stop,
}

/// What the engine and others share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) pulses: Pulses,
    /// How fast dumps are read.
    pub(crate) pace: Arc<Pace>,
    /// `store.free_bytes_min`.
    pub(crate) free_bytes_min: Arc<Mutex<Option<u64>>>,
    /// What the committer is asked for.
    pub(crate) requests: Requests,
    view: Arc<Mutex<View>>,
}

impl Shared {
    /// Goes by this `store.free_bytes_min` from now on.
    pub(crate) fn set_free_bytes_min(&self, min: Option<u64>) {
        *self.free_bytes_min.lock().unwrap_or_else(PoisonError::into_inner) = min;
    }

    /// What the engine did when it last told.
    pub(crate) fn view(&self) -> View {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        view.n_in_flight = self.progress.n_in_flight();
        view.trouble = self.progress.trouble().or(view.trouble);
        view
    }
}
