//! Retention: removes media files that are too old or too many, and dumps that are no longer needed.
//!
//! `policy` decides by counts and ages. `dump_check` and `line_parts` check that the store has the whole dump.
//! `run_sweep` reads what a run has, and removes files.
//!
//! A removed image stays in the index and is marked as *pruned*. The mark is durable in the run's journal before the
//! first of the image's files is removed.

mod clock;
mod policy;
mod dump_check;
mod line_parts;
mod report;
mod dumps;
mod run_sweep;

pub(crate) use self::clock::RetentionClock;
pub use self::report::{Report, RunReport};
use self::run_sweep::RunSweep;
use crate::config::Live;
use crate::run_dir::ReadOptions;
use crate::store::{Change, Reader, Removed, StoreError};
use crate::sync;

/// Changes the store between its commits.
pub(crate) trait StoreRemover {
    /// Makes a change. Returns the files that could not be removed.
    fn make(&mut self, change: Change) -> Removed;

    /// Whether the sweep may continue: its rules are still those of the configuration.
    fn may_continue(&self) -> bool;
}

/// Finds what the rules remove, run by run. With `remover`, removes it. `reading` limits how dumps are read.
///
/// # Errors
/// If the store can't be read, or can't commit that images are pruned. Files that can't be removed are in the report.
pub(crate) fn sweep(
    reader: &Reader,
    config: &Live,
    clock: RetentionClock,
    reading: &ReadOptions,
    mut remover: Option<&mut dyn StoreRemover>,
) -> Result<Report, StoreError> {
    let now = clock.now();
    let mut report = Report { applied: remover.is_some(), runs: Vec::new(), problem: None };
    report.problem = clock.trouble();
    for summary in reader.runs()? {
        let info = match reader.run_info(&summary.run) {
            Ok(Some(info)) => info,
            Ok(None) => continue,
            Err(error) => {
                report.problem =
                    Some(format!("nothing is removed of run {}: {error}", summary.run));
                continue;
            }
        };
        if remover.as_ref().is_some_and(|remover| !remover.may_continue()) {
            report.problem = Some("the sweep was stopped: the configuration changed".to_owned());
            break;
        }
        let targets = match sync::coverage(reader.root(), &config.targets, &summary.run) {
            Ok(targets) => targets,
            Err(error) => {
                report.problem =
                    Some(format!("nothing is removed of run {}: {error}", summary.run));
                continue;
            }
        };
        let is_damaged = summary.damaged > 0;
        let sweep = RunSweep { reader, config, now, run: info, is_damaged, targets, reading };
        match reader.check_left_out(&summary.run).and_then(|()| sweep.run(&mut remover)) {
            Ok(of_run) => report.runs.extend((!of_run.is_empty()).then_some(of_run)),
            Err(error) if error.is_of_run() => {
                report.problem =
                    Some(format!("nothing is removed of run {}: {error}", summary.run));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}
