//! `safelight ingest`: reads run directories once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::access::{self, HELD_MAX};
use super::args::Common;
use super::exit::ExitCode;
use super::format::{count, items, printable, skipped_lines};
use super::json::{self, Ingested, NewItems, RunDirPassedOver};
use super::passed_over::{looked_for, print_passed_over};
use super::privileges::act_as_owner_of;
use super::progress::Progress;
use crate::config::{Config, WatchConfig};
use crate::ingest::{Engine, Mode, RootStatus, Shared};
use crate::media::RunId;
use crate::store::journal::JournalOffset;
use crate::store::{self, Extent, Reader, RunSummary, StoreError};

/// How many rejections are printed. `ls` lists all.
const REJECTED_SHOWN: usize = 10;

/// Runs whose folder and list are named at the end.
const RUNS_SHOWN: usize = 3;

pub(super) fn run(
    run_dirs: &[PathBuf],
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut config = common.config()?;
    config.live.watches =
        run_dirs.iter().map(|path| watch(path, &config)).collect::<Result<_, _>>()?;
    let shared = Shared::default();
    let progress = Progress::new();
    let log = progress.clone();
    crate::logging::start_for_command(move || log.clone());

    act_as_owner_of(&config.boot.store)?;
    let opened = store::open(&config.boot.store, &access::holder("ingest"), HELD_MAX);
    let (writer, reader) = opened.map_err(|error| with_advice(error, &config.boot.store))?;
    let before = Before { extents: reader.extents()?, n_image: n_images(&reader)? };
    let start = Instant::now();
    let engine = Engine::new(Mode::Once, config.clone(), writer, reader.clone(), shared.clone())?;
    let (_commands, commands_in) = crossbeam_channel::bounded(1);
    let drawing = progress.draw(shared.clone())?;
    let writer = engine.run(&commands_in);
    drawing.finish()?;
    let writer = writer?.ok_or_else(|| anyhow!("the commit thread died"))?;

    let roots = shared.ingest_status().watching;
    let report = report(&config, &reader, &before, &shared, start.elapsed())?;
    if common.json {
        json::print(&report, out)?;
    } else {
        print(&report, &roots, &reader, &before, common, out)?;
    }
    writer.close()?;
    let mut failures = Vec::new();
    if !report.problems.is_empty() {
        failures.push(format!("not everything was read: {}", report.problems.join("; ")));
    }
    if !report.found_nothing.is_empty() {
        let paths = report.found_nothing.iter().map(|path| path.display().to_string());
        failures.push(format!("nothing was found in {}", paths.collect::<Vec<_>>().join(", ")));
    }
    if !failures.is_empty() {
        return Err(anyhow!(failures.join("; ")));
    }
    Ok(if report.new.rejected > 0 { ExitCode::Rejected } else { ExitCode::Done })
}

/// What the store had before this command.
struct Before {
    extents: Vec<(RunId, Extent)>,
    n_image: u64,
}

fn n_images(reader: &Reader) -> Result<u64, StoreError> {
    Ok(reader.runs()?.iter().map(|run| run.image).sum())
}

/// How a run directory is read: as its `[[watch]]` says, or by the default patterns.
fn watch(path: &Path, config: &Config) -> anyhow::Result<WatchConfig> {
    let path =
        std::fs::canonicalize(path).with_context(|| format!("run directory {}", path.display()))?;
    if !path.is_dir() {
        return Err(anyhow!("{} is not a directory", path.display()));
    }
    let configured = config.live.watches.iter().find(|watch| path.starts_with(&watch.path));
    Ok(match configured {
        Some(watch) => WatchConfig { path, runs: None, ..watch.clone() },
        None => WatchConfig::of_run(path),
    })
}

fn with_advice(error: StoreError, store: &Path) -> anyhow::Error {
    let error = anyhow!(error);
    if access::is_held_by_daemon(store) {
        error.context(
            "a daemon holds the store: add the directory to its [[watch]], or use another --store",
        )
    } else {
        error
    }
}

fn report(
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
    let of_roots = view.watching.into_iter().filter_map(|root| root.problem);
    let mut problems: Vec<String> = of_roots.chain(view.problems).collect();
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

fn print(
    report: &Ingested,
    roots: &[RootStatus],
    reader: &Reader,
    before: &Before,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    for run in &report.runs {
        let items = items([run.image, run.held, run.rejected]);
        writeln!(out, "{}: {items}", printable(run.run.as_str()))?;
    }
    let NewItems { image, held, rejected } = report.new;
    writeln!(out, "new: {}, in {:.2} s", items([image, held, rejected]), report.elapsed_s)?;
    if rejected > 0 {
        print_rejected(reader, &report.runs, before, out)?;
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
    for root in roots {
        let path = root.path.display();
        if has_nothing(root) {
            let [logs, dumps] = looked_for(root);
            writeln!(out, "{path}: nothing found; looked for {logs} and {dumps}")?;
        } else if !root.passed_over.is_empty() {
            writeln!(out, "{path}:")?;
        }
        print_passed_over(&root.passed_over, "  ", out)?;
    }
    let option = |name: &str, path: Option<&PathBuf>| {
        path.map_or_else(String::new, |path| format!(" --{name} {}", path.display()))
    };
    let options =
        option("store", common.store.as_ref()) + &option("config", common.config.as_ref());
    // The program as it was called, so that the line can be pasted into a shell.
    let program = std::env::args().next().unwrap_or_else(|| "safelight".to_owned());
    for run in report.runs.iter().take(RUNS_SHOWN) {
        let folder = report.store.join("runs").join(run.run.folder()).join("media/images");
        writeln!(out, "images:   {}", folder.display())?;
        writeln!(out, "list:     {program} ls {}{options}", printable(run.run.as_str()))?;
    }
    if report.runs.len() > RUNS_SHOWN {
        writeln!(out, "list all: {program} ls{options}")?;
    }
    Ok(())
}

/// Prints the rejections of these runs that this command added.
fn print_rejected(
    reader: &Reader,
    runs: &[RunSummary],
    before: &Before,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut n_more = 0u64;
    let mut n_shown = 0;
    for RunSummary { run, .. } in runs {
        let extent = before.extents.iter().find(|(before, _)| before == run);
        let since = extent.map_or(JournalOffset::START, |(_, extent)| extent.end);
        for entry in reader.rejected_since(run, since) {
            let entry = entry?;
            if n_shown == REJECTED_SHOWN {
                n_more += 1;
                continue;
            }
            n_shown += 1;
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
        writeln!(out, "  … and {n_more} more: safelight ls --state rejected")?;
    }
    Ok(())
}
