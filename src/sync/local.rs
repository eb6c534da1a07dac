//! Sync without a daemon: on a store that this process holds.

use std::time::SystemTime;

use super::SyncError;
use super::backlog::{Backlog, unix_seconds};
use super::progress::ChangeSignal;
use super::state::RunState;
use super::status::{TargetProgress, TargetStatus};
use super::target_thread::{DeliveryMode, TargetThread, WaitingThread};
use crate::config::SyncConfig;
use crate::durable::Disk;
use crate::media::RunId;
use crate::store::Reader;

/// Delivers the backlog to the targets and ends; without `is_once`, never ends. Calls `see` with the targets'
/// status at the start and after each progress.
///
/// Returns each target's status at the end, and whether it has its whole backlog, apart from parked items.
///
/// # Errors
/// If a thread can't be started. Nothing was delivered then.
pub(crate) fn deliver(
    reader: &Reader,
    configs: Vec<SyncConfig>,
    is_once: bool,
    see: impl Fn(&[TargetStatus]),
) -> Result<Vec<(TargetStatus, bool)>, SyncError> {
    let mode = if is_once { DeliveryMode::Once } else { DeliveryMode::Continuous };
    let changes = ChangeSignal::default();
    let start = |config| WaitingThread::start(reader.clone(), config, mode, &changes);
    let waiting: Vec<WaitingThread> = configs.into_iter().map(start).collect::<Result<_, _>>()?;
    let threads: Vec<TargetThread> =
        waiting.into_iter().map(|waiting| waiting.begin(None)).collect();
    changes.wait_until(None, || {
        let views: Vec<TargetStatus> = threads.iter().map(|thread| thread.board.view()).collect();
        see(&views);
        threads.iter().all(|thread| thread.board.is_ended())
    });
    let ended = threads.into_iter().map(|TargetThread { board, handle, .. }| {
        let is_delivered = handle.join().unwrap_or(false);
        (board.view(), is_delivered)
    });
    Ok(ended.collect())
}

/// Reads each target's status from the store. No thread may deliver meanwhile.
///
/// # Errors
/// If the store can't be read.
pub(crate) fn views(
    reader: &Reader,
    configs: &[SyncConfig],
) -> Result<Vec<TargetStatus>, SyncError> {
    let mut views = Vec::new();
    for config in configs {
        let mut progress = TargetProgress::new(config);
        for (run, extent) in reader.extents()? {
            if !config.selection.has_run(&run) {
                continue;
            }
            match RunState::load(reader.root(), &config.name, &run) {
                Ok(state) => {
                    let backlog = Backlog { reader, run: &run, config };
                    let count = backlog.count(state.cursor.place, extent.end)?;
                    progress.add(&state, count, backlog.oldest(state.cursor, extent.end)?);
                }
                Err(error) => progress.view.trouble = Some(error.to_string()),
            }
        }
        views.push(progress.into_view());
    }
    Ok(views)
}

/// Returns how many bytes of a run's media files were delivered to a target.
///
/// # Errors
/// If the state of the delivery can't be read.
pub(crate) fn bytes_delivered(
    reader: &Reader,
    target: &str,
    run: &RunId,
) -> Result<u64, SyncError> {
    Ok(RunState::load(reader.root(), target, run)?.bytes_delivered)
}

/// Schedules all parked items of the targets for the next delivery. Returns their number.
///
/// # Errors
/// If the store can't be read or written.
pub(crate) fn retry(reader: &Reader, configs: &[SyncConfig]) -> Result<u64, SyncError> {
    let mut n = 0;
    for config in configs {
        for (run, _) in reader.extents()? {
            let mut state = RunState::load(reader.root(), &config.name, &run)?;
            if state.parked.is_empty() {
                continue;
            }
            let now = unix_seconds(SystemTime::now());
            for parked in &mut state.parked {
                (parked.since, parked.next) = (now, Some(now));
            }
            n += state.parked.len() as u64;
            state.save(&Disk::default(), reader.root(), &config.name)?;
        }
    }
    Ok(n)
}
