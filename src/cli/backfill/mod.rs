//! `safelight backfill`: turns archived run directories into images of an object store, without a store of their own.
//!
//! One process makes one whole run at a time and keeps no state but the scratch store, so that any engine can spread
//! runs over machines: xargs, Slurm, Kubernetes, Spark, Ray.
//!
//! | file | content |
//! | --- | --- |
//! | `one` | the backfill of one run, and what a kill costs at each step |
//! | `source` | a run directory: its id, and the fingerprint of its files |
//! | `scratch` | the store of a run that is on its way |
//! | `report` | what became of each run, for people |

mod one;
mod report;
mod scratch;
mod source;

use std::io::Write;
use std::path::PathBuf;
use std::slice;

use anyhow::{Context, anyhow, bail};

use self::one::{Backfill, ObjectStoreSync};
use self::report::Totals;
use self::source::name_of;
use super::args::BackfillArgs;
use super::common::Common;
use super::exit::ExitCode;
use super::ingest::of_argument;
use super::json;
use super::progress::Progress;
use crate::config::{Config, WatchConfig};
use crate::sync;

pub(super) fn run(args: &BackfillArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let common = Common { config: args.config.clone(), store: None, json: args.json };
    let mut config = common.config_of_file()?;
    let progress = Progress::new();
    let log = progress.clone();
    crate::logging::start_for_command(move || log.clone());

    let target = sync::choose(&config.live.targets, slice::from_ref(&args.target))?;
    let target = target.into_iter().next().ok_or_else(|| anyhow!("no target"))?;
    let (target, box_name) = ObjectStoreSync::new(target, args.box_name.as_ref())?;
    let scratch = match &args.scratch {
        Some(path) => std::path::absolute(path).with_context(|| path.display().to_string())?,
        None => scratch::default_root()?,
    };
    // Nothing below it is read.
    config.boot.store.clone_from(&scratch);
    let (watches, not_found) = run_dirs(args, &config)?;
    let backfill = Backfill {
        target,
        origin: args.origin.as_deref(),
        fingerprint: args.fingerprint.as_deref(),
        scratch,
        skips_done: args.skip_done,
        is_dry: args.dry_run,
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        progress: progress.clone(),
        config,
        box_name,
    };
    let mut totals = Totals::new(watches.len() + not_found.len());
    let failed = not_found.into_iter().map(|(path, error)| backfill.failed(&path, &error));
    let done = watches.into_iter().map(|watch| backfill.run(watch));
    for row in failed.chain(done) {
        totals.add(&row);
        progress.suspend(|| {
            if args.json { json::print(&row, out) } else { report::print(&row, out) }
        })?;
        // Whoever reads the rows may wait for the first.
        out.flush()?;
    }
    if !args.json {
        totals.print(out)?;
    }
    totals.result()
}

/// A directory that cannot be read, and why.
type NotFound = (PathBuf, anyhow::Error);

/// The run directories of the arguments, each once, with the names of runs without an id.
///
/// # Errors
/// If an option that speaks of one run does not have one.
fn run_dirs(
    args: &BackfillArgs,
    config: &Config,
) -> anyhow::Result<(Vec<WatchConfig>, Vec<NotFound>)> {
    let mut watches: Vec<WatchConfig> = Vec::new();
    let mut not_found = Vec::new();
    for path in &args.directories {
        match of_argument(path, None, config) {
            Ok(of_path) => {
                let new = of_path.into_iter().filter(|watch| {
                    watches.iter().all(|known: &WatchConfig| known.path != watch.path)
                });
                let new: Vec<WatchConfig> = new.collect();
                watches.extend(new);
            }
            Err(error) => not_found.push((path.clone(), error)),
        }
    }
    let named = [("origin", &args.origin), ("run", &args.run), ("fingerprint", &args.fingerprint)];
    if let Some((option, _)) = named.into_iter().find(|(_, value)| value.is_some())
        && watches.len() + not_found.len() != 1
    {
        let n = watches.len() + not_found.len();
        bail!("--{option} speaks of one run: got {n} run directories, want 1");
    }
    let name = args.run.as_deref().or_else(|| args.origin.as_deref().and_then(name_of));
    for watch in &mut watches {
        let of_folder = || watch.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.map(str::to_owned).or_else(|| watch.name.clone()).or_else(of_folder);
        watch.name = name;
    }
    Ok((watches, not_found))
}
