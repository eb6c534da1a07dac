//! `safelight prune`: what retention would remove, and its removal.

use std::io::Write;

use anyhow::Context;
use hyper::Method;

use super::{Access, Common, Ending, printable, thousands};
use crate::control::protocol::PRUNE_PATH;
use crate::retention::{self, Clock, Report, RunReport};
use crate::store::Commit;

pub(super) fn run(apply: bool, common: &Common, out: &mut impl Write) -> anyhow::Result<Ending> {
    let (mut access, config) = common.access("prune")?;
    let report: Report = match &mut access {
        Access::Daemon(client) => {
            let mut answer = String::new();
            client.ask(&Method::POST, &format!("{PRUNE_PATH}?apply={apply}"), |line| {
                answer.push_str(line);
                Ok::<_, anyhow::Error>(())
            })?;
            serde_json::from_str(&answer).context("the daemon's answer is no report")?
        }
        Access::Store(writer, reader) => {
            let mut prune = |run: &_, ids| writer.commit(&mut vec![Commit::pruned(run, ids)]);
            let apply: Option<&mut retention::Prune<'_>> =
                if apply { Some(&mut prune) } else { None };
            retention::sweep(reader, &config.retention, Clock::start(), apply)?
        }
    };
    access.close()?;
    if common.json {
        writeln!(out, "{}", serde_json::to_value(&report)?)?;
    } else {
        print(&report, out)?;
    }
    let has_failed = |run: &RunReport| {
        [&run.media, &run.strays, &run.dumps].iter().any(|going| !going.failed.is_empty())
    };
    Ok(if report.runs.iter().any(has_failed) { Ending::Failed } else { Ending::Done })
}

fn print(report: &Report, out: &mut impl Write) -> anyhow::Result<()> {
    let verb = if report.applied { "removed" } else { "would remove" };
    let mut n_going = 0;
    for run in &report.runs {
        let name = printable(run.run.as_str());
        let kinds =
            [("images' media", &run.media), ("stray files", &run.strays), ("dumps", &run.dumps)];
        for (what, going) in kinds {
            n_going += going.n;
            if going.n > 0 {
                let (n, bytes) = (thousands(going.n), thousands(going.bytes));
                writeln!(out, "{name}: {verb} {n} {what}, {bytes} bytes")?;
            }
            for (reason, n) in &going.reasons {
                writeln!(out, "  {}: {}", thousands(*n), printable(reason))?;
            }
            for (reason, n) in &going.skipped {
                writeln!(out, "{name}: {} {what} skipped: {}", thousands(*n), printable(reason))?;
            }
            for (reason, n) in &going.failed {
                writeln!(out, "{name}: {} not removed: {}", thousands(*n), printable(reason))?;
            }
        }
    }
    if let Some(problem) = &report.problem {
        writeln!(out, "{problem}")?;
    }
    if n_going == 0 {
        writeln!(out, "nothing to remove by [retention] of the configuration")?;
    } else if !report.applied {
        writeln!(out, "nothing was removed: say --apply to remove it")?;
    }
    Ok(())
}
