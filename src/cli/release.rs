//! `safelight release`: makes the held images that the limits now allow.

use std::io::Write;

use super::access::StoreAccess;
use super::args::{Common, ReleaseArgs};
use super::exit::ExitCode;
use super::format::{count, printable};
use super::json;
use crate::control::protocol::ReleaseQuery;
use crate::ingest::{Admitting, ReleaseReport};

pub(super) fn run(
    args: &ReleaseArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let access = StoreAccess::open(common, "release")?;
    let configured = Admitting::from(&access.config.live.limits);
    let (first_step, last_step) = args.step.unwrap_or_default();
    let (run, key) = (args.run.clone(), args.key.clone());
    let report =
        access.release(ReleaseQuery { run, key, first_step, last_step, goes_on: false })?;
    if common.json {
        json::print(&report, out)?;
    } else {
        print(&report, out)?;
        if report.limits != configured {
            writeln!(
                out,
                "the daemon's limits differ from the configuration file: run `safelight reload`, then release again"
            )?;
        }
    }
    Ok(if report.failed > 0 { ExitCode::Failed } else { ExitCode::Done })
}

fn print(report: &ReleaseReport, out: &mut impl Write) -> anyhow::Result<()> {
    for key in &report.keys {
        let name = printable(&format!("{} {}", key.run, key.key));
        write!(out, "{name}: {} released", count(key.released, "image"))?;
        let n_held: u64 = key.held.values().chain(key.failed.values()).sum();
        if n_held > 0 {
            write!(out, ", {} still held back:", count(n_held, "image"))?;
        }
        writeln!(out)?;
        for (reason, n) in key.held.iter().chain(&key.failed) {
            writeln!(out, "  {n}: {}", printable(reason))?;
        }
    }
    if report.keys.is_empty() {
        writeln!(out, "nothing is held back")?;
    }
    Ok(())
}
