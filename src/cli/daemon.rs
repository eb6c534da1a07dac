//! `safelight daemon`, `health`, `reload` and `validate`.

use std::io::Write;
use std::path::PathBuf;

use super::args::Common;
use super::daemon_client;
use super::exit::ExitCode;
use super::format::printable;
use super::json::{self, Reloaded, Validated};
use super::run_dirs::NamedDirectories;
use super::store_advice::{check_owner, with_advice};

pub(super) fn run(directories: &[PathBuf], common: &Common) -> anyhow::Result<ExitCode> {
    let configured = common.config()?.live.watches;
    let NamedDirectories { directories, mut warnings } =
        NamedDirectories::of(directories, &configured)?;
    let (config, of_config, source) = common.of_daemon(&directories)?;
    warnings.extend(of_config);
    let store = config.boot.store.clone();
    if !directories.is_empty() && common.store.is_none() {
        check_owner(&store)?;
    }
    let result = crate::daemon::run(config, &warnings, source);
    result.map_err(|error| with_advice(error, &store, common))?;
    Ok(ExitCode::Done)
}

pub(super) fn health(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let health = daemon_client::daemon(common)?.health()?;
    if common.json {
        json::print(&health, out)?;
    } else if health.healthy {
        writeln!(out, "healthy")?;
    } else {
        for reason in &health.reasons {
            writeln!(out, "{}", printable(reason))?;
        }
    }
    Ok(if health.healthy { ExitCode::Done } else { ExitCode::Failed })
}

pub(super) fn reload(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    daemon_client::daemon(common)?.reload()?;
    if common.json {
        json::print(&Reloaded { reloaded: true }, out)?;
    } else {
        writeln!(out, "configuration reloaded")?;
    }
    Ok(ExitCode::Done)
}

pub(super) fn validate(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (_, warnings, path) = common.of_file()?;
    if common.json {
        json::print(&Validated { path, ok: true, warnings }, out)?;
    } else {
        for warning in &warnings {
            writeln!(out, "{}: warning: {}", path.display(), printable(warning))?;
        }
        writeln!(out, "{}: valid", path.display())?;
    }
    Ok(ExitCode::Done)
}
