//! What `ingest` read, for people and as JSON.

use std::io::Write;
use std::time::Duration;

use super::hints::hint;
use super::{Before, n_images};
use crate::cli::args::Common;
use crate::cli::common::Commands;
use crate::cli::format::{count, items, printable, skipped_lines};
use crate::cli::json::{Ingested, NewItems, RunDirPassedOver};
use crate::cli::passed_over::{looked_for, print_passed_over};
use crate::config::Config;
use crate::ingest::{RootStatus, Shared};
use crate::shell::{quoted, quoted_path};
use crate::store::journal::JournalOffset;
use crate::store::{Reader, RunSummary, StoreError};

/// How many rejections are printed. `ls` lists all.
const REJECTED_SHOWN: usize = 10;

/// Runs whose folder and list are named at the end.
const RUNS_SHOWN: usize = 3;

pub(super) fn of(
    config: &Config,
    reader: &Reader,
    before: &Before,
    shared: &Shared,
    elapsed: Duration,
) -> Result<Ingested, StoreError> {
    let view = shared.ingest_status();
    let found_nothing = view.watching.iter().filter(|root| has_nothing(root));
    let found_nothing = found_nothing.map(|root| root.path.clone()).collect();
    let passed_over = view.watching.iter().filter(|root| !root.passed_over.is_empty());
    let passed_over = passed_over.map(RunDirPassedOver::from).collect();
    let not_taken = view.watching.iter().flat_map(|root| root.ids_taken.clone()).collect();
    let is_other = |root: &RootStatus, why: &String| !root.ids_taken.contains(why);
    let broken = view.watching.iter().flat_map(|root| {
        root.broken.iter().filter(|why| is_other(root, why)).cloned().collect::<Vec<_>>()
    });
    let mut problems: Vec<String> = broken.chain(view.problems).collect();
    if view.n_in_flight > 0 {
        problems.push(format!("{} not finished", count(view.n_in_flight, "item")));
    }
    let is_read =
        |run: &RunSummary| config.live.watches.iter().any(|watch| watch.path == run.source);
    let [image, held, rejected] = shared.progress.items().by_state();
    Ok(Ingested {
        store: config.boot.store.clone(),
        runs: reader.runs()?.into_iter().filter(is_read).collect(),
        new: NewItems { image, held, rejected },
        replaced: (before.n_image + image).saturating_sub(n_images(reader)?),
        found_nothing,
        not_taken,
        passed_over,
        repeated_lines: shared.progress.n_repeated(),
        superseded_lines: shared.progress.n_superseded(),
        begun_lines: view.begun_lines,
        skipped: view.skipped,
        problems,
        elapsed_s: elapsed.as_secs_f64(),
    })
}

/// Whether a run directory was read and has neither a media log nor a dump.
fn has_nothing(root: &RootStatus) -> bool {
    root.n_runs_without_input > 0
}

pub(super) fn print(
    report: &Ingested,
    roots: &[RootStatus],
    reader: &Reader,
    before: &Before,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let commands = common.commands();
    for run in &report.runs {
        let items = items([run.image, run.held, run.rejected]);
        writeln!(out, "{}: {items}", printable(run.run.as_str()))?;
    }
    let NewItems { image, held, rejected } = report.new;
    writeln!(out, "new: {}, in {:.2} s", items([image, held, rejected]), report.elapsed_s)?;
    if rejected > 0 {
        print_rejected(reader, &report.runs, before, &commands, out)?;
    }
    if report.replaced > 0 {
        let were = if report.replaced == 1 { "was" } else { "were" };
        let n = count(report.replaced, "image");
        let by = "by a later session, a new version of a dump, or a mask that came late";
        writeln!(out, "{n} {were} replaced {by}")?;
    }
    for line in skipped_lines(&report.skipped) {
        writeln!(out, "{line}")?;
    }
    if report.repeated_lines > 0 {
        let n = count(report.repeated_lines, "line");
        writeln!(out, "{n} of copied or rewritten logs were read before: no further items")?;
    }
    if report.superseded_lines > 0 {
        let n = count(report.superseded_lines, "line");
        writeln!(out, "{n} of earlier sessions are replaced by later ones: no further items")?;
    }
    for (run, log, n_bytes) in &report.begun_lines {
        let (log, size) = (printable(&format!("{run}/{log}")), count(*n_bytes, "byte"));
        writeln!(out, "{log}: the last line has no newline; its {size} are read when one follows")?;
    }
    for why in &report.not_taken {
        writeln!(out, "not read: {}", printable(why))?;
    }
    for root in roots {
        let path = root.path.display();
        if has_nothing(root) {
            let [logs, dumps] = looked_for(root);
            writeln!(out, "{path}: nothing found; looked for {logs} and {dumps}")?;
            if let Some(hint) = hint(&root.path, &commands) {
                writeln!(out, "  {hint}")?;
            }
        } else if !root.passed_over.is_empty() {
            writeln!(out, "{path}:")?;
        }
        print_passed_over(&root.passed_over, "  ", out)?;
    }
    for run in report.runs.iter().take(RUNS_SHOWN) {
        let folder = report.store.join("runs").join(run.run.folder()).join("media/images");
        writeln!(out, "images:   {}", quoted_path(&folder))?;
        let list = commands.line(&format!("ls {}", quoted(run.run.as_str())));
        writeln!(out, "list:     {list}")?;
    }
    if report.runs.len() > RUNS_SHOWN {
        writeln!(out, "list all: {}", commands.line("ls"))?;
    }
    if !report.runs.is_empty() {
        writeln!(out, "look:     {}", commands.line("gallery"))?;
    }
    Ok(())
}

/// Prints the rejections of these runs that this command added.
fn print_rejected(
    reader: &Reader,
    runs: &[RunSummary],
    before: &Before,
    commands: &Commands,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut n_more = 0u64;
    let mut n_shown = 0;
    for RunSummary { run, .. } in runs {
        let extent = before.extents.iter().find(|(before, _)| before == run);
        let since = extent.map_or(JournalOffset::START, |(_, extent)| extent.end);
        let (entries, n_others) = reader.rejected_since(run, since, REJECTED_SHOWN - n_shown)?;
        n_shown += entries.len();
        n_more += n_others;
        for entry in entries {
            let reason = printable(entry.reason().unwrap_or_default());
            let what = if entry.is_waiting() { "waiting" } else { "rejected" };
            let mut source = entry.source.path;
            if runs.len() > 1 {
                source = format!("{run}/{source}");
            }
            if let Some(tensor) = entry.source.tensor {
                source = format!("{source} {tensor}");
            }
            writeln!(out, "  {what} {}: {reason}", printable(&source))?;
        }
    }
    if n_more > 0 {
        let n_more = indicatif::HumanCount(n_more);
        let list = commands.line("ls --state rejected");
        writeln!(out, "  … and {n_more} more: {list}")?;
    }
    Ok(())
}
