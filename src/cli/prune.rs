//! `safelight prune`: what retention would remove, and its removal.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use hyper::Method;

use super::{Access, Common, Ending, printable, thousands};
use crate::control::protocol::PRUNE_PATH;
use crate::media::RunId;
use crate::retention::{self, Clock, Remove, Report, RunReport};
use crate::run_dir::ReadOptions;
use crate::store::{ImageToPrune, Removed, Writer};

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
            let mut own = Own(writer);
            let remove: Option<&mut dyn Remove> = if apply { Some(&mut own) } else { None };
            let reading = ReadOptions::default();
            retention::sweep(reader, &config.live, Clock::start(), &reading, remove)?
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

/// The store that this command holds.
struct Own<'a>(&'a mut Writer);

impl Remove for Own<'_> {
    fn prune(&mut self, run: &RunId, leaving: Vec<ImageToPrune>) -> Removed {
        self.0.prune(run, &leaving)
    }

    fn remove_strays(&mut self, strays: Vec<PathBuf>, age_min: Duration) -> Removed {
        self.0.remove_strays(&strays, age_min)
    }

    fn goes_on(&self) -> bool {
        true
    }
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
