//! Plans what becomes of lines and dumps, in order, and submits it to the pipeline.
//!
//! ```text
//! logs ──▶ LogLines ──┐
//! dumps ─▶ PathDumps ─┼─▶ Planner ─▶ SourceBatch ─▶ Pipeline
//! held ──▶ Releases ──┘
//! ```
//!
//! Plans are made one after the other, so that the limits of a step fall the same way each time. A log
//! whose next line waits for its dump keeps its place, while other logs go on.
//!
//! | module | its one job |
//! | --- | --- |
//! | `planner` | plans the images of a record, by the limits and by what its step has |
//! | `known_lines` | lines that were read before, by their content |
//! | `sessions` | sessions of jobs: which items of a step a line replaces |
//! | `log_lines` | when the lines of media logs are planned |
//! | `open_runs` | runs whose logs or last dump are open |
//! | `line` | plans one line of a media log |
//! | `path_dumps` | plans dumps that are described by their paths |
//! | `dump_version` | one version of such a dump: opens it, and plans it in place of the one before |
//! | `release` | plans items again: held ones, waiting ones, images that lack a mask, damaged files |
//! | `backlog` | what waits, and why |

mod planner;
mod backlog;
mod known_lines;
mod sessions;
mod log_lines;
mod open_runs;
mod line;
mod path_dumps;
mod dump_version;
mod release;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use self::backlog::Backlog;
pub(crate) use self::log_lines::{LogBacklog, LogLines, follow_log};
pub(crate) use self::path_dumps::PathDumps;
pub(crate) use self::planner::Planner;
pub use self::release::{Admitting, KeyReport, RepairResult, Report as ReleaseReport};
pub(crate) use self::release::{ReleaseRequest, Releases, RepairRequest, Retries};
use super::pipeline::Pipeline;
use super::{Mode, Shared};
use crate::config::Live;
use crate::media::RunId;
use crate::pulse;
use crate::run_dir::ReadOptions;

/// The longest wait for a result before it is checked whether the program must stop.
const DRAIN_BEAT: Duration = Duration::from_millis(100);

/// The time after which a part of the planning goes on in the next turn, so that commands, events and the other
/// parts have theirs.
pub(super) const SLICE: Duration = Duration::from_millis(50);

/// What the planning of a line or a dump needs beside its run.
pub(crate) struct PlanContext<'a> {
    pub(crate) mode: Mode,
    pub(crate) config: &'a Live,
    pub(crate) read_options: ReadOptions,
    pub(crate) now: Instant,
    pub(crate) planner: &'a mut Planner,
    pub(crate) pipeline: &'a mut Pipeline,
    pub(crate) backlog: &'a mut Backlog,
    pub(crate) shared: &'a Shared,
}

impl PlanContext<'_> {
    /// Whether the program is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Waits until all batches of a run are done that were submitted. The results stay in the pipeline until
    /// they are taken.
    pub(crate) fn drain_run(&mut self, run: &RunId) {
        self.pipeline.flush();
        while self.pipeline.n_in_flight_of(run) > 0
            && !self.is_stopped()
            && self.pipeline.is_alive()
        {
            pulse::beat();
            self.pipeline.wait(DRAIN_BEAT);
        }
    }
}

/// What came of planning a line or a dump.
enum PlanResult {
    /// It is planned, or nothing needs to be done.
    Done,
    /// Its content is compared with a known one, which takes further turns.
    Compared,
    /// It waits for something, for this reason. It is rejected if it waits too long.
    Wait(String),
    /// The machine fails to read it, for this reason. It waits until the machine works again.
    Retry(String),
}
