//! `safelight ingest`: reads run directories once.
//!
//! | file | content |
//! | --- | --- |
//! | `report` | what was read, for people and as JSON |
//! | `hints` | what a directory is in which nothing was found |

mod hints;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;

use super::access::{self, HELD_MAX};
use super::args::{Common, IngestArgs};
use super::exit::ExitCode;
use super::format::{count, warn};
use super::json::{self, Ingested};
use super::privileges::act_as_owner_of;
use super::progress::Progress;
use super::run_dirs::{RunDirs, directory, is_run_dir};
use super::store_advice::with_advice;
use crate::config::{Config, NamedDirectory, WatchConfig};
use crate::ingest::{Engine, Mode, RootStatus, Shared};
use crate::media::RunId;
use crate::record::LooseKey;
use crate::store::{self, Extent, Reader, StoreError, Writer};

pub(super) fn run(
    args: &IngestArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut config = common.config()?;
    config.live.watches = watches(args, &config)?;
    let progress = Progress::new();
    let log = progress.clone();
    crate::logging::start_for_command(move || log.clone());

    let store = config.boot.store.clone();
    act_as_owner_of(&store)?;
    let opened = store::open(&store, &access::holder("ingest"), HELD_MAX);
    let opened = opened.map_err(|error| with_advice(error.into(), &store, common))?;
    let ReadOnce { writer, reader, before, roots, report } = read_once(&config, opened, &progress)?;
    if common.json {
        json::print(&report, out)?;
    } else {
        report::print(&report, &roots, &reader, &before, common, out)?;
    }
    writer.close()?;
    check_all_was_read(&report)?;
    let is_all_taken = report.new.rejected == 0 && report.not_taken.is_empty();
    Ok(if is_all_taken { ExitCode::Done } else { ExitCode::Rejected })
}

/// What was read, in a store that is still open.
pub(super) struct ReadOnce {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    before: Before,
    roots: Vec<RootStatus>,
    pub(super) report: Ingested,
}

/// Reads the watched directories once.
///
/// # Errors
/// If the store or its index fails, or a thread cannot be started. What could not be read is no error:
/// [`check_all_was_read`] tells.
pub(super) fn read_once(
    config: &Config,
    (writer, reader): (Writer, Reader),
    progress: &Progress,
) -> anyhow::Result<ReadOnce> {
    let shared = Shared::default();
    let before = Before { extents: reader.extents()?, n_image: n_images(&reader)? };
    let start = Instant::now();
    let engine = Engine::new(Mode::Once, config.clone(), writer, reader.clone(), shared.clone())?;
    let (_commands, commands_in) = crossbeam_channel::bounded(1);
    let drawing = progress.draw(shared.clone())?;
    let writer = engine.run(&commands_in);
    drawing.finish()?;
    let writer = writer?.ok_or_else(|| anyhow!("the commit thread died"))?;
    let roots = shared.ingest_status().watching;
    let report = report::of(config, &reader, &before, &shared, start.elapsed())?;
    Ok(ReadOnce { writer, reader, before, roots, report })
}

/// Checks that something was found in each directory, and that all of it was read.
///
/// # Errors
/// If not. The error is for people.
pub(super) fn check_all_was_read(report: &Ingested) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    if !report.problems.is_empty() {
        failures.push(format!("not everything was read: {}", report.problems.join("; ")));
    }
    if !report.found_nothing.is_empty() {
        let paths = report.found_nothing.iter().map(|path| path.display().to_string());
        failures.push(format!("nothing was found in {}", paths.collect::<Vec<_>>().join(", ")));
    }
    if failures.is_empty() { Ok(()) } else { Err(anyhow!(failures.join("; "))) }
}

/// What the store had before this command.
struct Before {
    extents: Vec<(RunId, Extent)>,
    n_image: u64,
}

fn n_images(reader: &Reader) -> Result<u64, StoreError> {
    Ok(reader.runs()?.iter().map(|run| run.image).sum())
}

/// The run directories of the arguments, each once: the directories themselves, or those that they hold.
fn watches(args: &IngestArgs, config: &Config) -> anyhow::Result<Vec<WatchConfig>> {
    let mut watches: Vec<WatchConfig> = Vec::new();
    for path in &args.directories {
        let of_path = of_argument(path, args.key.as_ref(), config)?;
        for watch in of_path {
            if watches.iter().all(|known| known.path != watch.path) {
                watches.push(watch);
            }
        }
    }
    Ok(watches)
}

/// The run directories that a directory is or holds.
pub(super) fn of_argument(
    path: &Path,
    loose_key: Option<&LooseKey>,
    config: &Config,
) -> anyhow::Result<Vec<WatchConfig>> {
    let path = directory(path)?;
    let watch = of_run_dir(&path, config);
    if loose_key.is_some() {
        warn_of_runs(&path, &watch);
        return Ok(vec![WatchConfig { loose_key: loose_key.cloned(), ..watch }]);
    }
    if is_run_dir(&path, &watch) {
        return Ok(vec![watch]);
    }
    let RunDirs { runs, warnings } = RunDirs::below(&path, &watch)?;
    warn(&warnings);
    if runs.is_empty() {
        return Ok(vec![watch]);
    }
    let of_run = |(path, name): (PathBuf, String)| WatchConfig {
        name: Some(name),
        ..of_run_dir(&path, config)
    };
    Ok(runs.into_iter().map(of_run).collect())
}

/// Says which run directories lie in a directory whose loose files are read.
fn warn_of_runs(path: &Path, watch: &WatchConfig) {
    if is_run_dir(path, watch) {
        return;
    }
    // Too much to look through is no reason to leave the loose files.
    let runs = RunDirs::below(path, watch).unwrap_or_default().runs;
    if let Some((_, example)) = runs.first() {
        let runs = count(runs.len() as u64, "run");
        warn(&[format!(
            "{}: --key takes the files that lie directly in it, and not the {runs} in it, such as {example}: ingest it \
             without --key, too",
            path.display()
        )]);
    }
}

/// How a run directory is read: as its `[[watch]]` says, or by the default patterns.
fn of_run_dir(path: &Path, config: &Config) -> WatchConfig {
    let named = NamedDirectory { path: path.to_owned(), depth: 0 };
    named.watch(&config.live.watches).without_store(&config.boot.store)
}
