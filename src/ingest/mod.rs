//! Finds finished dumps and new lines, plans what becomes of them, and submits it to the pipeline.
//!
//! ```text
//!  kernel ─events─▶ ┌──────────┐ dumps ─▶ settle ─▶ ┌──────────┐        ┌──────────┐
//!  timer ─────────▶ │ watching │                    │ planning │─batch─▶│ pipeline │─▶ store
//!                   └──────────┘ logs ──▶ tail ───▶ └──────────┘        └────┬─────┘
//!                                                        ▲─────── results ───┘
//! ```
//!
//! One thread runs the `Engine`: a loop that waits for the next event and gives each part its turn. Each
//! part owns its state; the engine owns the parts and passes them to each other.
//!
//! Invariants:
//!
//! 1. A scan is the truth, and an event only a hint that says where to look sooner.
//! 2. Plans are made in order, on one thread. Renders run in parallel. Commits keep the order of the plans of each
//!    run.
//! 3. A log whose next line waits for its dump keeps its place, while other logs go on.
//! 4. What happens in one run costs nothing in the others, however many there are.
//! 5. No part but `pipeline` has a thread, and no part knows the engine.
//!
//! | module | its one job |
//! | --- | --- |
//! | `run_files` | which files of a run directory are logs, dumps and sidecars |
//! | `logs` | follows media logs and splits them into lines |
//! | `passed_over` | what was probably meant for Safelight, and is not read as it lies |
//! | `folders` | the folders of a run: watched for events, listed for new files |
//! | `dumps` | opens dumps: headers, digest, masks, decoded bytes |
//! | `runs` | the run directories that are read, in a slot map |
//! | `line_records` | records of log lines, read again by number |
//! | `again` | what an item was made from, found once more: its line, its dump, its image |
//! | `watching` | the watched directories: events, scans, and dumps that may still change |
//! | `planning` | lines and dumps → plans, by the limits of each step |
//! | `sources` | the watched directories, the runs in them, and their logs and dumps |
//! | `surveys` | when runs are looked through for what is passed over |
//! | `pipeline` | plans → images → commits, on threads of its own |
//! | `skipped` | entries of dumps that hold no picture |
//! | `status` | what ingest does now, for people and metrics |
//! | `room` | whether the store's disk has room |
//! | `engine` | the loop over all events |

mod run_files;
mod logs;
mod passed_over;
mod folders;
mod dumps;
mod runs;
pub(crate) mod again;
mod line_records;
mod watching;
mod planning;
mod pipeline;
mod surveys;
mod sources;
mod room;
mod skipped;
mod status;
mod engine;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};

pub(crate) use self::engine::Engine;
pub(crate) use self::line_records::LineRecords;
pub(crate) use self::passed_over::is_foreign_folder;
pub use self::passed_over::{PassedOver, PassedOverExample, PassedOverKind, RunPassedOver};
pub(crate) use self::pipeline::ItemCounts;
use self::pipeline::Progress;
pub use self::planning::{Admitting, KeyReport, ReleaseReport, RepairResult};
pub(crate) use self::planning::{ReleaseRequest, RepairRequest};
pub(crate) use self::runs::{IDENTITY_FILE, run_info};
pub use self::skipped::{SkippedEntries, SkippedOfDump};
pub use self::status::{IngestStatus, Waiting};
pub use self::watching::RootStatus;
use crate::config::Live;
use crate::locks::lock;
use crate::pace::Pace;
use crate::pulse::Pulses;
use crate::store::Requests;

/// How run directories are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Follow them until [`Command::Stop`].
    Follow,
    /// Read what is there, and end.
    Once,
}

/// A command to the engine.
#[derive(Debug)]
pub(crate) enum Command {
    /// Apply the configuration that comes through the first channel, and report through the second. If none
    /// comes, the reload was given up.
    Reload(Receiver<Live>, Sender<()>),
    /// Release held images.
    Release(ReleaseRequest),
    /// Make damaged media files again.
    Repair(RepairRequest),
    /// End. [`Shared::stop`] must be set too, for threads that wait for the disk.
    Stop,
}

/// What the engine shares with other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) pulses: Pulses,
    /// Limits the bytes of dumps that are read per second.
    pub(crate) pace: Arc<Pace>,
    /// `store.free_bytes_min`.
    pub(crate) free_bytes_min: Arc<Mutex<Option<u64>>>,
    /// Requests to the thread that owns the store's writer.
    pub(crate) requests: Requests,
    status: Arc<Mutex<IngestStatus>>,
}

impl Shared {
    /// Uses this `store.free_bytes_min` from now on.
    pub(crate) fn set_free_bytes_min(&self, min: Option<u64>) {
        *lock(&self.free_bytes_min) = min;
    }

    /// What ingest did when the engine updated the status last.
    pub(crate) fn ingest_status(&self) -> IngestStatus {
        let mut status = lock(&self.status).clone();
        status.n_in_flight = self.progress.n_in_flight();
        status.skipped = self.progress.skipped();
        status.trouble = self.progress.trouble().or(status.trouble);
        status
    }
}
