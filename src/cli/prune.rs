//! `safelight prune`: shows what retention would remove, and removes it.

use std::io::Write;

use super::access::StoreAccess;
use super::args::Common;
use super::exit::ExitCode;
use super::format::{bytes, count, printable};
use super::json;
use crate::retention::{Report, RunReport};

pub(super) fn run(apply: bool, common: &Common, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let report = StoreAccess::open(common, "prune")?.prune(apply)?;
    if common.json {
        json::print(&report, out)?;
    } else {
        print(&report, out)?;
    }
    let has_failed = |run: &RunReport| {
        [&run.media, &run.strays, &run.dumps].iter().any(|removal| !removal.failed.is_empty())
    };
    Ok(if report.runs.iter().any(has_failed) { ExitCode::Failed } else { ExitCode::Done })
}

fn print(report: &Report, out: &mut impl Write) -> anyhow::Result<()> {
    let verb = if report.applied { "removed" } else { "would remove" };
    let mut n_removed = 0;
    for run in &report.runs {
        let name = printable(run.run.as_str());
        let kinds = [("media file", &run.media), ("stray file", &run.strays), ("dump", &run.dumps)];
        for (kind, removal) in kinds {
            n_removed += removal.n;
            if removal.n > 0 {
                let (files, size) = (count(removal.n, kind), bytes(removal.bytes));
                writeln!(out, "{name}: {verb} {files} ({size})")?;
            }
            for (reason, n) in &removal.reasons {
                writeln!(out, "  {n}: {}", printable(reason))?;
            }
            for (reason, n) in &removal.skipped {
                writeln!(out, "{name}: {} skipped: {}", count(*n, kind), printable(reason))?;
            }
            for (reason, n) in &removal.failed {
                writeln!(out, "{name}: {} not removed: {}", count(*n, kind), printable(reason))?;
            }
        }
    }
    if let Some(problem) = &report.problem {
        writeln!(out, "{problem}")?;
    }
    if n_removed == 0 {
        writeln!(out, "nothing to remove under the rules in [retention]")?;
    } else if !report.applied {
        writeln!(out, "nothing was removed; use --apply to remove it")?;
    }
    Ok(())
}
