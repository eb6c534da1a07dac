//! `safelight daemon`, `health`, `reload` and `validate`.

use std::io::Write;

use super::access;
use super::args::Common;
use super::exit::ExitCode;
use super::format::printable;
use super::json::{self, Reloaded, Validated};

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let (config, warnings, path) = common.whole_config()?;
    crate::daemon::run(config, &warnings, Some(path))?;
    Ok(ExitCode::Done)
}

pub(super) fn health(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let health = access::daemon(common)?.health()?;
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
    access::daemon(common)?.reload()?;
    if common.json {
        json::print(&Reloaded { reloaded: true }, out)?;
    } else {
        writeln!(out, "configuration reloaded")?;
    }
    Ok(ExitCode::Done)
}

pub(super) fn validate(common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (_, warnings, path) = common.whole_config()?;
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
