//! An object store that boxes deliver to, in place of a store: `--from`.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::access::StoreAccess;
use super::args::Common;
use super::exit::ExitCode;
use super::format::{Table, count, printable};
use super::json::{self, FleetRunName};
use super::progress::Progress;
use crate::config::Config;
use crate::config::sync::{ObjectStoreConfig, TargetConfig};
use crate::fleet::{Fleet, FleetFiles, FleetRun};
use crate::media::RunId;
use anyhow::anyhow;
use serde_json::Value;

/// A run of a box, read into a scratch store. The store is there as long as this lives.
pub(super) struct OpenFleetRun {
    pub(super) files: Arc<FleetFiles>,
    pub(super) run: FleetRun,
    /// The run's id in the scratch store.
    pub(super) id: RunId,
    /// [`ExitCode::Failed`] if part of its manifests cannot be read.
    pub(super) exit_code: ExitCode,
}

impl OpenFleetRun {
    /// Gives an item the names that it has in the object store.
    pub(super) fn name_item(&self, item: &mut Value) {
        self.run.name_item(item, &self.id);
    }
}

/// Opens the object store that `--from` names: by its URL, or by the name of a target.
///
/// # Errors
/// If it is neither, or the configuration is invalid.
pub(super) fn open(from: &str, common: &Common) -> anyhow::Result<(Fleet, Config)> {
    crate::logging::start_for_command(io::stderr);
    let config = common.config()?;
    let target = if from.contains("://") {
        let of_url = ObjectStoreConfig::of_url(from);
        of_url.map_err(|error| anyhow!("--from {}: {error}", printable(from)))?
    } else {
        target(from, &config)?
    };
    Ok((Fleet::open(&target)?, config))
}

/// The object store of a target of the configuration.
fn target(name: &str, config: &Config) -> anyhow::Result<ObjectStoreConfig> {
    let mut known = Vec::new();
    for target in &config.live.targets {
        if let TargetConfig::ObjectStore(settings) = &target.kind {
            if target.name == name {
                return Ok(settings.clone());
            }
            known.push(&*target.name);
        }
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let name = printable(name);
    Err(anyhow!(
        "--from {name}: want a URL, such as s3://media/fleet, or a target of kind \"object_store\"; the configuration \
         has {known}"
    ))
}

/// Reads the run that a command names, `BOX/RUN`. What cannot be read of it is named on standard error.
///
/// # Errors
/// If there is no such run, or the object store fails.
pub(super) fn open_run(
    from: &str,
    common: &Common,
    run: &str,
) -> anyhow::Result<(StoreAccess, OpenFleetRun)> {
    let (fleet, config) = open(from, common)?;
    let no_run = || anyhow!("got the run {run:?}, want BOX/RUN, as safelight ls --from lists them");
    let run = FleetRun::of_text(run).ok_or_else(no_run)?;
    let id = run.id()?;
    let progress = Progress::new();
    let damages = fleet.read_run(&id, Duration::ZERO, |n, all| {
        progress.set(n, all, "manifests".to_owned());
    });
    progress.finish();
    let damages = damages?;
    for damage in &damages.first {
        // Nobody may read it.
        drop(writeln!(io::stderr(), "safelight: {}", printable(damage)));
    }
    if damages.n > 0 {
        let parts = count(damages.n, "part");
        let what = "of the run's manifests cannot be read, all else is shown";
        drop(writeln!(io::stderr(), "safelight: {parts} {what}"));
    }
    let exit_code = if damages.n > 0 { ExitCode::Failed } else { ExitCode::Done };
    let (writer, reader, files) = fleet.into_store();
    let access = StoreAccess::of_files(config, writer, reader);
    Ok((access, OpenFleetRun { files, run, id, exit_code }))
}

/// Says that an object store has no run of any box.
pub(super) fn no_manifests(url: &str) -> anyhow::Error {
    anyhow!("there are no manifests at {url}: want runs/BOX/RUN/00000001.jsonl below it")
}

/// `safelight ls --from URL [BOX]`: lists runs.
pub(super) fn list_runs(
    from: &str,
    of_box: Option<&str>,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let (fleet, _) = open(from, common)?;
    let runs = fleet.runs(of_box)?;
    if runs.is_empty() {
        let url = fleet.url();
        return Err(match of_box {
            Some(of_box) => anyhow!("no box {of_box:?} has delivered a run to {url}"),
            None => no_manifests(url),
        });
    }
    if common.json {
        for run in &runs {
            let (of_box, run) = run.names();
            json::print(&FleetRunName { r#box: of_box, run }, out)?;
        }
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(out, &["BOX", "RUN"]);
    for run in &runs {
        let (of_box, run) = run.names();
        table.add(vec![printable(of_box), printable(run)])?;
    }
    table.finish()?;
    Ok(ExitCode::Done)
}
