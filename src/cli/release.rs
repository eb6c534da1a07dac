//! `safelight release`: makes the held images that the limits now allow, and tries waiting items again.

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
    Ok(match (report.failed, report.waiting) {
        (0, 0) => ExitCode::Done,
        (0, _) => ExitCode::Rejected,
        _ => ExitCode::Failed,
    })
}

fn print(report: &ReleaseReport, out: &mut impl Write) -> anyhow::Result<()> {
    for key in &report.keys {
        let of_key = key.key.as_ref().map_or("without a key", |key| key.as_str());
        let name = printable(&format!("{} {of_key}", key.run));
        write!(out, "{name}: {} released", count(key.released, "image"))?;
        for (reasons, what) in [
            (&key.held, "still held back"),
            (&key.waiting, "still waiting"),
            (&key.failed, "failed"),
        ] {
            let n: u64 = reasons.values().sum();
            if n > 0 {
                write!(out, ", {} {what}", count(n, "item"))?;
            }
        }
        writeln!(out)?;
        for (reason, n) in key.held.iter().chain(&key.waiting).chain(&key.failed) {
            writeln!(out, "  {n}: {}", printable(reason))?;
        }
    }
    if report.keys.is_empty() {
        writeln!(out, "nothing is held and nothing waits")?;
    }
    Ok(())
}
